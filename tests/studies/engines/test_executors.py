"""Executors with real processes: nothing is run twice, every end is recorded, mistakes are sentences."""

import dataclasses
import os
import time
from collections import Counter

import pytest
from fake_driver import leases
from fake_execute import executed, pids, spec
from waiting import alive

from hycon.errors import UserError
from studies.engines.run import run
from studies.store.run_store import RunStore

both = pytest.mark.parametrize("executor", ["inline", "local"])


def kinds(events):
    return Counter(event.kind for event in events)


# ------------------------------------------------------------------------------------------------ ends of runs


@both
def test_runs_are_done_recorded_and_skipped_next_time(go, runs, tmp_path, executor):
    specs = [spec(n) for n in range(5)]
    summary = go([*specs, specs[0]], executor)
    assert [s.id for s in sorted(summary.done, key=lambda s: s.seed)] == [s.id for s in specs]
    assert (summary.failed, summary.skipped) == ([], [])
    assert kinds(go.events) == {"start": 5, "done": 5}
    for s in specs:
        assert runs.get(s.id).valid_loss == 1.0 / (1 + s.seed)
        assert runs.predictions(s.id)["valid_id"].tolist() == ["a", "b", "c"]
        assert [p.name for p in sorted(runs.folder(s.id).iterdir())] == ["predictions.npz", "record.json"]
    again = go([*specs, spec(5)], executor)
    assert again.skipped == specs
    assert again.done == [spec(5)]
    assert len(executed(tmp_path)) == 6
    assert leases(runs) == []


def test_every_local_run_has_its_own_process(go, tmp_path):
    go([spec(n) for n in range(4)])
    assert len(set(pids(tmp_path)) | {os.getpid()}) == 5


def test_same_bytes_whatever_the_engine(tmp_path):
    content = []
    for executor, workers in (("inline", 1), ("local", 1), ("local", 3)):
        store = RunStore(tmp_path / f"{executor}{workers}")
        run(
            [spec(n) for n in range(3)], store, executor=executor, workers=workers,
            execute="fake_execute:execute", data_root=tmp_path, preload=(),
        )  # fmt: skip
        content.append([p.read_bytes() for p in sorted((store.root / "runs").rglob("*")) if p.is_file()])
    assert content[0] == content[1] == content[2]


@both
@pytest.mark.parametrize(
    "config, reason",
    [
        ({"diverges": 1}, "non-finite loss at epoch 3, step 17"),
        ({"breaks": 1}, "KeyError: 'weights'"),
        ({"refuses": 1}, "No corpus 'toy' here."),
    ],
)
def test_a_failed_run_stops_no_other_and_is_retried_next_time(go, runs, tmp_path, executor, config, reason):
    bad, good = spec(0, **config), spec(1)
    summary = go([bad, good], executor)
    assert summary.failed == [(bad, reason)]
    assert summary.done == [good]
    assert [e.reason for e in go.events if e.kind == "failed"] == [reason]
    assert runs.failed(bad.id).reason == reason
    assert executed(tmp_path).count(bad.id) == 1
    assert go([bad, good], executor).done == [bad]
    assert runs.get(bad.id).attempts == 2
    assert leases(runs) == []


@both
def test_traceback_of_an_unexpected_failure_is_in_the_log(go, runs, executor):
    bad = spec(0, breaks=1)
    go([bad], executor)
    log = (runs.folder(bad.id) / "log.txt").read_text()
    assert 'raise KeyError("weights")' in log
    assert executor == "inline" or "about to break" in log


@both
def test_exit_and_foreign_records_are_failures(go, executor):
    summary = go([spec(0, exits=True), spec(1, foreign=True), spec(2)], executor, workers=1)
    reasons = [reason for _, reason in summary.failed]
    assert reasons[0] == "SystemExit: bye"
    assert "record of another run" in reasons[1]
    assert summary.done == [spec(2)]


def test_output_goes_to_the_log_not_to_the_terminal(go, runs, capfd):
    noisy = spec(0, says="hello from the run")
    go([noisy])
    assert (runs.folder(noisy.id) / "log.txt").read_text() == "hello from the run\n"
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------------ devices


def test_slots_are_bound_to_devices_in_turn(go, runs):
    specs = [dataclasses.replace(spec(n, sleep=0.2), device="cuda") for n in range(3)]
    go(specs, workers=3, devices=("cuda:0", "cuda:1"))
    assert sorted(runs.get(s.id).device for s in specs) == ["cuda:0", "cuda:0", "cuda:1"]


def test_a_slot_of_another_kind_stays_idle(go, runs):
    specs = [dataclasses.replace(spec(n), device="cuda") for n in range(2)]
    assert len(go(specs, workers=2, devices=("cpu", "cuda:0")).done) == 2
    assert {runs.get(s.id).device for s in specs} == {"cuda:0"}


def test_at_most_as_many_at_once_as_workers(go):
    running, most = set(), 0

    def watch(event):
        nonlocal most
        (running.add if event.kind == "start" else running.discard)(event.spec.id)
        most = max(most, len(running))

    go([spec(n, sleep=0.05) for n in range(6)], workers=3, on_event=watch)
    assert most == 3


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"executor": "locl"}, "Unknown executor 'locl'.*local"),
        ({"workers": 0}, "at least 1"),
        ({"devices": ()}, "No device"),
        ({"devices": ("cuda:0",)}, "runs are for cpu.*cuda:0"),
        ({"time_limit": 0.0}, "above 0"),
        ({"time_limit": float("nan")}, "above 0"),
        ({"time_limit": 5.0, "executor": "inline"}, "--executor local"),
        ({"execute": "nosuch.module:execute"}, "no module 'nosuch.module'"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_start_nothing(go, runs, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        go([spec()], **options)
    assert executed(tmp_path) == []
    assert not runs.root.exists()


# ------------------------------------------------------------------------------------------------ the store in trouble


@both
def test_unwritable_results_stop_before_anything_runs(go, runs, tmp_path, executor):
    runs.root.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="Cannot write to"):
        go([spec()], executor)
    assert executed(tmp_path) == []


@both
def test_a_disk_that_fills_up_ends_the_command_with_a_sentence(go, runs, tmp_path, executor):
    """A folder where the predictions belong makes the worker's rename fail, as a full disk would."""
    (runs.folder(spec(0).id) / "predictions.npz" / "x").mkdir(parents=True)
    began = time.monotonic()
    with pytest.raises(UserError, match="Cannot write to"):
        go([spec(0), spec(1, sleep=60)], executor, workers=2)
    assert time.monotonic() - began < 10
    assert kinds(go.events)["done"] == 0
    assert not any(map(alive, set(pids(tmp_path)) - {os.getpid()}))
    assert leases(runs) == []


def test_damaged_record_is_done_again(go, runs, tmp_path):
    go([spec(0)])
    (runs.folder(spec(0).id) / "record.json").write_text('{"id": "')
    assert go([spec(0)]).done == [spec(0)]
    assert runs.has(spec(0).id)
    assert len(executed(tmp_path)) == 2
