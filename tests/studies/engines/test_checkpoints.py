"""Runs that are killed go on from their checkpoint in another process; workers of a cluster count that as progress."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import run_spec

from hycon.errors import UserError
from studies.cli import main
from studies.engines.child import attempt
from studies.engines.history import History
from studies.engines.options import CHECKPOINT_EVERY, EXECUTE, How, checkpoint_every
from studies.engines.queue import entries_of, publish
from studies.engines.queue_worker import Limits, Pull
from studies.engines.slurm import wants_requeue
from studies.store.record import RESULT
from studies.store.run_store import RunStore, checkpoint_epochs
from studies.trust.doctor import examine

CHILD = """
import sys
from pathlib import Path
from studies.engines.child import attempt
from studies.store.record import RunSpec, object_of
from studies.store.run_store import RunStore

root, data, file = sys.argv[1:]
spec = RunSpec.from_dict(object_of(Path(file).read_bytes()))
attempt(spec, RunStore(Path(root)), "studies.engines.one_run:execute", data, "cpu")
"""


def long_run(corpora):
    return run_spec(corpora, "lf_lstm", epochs=400, patience=400)


def start(folder: Path, corpora, spec) -> subprocess.Popen:
    (folder / "spec.json").write_text(json.dumps(dataclasses.asdict(spec)))
    (folder / "child.py").write_text(CHILD)
    command = [sys.executable, "child.py", str(folder / "results"), str(corpora), "spec.json"]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, CHECKPOINT_EVERY: "0"})


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_goes_on_with_the_same_bits(corpora, tmp_path, how):
    spec, store = run_spec(corpora, "lf_lstm", epochs=40, patience=40), RunStore(tmp_path / "results")
    whole = RunStore(tmp_path / "undisturbed")
    attempt(spec, whole, EXECUTE, str(corpora), "cpu")
    child = start(tmp_path, corpora, spec)
    while checkpoint_epochs(store, spec.id) < 3:
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(how)
    assert child.wait() == -how
    assert not store.has(spec.id)
    reached = checkpoint_epochs(store, spec.id)
    attempt(spec, store, EXECUTE, str(corpora), "cpu")
    ours, undisturbed = store.get(spec.id), whole.get(spec.id)
    assert ours.resumed == [reached]
    assert undisturbed.resumed == []
    for field in RESULT:
        assert getattr(ours, field) == getattr(undisturbed, field), field
    assert not list(store.folder(spec.id).glob("checkpoint*"))


def half_done(corpora, tmp_path, epochs: int = 3):
    """A store with a run that has a checkpoint and no record."""
    spec, store = long_run(corpora), RunStore(tmp_path / "results")
    child = start(tmp_path, corpora, spec)
    while checkpoint_epochs(store, spec.id) < epochs:
        assert child.poll() is None
        time.sleep(0.002)
    child.kill()
    child.wait()
    return spec, store


def test_doctor_keeps_what_the_next_command_goes_on_from(corpora, tmp_path):
    spec, store = half_done(corpora, tmp_path)
    for path in (store.folder(spec.id), *store.folder(spec.id).iterdir()):
        os.utime(path, (0, 0))
    found = [finding for finding in examine(store) if finding.path == f"runs/{spec.id}"]
    assert [finding.kind for finding in found] == ["unfinished"]
    assert found[0].action is None
    assert "goes on from it" in found[0].said


def pull_of(store, spec) -> Pull:
    publish(store, entries_of([spec], {spec.id: 0}, How()))
    pull = Pull(store, Limits(seconds=10.0), EXECUTE, None, frozenset({"cpu"}), History([]), lambda event: None)
    pull._look()
    return pull


def test_a_worker_that_brought_a_run_on_is_requeued_and_notes_no_failure(corpora, tmp_path):
    spec, store = half_done(corpora, tmp_path)
    pull = pull_of(store, spec)
    pull.entries[spec.id] = entries_of([spec], {spec.id: 0}, How())[0]
    pull.running, pull.kept, pull.end = {spec.id: 0.0}, {spec.id: 1}, "time"
    pull.cut(pull.backlog())
    assert store.failed(spec.id) is None
    assert pull.brought_on == [spec.id]
    assert wants_requeue(pull)


def test_a_worker_that_brought_nothing_on_notes_the_failure(corpora, tmp_path):
    spec, store = half_done(corpora, tmp_path)
    pull = pull_of(store, spec)
    pull.entries[spec.id] = entries_of([spec], {spec.id: 0}, How())[0]
    pull.running, pull.kept, pull.end = {spec.id: 0.0}, {spec.id: checkpoint_epochs(store, spec.id)}, "time"
    pull.cut(pull.backlog())
    assert "not done within the 10 s of a worker" in store.failed(spec.id).reason
    assert not wants_requeue(pull)


@pytest.mark.parametrize("text", ["-1", "often", "nan"])
def test_what_is_no_number_of_seconds_is_refused(monkeypatch, capsys, tmp_path, text):
    monkeypatch.setenv(CHECKPOINT_EVERY, text)
    with pytest.raises(UserError, match="expected seconds, at least 0"):
        checkpoint_every()
    given = ["run", "table1", "--profile", "demo", "--results", str(tmp_path), f"--checkpoint-every={text}"]
    assert main(given) == 2
    assert f"--checkpoint-every (or $BENCH_CHECKPOINT_EVERY) is {text}" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("inf", float("inf")), ("2.5", 2.5)])
def test_seconds(monkeypatch, text, seconds):
    monkeypatch.setenv(CHECKPOINT_EVERY, text)
    assert checkpoint_every() == seconds
