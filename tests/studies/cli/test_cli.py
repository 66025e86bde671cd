"""`bench` as people and scripts use it: happy paths on the demo profile, mistakes, kills, and what it never imports."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import studies
import studies.store.run_store
import studies.store.study
from hycon.errors import UserError
from studies.cli import main
from studies.store.run_store import RunStore
from studies.store.study import load_studies
from studies.tables import TABLES

ROWS = ["EF-LSTM-GloVe", "HyCon-BERT"]
BUDGET = ["--profile", "demo", "--rows", ",".join(ROWS), "--trials", "2", "--epochs", "1", "--quiet"]
RUN = ["run", "table1", *BUDGET, "--seeds", "2"]
DIMS = {"text": 9, "audio": 4, "vision": 3}
FORMATS = ["text", "md", "latex", "csv", "html", "json"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with `data` and `results` after a small run of two rows. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    assert main([*RUN, *places(folder), "--executor", "inline"]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def places(folder: Path) -> list[str]:
    return ["--data", str(folder / "data"), "--results", str(folder / "results")]


def bench(capsys, *arguments) -> tuple[int, str, str]:
    try:
        code = main(list(map(str, arguments)))
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    return code, out, err


def records(folder: Path) -> dict[str, int]:
    return {p.parent.name: p.stat().st_mtime_ns for p in (folder / "results" / "runs").glob("*/record.json")}


def table(capsys, folder: Path, *options) -> dict:
    code, out, _ = bench(capsys, "table", "table1", "--profile", "demo", "--format", "json", *places(folder), *options)
    assert code == 0
    return json.loads(out)


# ------------------------------------------------------------------------------------------------- help


COMMANDS = [
    [],
    ["list"],
    ["run"],
    ["ablate"],
    ["worker"],
    ["table"],
    ["claims"],
    ["figure"],
    ["report"],
    *([name] for name in ("verify", "diff", "doctor", "export", "import-results")),
    ["status"],
    ["data"],
    *(["data", action] for action in ("import", "download", "check", "list", "synthesize")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(capsys, command):
    code, out, err = bench(capsys, *command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(" ".join(["usage: bench", *command]))
    assert all(len(line) > 1 for line in out.splitlines() if line.startswith("  --"))


def test_nothing_that_only_reads_imports_torch(finished):
    code = """
import sys
from studies.cli import main
for line in sys.argv[1].splitlines():
    try:
        assert main(line.split("|")) == 0, line
    except SystemExit as leaving:
        assert not leaving.code, line
    assert "torch" not in sys.modules, line
"""
    where = "|".join(places(finished))
    commands = [
        "--help",
        "run|--help",
        "worker|--help",
        "--version",
        "list",
        "list|tables|--json",
        "list|models|--json",
        "list|ablations|--json",
        "list|claims|--json",
        "claims|--paper",
        f"claims|--profile|demo|{where}",
        "ablate|--list|--json",
        f"table|tuning|--profile|demo|{where}",
        f"list|corpora|{where}",
        f"list|runs|{where}",
        f"data|list|{where}",
        f"status|--profile|demo|{where}",
        f"table|table1|--profile|demo|{where}",
    ]
    subprocess.run([sys.executable, "-c", code, "\n".join(commands)], check=True, stdout=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------------------- mistakes


MISTAKES = [
    ([], "COMMAND"),
    (["lst"], "nearest: list"),
    (["list", "modles"], "models"),
    (["list", "--jsn"], "--json"),
    (["run"], "TABLE"),
    (["run", "tabel1"], "table1"),
    (["run", "table1", "--rows", "HyCon-BRET"], "HyCon-BERT"),
    (["run", "table1", "--rows", "EF-LSTM-GloVe,tfn"], "TFN-BERT"),
    (["run", "table1", "--wrokers", "2"], "--workers"),
    (["run", "table1", "--workers", "two"], "--workers"),
    (["run", "table1", "--workers", "0", "--dry-run"], "at least 1"),
    (["run", "table1", "--trials", "0"], "at least 1"),
    (["run", "table1", "--profile", "dmo"], "demo"),
    (["run", "table1", "--format", "txt"], "text"),
    (["run", "table1", "--corpus", "mosy"], "No corpus 'mosy'"),
    (["run", "table1", "--encoder", "brt=x"], "bert=NAME_OR_FOLDER"),
    (["run", "table1", "--encoder", "bert"], "bert=NAME_OR_FOLDER"),
    (["run", "table1", "--row", "HyCon-BERT"], "--rows"),
    ([*RUN, "--encoder", "bert=no/such-model"], "no/such-model"),
    ([*RUN, "--executor", "slrm"], "slurm"),
    ([*RUN, "--time-limit", "-1"], "above 0"),
    ([*RUN, "--time-limit", "10", "--executor", "inline", "--dry-run"], "--executor local"),
    ([*RUN, "--devices", "gpu"], "cuda:0"),
    ([*RUN, "--devices", ""], "cpu"),
    ([*RUN, "--devices", "cuda:99"], "cuda:99"),
    ([*RUN, "--set", "lrr=1"], "lr"),
    ([*RUN, "--set", "lr"], "KEY=VALUE"),
    ([*RUN, "--set", "lr=NaN"], "above 0"),
    ([*RUN, "--set", "lr=fast"], "a number"),
    ([*RUN, "--set", "clip=tight"], "a number or None"),
    ([*RUN, "--set", "batch_size=2.5"], "a whole number"),
    ([*RUN, "--set", "epochs=0"], "at least 1"),
    ([*RUN, "--set", "embed_dropout=-1", "--rows", "HyCon-BERT"], "from 0 to 1"),
    ([*RUN, "--set", "fusion_dropout=1.5", "--rows", "TFN-GloVe"], "from 0 to 1"),
    ([*RUN, "--set", "hidden=0", "--rows", "EF-LSTM-GloVe"], "at least 1"),
    ([*RUN, "--set", "rank=-2", "--rows", "LMF-GloVe"], "at least 1"),
    ([*RUN, "--set", "combine=votes", "--rows", "LF-LSTM-GloVe"], "concat or vote"),
    ([*RUN, "--set", "projectors=x", "--rows", "QMF-GloVe"], "unit or orthonormal"),
    ([*RUN, "--set", "rule=x", "--rows", "RAVEN-GloVe"], "one of"),
    ([*RUN, "--set", "heads=7", "--rows", "MULT-GloVe"], "divide"),
    ([*RUN, "--set", "heads=7", "--rows", "MULT-GloVe", "--dry-run"], "divide"),
    (["ablate", "--remove", "imcl", "--profile", "demo"], "iamcl"),
    (["ablate", "--profile", "demo"], "--remove"),
    (["ablate", "--model", "tfn", "--remove", "scl"], "names no parts"),
    (["ablate", "--model", "hycn", "--remove", "scl"], "hycon"),
    (["ablate", "--remove", "text", "--remove", "audio", "--profile", "demo"], "both set modalities"),
    (["ablate", "--set", "margin=0.8", "--profile", "demo"], "what the intact hycon has already"),
    (["ablate", "--set", "modalities=audio,text", "--profile", "demo"], "in that order"),
    (["run", "table1", "--studies", "3", "--profile", "demo"], "tables that repeat it: tuning"),
    (["table", "tuning", "--studies", "1"], "at least 2"),
    (["run", "sensitivty", "--profile", "demo"], "sensitivity"),
    (["ablate", "--remove", "scl", "--text", "brt", "--profile", "demo"], "bert"),
    (["ablate", "--set", "margn=1", "--profile", "demo"], "margin"),
    (["table", "table11"], "table1"),
    (["table", "table1", "--format", "pdf"], "html"),
    (["table", "table1", "--corpus", "mosy"], "No corpus 'mosy'"),
    (["table", "table1", "--rows", "x"], "no row 'x'"),
    (["table", "table1", "--protocol", "papre"], "paper"),
    (["table", "table1", "--output", "no/such/folder/t.md"], "No such file"),
    (["status", "table9"], "table8"),
    (["data", "lsit"], "list"),
    (["data", "check", "nosuch"], "No corpus 'nosuch'"),
    (["data", "synthesize", "Bad Name"], "lower-case"),
    (["data", "import", "mine", "nofile.pkl"], "does not exist"),
    (["data", "download", "mosy"], "mosi"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=lambda x: " ".join(x) if isinstance(x, list) else None)
def test_mistakes_end_in_one_sentence_and_write_nothing(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = bench(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("bench: ") and err.count("\n") == 1 and "Traceback" not in err
    assert said in err
    assert not (tmp_path / "results").exists()


def test_a_newer_record_study_or_corpus_is_refused(capsys, copy):
    def raise_version(path, key):
        raw = json.loads(path.read_text())
        path.write_text(json.dumps({**raw, key: 99}))
        return lambda: path.write_text(json.dumps(raw))

    reading = ["table", "table1", "--profile", "demo", *places(copy)]
    for pattern, key, commands in (
        ("results/runs/*/record.json", "record_version", (["list", "runs", *places(copy)], [*RUN, *places(copy)])),
        ("results/studies/*.json", "version", (reading, ["status", *reading[2:]], [*RUN, *places(copy)])),
        ("data/synthetic/manifest.json", "version", (reading, [*RUN, *places(copy)])),
    ):
        restore = raise_version(sorted(copy.glob(pattern))[0], key)
        for command in commands:
            code, _, err = bench(capsys, *command)
            assert code == 2 and "newer version" in err and err.count("\n") == 1
        restore()
    assert bench(capsys, *reading)[0] == 0


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def denied(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("where", "name", "deny", "said"),
    [
        (studies.store.study, "write_atomic", full, "No space left"),
        (studies.store.run_store, "write_atomic", full, "No space left"),
        (os, "mkdir", denied, "Permission denied"),
    ],
)
def test_results_that_cannot_be_written(capsys, copy, tmp_path, monkeypatch, where, name, deny, said):
    """Root may write everywhere, so the refusal is the file system's in name only."""
    arguments = [*RUN, "--data", copy / "data", "--results", tmp_path / "new" / "results", "--executor", "inline"]
    monkeypatch.setattr(where, name, deny)
    code, out, err = bench(capsys, *arguments)
    assert code == 2 and out == ""
    assert said in err and err.count("\n") == 1
    assert not list(tmp_path.glob("new/results/runs/*/*"))


def test_a_results_folder_below_a_file(capsys, copy, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = bench(capsys, *RUN, "--data", copy / "data", "--results", tmp_path / "file" / "results")
    assert code == 2 and err.count("\n") == 1


# ------------------------------------------------------------------------------------------------- what there is


def test_list_models_is_a_contract(capsys):
    code, out, _ = bench(capsys, "list", "models", "--json")
    found = {item["name"]: item["text"] for item in json.loads(out)}
    assert code == 0
    wanted = {(row.model, row.text) for table in TABLES.values() for row in table.rows}
    assert wanted <= {(name, text) for name, texts in found.items() for text in texts}


@pytest.mark.parametrize("what", ["models", "corpora", "tables", "ablations", "runs"])
def test_list(capsys, finished, what):
    _, out, _ = bench(capsys, "list", what, "--json", *places(finished))
    items = json.loads(out)
    assert items and all(isinstance(item, dict) for item in items)
    code, out, _ = bench(capsys, "list", what, *places(finished))
    assert code == 0
    assert len(out.splitlines()) == len(items) + 2  # heading and rule
    if what == "tables":
        assert {item["name"] for item in items} == set(TABLES)
    if what == "runs":
        assert len(items) == len(records(finished)) and {item["status"] for item in items} == {"done"}


def test_list_where_nothing_is(capsys, tmp_path):
    for what in ("corpora", "runs"):
        assert bench(capsys, "list", what, *places(tmp_path)) == (0, f"no {what} yet\n", "")
        assert bench(capsys, "list", what, "--json", *places(tmp_path)) == (0, "[]\n", "")
    assert bench(capsys, "data", "list", *places(tmp_path))[1] == "no corpora yet\n"


def test_data_commands(capsys, finished):
    code, out, _ = bench(capsys, "data", "list", "--json", *places(finished))
    assert code == 0 and [item["name"] for item in json.loads(out)] == ["synthetic"]
    code, out, _ = bench(capsys, "data", "check", "synthetic", "--json", *places(finished))
    assert code == 0 and json.loads(out)["synthetic"] is True
    code, out, _ = bench(capsys, "data", "check", "synthetic", *places(finished))
    assert code == 0 and "synthetic" in out


# ------------------------------------------------------------------------------------------------- running


def test_dry_run_runs_nothing(capsys, copy, tmp_path):
    code, out, _ = bench(capsys, *RUN, "--data", copy / "data", "--results", tmp_path / "none", "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ROWS
    assert [line.split()[1:3] for line in out.splitlines()[2:4]] == [["2", "2"], ["2", "2"]]
    assert "8 runs" in out
    assert not (tmp_path / "none").exists()
    before = records(copy)
    code, out, _ = bench(capsys, *RUN, *places(copy), "--seeds", "3", "--dry-run")
    assert code == 0 and records(copy) == before
    assert [line.split()[1:3] for line in out.splitlines()[2:4]] == [["0", "1"], ["0", "1"]]
    assert "2 runs" in out


def test_dry_run_does_not_keep_a_demo_corpus(capsys, tmp_path):
    folder = ["--data", tmp_path / "data", "--results", tmp_path / "results"]
    assert bench(capsys, *RUN, *folder, "--dry-run")[0] == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [["--executor", "lokal"], ["--devices", "cuda:99"], ["--devices", "gpu"]])
def test_dry_run_knows_machines_that_do_not_exist(capsys, copy, bad):
    code, out, err = bench(capsys, *RUN, *places(copy), "--dry-run", *bad)
    assert (code, out) == (2, "") and err.count("\n") == 1


READERS = [["table", "table1"], ["status"], RUN, [*RUN, "--dry-run"]]


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        *[(folder, command) for folder in ("--data", "--results") for command in READERS],
        ("--data", ["data", "list"]),
        ("--data", ["list", "corpora"]),
        ("--results", ["list", "runs"]),
    ],
)
def test_a_file_where_a_folder_belongs(capsys, copy, tmp_path, command, folder):
    file = tmp_path / "file"
    file.write_text("")
    given = dict(zip(*[iter(places(copy))] * 2, strict=True)) | {folder: str(file)}
    code, out, err = bench(capsys, *command, *[word for pair in given.items() for word in pair])
    assert (code, out) == (2, "")
    assert "is a file" in err and folder in err


def test_emotions_from_corpus_to_table(capsys, tmp_path):
    small = ["--trials", "1", "--seeds", "2", "--epochs", "1", "--quiet", "--executor", "inline", *places(tmp_path)]
    assert bench(capsys, "run", "table3", "--profile", "demo", "--rows", "LMF,HyCon-v2", *small)[0] == 0
    code, out, _ = bench(capsys, "table", "table3", "--profile", "demo", "--format", "json", *places(tmp_path))
    found = {row["row"]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert [name for name, row in found.items() if row["status"] == "measured"] == ["LMF", "HyCon-v2"]
    assert found["MFN"]["status"] == "quoted" and found["MFN"]["metrics"]["happy_acc"]["paper"] == 86.5
    assert found["Majority class"]["metrics"]["average_acc"]["mean"] == pytest.approx(75, abs=3)
    frame = studies.results("table3", profile="demo", root=tmp_path / "results")
    assert len(frame) == 4 and frame["average_f1"].between(0, 1).all()
    assert "Majority class" in bench(capsys, "table", "table3", "--profile", "demo", *places(tmp_path))[1]


def test_mult_s_iemocap_file_from_import_to_table(capsys, tmp_path):
    """Its text is GloVe vectors without words: the GloVe rows read them, and the caption says so."""
    rng = np.random.default_rng(0)
    content = {}
    for split, count in (("train", 24), ("valid", 8), ("test", 8)):
        present = np.eye(4, dtype=np.int64)[rng.integers(4, size=count)]
        arrays = {m: rng.normal(size=(count, 6, d)).astype(np.float32) for m, d in DIMS.items()}
        content[split] = {
            **arrays,
            "labels": np.stack([1 - present, present], 2),
            "id": np.array([f"{split}{i}" for i in range(count)]),
        }
    (tmp_path / "iemocap.pkl").write_bytes(pickle.dumps(content))
    where = places(tmp_path)
    assert bench(capsys, "data", "import", "small", tmp_path / "iemocap.pkl", *where[:2])[0] == 0
    out = bench(capsys, "table", "table3", "--corpus", "small", "--format", "json", *where)[1]
    before = json.loads(out)["rows"][-1]
    share = content["test"]["labels"][:, 1, 1].mean()  # happy is the second
    assert before["metrics"]["happy_acc"]["mean"] == pytest.approx(100 * max(share, 1 - share))
    small = ["--profile", "demo", "--trials", "1", "--seeds", "1", "--epochs", "1", "--executor", "inline", "--quiet"]
    rows = ["--rows", "MFN,HFFN,HyCon", "--corpus", "small"]
    code, out, _ = bench(capsys, "run", "table3", *small, *rows, *where, "--format", "json")
    found = json.loads(out)
    assert code == 0 and [row["status"] for row in found["rows"]] == ["measured"] * 3 + ["reference"]
    assert found["rows"][0]["encoder"] == "the corpus's own GloVe (9-d)"
    assert found["rows"][-1]["metrics"] == before["metrics"]  # of the runs' own labels


def test_ablation_on_emotions_has_their_columns(capsys, tmp_path):
    small = ["--profile", "demo", "--trials", "1", "--seeds", "1", "--epochs", "1", "--executor", "inline", "--quiet"]
    arguments = ["ablate", "--text", "glove", "--remove", "iemcl", "--corpus", "synthetic_emotions", *places(tmp_path)]
    code, out, _ = bench(capsys, *arguments, *small, "--format", "json")
    rows = json.loads(out)["rows"]
    assert code == 0 and [row["n"] for row in rows] == [1, 1, 0]
    assert all(0 < row["metrics"]["average_f1"]["mean"] <= 100 for row in rows)


def test_a_table_refuses_labels_of_another_kind(capsys, copy):
    given = ["--corpus", "synthetic", "--profile", "demo", *places(copy)]
    code, out, err = bench(capsys, "run", "table3", *given)
    assert (code, out) == (2, "") and "emotion" in err and err.count("\n") == 1


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
    rows = {row["row"]: row for row in result["rows"]}
    assert list(rows) == [row.name for row in TABLES["table1"].rows]
    for name, row in rows.items():
        measured = name in ROWS
        assert row["status"] in ("measured", "quoted", "missing") and (row["status"] == "measured") == measured
        assert row["n"] == (2 if measured else 0)
    metrics = rows["HyCon-BERT"]["metrics"]
    assert set(metrics) == {"acc7", "acc2", "f1", "mae", "corr"}
    assert metrics["acc2"]["paper"] == 85.2 and 0 <= metrics["acc2"]["mean"] <= 100
    assert {"mean", "sd", "paper", "verdict"} <= set(metrics["acc2"])
    assert rows["QMF-GloVe"]["status"] == "quoted"


def test_table_to_a_file_and_of_some_rows(capsys, finished, tmp_path):
    command = ["table", "table1", "--profile", "demo", "--format", "csv", "--rows", "hycon-bert", *places(finished)]
    _, printed, _ = bench(capsys, *command)
    code, out, _ = bench(capsys, *command, "--output", tmp_path / "table.csv")
    assert (code, out) == (0, "")
    assert (tmp_path / "table.csv").read_text().rstrip() == printed.rstrip()
    assert "HyCon-BERT" in printed and "TFN" not in printed


def test_status(capsys, finished):
    code, out, _ = bench(capsys, "status", "--profile", "demo", "--json", *places(finished))
    found = {item["row"]: item for item in json.loads(out)}
    assert code == 0
    assert found["HyCon-BERT"] == {"row": "HyCon-BERT", "status": "measured", "n": 2, "reason": ""}
    assert found["TFN-BERT"]["status"] == "missing" and found["TFN-BERT"]["reason"]
    _, out, _ = bench(capsys, "status", "--profile", "demo", *places(finished))
    assert len(out.splitlines()) == len(found)


def test_running_again_trains_nothing_and_more_seeds_add(capsys, copy):
    before = records(copy)
    assert len(before) == 8  # two rows, two trials and two seeds each
    code, out, _ = bench(capsys, *RUN, *places(copy), "--format", "json")
    assert code == 0 and records(copy) == before
    assert json.loads(out)["rows"] == [row for row in table(capsys, copy)["rows"] if row["row"] in ROWS]
    code, _, _ = bench(capsys, "run", "table1", *BUDGET, *places(copy), "--seeds", "3", "--executor", "inline")
    after = records(copy)
    assert code == 0 and len(after) == 10
    assert {run: after[run] for run in before} == before
    assert {row["row"]: row["n"] for row in table(capsys, copy)["rows"] if row["n"]} == dict.fromkeys(ROWS, 3)


def test_a_typing_mistake_does_not_hide_finished_rows(capsys, copy):
    before = table(capsys, copy)
    assert bench(capsys, *RUN, *places(copy), "--executor", "slrm")[0] == 2
    assert table(capsys, copy) == before


def test_run_prints_what_was_run_even_where_more_thorough_runs_exist(capsys, copy):
    arguments = ["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", "--trials", "1", "--seeds", "1"]
    arguments += ["--epochs", "1", "--set", "hidden=16", "--executor", "inline", "--format", "json", "--quiet"]
    code, out, _ = bench(capsys, *arguments, *places(copy))
    [row] = json.loads(out)["rows"]
    assert code == 0 and (row["row"], row["n"]) == ("EF-LSTM-GloVe", 1)
    assert next(r for r in table(capsys, copy)["rows"] if r["row"] == "EF-LSTM-GloVe")["n"] == 2


def test_failed_runs_are_named_and_tried_again(capsys, copy):
    arguments = ["run", "table1", "--profile", "demo", "--rows", "LF-LSTM-GloVe", "--trials", "1", "--seeds", "1"]
    arguments += ["--epochs", "1", "--executor", "inline", "--quiet", *places(copy)]
    code, out, err = bench(capsys, *arguments, "--set", "lr=1e38")
    assert code == 1
    assert "non-finite loss at epoch 1, step 2" in err and "Traceback" not in err
    assert "LF-LSTM-GloVe" in out
    _, out, _ = bench(capsys, "status", "--profile", "demo", "--rows", "LF-LSTM-GloVe", "--json", *places(copy))
    assert json.loads(out)[0]["status"] == "failed" and "non-finite" in json.loads(out)[0]["reason"]
    assert bench(capsys, *arguments, "--set", "lr=1e38")[0] == 1
    failures = [json.loads(p.read_text()) for p in copy.glob("results/runs/*/failed.json")]
    assert [failure["attempts"] for failure in failures] == [2]
    assert bench(capsys, *arguments)[0] == 0


def test_a_corpus_that_cannot_serve_a_row_ends_the_command_before_anything_is_written(capsys, copy):
    corpus = copy / "data" / "synthetic"
    manifest = json.loads((corpus / "manifest.json").read_text())
    before = sorted(copy.rglob("*"))
    for change, rows, said in (
        ({"aligned": "none"}, "EF-LSTM-BERT,TFN-BERT,MFN-GloVe", "as some models need it (EF-LSTM-BERT)"),
        ({"files": {"corpus.safetensors": "0" * 64}}, "LF-LSTM-BERT", "sha256"),
    ):
        (corpus / "manifest.json").write_text(json.dumps({**manifest, **change}))
        arguments = ["run", "table1", "--profile", "demo", "--rows", rows, *places(copy)]
        for more in ([], ["--dry-run"]):
            code, out, err = bench(capsys, *arguments, *more)
            assert (code, out) == (2, "") and said in err and err.count("\n") == 1
            assert sorted(copy.rglob("*")) == before


def test_trials_that_failed_are_told_beside_the_row(capsys, copy):
    study = next(s for s in load_studies(RunStore(copy / "results")) if s.model == "ef_lstm")
    folder = copy / "results" / "runs" / next(t for i, t in enumerate(study.trials) if i != study.selected)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").unlink()
    (folder / "failed.json").write_text(json.dumps({**record, "status": "failed", "reason": "killed", "metrics": {}}))
    row = next(r for r in table(capsys, copy)["rows"] if r["row"] == "EF-LSTM-GloVe")
    assert (row["status"], row["reason"]) == ("measured", "1 of 2 trials failed: killed")


def test_ablate_compares_with_the_intact_model(capsys, copy):
    arguments = ["ablate", "--remove", "scl", "--text", "glove", "--profile", "demo", "--trials", "1", "--seeds", "1"]
    arguments += ["--epochs", "1", "--executor", "inline", "--quiet", "--format", "json"]
    code, out, _ = bench(capsys, *arguments, *places(copy))
    assert code == 0
    assert [(r["row"], r["n"]) for r in json.loads(out)["rows"]] == [("hycon-glove", 1), ("hycon-glove (w/o scl)", 1)]
    comparison = json.loads(out)["comparison"]
    assert list(comparison) == ["acc7", "acc2", "f1", "mae", "corr"]
    intact, ablated = (r["metrics"]["mae"]["mean"] for r in json.loads(out)["rows"])
    assert comparison["mae"]["difference"] == pytest.approx(ablated - intact, abs=1e-5)
    assert (comparison["mae"]["n_intact"], comparison["mae"]["p"], comparison["mae"]["underpowered"]) == (1, None, True)


def test_ablate_list_is_the_list_of_ablations(capsys):
    code, out, _ = bench(capsys, "ablate", "--list", "--json")
    assert code == 0 and out == bench(capsys, "list", "ablations", "--json")[1]
    found = {(item["model"], item["name"]): item for item in json.loads(out)}
    assert found["hycon", "iemcl"]["table4"] == "HyCon (W/O L_IEMCL)" and found["hycon", "iemcl"]["sets"] == [
        "iemcl=0.0"
    ]
    assert all(item["removes"] for item in found.values())


def test_results_as_a_data_frame(capsys, finished):
    frame = studies.results("table1", profile="demo", root=finished / "results")
    assert list(frame["row"]) == ["EF-LSTM-GloVe"] * 2 + ["HyCon-BERT"] * 2
    assert set(frame["run"]) <= set(records(finished)) and frame["seed"].nunique() == 4
    assert {"acc7", "acc2", "f1", "mae", "corr", "valid_loss", "best_epoch", "parameters", "seconds"} <= set(frame)
    rows = {row["row"]: row for row in table(capsys, finished)["rows"]}
    for name, group in frame.groupby("row"):
        assert group["mae"].mean() == pytest.approx(rows[name]["metrics"]["mae"]["mean"])
    assert studies.results("table1", corpus="mosi", root=finished / "results").empty


# ------------------------------------------------------------------------------------------------- kills


def test_data_frame_of_what_does_not_exist(copy):
    root = copy / "results"
    empty = studies.results("table1", corpus="mosi", root=root)
    assert len(empty) == 0 and {"row", "run"} <= set(empty.columns)
    for wrong in ({"protocol": "nope"}, {"profile": "dmo"}, {"corpus": "mosy"}):
        with pytest.raises(UserError, match=next(iter(wrong.values()))):
            studies.results("table1", root=root, **wrong)


def test_killed_and_issued_again_gives_the_same_table(capsys, copy, tmp_path):
    """kill -9 in mid-run; the workers of the local engine against the inline engine of the undisturbed run."""
    places_ = ["--data", str(copy / "data"), "--results", str(tmp_path / "results")]
    command = [sys.executable, "-m", "studies.cli", *RUN, *places_]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not records(tmp_path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(records(tmp_path)) < 8
    again = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    assert again.stderr == ""
    assert len(records(tmp_path)) == 8
    assert not list(tmp_path.glob("results/**/*.tmp"))
    undisturbed = bench(capsys, "table", "table1", "--profile", "demo", "--format", "json", *places(copy))
    disturbed = bench(capsys, "table", "table1", "--profile", "demo", "--format", "json", *places_)
    assert disturbed == undisturbed
