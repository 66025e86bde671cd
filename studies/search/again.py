"""Robustness of finished runs that were not measured for it: each is trained once more, with the same bits, beside the
store, and what it measured is added to its record.

    <root>/again/    a results folder of its own, with what is under way; a command that is cut goes on from it
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence

from studies.engines.backlog import Event, Summary
from studies.engines.options import How
from studies.engines.robustness import EXECUTE
from studies.engines.run import run
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

FOLDER = "again"


def measured_by(how: How) -> How:
    """`how`, with robustness measured behind each run."""
    return dataclasses.replace(how, execute=EXECUTE)


def to_measure(store: RunStore, specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The finished runs whose records say nothing of robustness."""
    return [spec for spec in specs if (record := store.get(spec.id)) and not record.robust]


def measure(
    store: RunStore, specs: Sequence[RunSpec], how: How, on_event: Callable[[Event], None] | None = None
) -> Summary:
    """Train finished runs once more, and add their robustness to their records.

    A run whose weights come out as others counts as failed: its record stays as it is. Raises as `run` does.
    """
    if not specs:
        return Summary()
    beside = RunStore(store.root / FOLDER, store.storage)
    for spec in specs:
        if (known := beside.get(spec.id)) and not known.robust:  # left by an earlier version
            shutil.rmtree(beside.folder(spec.id), ignore_errors=True)
    summary = run(specs, beside, how=measured_by(how), on_event=on_event)
    done, failed = [], list(summary.failed)
    for spec in specs:
        if record := beside.get(spec.id):
            if reason := store.add_robustness(record):
                failed.append((spec, reason))
            else:
                done.append(spec)
            shutil.rmtree(beside.folder(spec.id), ignore_errors=True)
    return Summary(done, failed, [], summary.lowered)
