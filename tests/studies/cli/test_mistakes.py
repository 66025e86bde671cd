"""Help, what is never imported, and mistakes: one sentence, exit code 2, nothing written."""

import errno
import json
import os
import subprocess
import sys

import pytest
from commands import RUN, bench, places

import studies
import studies.store.run_store
import studies.store.study

COMMANDS = [
    [],
    ["list"],
    ["init"],
    ["run"],
    ["ablate"],
    ["worker"],
    ["table"],
    ["claims"],
    ["figure"],
    ["report"],
    *([name] for name in ("verify", "diff", "doctor", "export", "import-results")),
    ["status"],
    ["new"],
    ["check-model"],
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


def test_a_command_ends_without_a_search_for_garbage():
    """Which takes a second where PyTorch is loaded, and Ctrl-C is to be over in two."""
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 0)); "
        "from studies.cli import main; main(['list', 'claims', '--json'])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told.rstrip().endswith("True")


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
    (["run", "table1", "--precision", "bf16"], "given by --set precision=VALUE"),
    (["ablate", "--batch-size=4"], "given by --set batch_size=VALUE"),
    (["table", "1"], "nearest: table1."),
    (["run", "table1", "--workers", "two"], "--workers"),
    (["run", "table1", "--workers", "0", "--dry-run"], "at least 1"),
    (["run", "table1", "--trials", "0"], "at least 1"),
    ([*RUN, "--seeds", "1000000000", "--dry-run"], "--seeds is 1000000000; expected at most 10,000."),
    (["run", "table1", "--rows", ""], "--rows names no row"),
    (["run", "table1", "--corpus", ""], "--corpus is empty"),
    (["table", "", "--profile", "demo"], "TABLE is empty"),
    (["doctor", "--results", ""], "--results is empty"),
    (["run", "table1", "--trials", "1.5"], "--trials is '1.5'; expected a whole number (see `bench run --help`)."),
    ([*RUN, "--time-limit", "1h"], "--time-limit is '1h'; expected a number"),
    (["run", "table1", "--rows", " , "], "--rows names no row"),
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
    ([*RUN, "--mps", "maybe"], "Unknown --mps 'maybe'; nearest: auto, no."),
    ([*RUN, "--set", "precision=fp8"], "precision is 'fp8'; expected one of fp32, tf32, bf16."),
    ([*RUN, "--devices", ""], "cpu"),
    ([*RUN, "--devices", "cuda:99"], "cuda:99"),
    ([*RUN, "--set", "lrr=1"], "lr"),
    ([*RUN, "--set", "lr"], "KEY=VALUE"),
    ([*RUN, "--set", "lr=NaN"], "finite number"),
    ([*RUN, "--set", "lr=fast"], "a number"),
    ([*RUN, "--set", "clip=tight"], "a number or None"),
    ([*RUN, "--set", "batch_size=2.5"], "a whole number"),
    (["run", "table1", "--rows", "EF-LSTM-GloVe", "--profile", "demo", "--set", "epochs=0"], "at least 1"),
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
    (["run", "table8", "--trials", "3", "--profile", "demo"], "table8 is measured"),
    (["run", "table8", "--patience", "3", "--profile", "demo"], "a measurement has none"),
    (["run", "table8", "--set", "patience=3", "--profile", "demo", "--dry-run"], "a measurement has none"),
    ([*RUN, "--epochs", "3", "--set", "epochs=4"], "both set the epochs"),
    ([*RUN, "--patience", "3", "--set", "patience=4"], "both set the patience"),
    (["ablate", "--epochs", "3", "--set", "epochs=4", "--profile", "demo"], "both set the epochs"),
    (["ablate", "--remove", "text", "--set", "head_lr=0.1", "--profile", "demo"], "has none: use lr"),
    (["run", "modalities", "--set", "head_lr=0.1", "--rows", "Audio", "--profile", "demo"], "has none: use lr"),
    (["run", "table1", "--set", "gamma=0.1", "--rows", "HyCon-BERT", "--profile", "demo"], "no effect on HyCon-BERT"),
    (["run", "table1", "--set", "tensor_dropout=0.1", "--rows", "TFN-GloVe", "--profile", "demo"], "no effect on"),
    (
        ["ablate", "--model", "lmf", "--text", "glove", "--set", "token_rank=3", "--profile", "demo"],
        "no effect on lmf",
    ),
    (
        ["ablate", "--model", "mult", "--text", "bert", "--set", "layers=2", "--profile", "demo"],
        "no effect on mult",
    ),
    (["run", "table1", "--patience", "0", "--profile", "demo"], "--patience is 0"),
    (["run", "table1", "--profile", "decisiv"], "decisive"),
    (["ablate", "--remove", "scl", "--text", "brt", "--profile", "demo"], "bert"),
    (["ablate", "--set", "margn=1", "--profile", "demo"], "margin"),
    (["table", "table11"], "table1"),
    (["table", "table1", "--format", "pdf"], "html"),
    (["table", "table1", "--corpus", "mosy"], "No corpus 'mosy'"),
    (["table", "table1", "--rows", "x"], "no row 'x'"),
    (["table", "table1", "--protocol", "papre"], "paper"),
    (["table", "table1"], "There is no results folder results: run a table first, or give --results"),
    (["status"], "There is no results folder results"),
    (["figure", "dots"], "There is no results folder results"),
    (["claims"], "There is no results folder results"),
    (["report"], "There is no results folder results"),
    (["list", "runs"], "There is no results folder results"),
    (["list", "studies"], "There is no results folder results"),
    (["doctor"], "results is not there"),
    (["doctor", "."], "'.' is one argument too many: a results folder is given by --results"),
    (["claims", "table4"], "'table4' is one argument too many (see"),
    (["status", "table9"], "table8"),
    (["data", "lsit"], "list"),
    (["data", "check", "nosuch"], "No corpus 'nosuch'"),
    (["data", "synthesize", "Bad Name"], "lower-case"),
    (["data", "check", "mosi"], "`bench data import mosi FILE` makes it"),
    (["data", "import", "mine", "nofile.pkl"], "does not exist"),
    (["predict", "my-model", "nofile.csv"], "nofile.csv is no file, no folder, and no corpus"),
    (["data", "download", "mosy"], "mosi"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=lambda x: " ".join(x) if isinstance(x, list) else None)
def test_mistakes_end_in_one_sentence_and_write_nothing(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, out, err = bench(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("bench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
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
            assert code == 2
            assert "newer version" in err
            assert err.count("\n") == 1
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
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("new/results/runs/*/*"))


@pytest.mark.parametrize("command", [["table", "table1"], ["list", "runs"], ["claims"], ["doctor"]])
def test_a_folder_of_other_things_is_no_results_folder(capsys, finished, tmp_path, command):
    """Nothing in it would be shown as nothing run."""
    code, out, err = bench(capsys, *command, "--results", finished / "data")
    assert (code, out) == (2, "")
    assert "data is no results folder, it has no runs and no studies: give another with --results." in err
    code, _, err = bench(capsys, *command, "--results", finished)
    assert code == 2
    assert "give one of those in it (results)." in err
    assert bench(capsys, *command, "--results", tmp_path)[0] == 0  # empty: nothing was run


def test_a_results_folder_below_a_file(capsys, copy, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = bench(capsys, *RUN, "--data", copy / "data", "--results", tmp_path / "file" / "results")
    assert code == 2
    assert err.count("\n") == 1
