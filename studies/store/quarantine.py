"""Damaged results are set aside, never deleted: <results>/quarantine/, where everything keeps its place.

A run whose record cannot be read, or whose predictions do not have the sha256 of its record, counts as not done and is
made again. A published folder may keep no predictions at all; that is no damage.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hycon.errors import UserError
from studies.store.inside import make_folder, refuse_links
from studies.store.outputs import OUTPUTS
from studies.store.record import Damage, RunSpec
from studies.store.run_store import PREDICTIONS, RunStore

QUARANTINE = "quarantine"


def quarantine(root: Path, below: str) -> None:
    """Move `root`/`below` into quarantine, beside what an earlier time put there. Raises OSError."""
    refuse_links(root, (root / below).parent)
    target = root / QUARANTINE / below
    number = 1
    while os.path.lexists(target):
        number += 1
        target = root / QUARANTINE / f"{below}.{number}"
    make_folder(root, target.parent)
    os.rename(root / below, target)


def set_aside_damaged(store: RunStore, specs: Iterable[RunSpec]) -> list[str]:
    """Quarantine those of `specs` that are damaged; a sentence about each. Reads every file of predictions.

    What another live process is busy with is left to it. Raises UserError where the folder cannot be written.
    """
    sentences = []
    for run_id in (spec.id for spec in specs):
        if damage(store, run_id) is None or (lease := store.claim(run_id)) is None:
            continue
        try:
            if found := damage(store, run_id):  # looked at again: somebody may just have made it anew
                quarantine(store.root, store.folder(run_id).relative_to(store.root).as_posix())
                sentences.append(f"{found} It was moved to {store.root / QUARANTINE} and is run again.")
        except OSError as error:
            raise UserError(f"Cannot move {store.folder(run_id)} aside: {error.strerror or error}.") from error
        finally:
            lease.release()
    return sentences


def damage(store: RunStore, run_id: str) -> Damage | None:
    """What is damaged about a run, its predictions included; None where nothing is, or where there is no such run."""
    record = store.get(run_id)
    bare = store.has_outputs(run_id)
    if record is None or record.predictions is None or not (bare or store.has_predictions(run_id)):
        return store.damage(run_id)
    try:
        if store.has_predictions(run_id):
            store.predictions(run_id)
        else:
            store.outputs(run_id)
    except UserError:  # unreadable, of another sha256, or no arrays
        if bare:
            return Damage(run_id, store.folder(run_id) / OUTPUTS, "it does not hold the predictions of the record")
        return Damage(run_id, store.folder(run_id) / PREDICTIONS, "the file does not have the sha256 of the record")
    return None
