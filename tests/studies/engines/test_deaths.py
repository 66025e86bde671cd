"""Workers that die or hang, several drivers, and interrupts: nothing hangs, nothing is orphaned."""

import os
import signal
import threading
import time
from collections import Counter
from functools import partial

import pytest
from fake_driver import leases, parent, start_driver
from fake_execute import executed, pids, spec
from waiting import alive
from waiting import wait_for as wait

from studies.engines import local
from studies.store.run_store import RunStore

both = pytest.mark.parametrize("executor", ["inline", "local"])


wait_for = partial(wait, seconds=15.0)


def kinds(events):
    return Counter(event.kind for event in events)


# ------------------------------------------------------------------------------------------------ deaths


def test_a_killed_worker_is_tried_once_more(go, runs, tmp_path):
    mortal = spec(0, killed=1)
    summary = go([mortal, spec(1)])
    assert {s.id for s in summary.done} == {mortal.id, spec(1).id}
    assert kinds(go.events) == {"start": 2, "retry": 1, "done": 2}
    reason = next(e.reason for e in go.events if e.kind == "retry")
    assert reason.startswith("killed by signal 9 (out of memory?)")
    assert executed(tmp_path).count(mortal.id) == 2
    assert (runs.get(mortal.id).attempts, runs.get(mortal.id).failures) == (2, [reason])


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


def test_workers_that_outlive_a_killed_fork_server_end_and_are_replaced(tmp_path):
    driver = start_driver(tmp_path, "[spec(n, hangs=1) for n in range(2)]")  # the first time
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
    assert (summary.failed, len(summary.done)) == ([(stuck, reason)], 2)
    assert [(e.spec, e.reason) for e in go.events if e.kind == "failed"] == [(stuck, reason)]
    assert kinds(go.events)["retry"] == 0
    assert runs.failed(stuck.id).reason == reason
    assert not any(map(alive, pids(tmp_path)))
    assert leases(runs) == []
    assert go([stuck], time_limit=60).done == [stuck]
    assert runs.get(stuck.id).attempts == 2


def test_the_time_limit_holds_for_each_run_not_for_all(go):
    assert len(go([spec(n, sleep=0.8) for n in range(4)], workers=1, time_limit=2.5).done) == 4


@pytest.mark.parametrize("seconds", [25 * 86400.0, 1e300])
def test_a_time_limit_beyond_what_the_system_counts(go, seconds):
    assert len(go([spec(0, sleep=0.1)], time_limit=seconds).done) == 1


# ------------------------------------------------------------------------------------------------ several drivers


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
        assert (int(words[1]) + int(words[5]), words[3]) == (15, "1"), out
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
        patch.setattr(local, "spawn", lambda *_: signal.raise_signal(signal.SIGINT))
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
