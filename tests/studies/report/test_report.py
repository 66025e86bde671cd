"""`bench report`: what it finds in a results folder and shows of it, and the command."""

from types import SimpleNamespace

import pytest
from report_folders import TFN, Drawn, Page, fill, manifest

from hycon.errors import UserError
from studies.aggregate.render import grid
from studies.cli import main
from studies.document.blocks import Counts, Grid, Notice
from studies.lookup import View
from studies.report import claims as evidence
from studies.report.scope import read_scope
from studies.report.sections import banner, lead, settled, summary
from studies.report.write import report
from studies.store.run_store import RunStore
from studies.tables import TABLES

REAL = {name: getattr(evidence, name) for name in ("evaluated", "paper_against_itself", "figures")}


def test_the_papers_corpora_are_shown_unless_the_folder_holds_one_other_thing_only(tmp_path):
    other = manifest("mosi_resampled", notes=["audio is made up"])
    store = fill(tmp_path / "one", held=other)
    scope = read_scope(store)
    assert scope.view.corpus == "mosi_resampled"
    assert scope.results["table1"].corpus.name == "mosi_resampled"
    assert scope.results["table2"].corpus.name == "mosei"  # mosi_resampled stands for mosi only
    assert scope.results["table3"].corpus.name == "iemocap"  # emotions
    assert [use.rows for use in scope.uses] == [
        (
            "table1 HyCon-BERT",
            "table4 HyCon",
            "table5 Addition (defaulted)",
            "table6 HyCon (α = 0.8)",
            "table7 HyCon",
            "sensitivity HyCon",
            "modalities Text + audio + vision",
            "beyond HyCon-BERT",
            "tuning HyCon-BERT (study 1)",
        )
    ]
    both = fill(tmp_path / "two")
    fill(tmp_path / "two", held=other)
    scope = read_scope(both)
    assert scope.view.corpus is None
    assert {use.study.corpus for use in scope.uses} == {"mosi"}
    assert [study.corpus for study in scope.unshown] == ["mosi_resampled"]
    assert r"1 study on mosi\_resampled, profile paper, in none of the tables" in report(both, format="md")


def test_a_demo_folder_is_shown_as_the_demo(tmp_path):
    store = fill(tmp_path, held=manifest("synthetic", synthetic=True), profile="demo")
    scope = read_scope(store)
    assert (scope.view.corpus, scope.view.profile) == (None, "demo")
    notices = [block.text for block in banner(scope) if isinstance(block, Notice)]
    assert notices == [
        "SYNTHETIC DATA (synthetic): these numbers say nothing about the paper.",
        "Not run as in the paper: 1 of 1 measured rows, whose numbers get no verdict.",
    ]


def test_a_row_that_several_tables_show_is_counted_once(tmp_path):
    store = fill(tmp_path, trials=3)
    fill(tmp_path, TFN, trials=3)
    notice, reasons = banner(read_scope(store))
    assert notice.text == "Not run as in the paper: 2 of 2 measured rows, whose numbers get no verdict."
    assert reasons.items == ("a search of 3 trials, not 50 trials (2 rows)",)


def test_a_corpus_of_ones_own_has_none_of_the_papers_numbers(tmp_path):
    store = fill(tmp_path, held=manifest("own"))
    scope = read_scope(store)
    assert scope.view.corpus == "own"
    total = next(block for block in summary(scope, []).blocks if isinstance(block, Counts))
    assert total.label == "Of the 90 numbers of the paper's tables"  # Table 3 is of emotions, which this corpus has not
    assert [heading.text for heading in grid(scope.results["table1"]).headings] == [
        *("Model", "Acc7", "Acc2", "F1", "MAE", "Corr", "Status")
    ]


def test_an_unknown_corpus_profile_or_format_is_the_callers_mistake(tmp_path):
    store = RunStore(tmp_path)
    with pytest.raises(UserError, match="No corpus 'nowhere'"):
        report(store, View("nowhere"))
    for wrong in ({"profile": "papre"}, {"protocol": "mmsaa"}):
        with pytest.raises(UserError, match="nearest"):
            View(**wrong)
    with pytest.raises(UserError, match="Unknown format 'pdf'"):
        report(store, format="pdf")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_says_that_nothing_is_measured(tmp_path):
    text = report(RunStore(tmp_path), format="md")
    assert "**Nothing is measured yet: the tables below show the paper's numbers only.**" in text
    assert (
        "0 reproduced, 0 differs, 0 inconclusive, 0 too few seeds, 0 not comparable, 90 quoted, 355 not run." in text
    )  # the tables' 444, and the text's 0.770 s
    assert "No search was run." in text


def test_verdicts_are_counted_over_the_numbers_that_the_paper_prints(tmp_path):
    scope = read_scope(fill(tmp_path, trials=50, seeds=[0.852] * 5))
    section = summary(scope, [])
    total = next(block for block in section.blocks if isinstance(block, Counts))
    counted = dict(total.counts)
    assert sum(counted.values()) == 444 + 1
    assert total.label == "Of the 444 numbers of the paper's tables and 1 of its text"
    assert counted["quoted"] == 90
    grid = next(block for block in section.blocks if isinstance(block, Grid))
    first = grid.rows[0]
    assert first[:3] == ("Table 1: Comparison with baselines", "mosi", f"1 of {len(TABLES['table1'].rows)}")
    # Acc2 85.2 and F1 85.2 (printed 85.1) and no spread: reproduced; Acc7, MAE and Corr are far from what is printed
    assert first[3:6] == ("2", "3", "0")
    assert sum(map(int, first[3:])) == 22 * 5


def claim(verdict, caution=""):
    return SimpleNamespace(verdict=verdict, caution=caution)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ([claim("supported"), claim("undecided"), claim("not run")], "Settled: 1 of 3 claims supported."),
        (
            [claim("contradicted", "another corpus"), claim("supported")],
            "Settled on what was run, which is not what the paper ran: 1 of 2 claims supported, "
            "1 of 2 claims contradicted.",
        ),
        ([claim("undecided"), claim("no verdict")], "Settled: nothing yet; 1 verdict is open."),
        ([claim("not run")], "Settled: nothing yet."),
    ],
)
def test_the_headline_says_what_was_settled(tmp_path, claims, said):
    scope = read_scope(fill(tmp_path, trials=50, seeds=[0.852]))
    assert lead(scope, claims).startswith(said)


def test_numbers_that_are_reproduced_or_differ_are_settled(tmp_path):
    scope = read_scope(fill(tmp_path, trials=50, seeds=[0.852] * 5))
    assert settled(scope, []) == "Settled: 10 numbers reproduced, 15 numbers that differ."  # 2 and 3 in 5 tables


def test_claims_and_figures_stand_in_the_report(tmp_path, monkeypatch):
    import studies.figures
    from studies.claims.by_runs import load_claims

    def drawn(name, store, view):
        if name == "fig4":
            raise UserError("Fig. 4 needs HyCon without contrastive losses: run table4.")
        assert view == View()
        return Drawn()

    for name, function in REAL.items():
        monkeypatch.setattr(evidence, name, function)
    monkeypatch.setattr(studies.figures, "figure", drawn)
    text = report(fill(tmp_path))
    page = Page(text)
    for claim in load_claims():
        assert text.count(f">{claim.id}</a>") == 2
        assert f"evidence-{claim.id}" in page.ids  # by runs, and by the paper
    figures = {id.removeprefix("figure-") for id in page.ids if id.startswith("figure-")}
    assert figures == set(studies.figures.FIGURES) - {"fig4"}
    assert "Fig. 4 needs HyCon without contrastive losses: run table4." in text.partition("Not drawn:")[2]


# ------------------------------------------------------------------------------------------------- the command


def test_the_command_writes_beside_the_results_and_prints_where(tmp_path, capsys):
    fill(tmp_path)
    for format, name in (("html", "report.html"), ("md", "report.md"), ("latex", "report.tex")):
        assert main(["report", "--format", format, "--results", str(tmp_path)]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / name)
        assert "HyCon-BERT" in (tmp_path / name).read_text()
    assert main(["report", "--results", str(tmp_path), "--output", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_bytes() == (tmp_path / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "pdf"], "Unknown format 'pdf'; nearest: "),
        (["--corpus", "nowhere"], "nowhere"),
        (["--profile", "dema"], "Unknown profile 'dema'; nearest: demo"),
        (["--results", "nothing-here"], "There is no results folder nothing-here"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(tmp_path, capsys, arguments, said):
    fill(tmp_path / "results")
    before = sorted(tmp_path.rglob("*"))
    assert main(["report", "--results", str(tmp_path / "results"), *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
