"""Longest first, how often workers look at the store, and the simulator of benchmarks/simulation.py by hand."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from fake_execute import spec

from studies.engines import queue
from studies.engines.backlog import Backlog, Summary
from studies.engines.history import History, kind_of, longest_first
from studies.engines.run import run
from studies.engines.slurm import _publish_again
from studies.store.leases import claim
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.tables import TABLES

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts, not a package
import scaling  # noqa: E402
from simulation import ORDERS, SimulatedRow, lower_bound, makespan, table1, work  # noqa: E402


def of(model, number=0):
    return dataclasses.replace(spec(number), model=model)


def took(seconds, given):
    return RunRecord(given, "done", seconds=seconds)


@pytest.fixture
def runs(tmp_path):
    store = RunStore(tmp_path / "results")
    store.check_writable()
    return store


def backlog(runs, pending, *records):
    entries = {spec.id: queue.Entry(spec, 0, "fake_execute:execute", "data") for spec in pending}
    return Backlog(runs, list(pending), entries, Summary(), lambda event: None, history=History(records))


# ------------------------------------------------------------------------------------------------ which run is next


def test_the_longest_expected_first_and_one_of_each_unknown_kind_before():
    known = History([took(1.0, of("short")), took(9.0, of("long")), took(2.0, of("long", 1)), took(5.0, of("mid"))])
    short, long, mid = of("short", 7), of("long", 7), of("mid", 7)
    new = [of("new", n) for n in range(3)]
    other = of("other", 7)
    given = [short, new[0], long, new[1], other, mid, new[2]]
    assert longest_first(given, known) == [new[0], other, long, mid, short, new[1], new[2]]
    assert longest_first(given, known, {kind_of(new[0])}) == [other, long, mid, short, *new]
    assert longest_first(new, History()) == new  # nothing known of any: as given


def test_what_has_no_duration_teaches_nothing():
    failed = RunRecord(of("a"), "failed", "boom", seconds=9.0)
    assert History([failed, took(None, of("a"))]).longest(of("a")) is None
    assert History([took(1.0, of("a")), took(4.0, of("a", 1))]).expected(of("a", 2)) == 2.5


def test_runs_of_another_precision_are_of_another_kind():
    def at(precision, number=0):
        return dataclasses.replace(of("a", number), training={"precision": precision}, device="cuda")

    told = dataclasses.replace(took(9.0, at("fp32")), peak_memory_mib=800.0)
    known = History([told, took(3.0, at("bf16"))])
    assert known.expected(at("fp32", 1)) == 9.0
    assert known.expected(at("bf16", 1)) == 3.0
    assert known.expected(at("tf32", 1)) is None
    assert known.peak(at("fp32", 1)) == 800.0
    assert known.peak(at("bf16", 1)) is None
    assert known.peak_of_front_end(at("bf16", 1)) is None
    earlier = dataclasses.replace(at("fp32"), training={})  # of before there was a choice
    assert known.expected(earlier) == 9.0


def test_every_engine_starts_runs_in_that_order(runs, tmp_path):
    started = []
    specs = [*(of("a", n) for n in range(3)), *(of("b", n) for n in range(3))]
    runs.put(took(9.0, of("b", 9)), {})

    def heard(event):
        if event.kind == "start":
            started.append(event.spec)

    options = {"execute": "fake_execute:execute", "data_root": tmp_path, "preload": (), "on_event": heard}
    run(specs, runs, executor="inline", **options)
    assert started == [specs[0], *specs[3:], *specs[1:3]]  # one "a" took 0.5 s, "b" is known to take up to 9


def test_a_kind_that_others_are_trying_is_not_tried_again(runs):
    lease = claim(runs.root / "leases", of("a").id)
    given = backlog(runs, [of("a"), of("a", 1), of("b")])
    assert [given.claim("cpu") for _ in range(2)] == [of("b"), of("a", 1)]
    lease.release()


# ------------------------------------------------------------------------------------------------ looks at the store


def test_a_worker_with_nothing_free_looks_at_one_lease_at_a_time_and_at_all_in_turn(runs):
    specs = [spec(n) for n in range(20)]
    leases = [claim(runs.root / "leases", s.id) for s in specs]
    given = backlog(runs, specs)
    with scaling.counting() as few:
        assert given.claim("cpu") is None
    leases[7].release()
    claim(runs.root / "leases", specs[7].id, ttl=0.0)  # of one that died: stale at once
    tries = [given.claim("cpu") for _ in range(20)]
    assert sum(few.values()) <= 12
    assert [spec for spec in tries if spec] == [specs[7]]


def test_what_is_free_is_claimed_without_a_look_at_others_leases(runs):
    specs = [spec(n) for n in range(100)]
    for held in specs[:99]:
        claim(runs.root / "leases", held.id)
    with scaling.counting() as calls:
        assert backlog(runs, specs).claim("cpu") == specs[99]
    assert sum(calls.values()) <= 15


def test_watching_costs_one_look_for_all_that_has_not_begun(runs):
    specs = [spec(n) for n in range(50)]
    given = backlog(runs, specs)
    runs.put(took(1.0, specs[3]), {})
    runs.put_failed(specs[4], "boom")
    with scaling.counting() as calls:
        given.observe()
    assert sum(calls.values()) <= 20
    assert (given.summary.done, given.summary.failed) == ([specs[3]], [(specs[4], "boom")])
    assert len(given.pending) == 48


def test_publishing_again_costs_one_look_for_all_that_is_there(runs, monkeypatch):
    specs = [spec(n) for n in range(50)]
    given = backlog(runs, specs)
    _publish_again(given)
    assert queue.waiting(runs) == {s.id for s in specs}
    (runs.root / "queue" / f"{specs[0].id}.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: pytest.fail(f"{path} was asked for by itself"))
        _publish_again(given)
    assert queue.wanted(runs, specs[0].id)


# ------------------------------------------------------------------------------------------------ the simulator


def row(trials, seeds=(), name="a"):
    return SimulatedRow(name, name, tuple(trials), tuple(seeds))


def test_two_workers_and_three_runs():
    rows = [row([1.0], name="a"), row([2.0], name="b"), row([3.0], name="c")]
    assert makespan(rows, 2, "submission") == 4.0  # 1 and 3 on one, 2 on the other
    assert makespan(rows, 2, "all known") == makespan(rows, 2, "kinds known") == 3.0  # 3 beside 2 and 1
    assert makespan(rows, 1, "submission") == 6.0
    assert makespan(rows, 3, "random") == 3.0


def test_a_kind_is_learned_from_its_first_run():
    rows = [row([1.0] * 4, name="short"), row([4.0], name="long")]
    assert makespan(rows, 2, "submission") == 6.0  # the long one begins at 2
    assert makespan(rows, 2, "learned") == makespan(rows, 2, "kinds known") == 4.0  # it is tried at once
    rows = [row([1.0] * 3, name="short"), row([4.0] * 2, name="long")]
    assert makespan(rows, 2, "learned") == 7.0  # 1, 1 and 1 beside a 4, since nobody knows yet that it is one; 4
    assert makespan(rows, 2, "kinds known") == 6.0  # 4 beside 4; 1 beside 1; 1


def test_seeded_runs_wait_for_their_search():
    rows = [row([1.0], [5.0], name="a"), row([4.0], [1.0], name="b")]
    assert makespan(rows, 9, "submission", waves=True) == 9.0  # all searches are over at 4
    assert makespan(rows, 9, "submission", waves=False) == 6.0
    assert makespan([row([2.0, 3.0], [1.0])], 9, "learned") == 4.0


def test_the_bound():
    rows = [row([1.0, 3.0], [2.0]), row([2.0], [1.0], name="b")]
    assert work(rows) == 9.0
    assert (lower_bound(rows, 1), lower_bound(rows, 9)) == (9.0, 5.0)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("waves", [True, False])
def test_no_order_beats_the_bound_or_leaves_workers_idle(order, waves):
    rows = [row([1.0 + (7 * i + 3 * j) % 11 for j in range(6)], [2.0 + i, 1.0], name=str(i)) for i in range(5)]
    for workers in (1, 2, 3, 8, 64):
        span = makespan(rows, workers, order, waves=waves, seed=3)
        longest = max(max(r.trials) for r in rows) + max(max(r.seeds) for r in rows)
        assert lower_bound(rows, workers) <= span + 1e-9
        assert span <= work(rows) / workers + longest + 1e-9  # Graham's bound, once for each wave
        assert span == makespan(rows, workers, order, waves=waves, seed=3)


def test_rows_without_measured_runs_are_scaled_and_say_so():
    measured = [took(10.0, dataclasses.replace(of(m), text=t, seed=n)) for n in range(5) for m, t in (
        ("hycon", "bert"), ("tfn", "glove"), ("mfn", "glove"), ("lmf", "glove"))]  # fmt: skip
    rows, origins = table1([*measured, took(30.0, of("qmf"))], bert_times=2.0)
    assert [r.name for r in rows] == [row.name for row in TABLES["table1"].rows]
    assert {len(r.trials) + len(r.seeds) for r in rows} == {55}
    seconds = {r.name: set(r.trials + r.seeds) for r in rows}
    assert (seconds["LMF-GloVe"], origins["LMF-GloVe"]) == ({10.0}, "its own 5")
    assert (seconds["TFN-BERT"], origins["TFN-BERT"]) == ({20.0}, "HyCon-BERT's x 2")
    assert (seconds["QMF-GloVe"], origins["QMF-GloVe"]) == ({30.0}, "MFN's x 3.00, by the median of its own 1")
    assert seconds["MULT-GloVe"] == {10.0 * (13.23 / 5.04)}
    with pytest.raises(ValueError, match="expected at least 5"):
        table1(measured[:4])


def test_the_benchmarks_help_and_a_simulation_of_published_runs():
    run_it = [sys.executable, BENCHMARKS / "scaling.py"]
    assert "simulate" in subprocess.run([*run_it, "--help"], capture_output=True, text=True, check=True).stdout
    said = subprocess.run([*run_it, "simulate", "--draws", "1"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("SIMULATED: medians of 1 draws")
