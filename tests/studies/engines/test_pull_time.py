"""A pull worker's time: what it starts, what it stops, and the time limits of several drivers."""

import dataclasses
import time

import pytest
from fake_execute import pids, spec
from queued import ARRAYS, EXECUTE, left, record, want
from waiting import alive

from studies.engines import queue
from studies.engines.history import History
from studies.engines.queue_worker import Limits, Pull


def puller(runs, limits, durations=(), elapsed=0.0):
    began = time.monotonic() - elapsed
    return Pull(runs, limits, EXECUTE, None, frozenset({"cpu"}), History(durations), lambda event: None, began=began)


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
    for seconds, expected in ((100.0, fits), (None, True)):
        worker = puller(runs, Limits(seconds), known, elapsed)
        worker.more()
        assert worker.accept(spec(7)) is expected


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
    assert worker.backlog().claim("cpu") == unknown


def test_what_others_finish_tells_how_long_their_kind_takes(runs):
    want(runs, [spec(0), spec(1)])
    worker = puller(runs, Limits())
    worker.more()
    runs.put(record(spec(0)), ARRAYS)
    queue.withdraw_ended(runs, spec(0).id)
    worker.looked = 0.0
    worker.more()
    assert (worker.pending, worker.history.longest(spec(1))) == ([spec(1)], 1.0)


def test_each_run_has_the_time_limit_of_its_driver(pull, runs, tmp_path):
    want(runs, [spec(0, hangs=1)], time_limit=1.5)
    want(runs, [spec(1, sleep=2)], time_limit=60)
    want(runs, [spec(2, sleep=2)])
    done = pull(slots=3)
    assert done.failed == [(spec(0, hangs=1), "stopped: over the time limit of 1.5 s")]
    assert {s.seed for s in done.done} == {1, 2}


def test_a_time_limit_tells_what_will_end_in_time(runs):
    want(runs, [spec(0)], time_limit=30)
    begun, late = (puller(runs, Limits(100.0), (), elapsed) for elapsed in (50.0, 62.0))
    assert begun.more()
    assert begun.accept(spec(0))  # 98 - 50 = 48 s left; 30 x 1.1 + 5 = 38
    assert not late.more()
    assert not late.accept(spec(0))


@pytest.mark.parametrize("limit", ["soon", -1, 0, float("nan")])
def test_an_entry_with_a_time_limit_that_is_none_is_no_entry(runs, limit):
    want(runs, [spec(0)], time_limit=limit)
    assert queue.read(runs, spec(0).id) is None


def test_a_run_that_had_a_whole_workers_time_fails_and_says_so(pull, runs, tmp_path):
    want(runs, [spec(0, sleep=60), spec(1, sleep=60)])
    began = time.monotonic()
    done = pull(limits=Limits(seconds=4.0))
    assert time.monotonic() - began < 9
    assert [r for _, r in done.failed] == ["not done within the 4 s of a worker: give workers more time"]
    assert (done.end, len(left(runs)), left(runs, "leases")) == ("time", 1, [])
    assert not any(map(alive, pids(tmp_path)))


def test_a_run_that_began_late_is_free_for_the_next_worker(runs):
    worker = puller(runs, Limits(100.0), [record(spec(0))], elapsed=20.0)
    want(runs, [spec(1)])
    worker.more()
    worker.running = {spec(1).id: 20.0}
    worker.cut(worker.backlog())
    assert (worker.failed, runs.failed(spec(1).id), len(left(runs))) == ([], None, 1)
