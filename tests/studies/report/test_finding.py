"""The README's finding, and the marks between which a page is generated."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import report_folders
from report_folders import TFN, fill, manifest

from studies.claims.file import load_claims
from studies.claims.kinds import Contest, Side
from studies.claims.verdict import ClaimResult, Part
from studies.report import finding
from studies.report.experiments import experiments
from studies.report.headline import headline
from studies.report.marked import END, begin, main, split
from studies.store.study import load_studies

PAGE = finding.ROOT / "README.md"


def test_the_readme_says_what_the_published_records_say() -> None:
    inside = split(PAGE.read_text(encoding="utf-8"), "finding")[1]
    assert inside == finding.generated(), "run `python -m studies.report.finding README.md`, and read what has changed"


def test_the_figure_is_there_and_named_in_the_page() -> None:
    assert f"({finding.FIGURE})" in PAGE.read_text(encoding="utf-8")
    assert (finding.ROOT / finding.FIGURE).read_bytes().startswith(b"<svg")


def test_the_sentences_follow_the_records(tmp_path: Path) -> None:
    fill(tmp_path / "one", trials=1, seeds=(0.8, 0.9), held=manifest("mosi_resampled", notes=["audio is made up"]))
    (found,) = experiments(tmp_path)
    assert finding.what_ran(found) == (
        "3 runs, 2 seeds a row, on mosi_resampled in place of the paper's mosi. 1284/229/686 utterances. Audio is made "
        "up. Text encoder bert-base-uncased. Search of 1 trial."
    )
    result = finding.main_table(found)
    assert finding.what_was_found(result) == (
        "Of 1 row of Table 1 with runs, HyCon-BERT has the best mean Acc2, 85.0 ± 7.1 over 2 seeds. No other row of "
        "Table 1 on a pretrained text encoder was run."
    )
    assert [line[0].text for line in headline(result).rows] == ["HyCon-BERT"]


def test_a_difference_that_two_tables_show_is_one_test_among_all() -> None:
    """Alone in its table, p is adjusted over itself only; the sentence counts over both tables."""

    def part(table: str, a: str, b: str, metric: str, p: float, p_interval: float, p_adjusted: float) -> Part:
        contest = Contest(table, Side(table, a), Side(table, b), metric, "better")
        return Part(contest, "mosi", "undecided", p=p, p_interval=p_interval, p_adjusted=p_adjusted)

    parts = (
        part("table4", "HyCon", "HyCon-v2", "acc2", 0.01, 0.04, 0.08),
        part("table4", "HyCon", "HyCon (W/O L_IAMCL)", "acc2", 0.9, 0.1, 0.9),
        part("table7", "HyCon-v2", "HyCon", "acc2", 0.01, 0.04, 0.04),
        Part(Contest("table4", Side("table4", "HyCon"), None, "acc2", "about", 85.0), "mosi", "undecided"),
    )
    claim = load_claims()[0]
    found = finding.differences([ClaimResult(claim, "undecided", parts[:2], ""), ClaimResult(claim, "", parts[2:], "")])
    assert list(found.values()) == pytest.approx([0.08, 0.9])


def test_means_that_are_equal_as_printed_share_a_place(tmp_path: Path) -> None:
    fill(tmp_path / "one", trials=1, seeds=(0.8, 0.9))
    fill(tmp_path / "one", TFN, trials=1, seeds=(0.9001, 0.8002))
    (found,) = experiments(tmp_path)
    said = finding.what_was_found(finding.main_table(found))
    assert "HyCon-BERT share the best mean Acc2, 85.0 ± 7.1 over 2 seeds and 85.0 ± 7.1 over 2 seeds." in said
    assert "second" not in said


def test_searches_that_differ_are_all_said(tmp_path: Path) -> None:
    fill(tmp_path / "one", trials=1, seeds=(0.8, 0.9))
    fill(tmp_path / "one", TFN, trials=2, seeds=(0.7, 0.8))
    (found,) = experiments(tmp_path)
    assert finding.what_ran(found).endswith(" Search of 1 row: 2 trials; of 1 row: 1 trial.")


def test_a_row_that_is_not_finished_says_so_where_it_is_ranked(tmp_path: Path) -> None:
    store = fill(tmp_path / "one", trials=1, seeds=(0.8, 0.9, 0.8))
    (study,) = load_studies(store)
    shutil.rmtree(store.root / "runs" / study.runs[2])
    (found,) = experiments(tmp_path)
    said = finding.what_was_found(finding.main_table(found))
    assert "85.0 ± 7.1 over 2 seeds (1 of 3 seeded runs to do)." in said


def test_another_text_encoder_stands_in_place_of_the_papers(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(report_folders.BERT, "name", "small")
    fill(tmp_path / "one", trials=1, held=manifest("mosi_x"))
    (found,) = experiments(tmp_path)
    assert ". Text encoder small in place of bert-base-uncased. " in finding.what_ran(found)


def test_places_beyond_the_third_are_said_as_one_says_them() -> None:
    said = [finding.ordinal(place) for place in (1, 3, 4, 11, 12, 13, 21, 22, 23)]
    assert said == [f"is {x}" for x in ("first", "third", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd")]


def made() -> str:
    return "new"


def test_a_page_is_renewed_between_its_marks(tmp_path: Path, capsys) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{begin('x')}\nold\n{END}\n\nafter\n")
    assert main([str(page)], "x", made) == 0
    assert split(page.read_text(), "x") == ("before\n\n", "new", "\n\nafter\n")
    assert main([], "x", made) == 0
    assert capsys.readouterr().out == "new\n"


@pytest.mark.parametrize(
    "content", ["no marks", f"{END} {begin('x')}", f"{begin('x')}{begin('x')}{END}", begin("y") + END]
)
def test_a_page_without_a_place_for_what_is_generated_is_left_alone(tmp_path: Path, capsys, content: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(content)
    assert main([str(page)], "x", made) == 2
    assert page.read_text() == content
    assert "expected the lines <!-- generated" in capsys.readouterr().err
