"""A results folder from somebody else names models of his: no command executes a file that the user has not named."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from builders import fill_table
from commands import bench

from studies.engines.options import How
from studies.engines.queue import entries_of, publish
from studies.store.run_store import RunStore
from studies.store.study import load_studies, save_study
from studies.tables import TABLES

SHA = "ab" * 32
ROW = next(row for row in TABLES["table1"].rows if row.name == "EF-LSTM-GloVe")
COMMANDS = (
    "list runs", "list studies", "table table1", "status table1", "claims", "doctor --repair", "show RUN", "verify RUN",
    "worker --idle 0", "export x.tar.gz", "run table1 --rows EF-LSTM-GloVe --profile demo --dry-run",
    *(["report --format md"] if "BENCH_LONG" in os.environ else []),  # takes most of a minute
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the user is: a folder of results of a model `theirs`, with its file wherever it might be looked for."""
    monkeypatch.chdir(tmp_path)
    store = RunStore(tmp_path / "results")
    fill_table(store, TABLES["table1"], [ROW], seeds=2, failing=None)
    [study] = load_studies(store)
    renamed = {}
    for record in list(store.records()):
        spec = dataclasses.replace(record.spec, model="theirs", source=SHA)
        renamed[record.id] = store.put(dataclasses.replace(record, spec=spec), store.predictions(record.id)).id
    trials, runs = ([renamed[run] for run in ids] for ids in (study.trials, study.runs))
    save_study(store, dataclasses.replace(study, model="theirs", source=SHA, trials=trials, runs=runs))
    wanted = dataclasses.replace(store.get(runs[0]).spec, seed=99)
    publish(store, entries_of([wanted], {wanted.id: 0}, How(data_root=str(tmp_path / "data"))))
    parts = "config = Config = SEARCH_SPACE = Model = TRAINING = None"
    evil = f"open({str(tmp_path / 'executed')!r}, 'w')\nVERSION = 1\n{parts}\n"
    for place in (".", "results", f"results/models/{SHA[:16]}", f"results/runs/{runs[0]}", "data"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "theirs.py").write_text(evil)
    return tmp_path


def test_nothing_of_theirs_is_executed(folder, capsys):
    run = next(r.id for r in RunStore(folder / "results").records() if r.spec.model == "theirs" and r.spec.seed == 100)
    for command in COMMANDS:
        words = command.replace("RUN", run).split()
        code, out, err = bench(capsys, *words, "--data", folder / "data", "--results", folder / "results")
        assert not (folder / "executed").exists(), command
        assert code in (0, 1, 2), command
        if code == 2:
            assert err.startswith("bench: "), command
            assert err.count("\n") == 1, command
        assert "Traceback" not in out + err, command


def test_a_record_whose_model_is_a_path_or_a_module(folder, capsys):
    """`model` is a name to look up, never a file or a module."""
    store = RunStore(folder / "results")
    given = next(record for record in store.records() if record.spec.model == "theirs")
    for name in ("./theirs.py", str(folder / "theirs.py"), "theirs", "antigravity", "results.theirs"):
        spec = dataclasses.replace(given.spec, model=name, source=None, seed=7)
        made = store.put(dataclasses.replace(given, spec=spec), {})
        for words in (("verify", made.id, "--quiet"), ("show", made.id), ("list", "runs", "--json")):
            code, out, err = bench(capsys, *words, "--data", folder / "data", "--results", folder / "results")
            assert not (folder / "executed").exists()
            assert code in (0, 1, 2)
            assert "Traceback" not in out + err
    assert json.loads(out)
