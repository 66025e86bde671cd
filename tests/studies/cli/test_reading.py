"""Commands that read: lists, tables in every format, status, the data frame."""

import json

import pytest
from commands import FORMATS, ROWS, bench, places, records, table

import studies
import studies.store.run_store
import studies.store.study
from hycon.errors import UserError
from hycon.train import EPOCHS, PATIENCE
from studies.aggregate.inventory import run_lines
from studies.tables import TABLES


def test_list_models_is_a_contract(capsys):
    code, out, _ = bench(capsys, "list", "models", "--json")
    found = {item["name"]: item["text"] for item in json.loads(out)}
    assert code == 0
    wanted = {(row.model, row.text) for table in TABLES.values() for row in table.rows}
    assert wanted <= {(name, text) for name, texts in found.items() for text in texts}


@pytest.mark.parametrize("what", ["models", "corpora", "tables", "ablations", "studies", "runs"])
def test_list(capsys, finished, what):
    _, out, _ = bench(capsys, "list", what, "--json", *places(finished))
    items = json.loads(out)
    assert items
    assert all(isinstance(item, dict) for item in items)
    code, out, _ = bench(capsys, "list", what, *places(finished))
    assert code == 0
    found = [item.get("id") or item.get("name") or item["row"] for item in items]
    assert [name for name in found if name not in out] == []
    if what == "tables":
        assert {item["name"]: item["rows"] for item in items} == {name: len(TABLES[name].rows) for name in TABLES}
    if what == "runs":
        assert len(items) == len(records(finished))
        assert {item["status"] for item in items} == {"done"}


def test_runs_are_listed_with_metrics_as_tables_print_them():
    run = dict.fromkeys(("id", "kind", "row", "corpus", "status", "best_epoch", "seconds", "reason"))
    (sentiment,) = run_lines([{**run, "valid_loss": 0.78164, "test": {"acc2": 0.82321, "f1": 0.8, "mae": 0.77341}}])
    assert [sentiment[name] for name in ("valid_loss", "acc2", "mae")] == ["0.7816", "82.3", "0.773"]
    (emotion,) = run_lines([{**run, "valid_loss": None, "test": {"happy_acc": 0.8, "average_acc": 0.71249}}])
    assert (emotion["valid_loss"], emotion["average_acc"], "happy_acc" in emotion) == (None, "71.2", False)
    (trial,) = run_lines([{**run, "valid_loss": 0.5, "test": {"acc2": None, "mae": None}}])
    assert (trial["acc2"], trial["mae"]) == (None, None)


def test_help_names_the_epochs_and_the_patience_that_runs_have(capsys):
    said = " ".join(bench(capsys, "run", "--help")[1].split())
    assert f"(profile paper: {EPOCHS['tokens']} with BERT or XLNet, else {EPOCHS['vectors']})" in said
    assert f"(profile paper: {PATIENCE})" in said


def test_list_where_nothing_is(capsys, tmp_path):
    (tmp_path / "results").mkdir()
    for what in ("corpora", "studies", "runs"):
        assert bench(capsys, "list", what, *places(tmp_path)) == (0, f"no {what} yet\n", "")
        assert bench(capsys, "list", what, "--json", *places(tmp_path)) == (0, "[]\n", "")
    assert bench(capsys, "data", "list", *places(tmp_path))[1] == "no corpora yet\n"


def test_data_commands(capsys, finished):
    code, out, _ = bench(capsys, "data", "list", "--json", *places(finished))
    assert code == 0
    assert [item["name"] for item in json.loads(out)] == ["synthetic"]
    code, out, _ = bench(capsys, "data", "check", "synthetic", "--json", *places(finished))
    assert code == 0
    assert json.loads(out)["synthetic"] is True
    code, out, _ = bench(capsys, "data", "check", "synthetic", *places(finished))
    assert code == 0
    assert "synthetic" in out


@pytest.mark.parametrize("format", FORMATS)
def test_table_in_every_format(capsys, finished, format):
    code, out, err = bench(capsys, "table", "table1", "--profile", "demo", "--format", format, *places(finished))
    assert (code, err) == (0, "")
    if format != "json":
        assert "synthetic" in out.lower()  # said in whatever form the table takes
    assert all(row.name in out for row in TABLES["table1"].rows)


def test_table_as_json_is_a_contract(capsys, finished):
    result = table(capsys, finished)
    assert (result["table"], result["corpus"]) == ("table1", "synthetic")
    *models, constant = result["rows"]
    assert (constant["row"], constant["status"], constant["n"]) == ("Constant prediction", "reference", 0)
    assert 50 <= constant["metrics"]["acc2"]["mean"] <= 100
    rows = {row["row"]: row for row in models}
    assert list(rows) == [row.name for row in TABLES["table1"].rows]
    for name, row in rows.items():
        measured = name in ROWS
        assert row["status"] in ("measured", "quoted", "missing")
        assert (row["status"] == "measured") == measured
        assert row["n"] == (2 if measured else 0)
        assert len(row["runs"]) == row["n"]
        assert bool(row["study"]) == measured
        assert row["changed_code"] == []
        assert set(row["runs"]) <= records(finished).keys()
    metrics = rows["HyCon-BERT"]["metrics"]
    assert set(metrics) == {"acc7", "acc2", "f1", "mae", "corr"}
    assert metrics["acc2"]["paper"] == 85.2
    assert 0 <= metrics["acc2"]["mean"] <= 100
    assert {"mean", "sd", "paper", "verdict"} <= set(metrics["acc2"])
    assert rows["QMF-GloVe"]["status"] == "quoted"


def test_table_to_a_file_and_of_some_rows(capsys, finished, tmp_path):
    command = ["table", "table1", "--profile", "demo", "--format", "csv", "--rows", "hycon-bert", *places(finished)]
    _, printed, _ = bench(capsys, *command)
    code, out, _ = bench(capsys, *command, "--output", tmp_path / "table.csv")
    assert (code, out) == (0, "")
    assert (tmp_path / "table.csv").read_text().rstrip() == printed.rstrip()
    assert "HyCon-BERT" in printed
    assert "TFN" not in printed


def test_the_name_of_a_file_says_its_format(capsys, finished, tmp_path):
    begins = {
        "a.tex": "% needs",
        "a.md": "Comparison",
        "a.csv": "table,corpus",
        "a.html": "<",
        "a.json": "{",
        "a": "Com",
    }
    for name, begin in begins.items():
        code, *_ = bench(capsys, "table", "table1", "--profile", "demo", *places(finished), "--output", tmp_path / name)
        assert code == 0
        assert (tmp_path / name).read_text().startswith(begin), name
    assert "| HyCon-BERT" in (tmp_path / "a.md").read_text()
    code, *_ = bench(capsys, "claims", "--paper", "--output", tmp_path / "claims.md")
    assert "| Verdict |" in (tmp_path / "claims.md").read_text()


@pytest.mark.parametrize(
    ("command", "file", "said"),
    [
        (["table", "table1"], "a.pdf", "expected one of .txt, .md, .tex, .csv, .html, .json, or give --format"),
        (["claims"], "a.docx", "a.docx ends in .docx; expected one of .txt"),
        (["report"], "a.json", "a.json ends in .json; expected one of .md, .tex, .html"),
        (["figure", "dots"], "a.gif", "a.gif ends in .gif; expected one of .svg, .png, .pdf"),
    ],
)
def test_a_name_that_says_another_format_is_refused(capsys, finished, tmp_path, command, file, said):
    code, out, err = bench(capsys, *command, "--profile", "demo", *places(finished), "--output", tmp_path / file)
    assert (code, out) == (2, "")
    assert said in err
    assert not (tmp_path / file).exists()
    if command == ["table", "table1"]:
        asked = [*command, "--profile", "demo", *places(finished), "--output", tmp_path / file, "--format", "md"]
        assert bench(capsys, *asked)[0] == 0


def test_status(capsys, finished):
    code, out, _ = bench(capsys, "status", "--profile", "demo", "--json", *places(finished))
    found = {item["row"]: item for item in json.loads(out)}
    assert code == 0
    hycon = found["HyCon-BERT"]
    assert (hycon["status"], hycon["n"], hycon["reason"]) == ("measured", 2, "")
    assert hycon["changed_code"] == []
    counts = ("trials_done", "trials_wanted", "seeds_done", "seeds_wanted", "failed", "running")
    assert [hycon[key] for key in counts] == [2, 2, 2, 2, 0, 0]
    assert found["TFN-BERT"]["status"] == "missing"
    assert found["TFN-BERT"]["reason"]
    assert [found["TFN-BERT"][key] for key in counts] == [0, 2, 0, 2, 0, 0]
    assert list(found) == [row.name for row in TABLES["table1"].rows]
    _, out, _ = bench(capsys, "status", "--profile", "demo", *places(finished))
    first, _, *_, last = out.splitlines()
    assert first == "table1 on corpus synthetic"
    assert last == "22 rows: 2 measured, 18 missing, 2 quoted; 0 failed runs, 0 running"


def test_results_as_a_data_frame(capsys, finished):
    frame = studies.results("table1", profile="demo", results=finished / "results")
    assert list(frame["row"]) == ["EF-LSTM-GloVe"] * 2 + ["HyCon-BERT"] * 2
    assert set(frame["run"]) <= set(records(finished))
    assert frame["seed"].nunique() == 4
    assert {"acc7", "acc2", "f1", "mae", "corr"} <= set(frame)
    assert {"valid_loss", "best_epoch", "parameters", "train_seconds"} <= set(frame)
    rows = {row["row"]: row for row in table(capsys, finished)["rows"]}
    for name, group in frame.groupby("row"):
        assert group["mae"].mean() == pytest.approx(rows[name]["metrics"]["mae"]["mean"])
    assert studies.results("table1", corpus="mosi", results=finished / "results").empty


def test_data_frame_of_what_does_not_exist(copy):
    root = copy / "results"
    empty = studies.results("table1", corpus="mosi", results=root)
    assert len(empty) == 0
    assert {"row", "run"} <= set(empty.columns)
    for wrong in ({"protocol": "nope"}, {"profile": "dmo"}, {"corpus": "mosy"}):
        with pytest.raises(UserError, match=next(iter(wrong.values()))):
            studies.results("table1", results=root, **wrong)
