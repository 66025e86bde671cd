"""`--with FOLDER`: rows that were not run here, from the published records of others, marked and kept apart."""

import json

import pytest
from builders import fill, fill_table, manifest
from commands import bench

from studies.aggregate.beside import none_beside
from studies.aggregate.caption import caption
from studies.aggregate.table import table_result
from studies.claims import evaluate
from studies.lookup import view_for
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES
from studies.trust.diff import diff


@pytest.fixture
def both(tmp_path) -> tuple[RunStore, RunStore]:
    """One's own folder with EF-LSTM-GloVe; and another's with LF-LSTM-GloVe, and with more trials and runs of it."""
    mine, theirs = RunStore(tmp_path / "mine"), RunStore(tmp_path / "theirs")
    fill(mine, [0.1, 0.2])
    fill(theirs, [0.5, 0.6, 0.7], trials=3)
    fill(theirs, [0.3, 0.3, 0.4], "LF-LSTM-GloVe")
    return mine, theirs


def row(result, name):
    return next(r for r in result.rows if r.row.name == name)


def with_beside(both) -> RunStore:
    return RunStore(both[0].root, beside=both[1])


def test_rows_that_were_not_run_here_are_taken_and_ones_own_stay(both):
    alone, result = (table_result(TABLES["table1"], store) for store in (both[0], with_beside(both)))
    assert row(alone, "LF-LSTM-GloVe").n == 0
    assert row(result, "LF-LSTM-GloVe").n == 3
    assert row(result, "LF-LSTM-GloVe").origin == str(both[1].root)
    mine = [{m: e.stat for m, e in row(r, "EF-LSTM-GloVe").cells.items()} for r in (alone, result)]
    assert mine[0] == mine[1]
    assert row(result, "EF-LSTM-GloVe").origin == ""


def test_the_caption_names_the_rows_and_the_folder(both):
    text = caption(table_result(TABLES["table1"], with_beside(both))).text()
    assert f"NOT RUN HERE, but taken from {both[1].root} (--with): LF-LSTM-GloVe" in text
    assert "NOT RUN HERE" not in caption(table_result(TABLES["table1"], both[0])).text()


def test_what_keeps_rows_apart_is_said(both):
    fill(both[1], [0.3, 0.3], "TFN-GloVe", spec_data="b" * 64, spec_version=7)
    result = table_result(TABLES["table1"], with_beside(both))
    text = caption(result).text()
    assert "rows differ in data" in text.lower()
    assert "TFN-GloVe was made with version 7 of tfn, this code has" in text
    assert any("other data" in obstacle for obstacle in row(result, "TFN-GloVe").obstacles)


def test_nothing_is_written_beside(both):
    before = {path: path.stat().st_mtime_ns for path in both[1].root.rglob("*")}
    store = with_beside(both)
    table_result(TABLES["table1"], store)
    evaluate(store)
    assert {path: path.stat().st_mtime_ns for path in both[1].root.rglob("*")} == before


def test_claims_compare_with_what_is_beside_and_say_so(tmp_path):
    mine, theirs = RunStore(tmp_path / "mine"), RunStore(tmp_path / "theirs")
    rows = {r.name: r for r in TABLES["table1"].rows}
    fill_table(mine, TABLES["table1"], [rows["HyCon-BERT"]])
    fill_table(theirs, TABLES["table1"], [r for r in rows.values() if r.text == "bert" and r.name != "HyCon-BERT"])
    without, found = ({c.claim.id: c for c in evaluate(s)} for s in (mine, RunStore(mine.root, beside=theirs)))
    judged = [key for key in found if found[key].parts and without[key].verdict == "not run" != found[key].verdict]
    assert judged
    cautioned = [
        c
        for key in judged
        for c in found[key].caution.split("; ")
        if f"not run here, but taken from {theirs.root}" in c
    ]
    assert cautioned


def test_diff_fills_a_side_and_leaves_out_rows_that_are_neithers(both, tmp_path):
    other = RunStore(tmp_path / "other")
    fill(other, [0.1, 0.2], "LF-LSTM-GloVe")
    a, b = (RunStore(store.root, beside=both[1]) for store in (both[0], other))
    found = {r.row: r for one in diff(a, b) for r in one.rows}
    assert f"B: taken from {both[1].root}" in found["EF-LSTM-GloVe"].said
    assert f"A: taken from {both[1].root}" in found["LF-LSTM-GloVe"].said
    fill(both[1], [0.2, 0.2], "TFN-GloVe")
    assert "TFN-GloVe" not in {r.row for one in diff(a, b) for r in one.rows}


def test_a_folder_of_another_corpus_is_told_and_not_mixed_in(both, tmp_path):
    elsewhere = RunStore(tmp_path / "elsewhere")
    fill(elsewhere, [0.1], "TFN-GloVe", spec_corpus="mosi_resampled")
    store, view, _ = view_for(both[0].root, [TABLES["table1"]], beside=elsewhere.root)
    said = none_beside(store, view, [TABLES["table1"]])
    assert said.startswith(f"nothing is taken from {elsewhere.root}: it has no runs on mosi; it holds corpus mosi_res")
    assert row(table_result(TABLES["table1"], store, view), "TFN-GloVe").n == 0


def test_a_corpus_that_only_the_folder_beside_knows_can_be_named(both, tmp_path, capsys):
    elsewhere = RunStore(tmp_path / "elsewhere")
    fill(elsewhere, [0.1], "TFN-GloVe", spec_corpus="resampled")
    remember_corpus(elsewhere, manifest("resampled"))
    where = ["--results", both[0].root, "--data", tmp_path / "data", "--corpus", "resampled", "--format", "json"]
    code, out, err = bench(capsys, "table", "table1", "--with", elsewhere.root, *where)
    assert code == 0
    assert "holds no runs on resampled; it holds corpus mosi" in err  # of its own
    found = {r["row"]: r for r in json.loads(out)["rows"]}
    assert found["TFN-GloVe"]["taken_from"] == str(elsewhere.root)
    assert found["EF-LSTM-GloVe"]["n"] == 0
    code, _, err = bench(capsys, "table", "table1", *where)
    assert code == 2
    assert "No corpus 'resampled'" in err


def test_the_command(both, tmp_path, capsys):
    where = ["--results", both[0].root, "--data", tmp_path / "data"]
    code, out, _ = bench(capsys, "table", "table1", "--with", both[1].root, "--format", "json", *where)
    assert code == 0
    rows = {r["row"]: r for r in json.loads(out)["rows"]}
    assert rows["LF-LSTM-GloVe"]["taken_from"] == str(both[1].root)
    assert "taken_from" not in rows["EF-LSTM-GloVe"]
    code, _, err = bench(capsys, "table", "table1", "--with", tmp_path / "nowhere", *where)
    assert code == 2
    assert "There is no results folder" in err
    code, _, err = bench(capsys, "claims", "--paper", "--with", both[1].root)
    assert code == 2
    assert "--with picks runs" in err
