"""`bench show`: every kind of thing, the commands that it prints, and mistakes."""

import json
import shlex

import pytest
from commands import bench, places


def shown(capsys, finished, *words):
    code, out, err = bench(capsys, "show", *words, "--json", *places(finished))
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.fixture
def cell(capsys, finished):
    return shown(capsys, finished, "table1", "HyCon-BERT", "acc2", "--profile", "demo")


def test_from_a_cell_to_its_study_and_runs(capsys, finished, cell):
    code, out, _ = bench(capsys, "table", "table1", "--profile", "demo", "--format", "json", *places(finished))
    row = next(row for row in json.loads(out)["rows"] if row["row"] == "HyCon-BERT")
    assert code == 0
    assert [run["id"] for run in cell["runs"]] == row["runs"]
    assert cell["study"]["id"] == row["study"]
    assert {**cell["metrics"]["acc2"], "best": True} == {**row["metrics"]["acc2"], "best": True}
    for run in row["runs"]:
        one = shown(capsys, finished, run)
        assert (one["kind"], one["id"]) == ("run", run)
        assert one["code_state"] == "as it was"
        assert one["defaults"]["training"]["epochs"] == 50
    study = shown(capsys, finished, row["study"][:10])
    assert (study["kind"], study["winner"]) == ("study", cell["study"]["winner"])
    assert [run["id"] for run in study["runs"]] == row["runs"]


def test_every_kind_fits_80_columns(capsys, finished, cell):
    for words in (
        ["table1", "hycon-bert", "Acc2", "--profile", "demo"],
        [cell["runs"][0]["id"]],
        [cell["study"]["id"]],
    ):
        code, out, err = bench(capsys, "show", *words, *places(finished))
        assert (code, err) == (0, "")
        wide = [line for line in out.splitlines() if len(line) > 80 and not line.startswith("  bench ")]
        assert not wide


def test_what_differs_from_the_default_is_marked_and_the_curve_drawn(capsys, finished, cell):
    _, out, _ = bench(capsys, "show", cell["runs"][0]["id"], *places(finished))
    assert "* lr = 0.001 (default 2e-05)" in out
    assert "validation loss" in out
    assert "epoch 1 of 1, the best" in out
    assert "test paper" in out


def test_the_printed_commands_work(capsys, finished, cell):
    _, out, _ = bench(capsys, "show", cell["runs"][0]["id"], *places(finished))
    (verify,) = (shlex.split(line) for line in out.splitlines() if line.startswith("  bench verify"))
    assert " ".join(verify) == cell["runs"][0]["verify"]
    code, out, _ = bench(capsys, *verify[1:], "--executor", "inline", "--quiet")
    assert code == 0
    assert "identical" in out


def test_a_row_that_was_not_run_comes_with_the_command_that_runs_it(capsys, finished):
    code, out, _ = bench(capsys, "show", "table1", "TFN-BERT", "--profile", "demo", *places(finished))
    assert code == 0
    (run,) = (shlex.split(line) for line in out.splitlines() if line.startswith("  bench run"))
    code, out, _ = bench(capsys, *run[1:], "--dry-run")
    assert code == 0
    assert "TFN-BERT" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table1"], "Name a row of table1 too, as in `bench show table1 HyCon-v2-XLNet`: EF-LSTM-GloVe, "),
        (["table1", "HyCn-BERT"], "table1 has no row 'HyCn-BERT'; nearest: HyCon-BERT"),
        (["table1", "HyCon-BERT", "ac2"], "Unknown metric 'ac2' of table1; nearest: acc2"),
        (["table1", "HyCon-BERT", "acc2", "x"], "has 4 parts; expected TABLE ROW [METRIC], a run's id, or a study's."),
        (["tabel1", "HyCon-BERT"], "Unknown table 'tabel1'; nearest: table1"),
        (["tabel1"], "has no run or study 'tabel1', and there is no such table (nearest: table1"),
    ],
)
def test_mistakes(capsys, finished, words, said):
    code, out, err = bench(capsys, "show", *words, "--profile", "demo", *places(finished))
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
