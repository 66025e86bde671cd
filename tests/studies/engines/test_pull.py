"""Pull workers with real processes: they take what is published, once, in time, and leave nothing behind."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fake_execute import executed, pids, spec
from waiting import alive
from waiting import wait_for as wait

from hycon.errors import UserError
from studies.cli import main
from studies.engines import queue, queue_worker
from studies.engines.backlog import Backlog, Summary
from studies.engines.durations import Durations
from studies.engines.queue import Entry, publish
from studies.engines.queue_worker import Limits, Pull, work
from studies.engines.run import run
from studies.store.leases import claim
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.trust.doctor import examine, repair

wait_for = partial(wait, seconds=20.0)
HERE = Path(__file__).parents[2]  # of the helpers
EXECUTE = "fake_execute:execute"


@pytest.fixture
def go(tmp_path, runs):
    """work(...) with the fake execute; its events are in go.events."""

    def go(**more):
        go.events = []
        options = {"limits": Limits(idle=0), "poll": 0.05, "execute": EXECUTE, "preload": ()}
        options |= {"on_event": go.events.append, **more}
        return work(runs, **options)

    return go


def want(runs, specs, attempts=0, execute=EXECUTE, time_limit=None):
    publish(runs, [Entry(s, attempts, execute, str(runs.root.parent), time_limit) for s in specs])


def left(runs, part="queue"):
    folder = runs.root / part
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def record(s, loss=0.5):
    return RunRecord(s, "done", metrics={"valid": {"paper": {"mae": loss}}}, valid_loss=loss, seconds=1.0)


ARRAYS = {"valid_id": np.array(["a"])}

# ------------------------------------------------------------------------------------------------ taking runs


def test_it_does_what_is_in_the_queue_and_takes_it_away(go, runs, tmp_path):
    specs = [spec(n) for n in range(4)]
    want(runs, specs)
    done = go(slots=2)
    assert {s.id for s in done.done} == {s.id for s in specs} == set(executed(tmp_path))
    assert all(runs.has(s.id) for s in specs)
    assert Counter(e.kind for e in go.events) == {"start": 4, "done": 4}
    assert done.end == "idle"
    assert len(set(pids(tmp_path)) | {os.getpid()}) == 5
    assert left(runs) == left(runs, "leases") == []


def test_a_record_is_the_same_whoever_made_it(go, runs, tmp_path):
    want(runs, [spec(3)])
    go()
    other = RunStore(tmp_path / "other")
    run([spec(3)], other, executor="inline", execute=EXECUTE, data_root=tmp_path)
    files = ("record.json", "predictions.npz")
    assert [(runs.folder(spec(3).id) / f).read_bytes() for f in files] == [
        (other.folder(spec(3).id) / f).read_bytes() for f in files
    ]


def test_what_has_ended_since_it_was_published_is_not_done_again(go, runs, tmp_path):
    ended, failed, again = spec(0), spec(1), spec(2)
    want(runs, [ended, failed])
    runs.put(record(ended), ARRAYS)
    runs.put_failed(failed, "by someone")
    runs.put_failed(again, "by someone")
    want(runs, [again], attempts=1)  # as a driver publishes it that was issued after the failure
    assert go().done == [again]
    assert executed(tmp_path) == [again.id]
    assert left(runs) == []


def test_what_fails_is_told_and_not_tried_for_ever(go, runs, tmp_path):
    bad, mortal = spec(0, breaks=9), spec(1, killed=9)
    want(runs, [bad, mortal])
    done = go()
    assert dict((s.id, r) for s, r in done.failed) == {
        bad.id: "KeyError: 'weights'",
        mortal.id: "killed by signal 9 (out of memory?)",
    }
    assert Counter(executed(tmp_path)) == {bad.id: 1, mortal.id: 2}
    assert left(runs) == left(runs, "leases") == []


def test_what_it_cannot_do_is_left(go, runs, tmp_path):
    other = dataclasses.replace(spec(0), device="cuda")
    want(runs, [other])
    want(runs, [spec(1)], execute="os:system")
    (runs.root / "queue" / "0123456789abcdef.json").write_text('{"spec": {"model": "from the future"}}')
    (runs.root / "queue" / f"{spec(5).id}.json").write_bytes((runs.root / "queue" / f"{other.id}.json").read_bytes())
    done = go()
    assert sorted(done.refused.values()) == ["it is for cuda", "it is for os:system"]
    assert (done.done, executed(tmp_path), len(left(runs))) == ([], [], 4)


def test_a_corpus_that_is_not_there_is_no_failure_of_the_runs(go, runs, tmp_path):
    want(runs, [spec(0)], execute=queue_worker.EXECUTE)
    done = go(execute=queue_worker.EXECUTE)
    assert list(done.refused.values()) == [f"corpus 'toy' is not in {tmp_path}"]
    assert (runs.failed(spec(0).id), len(left(runs))) == (None, 1)


def test_a_corpus_of_other_content_is_refused(tmp_path):
    from hycon.data.importers.synthetic import synthesize

    held = synthesize("tiny", tmp_path, sizes={"train": 4, "valid": 4, "test": 4}).sha256
    assert queue_worker.missing_corpus("tiny", held, str(tmp_path)) is None
    assert "holds other data" in queue_worker.missing_corpus("tiny", "0" * 64, str(tmp_path))


def test_once(go, runs):
    want(runs, [spec(n) for n in range(3)])
    done = go(limits=Limits(idle=30, once=True), slots=2)
    assert (len(done.done), done.end, len(left(runs))) == (1, "once", 2)


def test_it_waits_for_more(go, runs):
    thread = threading.Timer(0.6, want, (runs, [spec(0)]))
    thread.start()
    began = time.monotonic()
    assert go(limits=Limits(idle=1.5)).done == [spec(0)]
    assert 2.0 < time.monotonic() - began < 10


def test_what_the_driver_takes_back_is_not_started(go, runs, tmp_path):
    first, second = spec(0, sleep=0.3), spec(1, sleep=0.3)
    want(runs, [first, second])

    def cancel(event):
        if event.kind == "start":
            for path in (runs.root / "queue").iterdir():
                path.unlink()

    assert len(go(on_event=cancel).done) == 1
    assert len(executed(tmp_path)) == 1


# ------------------------------------------------------------------------------------------------ time


def puller(runs, limits, durations=(), elapsed=0.0):
    backlog = Backlog(runs, [], {}, Summary(), lambda event: None, durations=Durations(durations))
    began = time.monotonic() - elapsed
    return Pull(
        backlog, limits, EXECUTE, None, frozenset({"cpu"}), lambda e: None, began=began,
    )  # fmt: skip


@pytest.mark.parametrize(
    "elapsed, longest, fits",
    [
        (0.0, None, True),  # a fresh worker takes anything
        (9.0, 1000.0, True),
        (11.0, None, False),  # no longer fresh, and nobody knows how long it takes
        (11.0, 70.0, True),  # 98 - 11 = 87 s left; 70 x 1.1 + 5 = 82
        (11.0, 75.0, False),  # 75 x 1.1 + 5 = 87.5
        (97.0, 0.1, False),
    ],
)
def test_only_what_will_end_in_time_is_started(runs, elapsed, longest, fits):
    known = [] if longest is None else [dataclasses.replace(record(spec(n)), seconds=longest / n) for n in (1, 2)]
    want(runs, [spec(7)])
    assert puller(runs, Limits(100.0), known, elapsed).accept(spec(7)) is fits
    assert puller(runs, Limits(None), known, elapsed).accept(spec(7))


def test_a_worker_for_whose_time_nothing_is_short_enough_ends_at_once(runs):
    want(runs, [spec(7)])
    worker = puller(runs, Limits(100.0, idle=60), (), 50.0)
    assert not worker.more()
    assert worker.end == "time"


def test_runs_of_unknown_duration_come_first(runs):
    unknown = dataclasses.replace(spec(0), model="new")
    want(runs, [*(spec(n) for n in range(8)), unknown])
    worker = puller(runs, Limits(100.0), [record(spec(99))])
    worker.more()
    assert worker.backlog.claim("cpu") == unknown


def test_what_others_finish_tells_how_long_their_kind_takes(runs):
    want(runs, [spec(0), spec(1)])
    worker = puller(runs, Limits())
    worker.more()
    runs.put(record(spec(0)), ARRAYS)
    queue.withdraw_ended(runs, spec(0).id)
    worker.looked = 0.0
    worker.more()
    assert (worker.backlog.pending, worker.backlog.durations.longest(spec(1))) == ([spec(1)], 1.0)


def test_each_run_has_the_time_limit_of_its_driver(go, runs, tmp_path):
    want(runs, [spec(0, hangs=1)], time_limit=1.5)
    want(runs, [spec(1, sleep=2)], time_limit=60)
    want(runs, [spec(2, sleep=2)])
    done = go(slots=3)
    assert done.failed == [(spec(0, hangs=1), "stopped: over the time limit of 1.5 s")]
    assert {s.seed for s in done.done} == {1, 2}


def test_a_time_limit_tells_what_will_end_in_time(runs):
    want(runs, [spec(0)], time_limit=30)
    begun, late = (puller(runs, Limits(100.0), (), elapsed) for elapsed in (50.0, 62.0))
    assert begun.more() and begun.accept(spec(0))  # 98 - 50 = 48 s left; 30 x 1.1 + 5 = 38
    assert not late.more() and not late.accept(spec(0))


@pytest.mark.parametrize("limit", ["soon", -1, 0, float("nan")])
def test_an_entry_with_a_time_limit_that_is_none_is_no_entry(runs, limit):
    want(runs, [spec(0)], time_limit=limit)
    assert queue.read(runs, spec(0).id) is None


def test_a_run_that_had_a_whole_workers_time_fails_and_says_so(go, runs, tmp_path):
    want(runs, [spec(0, sleep=60), spec(1, sleep=60)])
    began = time.monotonic()
    done = go(limits=Limits(seconds=4.0))
    assert time.monotonic() - began < 9
    assert [r for _, r in done.failed] == ["not done within the 4 s of a worker: give workers more time"]
    assert (done.end, len(left(runs)), left(runs, "leases")) == ("time", 1, [])
    assert not any(map(alive, pids(tmp_path)))


def test_a_run_that_began_late_is_free_for_the_next_worker(runs):
    worker = puller(runs, Limits(100.0), [record(spec(0))], elapsed=20.0)
    want(runs, [spec(1)])
    worker.more()
    worker.running = {spec(1).id: 20.0}
    worker.cut()
    assert (worker.failed, runs.failed(spec(1).id), len(left(runs))) == ([], None, 1)


# ------------------------------------------------------------------------------------------------ many, and deaths

WORKER = """
import sys
from studies.engines.queue_worker import Limits, work
from studies.store.run_store import RunStore

if __name__ == "__main__":
    try:
        done = work(RunStore(sys.argv[1]), slots=2, limits=Limits(idle=float(sys.argv[2])), poll=0.1, preload=(),
                    execute="fake_execute:execute")
    except KeyboardInterrupt:
        sys.exit(130)
    print(len(done.done))
"""


def start(runs, tmp_path, idle=1):
    script = tmp_path / "pull_worker.py"
    script.write_text(WORKER)
    return subprocess.Popen(
        [sys.executable, script, runs.root, str(idle)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, HERE)))},
    )  # fmt: skip


def test_two_workers_and_a_driver_share_the_work(runs, tmp_path):
    specs = [spec(n, sleep=0.15) for n in range(24)]
    workers = [start(runs, tmp_path, idle=1) for _ in range(2)]
    wait_for(lambda: all(alive(w.pid) for w in workers))
    summary = run(specs, runs, workers=1, execute=EXECUTE, data_root=tmp_path, preload=())
    outs = [worker.communicate(timeout=30) for worker in workers]
    assert [err for _, err in outs] == ["", ""]
    assert len(summary.done) == 24
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)
    assert left(runs) == left(runs, "leases") == []


def test_kill_9_of_a_worker_loses_nothing(go, runs, tmp_path):
    want(runs, [spec(n, sleep=0.4) for n in range(4)])
    worker = start(runs, tmp_path)
    wait_for(lambda: len(executed(tmp_path)) >= 2)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=2)
    go(slots=2)
    assert all(runs.has(spec(n, sleep=0.4).id) for n in range(4))
    assert left(runs) == left(runs, "leases") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_frees_what_it_had_begun(runs, tmp_path, number):
    want(runs, [spec(n, sleep=60) for n in range(3)])
    worker = start(runs, tmp_path)
    wait_for(lambda: len(executed(tmp_path)) == 2)
    began = time.monotonic()
    os.kill(worker.pid, number)
    assert worker.communicate(timeout=10) == ("", "")
    assert (worker.returncode, time.monotonic() - began < 5) == (130, True)
    assert not any(map(alive, pids(tmp_path)))
    assert (len(left(runs)), left(runs, "leases"), list(runs.failures())) == (3, [], [])


# ------------------------------------------------------------------------------------------------ leases that expire


def test_a_lease_that_expires_under_a_slow_worker_leaves_one_record(go, runs, tmp_path):
    slow = spec(0, sleep=1.0)
    want(runs, [slow])
    lost = claim(runs.root / "leases", slow.id, ttl=0.05)  # of a worker whose heartbeat has stopped
    time.sleep(0.1)
    assert go().done == [slow]
    lost.release()
    before = (runs.folder(slow.id) / "record.json").read_bytes()
    stored = runs.get(slow.id)
    later = dataclasses.replace(stored, predictions=None, seconds=99.0, device="another node")
    assert runs.put(later, runs.predictions(slow.id)) == stored
    assert (runs.folder(slow.id) / "record.json").read_bytes() == before
    assert sorted(p.name for p in runs.folder(slow.id).iterdir()) == ["predictions.npz", "record.json"]
    assert examine(runs) == []


def test_a_second_result_that_differs_is_dropped_and_noted_in_the_log(runs):
    first = runs.put(record(spec(0), 0.5), ARRAYS)
    before = (runs.folder(spec(0).id) / "record.json").read_bytes()
    assert runs.put(record(spec(0), 0.25), {"valid_id": np.array(["b"])}) == first
    log = (runs.folder(spec(0).id) / "log.txt").read_text()
    assert log.startswith("A second worker finished this run with another result; the first one stands.")
    assert "They differ in metrics, valid_loss, predictions." in log
    assert (runs.folder(spec(0).id) / "record.json").read_bytes() == before
    assert runs.predictions(spec(0).id)["valid_id"].tolist() == ["a"]
    assert examine(runs) == []


# ------------------------------------------------------------------------------------------------ the queue


def test_a_driver_publishes_what_it_has_still_to_do(runs, tmp_path):
    seen = {}

    def look(event):
        seen[event.kind] = {run_id: queue.read(runs, run_id).attempts for run_id in queue.waiting(runs)}

    runs.put(record(spec(0)), ARRAYS)
    runs.put_failed(spec(1), "earlier")
    run(
        [spec(n) for n in range(3)], runs, executor="inline", execute=EXECUTE, data_root=tmp_path, on_event=look
    )  # fmt: skip
    assert seen["start"] == {spec(1).id: 1, spec(2).id: 0}
    assert left(runs) == []


def test_doctor_finds_entries_that_are_over(runs):
    want(runs, [spec(0), spec(1)])
    runs.put(record(spec(0)), ARRAYS)
    (runs.root / "queue" / "x.json").write_text("{")
    found = examine(runs)
    assert [(f.kind, f.path, f.action) for f in found] == [
        ("queue", f"queue/{spec(0).id}.json", "delete"),
        ("queue", "queue/x.json", "quarantine"),
    ]
    assert repair(runs, found) == []
    assert left(runs) == [f"{spec(1).id}.json"]


def test_an_entry_that_was_published_anew_stays(runs):
    want(runs, [spec(0)])
    runs.put_failed(spec(0), "x")
    want(runs, [spec(0)], attempts=1)
    queue.withdraw_ended(runs, spec(0).id)
    assert queue.wanted(runs, spec(0).id)
    runs.put_failed(spec(0), "y")
    queue.withdraw_ended(runs, spec(0).id)
    assert not queue.wanted(runs, spec(0).id)


# ------------------------------------------------------------------------------------------------ the command


def test_the_command(runs, tmp_path, capsys):
    want(runs, [spec(0)], execute=queue_worker.EXECUTE)
    want(runs, [spec(1)], execute=queue_worker.EXECUTE)
    runs.put(record(spec(1)), ARRAYS)
    assert main(["worker", "--results", str(runs.root), "--data", str(tmp_path), "--idle", "0"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "0 runs done; nothing left to take, 0 in the queue\n"
        f"1 not taken: corpus 'toy' is not in {tmp_path}\n"
    )  # fmt: skip
    assert err == ""
    assert left(runs) == [f"{spec(0).id}.json"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--slots", "0"], "--slots is 0"),
        (["--time", "0"], "--time is 0"),
        (["--idle", "-1"], "--idle is -1"),
        (["--devices", "gpu"], "Unknown device 'gpu'"),
        (["--results", "nowhere"], "is not there"),
    ],
)
def test_mistakes(runs, tmp_path, capsys, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    runs.check_writable()
    assert main(["worker", "--results", str(runs.root), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert left(runs) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(runs):
    runs.root.write_text("a file")
    with pytest.raises(UserError, match="Cannot"):
        work(runs, limits=Limits(idle=0))
