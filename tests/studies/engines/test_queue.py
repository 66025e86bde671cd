"""The queue: what a driver publishes, what has ended, and two workers that do the same run."""

import dataclasses
import json
import time

import numpy as np
import pytest
from fake_execute import spec
from queued import ARRAYS, EXECUTE, left, record, want

from studies.engines import queue
from studies.engines.run import run
from studies.store.leases import claim
from studies.trust.doctor import examine, repair

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


def test_an_entry_of_an_earlier_commit_is_taken(runs):
    """The function that trains had another name."""
    want(runs, [spec(0)], execute="studies.execute:execute")
    assert queue.read(runs, spec(0).id).execute == "studies.engines.one_run:execute"
    want(runs, [spec(1)], execute="os:system")
    assert queue.read(runs, spec(1).id).execute == "os:system"


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": "1"},
        {"attempts": None},
        {"spec": {"model": "from the future"}},
        {"spec": []},
        {"execute": 3},
        {"data_root": None},
    ],
)
def test_a_damaged_entry_is_no_entry(runs, change):
    want(runs, [spec(0)])
    file = runs.root / "queue" / f"{spec(0).id}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert queue.read(runs, spec(0).id) is None


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


# ------------------------------------------------------------------------------------------------ leases that expire


def test_a_lease_that_expires_under_a_slow_worker_leaves_one_record(pull, runs, tmp_path):
    slow = spec(0, sleep=1.0)
    want(runs, [slow])
    lost = claim(runs.root / "leases", slow.id, ttl=0.05)  # of a worker whose heartbeat has stopped
    time.sleep(0.1)
    assert pull().done == [slow]
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
