"""The queue: runs that a driver wants done, published in the store for whoever can do them.

    <root>/queue/<run id>.json    the spec, how often it had failed when it was published, and where its corpora are

A driver (`bench run`) publishes what is still to do and takes it away again when it ends; `bench worker`s claim runs
from it by lease. The queue says what is wanted, never what is done: an entry whose run has ended since it was published
is without effect, so that a driver that was killed leaves nothing that could do harm.

An entry names the function that its driver would execute. A worker never calls what it reads here: it does the runs
that are for a function it knows, and leaves the others.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec

from hycon.errors import UserError
from hycon.files import write_atomic
from studies.engines.options import EXECUTE, How
from studies.store.inside import make_folder, read_inside
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

FOLDER = "queue"
EARLIER = {"studies.execute:execute": EXECUTE}  # as entries name it that were published before the file had moved


@dataclass(frozen=True)
class Entry:
    """One run that is wanted.

    attempts: how often it had failed before it was published; one more, and it has ended.
    execute: see studies.engines.options.How.  data_root: the driver's folder of corpora, for workers without one.
    time_limit: seconds that the run may take; None: no limit.  keep_weights: whether its weights are kept.
    """

    spec: RunSpec
    attempts: int
    execute: str
    data_root: str
    time_limit: Annotated[float, msgspec.Meta(gt=0)] | None = None
    keep_weights: bool = False


def publish(store: RunStore, entries: Iterable[Entry]) -> None:
    """Put entries into the queue, over older ones of the same runs. Raises UserError where it cannot be written."""
    folder = store.root / FOLDER
    try:
        make_folder(store.root, folder)
        for entry in entries:
            write_atomic(_path(store, entry.spec.id), json.dumps(asdict(entry)).encode())
    except OSError as error:
        raise UserError(f"Cannot publish runs in {folder}: {error.strerror or error}.") from error


@contextlib.contextmanager
def published(store: RunStore, entries: Iterable[Entry]) -> Iterator[None]:
    """The entries are in the queue until the block ends, however it ends."""
    entries = list(entries)
    try:
        publish(store, entries)
        yield
    finally:
        for entry in entries:
            with contextlib.suppress(OSError):  # one that stays is without effect
                _path(store, entry.spec.id).unlink(missing_ok=True)


def waiting(store: RunStore) -> set[str]:
    """Ids of the runs in the queue. Raises UserError where it cannot be read."""
    try:
        names = os.listdir(store.root / FOLDER)
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise UserError(f"Cannot read {store.root / FOLDER}: {error.strerror or error}.") from error
    return {name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")}


def wanted(store: RunStore, run_id: str) -> bool:
    return _path(store, run_id).exists()


def read(store: RunStore, run_id: str) -> Entry | None:
    """The entry of a run; None where it was taken away meanwhile, or is no entry of this run."""
    try:
        entry = msgspec.json.decode(read_inside(store.root, _path(store, run_id)), type=Entry)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return replace(entry, execute=EARLIER.get(entry.execute, entry.execute)) if entry.spec.id == run_id else None


def withdraw_ended(store: RunStore, run_id: str) -> None:
    """Take a run away if it has ended since it was published; a driver may have published it anew after a failure."""
    entry = read(store, run_id)
    if entry is not None and ended(store, entry):
        with contextlib.suppress(OSError):
            _path(store, run_id).unlink(missing_ok=True)


def ended(store: RunStore, entry: Entry) -> bool:
    failure = store.failed(entry.spec.id)
    return store.has(entry.spec.id) or (failure is not None and failure.attempts > entry.attempts)


def entries_of(specs: Iterable[RunSpec], before: Mapping[str, int], how: How) -> list[Entry]:
    """before: run id -> failed attempts so far."""
    asked = (how.execute, str(how.data_root), how.time_limit, how.keep_weights)
    return [Entry(spec, before[spec.id], *asked) for spec in specs]


def _path(store: RunStore, run_id: str) -> Path:
    return store.root / FOLDER / f"{run_id}.json"
