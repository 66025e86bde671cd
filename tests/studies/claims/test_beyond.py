"""The suite's own claims from runs of known truth to `bench claims --claims beyond`, `bench report` and the table."""

import json
from types import SimpleNamespace

import pytest
from builders import fill_signs, manifest
from commands import bench

from studies.cli.closing import commands
from studies.search.run import Outcome
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES

ROWS = {row.name: row for row in TABLES["beyond"].rows}
TEXT, PERMUTED = "Text-BERT", "HyCon-BERT (audio and vision permuted)"
TINY = {"name": "tiny", "sha256": "1"}


@pytest.fixture
def store(tmp_path) -> RunStore:
    """Of 60 signs HyCon misses 3 or 4, text alone 24 or 25, the control as many as HyCon, MISA none; others no run."""
    store = RunStore(tmp_path / "results")
    for name, wrong in (("HyCon-BERT", [3, 4]), (TEXT, [24, 25]), (PERMUTED, [4, 3]), ("MISA", [0, 0])):
        fill_signs(store, ROWS[name], wrong * 4)
    return store


def judged(capsys, store, *more):
    where = ("--results", store.root, "--protocol", "mmsa")
    code, out, err = bench(capsys, "claims", "--claims", "beyond", *where, *more)
    assert (code, err) == (0, "")
    return out


def test_the_command_judges_our_claims_by_the_tests_of_the_papers(store, capsys):
    found = {claim["id"]: claim for claim in json.loads(judged(capsys, store, "--json"))}
    assert len(found) == 16
    assert found["hycon-beats-text"]["verdict"] == "supported"
    assert found["audio-and-vision-help"]["verdict"] == "undecided"
    assert found["misa-beats-text"]["verdict"] == "supported"
    assert found["hycon-best"]["verdict"] == "contradicted"  # by MISA
    assert found["mmim-beats-text"]["verdict"] == "not run"
    assert found["misa-best"]["verdict"] == "not run"  # against four of seven
    assert {table for claim in found.values() for table in claim["table"]} == {"beyond"}
    part = next(p for p in found["hycon-beats-text"]["parts"] if p["metric"] == "acc2")
    assert (part["row_a"], part["row_b"], part["n_a"], part["n_b"]) == ("HyCon-BERT", TEXT, 8, 8)
    assert part["difference"] == pytest.approx(35.0)


def test_text_and_one_claim_in_detail(store, capsys):
    out = judged(capsys, store)
    assert out.startswith("16 claims: ")
    assert "hycon-beats-text" in out
    assert "bench run beyond" in out  # what would decide the others
    out = judged(capsys, store, "--id", "hycon-beats-text")
    assert out.startswith("supported: hycon-beats-text (beyond; ")
    assert f"HyCon-BERT against {TEXT}, Acc2: +35.0 [" in out


def on(tmp_path, corpus: str, **changes) -> RunStore:
    """HyCon misses 3 or 4 of 60 signs, text alone 24 or 25, on a corpus of that name."""
    store = RunStore(tmp_path / corpus)
    for name, wrong in (("HyCon-BERT", [3, 4]), (TEXT, [24, 25])):
        fill_signs(store, ROWS[name], wrong * 4, corpus=corpus, encoder=TINY)
    remember_corpus(store, manifest(corpus, **changes))
    return store


@pytest.mark.parametrize("corpus", ["mosi_cut", "mosei_cut", "own"])
def test_they_are_judged_on_any_real_corpus_which_the_verdict_names(tmp_path, capsys, corpus):
    store = on(tmp_path, corpus, sizes={"train": 7, "valid": 6, "test": 5}, notes=["a cut"])
    found = {claim["id"]: claim for claim in json.loads(judged(capsys, store, "--json", "--corpus", corpus))}
    claim = found["hycon-beats-text"]
    assert claim["verdict"] == "supported"
    assert claim["caution"].startswith(f"judged on {corpus} (7/6/5 utterances); ")
    assert "; a cut" in claim["caution"]
    assert "; the text encoder is tiny, not bert-base-uncased" in claim["caution"]
    assert "the paper's" not in claim["caution"]
    assert claim["corpus"] == ["any real corpus"]
    out = " ".join(judged(capsys, store, "--corpus", corpus).split())
    assert f"The verdicts with a letter: (a) judged on {corpus} (7/6/5 utterances); " in out
    assert "paper's own setting" not in out
    out = " ".join(judged(capsys, store, "--corpus", corpus, "--id", "hycon-beats-text").split())
    assert f"Judged on {corpus} (7/6/5 utterances); " in out
    assert "Caution" not in out


def test_on_synthetic_data_they_get_no_verdict(tmp_path, capsys):
    store = on(tmp_path, "synthetic", synthetic=True)
    found = {claim["id"]: claim for claim in json.loads(judged(capsys, store, "--json", "--corpus", "synthetic"))}
    assert found["hycon-beats-text"]["verdict"] == "no verdict"
    assert found["hycon-beats-text"]["reason"] == "no verdict: synthetic data"


def test_they_are_listed(capsys):
    code, out, _ = bench(capsys, "list", "claims", "--claims", "beyond", "--json")
    assert code == 0
    listed = {claim["id"]: claim for claim in json.loads(out)}
    assert len(listed) == 16
    assert listed["hycon-beats-text"]["table"] == "beyond"
    assert bench(capsys, "list", "claims", "--claims", "beyon")[0] == 2


def test_a_run_of_the_table_ends_with_the_command_that_judges_them():
    ran = Outcome([], [], done=1)
    said = commands(SimpleNamespace(table="beyond", model=[]), ran)
    assert [command.partition(" claims")[2] for command in said if " claims" in command] == [" --claims beyond"]
    assert commands(SimpleNamespace(table="table1", model=[]), ran)[-1].endswith(" claims")


def test_the_report_has_them_apart_from_the_papers(store, capsys):
    file = store.root / "report.md"
    code, _, _ = bench(
        capsys, "report", "--results", store.root, "--protocol", "mmsa", "--format", "md", "--output", file
    )
    assert code == 0
    text = file.read_text()
    papers, own = text.index("\n## Claims\n"), text.index("\n## The suite’s own claims, not the paper’s\n")
    assert papers < own < text.index("\n## The paper against itself\n")
    section = text[own:]
    assert "Judged on mosi (1284/229/686 utterances)" in section
    assert "as the paper's claims. Corpus: mosi." in section
    assert "not the paper’s |" not in section.partition("\n## The paper against itself\n")[0]
    assert "Of the suite's own 16 claims: 2 supported, " in section
    assert "“HyCon is better than the same encoder and head on the text alone”" in section
    assert "hycon-beats-text" not in text[:own]
    assert "### beyond: Controls and successors" in text[:papers]
    assert "#### Published numbers of these models: quoted, not measured" in text[:papers]


def test_a_report_without_such_runs_has_one_sentence(tmp_path, capsys):
    store = RunStore(tmp_path / "results")
    fill_signs(store, next(row for row in TABLES["table1"].rows if row.name == "TFN-BERT"), [3, 4])
    file = store.root / "report.md"
    assert bench(capsys, "report", "--results", store.root, "--format", "md", "--output", file)[0] == 0
    section = file.read_text().partition("\n## The suite’s own claims, not the paper’s\n")[2].partition("\n## ")[0]
    assert "No run tells anything of the 16 claims yet" in section
    assert "|" not in section


# ------------------------------------------------------------------------------------------------- published numbers


def table(capsys, store, *more):
    code, out, _ = bench(capsys, "table", "beyond", "--results", store.root, *more)
    assert code == 0
    return out


def test_published_numbers_stand_below_the_table_quoted_and_with_their_source(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # so that the columns stand in one block
    ours, _, theirs = table(capsys, store).partition("\nPublished by others on mosi, quoted and not measured here.")
    assert "0.783†" not in ours
    assert "†" not in ours
    lines = [line.split() for line in theirs.splitlines() if line.startswith("MISA")]
    assert [line[1] for line in lines] == ["0.783†", "0.777†", "0.774"]
    assert lines[0][-1] == "authors"
    assert "Hazarika et al., ACM MM 2020" in theirs
    assert "no verdicts" in " ".join(theirs.split())


def test_only_the_rows_that_are_shown_and_the_corpus_at_hand(store, capsys):
    assert "Published" not in table(capsys, store, "--rows", "HyCon-BERT")
    theirs = table(capsys, store, "--rows", "MISA").partition("Published by others")[2]
    assert "MISA" in theirs
    assert "TETFN" not in theirs
    fill_signs(store, ROWS["MISA"], [0, 1], corpus="mosei")
    assert "0.555†" in table(capsys, store, "--corpus", "mosei")
    assert "Published" not in bench(capsys, "table", "table1", "--results", store.root)[1]


def test_programs_get_them_by_row_and_without_a_verdict(store, capsys):
    rows = {row["row"]: row for row in json.loads(table(capsys, store, "--format", "json"))["rows"]}
    mae = [q for q in rows["MISA"]["published"] if q["metric"] == "mae"]
    assert [(q["value"], q["spread"], q["lineage"]) for q in mae] == [
        (0.783, None, "authors"),
        (0.777, None, "MMSA's re-run"),
        (0.774, 0.013, "independent re-run, 10 seeds"),
    ]
    assert all(q["source"] for q in mae)
    assert rows["HyCon-BERT"]["published"] == []
    assert {cell["verdict"] for cell in rows["MISA"]["metrics"].values()} <= {"not run", "not comparable"}
