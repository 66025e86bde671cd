"""Commands that run, on the demo profile: from a command to a table, resumed, failed and killed."""

import importlib.util
import json
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from commands import BUDGET, DIMS, ROWS, RUN, bench, places, records, table

import studies
import studies.store.run_store
import studies.store.study
from studies.store.run_store import RunStore
from studies.store.study import load_studies

CONSTANT = "Constant prediction"


def test_dry_run_runs_nothing(capsys, copy, tmp_path):
    code, out, _ = bench(capsys, *RUN, "--data", copy / "data", "--results", tmp_path / "none", "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[2:4]] == ROWS
    assert [line.split()[1:3] for line in out.splitlines()[2:4]] == [["2", "2"], ["2", "2"]]
    assert "8 runs" in out
    assert not (tmp_path / "none").exists()
    before = records(copy)
    code, out, _ = bench(capsys, *RUN, *places(copy), "--seeds", "3", "--dry-run")
    assert code == 0
    assert records(copy) == before
    assert [line.split()[1:3] for line in out.splitlines()[2:4]] == [["0", "1"], ["0", "1"]]
    assert "2 runs" in out


def test_dry_run_does_not_keep_a_demo_corpus(capsys, tmp_path):
    folder = ["--data", tmp_path / "data", "--results", tmp_path / "results"]
    assert bench(capsys, *RUN, *folder, "--dry-run")[0] == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [["--executor", "lokal"], ["--devices", "cuda:99"], ["--devices", "gpu"]])
def test_dry_run_knows_machines_that_do_not_exist(capsys, copy, bad):
    code, out, err = bench(capsys, *RUN, *places(copy), "--dry-run", *bad)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


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
    assert "is a file" in err
    assert folder in err


def test_emotions_from_corpus_to_table(capsys, tmp_path):
    small = ["--trials", "1", "--seeds", "2", "--epochs", "1", "--quiet", "--executor", "inline", *places(tmp_path)]
    assert bench(capsys, "run", "table3", "--profile", "demo", "--rows", "LMF,HyCon-v2", *small)[0] == 0
    code, out, _ = bench(capsys, "table", "table3", "--profile", "demo", "--format", "json", *places(tmp_path))
    found = {row["row"]: row for row in json.loads(out)["rows"]}
    assert code == 0
    assert [name for name, row in found.items() if row["status"] == "measured"] == ["LMF", "HyCon-v2"]
    assert found["MFN"]["status"] == "quoted"
    assert found["MFN"]["metrics"]["happy_acc"]["paper"] == 86.5
    assert found["Majority class"]["metrics"]["average_acc"]["mean"] == pytest.approx(75, abs=3)
    frame = studies.results("table3", profile="demo", results=tmp_path / "results")
    assert len(frame) == 4
    assert frame["average_f1"].between(0, 1).all()
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
    (tmp_path / "results").mkdir(exist_ok=True)
    out = bench(capsys, "table", "table3", "--corpus", "small", "--format", "json", *where)[1]
    before = json.loads(out)["rows"][-1]
    share = content["test"]["labels"][:, 1, 1].mean()  # happy is the second
    assert before["metrics"]["happy_acc"]["mean"] == pytest.approx(100 * max(share, 1 - share))
    small = ["--profile", "demo", "--trials", "1", "--seeds", "1", "--epochs", "1", "--executor", "inline", "--quiet"]
    rows = ["--rows", "MFN,HFFN,HyCon", "--corpus", "small"]
    code, out, _ = bench(capsys, "run", "table3", *small, *rows, *where, "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert [row["status"] for row in found["rows"]] == ["measured"] * 3 + ["reference"]
    assert found["rows"][0]["encoder"] == "the corpus's own GloVe (9-d)"
    assert found["rows"][-1]["metrics"] == before["metrics"]  # of the runs' own labels


@pytest.mark.parametrize(("name", "table"), [("own", "table1"), ("mosei_own", "table2")])
@pytest.mark.parametrize("vectors", [True, False])
def test_what_an_import_says_comes_next_is_not_refused(capsys, tmp_path, name, table, vectors):
    source, rng = tmp_path / "source", np.random.default_rng(0)
    source.mkdir()
    ids = [f"{split}{i}" for split in ("train", "valid", "test") for i in range(4)]
    lines = [f"{i},{i.rstrip('0123')},{k % 3}.5,a good day" for k, i in enumerate(ids)]
    (source / "utterances.csv").write_text("\n".join(["id,split,label,text", *lines]))
    for modality, width in (("audio", 74), ("vision", 35)):  # not aligned: fewer rows than words
        np.savez(source / f"{modality}.npz", **{i: rng.normal(size=(2, width)) for i in ids})
    (tmp_path / "vectors.txt").write_text("a 1 2\ngood 3 4\nday 5 6\n")
    given = ["--text-vectors", tmp_path / "vectors.txt"] if vectors else []
    code, out, _ = bench(capsys, "data", "import", name, source, *given, *places(tmp_path)[:2])
    assert code == 0
    commands = [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  bench run")]
    assert [command[1] for command in commands] == [table, table]
    assert all(command[-1] == "--dry-run" or command[-2:] == ["--profile", "demo"] for command in commands)
    for command in commands:
        assert bench(capsys, *command, "--dry-run", *places(tmp_path)[2:])[0] == 0


def test_gpus_of_two_kinds_are_refused_before_anything_runs(capsys, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "studies.engines.machine.unlike_gpus", lambda devices: asked.append(devices) or "0 is A, 1 is B"
    )
    command = [*RUN, *places(tmp_path), "--devices", "cuda:0,cuda:1", "--dry-run"]
    code, out, err = bench(capsys, *command)
    assert (code, out, asked) == (2, "", [("cuda:0", "cuda:1")])
    assert err.startswith("bench: 0 is A, 1 is B: runs of one row on GPUs of several kinds are not averaged.")
    for further in (["--mixed"], ["--executor", "slurm"]):  # whose GPUs are not these
        assert "not averaged" not in bench(capsys, *command, *further)[2]
    assert len(asked) == 1


def test_a_table_of_other_labels_is_refused_where_it_is_read_too(capsys, copy):
    code, out, err = bench(capsys, "table", "table3", "--corpus", "synthetic", *places(copy))
    assert (code, out) == (2, "")
    assert err == "bench: table3 is about emotions; the labels of corpus synthetic are sentiments.\n"


def test_emotions_of_ones_own_from_import_to_table(capsys, tmp_path):
    """Their columns are the corpus's, in a table, in a comparison and in a figure."""
    source = tmp_path / "source"
    source.mkdir()
    rng, names = np.random.default_rng(0), ["joy", "fear $x_{$"]
    lines, rows = ["id,split,text,emotion:joy,emotion:fear $x_{$"], {}
    for split, count in (("train", 24), ("valid", 8), ("test", 8)):
        for i in range(count):
            lines.append(f"{split}{i},{split},a good day,{i % 2},{i // 2 % 2}")
            rows[f"{split}{i}"] = rng.normal(size=(3, 4)).astype(np.float32)
    (source / "utterances.csv").write_text("\n".join(lines))
    for modality in ("audio", "vision", "text"):
        np.savez(source / f"{modality}.npz", **rows)
    (tmp_path / "vectors.txt").write_text("a 1 2\ngood 3 4\nday 5 6\n")
    where = places(tmp_path)
    given = ["data", "import", "own", source, "--text-vectors", tmp_path / "vectors.txt", *where[:2]]
    code, out, _ = bench(capsys, *given)
    assert code == 0
    assert f"It is in {tmp_path / 'data' / 'own'}. Next, a quick try, and" in out
    assert "\n  bench run table3 --corpus own --data" in out
    small = ["--profile", "demo", "--trials", "1", "--seeds", "2", "--epochs", "1", "--executor", "inline", "--quiet"]
    own = ["--rows", "LMF", "--corpus", "own"]
    code, out, err = bench(capsys, "run", "table3", *small, *own, *where, "--format", "json")
    assert code == 0, err
    measured, majority = json.loads(out)["rows"]
    expected = [f"{name}_{kind}" for name in (*names, "average") for kind in ("acc", "f1")]
    assert list(measured["metrics"]) == expected
    assert all(0 <= metric["mean"] <= 100 for metric in measured["metrics"].values())
    assert majority["metrics"]["joy_acc"]["mean"] == 50
    shutil.copytree(tmp_path / "results", tmp_path / "copied")
    code, out, _ = bench(capsys, "diff", tmp_path / "results", tmp_path / "copied", "--data", where[1])
    assert code == 0
    if importlib.util.find_spec("matplotlib"):
        figure = ["figure", "dots", "--table", "table3", "--profile", "demo", *own, "--output", tmp_path / "dots.svg"]
        assert bench(capsys, *figure, *where)[0] == 0
        assert "Fear $x_{$ Acc" in (tmp_path / "dots.svg").read_text()


def test_ablation_on_emotions_has_their_columns(capsys, tmp_path):
    small = ["--profile", "demo", "--trials", "1", "--seeds", "1", "--epochs", "1", "--executor", "inline", "--quiet"]
    arguments = ["ablate", "--text", "glove", "--remove", "iemcl", "--corpus", "synthetic_emotions", *places(tmp_path)]
    code, out, _ = bench(capsys, *arguments, *small, "--format", "json")
    rows = json.loads(out)["rows"]
    assert code == 0
    assert [row["n"] for row in rows] == [1, 1, 0]
    assert all(0 < row["metrics"]["average_f1"]["mean"] <= 100 for row in rows)


def test_a_table_refuses_labels_of_another_kind(capsys, copy):
    given = ["--corpus", "synthetic", "--profile", "demo", *places(copy)]
    code, out, err = bench(capsys, "run", "table3", *given)
    assert (code, out) == (2, "")
    assert "emotion" in err
    assert err.count("\n") == 1


def test_running_again_trains_nothing_and_more_seeds_add(capsys, copy):
    before = records(copy)
    assert len(before) == 8  # two rows, two trials and two seeds each
    code, out, _ = bench(capsys, *RUN, *places(copy), "--format", "json")
    assert code == 0
    assert records(copy) == before
    assert json.loads(out)["rows"] == [r for r in table(capsys, copy)["rows"] if r["row"] in (*ROWS, CONSTANT)]
    code, _, _ = bench(capsys, "run", "table1", *BUDGET, *places(copy), "--seeds", "3", "--executor", "inline")
    after = records(copy)
    assert code == 0
    assert len(after) == 10
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
    row, constant = json.loads(out)["rows"]
    assert code == 0
    assert (row["row"], row["n"]) == ("EF-LSTM-GloVe", 1)
    assert (constant["row"], constant["n"]) == (CONSTANT, 0)
    assert next(r for r in table(capsys, copy)["rows"] if r["row"] == "EF-LSTM-GloVe")["n"] == 2


def test_failed_runs_are_named_and_tried_again(capsys, copy):
    arguments = ["run", "table1", "--profile", "demo", "--rows", "LF-LSTM-GloVe", "--trials", "1", "--seeds", "1"]
    arguments += ["--epochs", "1", "--executor", "inline", "--quiet", *places(copy)]
    code, out, err = bench(capsys, *arguments, "--set", "lr=1e38")
    assert code == 1
    assert "non-finite loss at epoch 1, step 2" in err
    assert "Traceback" not in err
    assert "LF-LSTM-GloVe" in out
    _, out, _ = bench(capsys, "status", "--profile", "demo", "--rows", "LF-LSTM-GloVe", "--json", *places(copy))
    assert json.loads(out)[0]["status"] == "failed"
    assert "non-finite" in json.loads(out)[0]["reason"]
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
            assert (code, out) == (2, "")
            assert said in err
            assert err.count("\n") == 1
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
    *rows, constant = json.loads(out)["rows"]
    assert [(row["row"], row["n"]) for row in rows] == [("hycon-glove", 1), ("hycon-glove (w/o scl)", 1)]
    assert constant["row"] == CONSTANT
    comparison = json.loads(out)["comparison"]
    assert list(comparison) == ["acc7", "acc2", "f1", "mae", "corr"]
    intact, ablated = (row["metrics"]["mae"]["mean"] for row in rows)
    assert comparison["mae"]["difference"] == pytest.approx(ablated - intact, abs=1e-5)
    assert (comparison["mae"]["n_intact"], comparison["mae"]["p"], comparison["mae"]["underpowered"]) == (1, None, True)


def test_ablate_list_is_the_list_of_ablations(capsys):
    code, out, _ = bench(capsys, "ablate", "--list", "--json")
    assert code == 0
    assert out == bench(capsys, "list", "ablations", "--json")[1]
    found = {(item["model"], item["name"]): item for item in json.loads(out)}
    assert found["hycon", "iemcl"]["table4"] == "HyCon (W/O L_IEMCL)"
    assert found["hycon", "iemcl"]["sets"] == ["iemcl=0.0"]
    assert all(item["removes"] for item in found.values())
    of_one = json.loads(bench(capsys, "ablate", "--list", "--json", "--model", "mfn")[1])
    assert [(item["model"], item["name"]) for item in of_one] == [("mfn", "attention"), ("mfn", "memory")]


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
