"""Executors with real processes: nothing is run twice, nothing hangs, nothing is orphaned, every end is recorded."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from fake_execute import executed, pids, spec
from waiting import alive
from waiting import wait_for as wait

from hycon.errors import UserError
from studies.engines import local
from studies.engines.durations import duration, estimate, estimate_seconds
from studies.engines.progress import Progress
from studies.engines.run import Event, run
from studies.store.record import RunRecord
from studies.store.run_store import RunStore

wait_for = partial(wait, seconds=15.0)
HERE = Path(__file__).parents[2]  # of the helpers


@pytest.fixture
def go(tmp_path, runs):
    """run(...) with the fake execute; its events are in go.events."""

    def go(specs, executor="local", workers=2, **more):
        go.events = []
        options = {"execute": "fake_execute:execute", "data_root": tmp_path, "preload": ()}
        options |= {"on_event": go.events.append, **more}
        return run(specs, runs, executor=executor, workers=workers, **options)

    return go


def kinds(events):
    return Counter(event.kind for event in events)


def leases(runs):
    folder = runs.root / "leases"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


both = pytest.mark.parametrize("executor", ["inline", "local"])

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


# ------------------------------------------------------------------------------------------------ deaths


def test_a_killed_worker_is_tried_once_more(go, runs, tmp_path):
    mortal = spec(0, killed=1)
    summary = go([mortal, spec(1)])
    assert {s.id for s in summary.done} == {mortal.id, spec(1).id}
    assert kinds(go.events) == {"start": 2, "retry": 1, "done": 2}
    reason = next(e.reason for e in go.events if e.kind == "retry")
    assert reason.startswith("killed by signal 9 (out of memory?)")
    assert executed(tmp_path).count(mortal.id) == 2
    assert runs.get(mortal.id).attempts == 2 and runs.get(mortal.id).failures == [reason]


def test_two_deaths_are_a_failure_and_reissuing_retries(go, runs, tmp_path):
    mortal = spec(0, killed=2)
    summary = go([mortal, spec(1)])
    assert summary.failed == [(mortal, "killed by signal 9 (out of memory?)")]
    assert runs.failed(mortal.id).attempts == 2
    assert executed(tmp_path).count(mortal.id) == 2
    assert go([mortal]).done == [mortal]
    assert runs.get(mortal.id).attempts == 3
    assert leases(runs) == []


@pytest.mark.parametrize(
    "config, reason",
    [
        ({"killed": 2, "signal": int(signal.SIGSEGV)}, "killed by signal 11 (SIGSEGV)"),
        ({"vanishes": 2, "code": 7}, "its process ended with exit code 7 and without a record"),
        ({"vanishes": 2, "code": 0}, "its process ended with exit code 0 and without a record"),
        ({"vanishes": 2, "code": 3}, "its process ended with exit code 3 and without a record"),
    ],
)
def test_other_deaths(go, config, reason):
    summary = go([spec(0, **config)])
    assert summary.failed == [(spec(0, **config), reason)]


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_workers_that_outlive_a_killed_fork_server_end_and_are_replaced(tmp_path):
    driver = start_driver(tmp_path, "[spec(n, sleep=1.0) for n in range(2)]")
    wait_for(lambda: len(pids(tmp_path)) == 2)
    first = pids(tmp_path)
    os.kill(parent(first[0]), signal.SIGKILL)
    wait_for(lambda: not any(map(alive, first)), seconds=3)
    out, _ = driver.communicate(timeout=20)
    assert "done 2 failed 0" in out
    assert len(executed(tmp_path)) == 4


@pytest.mark.parametrize("deaf", [False, True])
def test_a_run_over_the_time_limit_is_stopped_and_tried_again_by_the_next_command(go, runs, tmp_path, deaf):
    """deaf: it ignores SIGTERM, as a library that hangs in C may."""
    stuck = spec(0, hangs=1, deaf=deaf)
    began = time.monotonic()
    summary = go([stuck, spec(1), spec(2)], time_limit=1.5)
    assert time.monotonic() - began < 10
    reason = "stopped: over the time limit of 1.5 s"
    assert summary.failed == [(stuck, reason)] and len(summary.done) == 2
    assert [(e.spec, e.reason) for e in go.events if e.kind == "failed"] == [(stuck, reason)]
    assert kinds(go.events)["retry"] == 0 and runs.failed(stuck.id).reason == reason
    assert not any(map(alive, pids(tmp_path))) and leases(runs) == []
    assert go([stuck], time_limit=60).done == [stuck]
    assert runs.get(stuck.id).attempts == 2


def test_the_time_limit_holds_for_each_run_not_for_all(go):
    assert len(go([spec(n, sleep=0.8) for n in range(4)], workers=1, time_limit=2.5).done) == 4


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


# ------------------------------------------------------------------------------------------------ several drivers

DRIVER = """
import sys
from fake_execute import spec
from studies.engines.run import run
from studies.store.run_store import RunStore

def main(root, specs, executor, preload):
    kinds = []
    try:
        s = run(eval(specs), RunStore(root + "/results"), executor=executor, workers=2, data_root=root,
                execute="fake_execute:execute", preload=eval(preload), on_event=lambda e: kinds.append(e.kind))
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(130)
    print("done", len(s.done), "failed", len(s.failed), "skipped", len(s.skipped))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def start_driver(tmp_path, specs, executor="local", preload=()):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    path = os.pathsep.join(map(str, (HERE.parent, HERE, tmp_path)))
    return subprocess.Popen(
        [sys.executable, script, tmp_path, specs, executor, repr(preload)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip


def test_two_drivers_share_the_work(tmp_path):
    specs = "[spec(n, sleep=0.1, diverges=int(n == 5)) for n in range(16)]"
    drivers = [start_driver(tmp_path, specs) for _ in range(2)]
    outs = [driver.communicate(timeout=30) for driver in drivers]
    assert all(driver.returncode == 0 for driver in drivers), outs
    assert Counter(executed(tmp_path)) == dict.fromkeys(
        {spec(n, sleep=0.1, diverges=int(n == 5)).id for n in range(16)}, 1
    )
    for out, err in outs:
        words = out.split()
        assert err == ""
        assert int(words[1]) + int(words[5]) == 15 and words[3] == "1", out
    assert leases(RunStore(tmp_path / "results")) == []


def test_a_run_done_by_another_process_is_waited_for_and_taken(go, runs, tmp_path):
    other = start_driver(tmp_path, "[spec(0, sleep=1.5)]", "inline")
    wait_for(lambda: len(executed(tmp_path)) == 1)
    summary = go([spec(0, sleep=1.5), spec(1)])
    assert [(e.kind, e.spec.seed) for e in go.events] == [("start", 1), ("done", 1), ("elsewhere", 0)]
    assert len(summary.done) == 2
    assert executed(tmp_path).count(spec(0, sleep=1.5).id) == 1
    other.communicate(timeout=10)


def test_kill_9_of_the_driver_leaves_no_orphan_and_reissuing_completes(go, runs, tmp_path):
    driver = start_driver(tmp_path, "[spec(n, sleep=0.5) for n in range(5)]")
    wait_for(lambda: len(executed(tmp_path)) >= 2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=2)
    assert len(leases(runs)) == 2  # as a killed process leaves them
    summary = go([spec(n, sleep=0.5) for n in range(5)], workers=5)
    assert len(summary.done) + len(summary.skipped) == 5
    assert all(runs.has(spec(n, sleep=0.5).id) for n in range(5))
    assert leases(runs) == []


@both
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_stops_cleanly_within_two_seconds(runs, tmp_path, executor, number):
    driver = start_driver(tmp_path, "[spec(n, sleep=60) for n in range(4)]", executor)
    wait_for(lambda: len(executed(tmp_path)) == (2 if executor == "local" else 1))
    began = time.monotonic()
    os.killpg(driver.pid, number)  # as a terminal does: workers get it too
    out, err = driver.communicate(timeout=10)
    assert time.monotonic() - began < 2
    assert (driver.returncode, out, err) == (130, "interrupted\n", "")
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=0.5)
    assert leases(runs) == []
    assert list(runs.failures()) == []


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(lambda worker: worker, id="worker"),
        pytest.param(parent, id="fork server"),
    ],
)
def test_a_process_that_gets_sigterm_before_the_driver_does_fails_no_run(runs, tmp_path, first):
    """As Slurm sends it, to each process of a job in turn."""
    driver = start_driver(tmp_path, "[spec(n, sleep=60) for n in range(4)]")
    wait_for(lambda: len(executed(tmp_path)) == 2)
    os.kill(first(pids(tmp_path)[0]), signal.SIGTERM)
    time.sleep(0.2)
    driver.send_signal(signal.SIGTERM)
    out, _ = driver.communicate(timeout=10)
    assert (driver.returncode, out) == (130, "interrupted\n")
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=2)
    assert list(runs.failures()) == leases(runs) == []


def test_interrupt_while_workers_are_being_prepared(tmp_path):
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(20)")
    driver = start_driver(tmp_path, "[spec(0, sleep=60)]", preload=["slow_to_import"])
    wait_for(lambda: leases(RunStore(tmp_path / "results")))
    time.sleep(0.3)
    began = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)
    out, _ = driver.communicate(timeout=10)
    assert time.monotonic() - began < 2
    assert (driver.returncode, out) == (130, "interrupted\n")


def test_a_run_after_an_interrupt_in_the_same_process(go, monkeypatch):
    """As in a notebook: the fork server of the interrupted run is gone, the next one starts its own."""
    with monkeypatch.context() as patch:
        patch.setattr(local, "_spawn", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            go([spec(0)])
    assert go([spec(0)]).done == [spec(0)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_from_a_thread(go, runs):
    """Notebooks and servers call from threads, where signals cannot be handled."""
    results = []
    thread = threading.Thread(target=lambda: results.append(go([spec(0), spec(1)])))
    thread.start()
    thread.join()
    assert len(results[0].done) == 2


# ------------------------------------------------------------------------------------------------ progress


def measured(number, seconds, loss=0.5, **changes):
    return RunRecord(dataclasses.replace(spec(number), **changes), "done", seconds=seconds, valid_loss=loss)


def test_estimate_is_the_mean_of_runs_that_were_alike():
    records = [
        measured(0, 10.0),
        measured(1, 20.0),
        measured(2, 500.0, corpus="other"),
        measured(3, 500.0, text="bert", encoder={"name": "tiny", "sha256": "0"}),
        measured(4, 500.0, device="cuda"),
        measured(5, None),
    ]
    assert estimate_seconds([spec(7), spec(8)], records) == 30.0
    unlike = dataclasses.replace(spec(9), model="new")
    found = estimate([spec(7), unlike], records)
    assert (found.seconds, found.unknown) == (15.0, 1)
    assert estimate_seconds([spec(7), unlike], records) is None
    assert estimate_seconds([], records) == 0.0


def test_a_line_per_event_where_there_is_no_terminal():
    stream = StringIO()
    with Progress([spec(0), spec(1), spec(2)], [measured(9, 60.0)], workers=1, stream=stream) as progress:
        progress(Event("start", spec(0), device="cpu"))
        progress(Event("retry", spec(0), 1.0, reason="killed by signal 9 (out of memory?)", device="cpu"))
        progress(Event("done", spec(0), 61.0, measured(0, 60.0, 0.25)))
        progress(Event("failed", spec(1), 2.0, reason="non-finite loss at epoch 1, step 2"))
        progress(Event("elsewhere", spec(2), 60.0, measured(2, 60.0, 0.75)))
    lines = stream.getvalue().splitlines()
    a, b, c = (f"fake-glove toy {spec(n).id[:8]}" for n in range(3))
    assert lines == [
        f"start     {a} on cpu",
        f"retry     {a} in 1 s: killed by signal 9 (out of memory?) [0/3, about 3 min 00 s left]",
        f"done      {a} in 1 min 01 s, validation loss 0.2500 "
        f"[1/3, about 2 min 00 s left, best validation loss 0.2500 ({a})]",
        f"failed    {b} in 2 s: non-finite loss at epoch 1, step 2 "
        f"[2/3, 1 failed, about 1 min 00 s left, best validation loss 0.2500 ({a})]",
        f"elsewhere {c} in 1 min 00 s, validation loss 0.7500 [3/3, 1 failed, best validation loss 0.2500 ({a})]",
    ]


def test_quiet_prints_nothing():
    stream = StringIO()
    with Progress([spec(0)], quiet=True, stream=stream) as progress:
        progress(Event("start", spec(0), device="cpu"))
        progress(Event("failed", spec(0), 1.0, reason="x"))
    assert stream.getvalue() == ""


def test_live_display_on_a_terminal():
    class Terminal(StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress([spec(0), spec(1)], stream=stream) as progress:
        progress(Event("start", spec(0), device="cuda:1"))
        time.sleep(0.6)
        progress(Event("failed", spec(0), 1.0, reason="KeyError: [x]"))
    text = stream.getvalue()
    assert "cuda:1" in text and "0/2, time left unknown" in text and "KeyError: [x]" in text


def test_eta_counts_what_runs_already_and_the_workers():
    progress = Progress([spec(n) for n in range(4)], [measured(9, 10.0)], workers=2, quiet=True)
    assert progress.eta_seconds() == pytest.approx(20.0)
    progress(Event("start", spec(0), device="cpu"))
    progress.running[spec(0).id] = (spec(0), time.monotonic() - 4.0, "cpu")
    assert progress.eta_seconds() == pytest.approx(18.0, abs=0.1)
    for n in range(4):
        progress(Event("done", spec(n), 10.0, measured(n, 10.0)))
    assert progress.eta_seconds() == 0.0
    assert Progress([spec(0)], quiet=True).eta_seconds() is None


@pytest.mark.parametrize(
    "seconds, text", [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7810, "2 h 10 min")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
