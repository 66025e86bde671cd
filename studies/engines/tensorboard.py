"""Learning curves for TensorBoard (`--log tensorboard`): <results>/tensorboard/<corpus>/<row>/<run id>/.

The process of the command follows the `curve.jsonl` of its runs, whatever process or machine trains them, and writes
them as events. A file of events follows from its curve alone, and is written over itself from its beginning: a command
that is issued again, or two at once, leave no point twice.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hycon.errors import UserError, check_known, install
from studies.engines import queue
from studies.store.curve import read_curve
from studies.store.inside import make_folder
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import CURVE, RunStore

KINDS = ("tensorboard",)  # of --log
FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.bench"  # "tfevents" is what TensorBoard looks for in a name
SCALARS = {"loss/train": "train_loss", "loss/validation": "valid_loss", "learning rate": "lr"}
EVERY = 2.0  # seconds between looks; chosen here: TensorBoard itself looks every 5 to 30

log = logging.getLogger(__name__)


def check_log(kind: str | None) -> None:
    """Raises UserError for an unknown --log, and where the package for it is missing."""
    if kind is None:
        return
    check_known("--log", kind, KINDS)
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(f"--log tensorboard needs its package: {install('tensorboard')}.") from error


class Follower:
    """In a `with` block: writes the events of runs in the queue as their epochs end; behind it, those of finished runs
    that have none, as of what an earlier command has done.

    row_of: the name of the row that a run belongs to; None: it is not wanted.
    """

    def __init__(self, store: RunStore, row_of: Callable[[RunSpec], str | None]):
        self.store = store
        self.row_of = row_of
        self._followed: dict[str, RunSpec] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # run id -> size and time of the curve that was written last
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=FOLDER, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()
        for record in self.store.records() if error is None else ():
            folder = self._folder(record.spec)
            if record.id not in self._followed and folder and not (folder / EVENTS).exists():
                self._write(record.spec, read_curve(self.store, record.id) or _epochs(record))

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            with contextlib.suppress(UserError):  # an unreadable queue, of which the command itself will tell
                self._look()

    def _look(self) -> None:
        for run_id in queue.waiting(self.store) - self._followed.keys():
            if entry := queue.read(self.store, run_id):
                self._followed[run_id] = entry.spec
        for run_id, spec in self._followed.items():
            try:
                found = (self.store.folder(run_id) / CURVE).lstat()
            except OSError:
                continue
            now = (found.st_size, found.st_mtime_ns)
            if self._seen.get(run_id) != now:
                self._seen[run_id] = now
                self._write(spec, read_curve(self.store, run_id))

    def _folder(self, spec: RunSpec) -> Path | None:
        name = self.row_of(spec)
        row = re.sub(r"[^\w.+=-]+", "-", name or "").strip("-.")
        return self.store.root / FOLDER / spec.corpus / row / spec.id if row else None

    def _write(self, spec: RunSpec, epochs: Sequence[Mapping[str, Any]]) -> None:
        folder = self._folder(spec)
        if not epochs or folder is None:
            return
        try:
            make_folder(self.store.root, folder)
            handle = os.open(folder / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            with open(handle, "wb") as file:  # not emptied first: TensorBoard goes on from where it was
                file.write(events(epochs))
                file.truncate()
        except OSError as error:
            log.warning("bench: no events for TensorBoard of run %s: %s", spec.id, error.strerror or error)


def events(epochs: Sequence[Mapping[str, Any]]) -> bytes:
    """A file of events: a point for each epoch and each of SCALARS that it has."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=epochs[0].get("time") or 0.0, file_version="brain.Event:2").SerializeToString())
    for epoch in epochs:
        values = [
            Summary.Value(tag=tag, simple_value=epoch[name])
            for tag, name in SCALARS.items()
            if isinstance(epoch.get(name), int | float)
        ]
        point = Event(wall_time=epoch.get("time") or 0.0, step=epoch["epoch"], summary=Summary(value=values))
        writer.write(point.SerializeToString())
    return buffer.getvalue()


def _epochs(record: RunRecord) -> list[dict[str, Any]]:
    """The curve of a run from before there was a file of it, with the times that follow from its record."""
    started = datetime.fromisoformat(record.started).timestamp() if record.started else 0.0
    return [{**one, "time": started + one["epoch"] * (record.seconds_per_epoch or 0.0)} for one in record.curve]
