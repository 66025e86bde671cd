"""What tests of the queue and of pull workers share."""

import numpy as np

from studies.engines.queue import Entry, publish
from studies.store.record import RunRecord

EXECUTE = "fake_execute:execute"


def want(runs, specs, attempts=0, execute=EXECUTE, time_limit=None, keep_weights=False, data=None):
    where = str(data or runs.root.parent)
    publish(runs, [Entry(s, attempts, execute, where, time_limit, keep_weights) for s in specs])


def left(runs, part="queue"):
    folder = runs.root / part
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def record(s, loss=0.5):
    return RunRecord(s, "done", metrics={"valid": {"paper": {"mae": loss}}}, valid_loss=loss, seconds=1.0)


ARRAYS = {"valid_id": np.array(["a"])}
