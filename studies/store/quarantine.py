"""Damaged results are set aside, never deleted: <results>/quarantine/, where everything keeps its place.

A run whose record cannot be read, or whose predictions are not the ones that its record names by sha256, counts as not
done from then on and is made again. A published folder keeps no predictions at all; that is no damage.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hycon.errors import UserError
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

QUARANTINE = "quarantine"


def quarantine(root: Path, below: str) -> None:
    """Move `root`/`below` into quarantine, beside what an earlier time put there. Raises OSError."""
    target = root / QUARANTINE / below
    number = 1
    while target.exists():
        number += 1
        target = root / QUARANTINE / f"{below}.{number}"
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(root / below, target)


def set_aside_damaged(store: RunStore, specs: Iterable[RunSpec]) -> list[str]:
    """Quarantine those of `specs` that are damaged; a sentence about each. Reads every file of predictions.

    What another live process is busy with is left to it. Raises UserError where the folder cannot be written.
    """
    said = []
    for spec in specs:
        if damage(store, spec.id) is None:
            continue
        lease = store.claim(spec.id)
        if lease is None:
            continue
        try:
            reason = damage(store, spec.id)  # looked at again: somebody may just have made it anew
            if reason is not None:
                quarantine(store.root, store.folder(spec.id).relative_to(store.root).as_posix())
                store.damaged.pop(spec.id, None)
                said.append(f"{reason} It was moved to {store.root / QUARANTINE} and is run again.")
        except OSError as error:
            raise UserError(f"Cannot move {store.folder(spec.id)} aside: {error.strerror or error}.") from error
        finally:
            lease.release()
    return said


def damage(store: RunStore, run_id: str) -> str | None:
    """What is damaged about a finished run, as a sentence; None where nothing is, or where there is no such run."""
    store.damaged.pop(run_id, None)
    record = store.get(run_id)
    if record is None:
        return store.damaged.get(run_id)
    if record.predictions is None or not store.has_predictions(run_id):
        return None
    try:
        store.predictions(run_id)
    except UserError:
        return f"The predictions of run {run_id} do not have the sha256 of their record."
    return None
