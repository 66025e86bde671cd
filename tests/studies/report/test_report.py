"""`bench report`: what it finds in a results folder, how each format writes it, and that nothing in it can run."""

import base64
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser

import pytest

from hycon.data.manifest import Manifest
from hycon.errors import UserError
from studies.aggregate.cells import CorpusInfo, Entry, RowResult, TableResult
from studies.cli import main
from studies.document import html, latex, markdown
from studies.document.blocks import (
    Bullets,
    Counts,
    Document,
    Fold,
    Grid,
    Heading,
    Notice,
    Part,
    Picture,
    Results,
    Section,
    Text,
)
from studies.lookup import View
from studies.paper import PaperValue
from studies.registry import MODELS
from studies.report import claims as evidence
from studies.report.checklist import items, validation_scores
from studies.report.deviations import deviations, parse
from studies.report.scope import read_scope
from studies.report.searches import costs, energy, searches, space_of
from studies.report.sections import banner, summary
from studies.report.write import FORMATS, report
from studies.search.ledger import ledger
from studies.statistics.cell import CellStat
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, remember_corpus, save_study
from studies.tables import TABLES, Column, Row, TableSpec

NASTY = "<script>alert(1)</script> \" onload='x' & </td></table><img src=http://evil.example/x>"
HYCON = TABLES["table1"].rows[18]
TFN = TABLES["table1"].rows[5]
BERT = {"name": "bert-base-uncased", "sha256": "ab" * 32}
SPACE = {"lr": (0.001, 0.002), "batch_size": (16, 32, 64)}
DRAWS = [{"lr": 0.001, "batch_size": 16}, {"lr": 0.002, "batch_size": 32}]
assert (HYCON.name, TFN.name) == ("HyCon-BERT", "TFN-BERT")


def manifest(name="mosi", **changes) -> Manifest:
    known = {
        "source": {"file": "mosi.pkl", "format": "mag"},
        "sizes": {"train": 1284, "valid": 229, "test": 686},
        "dims": {"audio": 74, "vision": 47},
        "lengths": {"audio": 50, "vision": 50},
        "aligned": "word",
        "nonfinite": {"train": {"audio": 3}},
        "files": {"corpus.safetensors": "0" * 64},
    }
    return Manifest(name, "sentiment", **{**known, **changes})


def record(row: Row, seed: int, acc2: float, held: Manifest, **known) -> RunRecord:
    spec = RunSpec(row.model, 1, row.text, held.name, held.sha256, dict(row.config), {}, seed=seed, encoder=BERT)

    def all_of(value):
        return {"paper": {"acc7": 0.4, "acc2": value, "f1": value, "mae": 0.8, "corr": 0.7}}

    found = {
        "metrics": {"valid": all_of(acc2 + 0.01), "test": all_of(acc2)},
        "valid_loss": 0.7 + seed / 100,
        "parameters": 1000 + seed,
        "seconds": 36.0,
        "seconds_per_epoch": 2.0,
        "test_seconds": 0.5,
        "peak_memory_mib": 300.0,
        "device": "cpu (x86_64, Made-up)",
        "environment": {"python": "3.11.7", "torch": "2.13.0"},
        "commit": "c" * 40,
        "started": f"2026-01-0{1 + seed % 9}T00:00:00+00:00",
    }
    return RunRecord(spec, "done", **{**found, **known})


def fill(root, row=HYCON, held=None, *, trials=2, failed=0, seeds=(0.80, 0.82), profile="paper", **known) -> RunStore:
    """A study of `row`: trials of which the first wins and `failed` more that failed, and a seeded run per accuracy."""
    store, held = RunStore(root), held or manifest()
    remember_corpus(store, held)
    tried = [store.put(record(row, 100 + i, 0.7, held, **known), {}).id for i in range(trials)]
    for i in range(failed):
        spec = dataclasses.replace(record(row, 200 + i, 0.0, held).spec)
        tried.append(store.put_failed(spec, NASTY).id)
    runs = [store.put(record(row, i, acc2, held, **known), {}).id for i, acc2 in enumerate(seeds)]
    draws = (DRAWS * len(tried))[: len(tried)]
    study = Study(
        row.model, row.text, held.name, held.sha256, dict(row.config), {}, BERT, "cpu", profile, draws, tried, 0, runs
    )
    save_study(store, study)
    return store


def journal(store: RunStore, study_id: str) -> None:
    """As Optuna writes it: each trial asks for each parameter once."""
    lines = [
        {"op_code": 5, "trial_id": t, "param_name": name, "distribution": distribution}
        for t in range(2)
        for name, choices in SPACE.items()
        for distribution in [json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": choices}})]
    ]
    text = "".join(json.dumps(line) + "\n" for line in [{"op_code": 0, "study_name": "x"}, *lines])
    (store.root / "studies" / f"{study_id}.journal").write_text(text)


REAL = {name: getattr(evidence, name) for name in ("evaluated", "paper_against_itself", "figures")}


@pytest.fixture(autouse=True)
def no_evidence(monkeypatch):
    """Claims and figures have tests of their own and take their time."""
    monkeypatch.setattr(evidence, "evaluated", lambda scope: [])
    monkeypatch.setattr(evidence, "paper_against_itself", lambda: Section("paper", "The paper against itself", ()))
    monkeypatch.setattr(evidence, "figures", lambda scope: Section("figures", "Figures", ()))


# ------------------------------------------------------------------------------------------------- what is shown


def test_the_papers_corpora_are_shown_unless_the_folder_holds_one_other_thing_only(tmp_path):
    other = manifest("mosi_resampled", notes=["audio is made up"])
    store = fill(tmp_path / "one", held=other)
    scope = read_scope(store)
    assert scope.view.corpus == "mosi_resampled" and scope.results["table1"].corpus.name == "mosi_resampled"
    assert scope.results["table2"].corpus.name == "mosei"  # mosi_resampled stands for mosi only
    assert scope.results["table3"].corpus.name == "iemocap"  # emotions
    assert [use.rows for use in scope.uses] == [
        (
            "table1 HyCon-BERT",
            "table4 HyCon",
            "table5 Addition (defaulted)",
            "table6 HyCon (α = 0.8)",
            "table7 HyCon",
            "table8 HyCon",
            "sensitivity HyCon",
            "modalities Text + audio + vision",
            "tuning HyCon-BERT (study 1)",
        )
    ]
    both = fill(tmp_path / "two")
    fill(tmp_path / "two", held=other)
    scope = read_scope(both)
    assert scope.view.corpus is None and {use.study.corpus for use in scope.uses} == {"mosi"}
    assert [study.corpus for study in scope.unshown] == ["mosi_resampled"]
    assert r"1 study on mosi\_resampled, profile paper, in none of the tables" in report(both, format="md")


def test_a_demo_folder_is_shown_as_the_demo(tmp_path):
    store = fill(tmp_path, held=manifest("synthetic", synthetic=True), profile="demo")
    scope = read_scope(store)
    assert (scope.view.corpus, scope.view.profile) == (None, "demo")
    notices = [block.text for block in banner(scope) if isinstance(block, Notice)]
    assert notices == [
        "SYNTHETIC DATA (synthetic): these numbers say nothing about the paper.",
        "Not run as in the paper: 7 of 7 measured rows, which get no verdict.",
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
        "0 reproduced, 0 differs, 0 inconclusive, 0 not comparable, 90 quoted, 355 not run." in text
    )  # the tables' 444, and the text's 0.770 s
    assert "No search was run." in text


def test_verdicts_are_counted_over_the_numbers_that_the_paper_prints(tmp_path):
    scope = read_scope(fill(tmp_path, trials=50, seeds=[0.852] * 5))
    section = summary(scope, [])
    total = next(block for block in section.blocks if isinstance(block, Counts))
    counted = dict(total.counts)
    assert sum(counted.values()) == 444 + 1 and counted["quoted"] == 90
    grid = next(block for block in section.blocks if isinstance(block, Grid))
    first = grid.rows[0]
    assert first[:3] == ("Table 1: Comparison with baselines", "mosi", "1 of 22")
    # Acc2 85.2 and F1 85.2 (printed 85.1) and no spread: reproduced; Acc7, MAE and Corr are far from what is printed
    assert first[3:6] == ("2", "3", "0")
    assert sum(map(int, first[3:])) == 22 * 5


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
        assert text.count(f">{claim.id}</a>") == 2 and f"evidence-{claim.id}" in page.ids  # by runs, and by the paper
    figures = {id.removeprefix("figure-") for id in page.ids if id.startswith("figure-")}
    assert figures == set(studies.figures.FIGURES) - {"fig4"}
    assert "Fig. 4 needs HyCon without contrastive losses: run table4." in text.partition("Not drawn:")[2]


# ------------------------------------------------------------------------------------------------- searches and costs


def test_bounds_come_from_the_journal_that_the_search_writes(tmp_path):
    store = RunStore(tmp_path)
    (tmp_path / "studies").mkdir()
    ledger(tmp_path / "studies" / "s.journal", "s", DRAWS, SPACE, {0: 0.5, 1: None})
    assert space_of(store, "s") == {"lr": [0.001, 0.002], "batch_size": [16, 32, 64]}
    assert space_of(store, "unknown") is None
    (tmp_path / "studies" / "torn.journal").write_text('{"op_code": 5, "para')
    assert space_of(store, "torn") is None


def test_a_search_is_told_with_trials_failures_winner_and_validation_loss(tmp_path):
    store = fill(tmp_path, trials=2, failed=1)
    scope = read_scope(store)
    journal(store, scope.uses[0].study.id)
    blocks = searches(scope).blocks
    line = next(block for block in blocks if isinstance(block, Grid)).rows[0]
    assert line == (
        *("HyCon-BERT", "mosi", "2 of 3", "1", "6", "1.7000", "0.7050 ± 0.0071 (2)"),
        *("lr = 0.001, batch_size = 16", "nothing"),
    )
    fold = next(block for block in blocks if isinstance(block, Fold))
    assert fold.blocks[0].rows == (("lr", "0.001, 0.002", "2", "0.001"), ("batch_size", "16, 32, 64", "2", "16"))


def test_costs_count_every_run_once_and_invent_no_energy(tmp_path):
    scope = read_scope(fill(tmp_path, trials=3, seeds=(0.8, 0.82)))
    said, energy, grid = costs(scope).blocks
    assert said.text.startswith("5 finished runs took 0.05 run-hours of training")  # 5 x 36 s
    assert energy.text == "Energy: not measured; no device told."
    assert grid.rows == (
        ("HyCon-BERT", "mosi", "5", "0.050", "1,000 to 1,001", "36.0 ± 0.0 (2)", *COSTS),
    )  # of the seeded runs: 2


def test_energy_is_the_sum_of_what_devices_told(tmp_path):
    records = read_scope(fill(tmp_path, seeds=(0.8, 0.82), energy_joules=1.8e6)).records
    untold = dataclasses.replace(records[0], energy_joules=None)
    said = energy([*records, untold])
    assert said.startswith(f"Energy: {0.5 * len(records):.3g} kWh in {len(records)} of {len(records) + 1} runs")


COSTS = ("2.00 ± 0.00 (2)", "0.500 ± 0.000 (2)", "300 ± 0 (2)")


# ------------------------------------------------------------------------------------------------- checklist


def states(store) -> dict[str, str]:
    return {item.asked.partition(":")[0]: item.state for item in items(read_scope(store))}


def test_the_checklist_is_complete_where_the_records_are(tmp_path):
    store = fill(tmp_path, trials=2, failed=1)
    journal(store, read_scope(store).uses[0].study.id)
    found = states(store)
    assert found.pop("Language of the data") == "missing"  # no importer records it
    assert set(found.values()) == {"complete"} and len(found) == 16
    answers = {item.asked: item.answer for item in items(read_scope(store))}
    assert answers["Number of runs: search trials and repeats"] == (
        "3 trials and 2 seeded runs a row (the paper: 50, 5); 1 trials failed."
    )
    assert answers["Number of parameters of each model"] == "1,000 to 1,001"
    assert answers["Run time of each model, or energy"] == (
        "0.04 run-hours in 4 runs. Energy: not measured; no device told."
    )
    assert answers["Computing infrastructure"] == "cpu (x86_64, Made-up)"


def test_the_checklist_says_what_is_missing_or_partial(tmp_path):
    store = fill(tmp_path, commit=None, device="", parameters=None, valid_loss=None, seconds=None)
    found = states(store)
    for asked in ("Source code with dependencies and the commit that ran", "Computing infrastructure"):
        assert found[asked] == "missing"
    for asked in ("Number of parameters of each model", "Validation performance for each test result"):
        assert found[asked] == "missing"
    assert found["Run time of each model, or energy"] == found["Bounds for each hyper-parameter"] == "missing"
    fill(tmp_path, TFN, seeds=(0.8,))
    found = states(store)
    assert found["Computing infrastructure"] == found["Summary statistics of the results"] == "partial"


def test_every_test_score_has_its_validation_score_beside_it(tmp_path):
    grid = validation_scores(read_scope(fill(tmp_path)), "sentiment")
    heads = [heading.text for heading in grid.headings]
    line = dict(zip(heads, grid.rows[0], strict=True))
    assert line["Acc2, valid"] == "82.0 ± 1.4 (2)" and line["Acc2, test"] == "81.0 ± 1.4 (2)"
    assert validation_scores(read_scope(fill(tmp_path)), "emotion") is None


# ------------------------------------------------------------------------------------------------- deviations


@pytest.mark.parametrize("model", MODELS)
def test_every_model_says_where_it_deviates(model):
    found = deviations(model)
    assert found.items or found.remark
    assert all(item[-1] in ".)" and "\n" not in item and "  " not in item for item in found.items)


def test_deviations_are_read_from_docstrings():
    items = "1. One\n   more.\n2. Two `x`.\nReference implementations consulted: a/b,\nc/d."
    assert parse(f"Title.\n\nDeviates (as told): first\n  words.\n{items}") == (
        "as told first words.",
        ("One more.", "Two x."),
        "a/b, c/d.",
    )
    assert parse("Title.\n\nDeviates from the paper: none known.") == ("none known.", (), "")
    assert parse("Title.\n\nIt deviates: somewhat.") is None
    assert deviations("tfn").items == (
        "The mean runs over real steps; the reference code averages the padding in.",
        "A batch of one utterance is normalised with the running statistics; the reference code fails on it.",
        "Vision as it comes; the reference code divides it by the training split's largest (scale=maxabs).",
    )
    assert deviations("hycon").remark.startswith("none known.")


# ------------------------------------------------------------------------------------------------- formats

ACC2 = Column("acc2", "Acc2", 100, 1, True)
SPEC = TableSpec("table1", "Small", "mosi", (ACC2,), (HYCON,))
STAT = CellStat(85.1, 0.4, 84.6, 85.6, 5)
CELLS = {"acc2": Entry(STAT, PaperValue("85.0", 85.0, False), "reproduced", best=True)}
RESULT = TableResult(SPEC, CorpusInfo("mosi"), "paper", (RowResult(HYCON, "measured", "", 5, CELLS, "bert"),))


@dataclasses.dataclass
class Drawn:
    title: str = "Drawn"
    caption: str = "A <caption>."
    alt: str = 'Two "points".'
    content: bytes = b"<svg onload='alert(1)'/>"


SMALL = Document(
    "A & B",
    "One_sentence.",
    (Notice("Mind 100%"), Bullets(("first", "second"))),
    (
        Section(
            "sec",
            "Section",
            (
                Counts("Of the 2", (("supported", 2), ("undecided", 0))),
                Grid("g", "A grid.", (Heading("Row"), Heading("N", number=True)), (("a|b", "1"), ("c", "–"))),
                Part("p", "Part", (Text("Under it."),)),
                Fold("f", "claim-1", (Text("Detail."),), "undecided"),
                Picture(Drawn()),
            ),
        ),
    ),
)

MARKDOWN = r"""# A \& B

One\_sentence.

**Mind 100%**

- first
- second

## Section

Of the 2: 2 supported, 0 undecided.

A grid.

| Row | N |
| --- | --: |
| a\|b | 1 |
| c | – |

### Part

Under it.

#### undecided: claim-1

Detail.

A \<caption\>.

Two "points".
"""

LATEX = r"""\section*{A \& B}
One\_sentence.\par
\textbf{Mind 100\%}\par
\begin{itemize}
\item first
\item second
\end{itemize}
\section{Section}
Of the 2: 2 supported, 0 undecided.\par
{\footnotesize
\begin{longtable}{p{\dimexpr0.6667\linewidth-2\tabcolsep\relax}p{\dimexpr0.3333\linewidth-2\tabcolsep\relax}}
\caption{A grid.}\\
\toprule
\bfseries Row & \bfseries N \\
\midrule
\endfirsthead
\toprule
\bfseries Row & \bfseries N \\
\midrule
\endhead
\bottomrule
\endfoot
a\textbar{}b & 1 \\
c & -- \\
\end{longtable}}
\subsection{Part}
Under it.\par
A \textless{}caption\textgreater{}. (The picture is in the HTML report, or from `bench figure'.)\par
The details of 1 entries are in the HTML and Markdown reports.\par
\clearpage
\end{document}
"""


def test_markdown_is_exact():
    assert markdown.write(SMALL) == MARKDOWN


def test_latex_is_exact():
    assert latex.write(SMALL) == latex.PREAMBLE + LATEX


def test_long_words_may_break_in_latex():
    text = latex.write(dataclasses.replace(SMALL, lead="sha " + "0123456789abcdef" * 2, sections=()))
    assert r"sha 01234567\allowbreak 89abcdef\allowbreak 01234567\allowbreak 89abcdef" in text


def test_results_tables_are_those_of_bench_table():
    text = html.write(dataclasses.replace(SMALL, sections=(Section("t", "T", (Results(RESULT),)),)))
    assert '<td class="number"><b>85.1 ± 0.4 (5)</b></td>' in text
    badge = '<span class="badge good">reproduced <span aria-hidden="true">=</span></span>'
    assert re.search(rf'<td class="number paper"[^>]*>85\.0 {re.escape(badge)}', text)
    assert '<span class="unseen">Acc2, </span>paper</th>' in text


def test_a_table_that_the_paper_does_not_have_has_no_column_for_it():
    beyond = dataclasses.replace(RESULT, table=dataclasses.replace(RESULT.table, beyond="Not in the paper."))
    text = html.write(dataclasses.replace(SMALL, sections=(Section("t", "T", (Results(beyond),)),)))
    lines = [re.findall("<t[hd]", line) for line in re.findall("<tr>.*?</tr>", text)]
    assert {len(line) for line in lines} == {2 + len(RESULT.table.columns)} and ">paper<" not in text


class Page(HTMLParser):
    """Tags in order, ids, links, and what scripts hold."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append(data)

    def all(self, *names: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> str:
    """A report on a folder whose every text is an attack."""
    store = fill(tmp_path, held=manifest(notes=[NASTY], source={"file": NASTY}), failed=1, notes=[NASTY], device=NASTY)
    claim = type("Claim", (), {"id": 'x" onclick="y', "quote": NASTY, "place": NASTY})
    part = type("Part", (), {"row_a": NASTY, "row_b": "", "table": NASTY, "metric": NASTY, "reason": NASTY})
    part.low = part.high = part.p = part.p_adjusted = part.difference = part.seeds_needed = None
    part.n_a = part.n_b = part.underpowered = 0
    part.verdict = NASTY
    result = type("Result", (), {"claim": claim, "verdict": NASTY, "reason": NASTY, "caution": NASTY, "parts": (part,)})
    monkeypatch.setattr(evidence, "evaluated", lambda scope: [result])
    drawn = Section("figures", "F", (Picture(Drawn(NASTY, NASTY, NASTY)),))
    monkeypatch.setattr(evidence, "figures", lambda scope: drawn)
    return report(store)


def test_nothing_from_data_becomes_markup(hostile):
    page = Page(hostile)
    assert NASTY not in hostile and hostile.count("&lt;script&gt;alert(1)") >= 8
    assert len(page.all("script")) == 1 and "alert(1)" not in page.scripts[0]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    sources = [a[key] for _, a in page.tags for key in ("src", "href", "action", "data", "srcset") if key in a]
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert {tag for tag, _ in page.tags} & {"iframe", "object", "embed", "form", "svg", "base"} == set()


def test_the_page_allows_its_own_script_and_nothing_else(hostile):
    page = Page(hostile)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")


def test_the_page_can_be_read_aloud(hostile):
    page = Page(hostile)
    assert [id for id, n in Counter(page.ids).items() if n > 1] == []
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert targets <= set(page.ids) and {"main", "summary", "part-table1"} <= targets
    named = {a[key] for _, a in page.tags for key in ("aria-labelledby", "aria-describedby") if key in a}
    assert named <= set(page.ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) == len({a["id"] for a in tables}) >= 15
    assert {a["scope"] for a in page.all("th")} == {"col", "row"}
    assert all(a["alt"] for a in page.all("img")) and len(page.all("img")) == 1
    assert page.all("html")[0]["lang"] == "en" and [len(page.all(tag)) for tag in ("main", "nav", "header")] == [1] * 3
    assert all(f'id="{name}"' in hostile for name in TABLES)


def test_the_same_folder_gives_the_same_bytes_in_every_format(tmp_path):
    store = fill(tmp_path)
    for format in FORMATS:
        assert report(store, format=format) == report(store, format=format)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_the_appendix_compiles(tmp_path):
    store = fill(tmp_path / "results", held=manifest(notes=[NASTY]), failed=1, device="a_b^c ~ 100 % #1 é α ≠")
    (tmp_path / "report.tex").write_text(report(store, format="latex"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


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
    assert said in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
