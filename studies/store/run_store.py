"""The run store: a folder per run, and the only truth about what was measured.

    <root>/runs/<id>/predictions.npz   written first
    <root>/runs/<id>/outputs.npz       in its place in a published folder: no labels, see studies.store.outputs
    <root>/runs/<id>/weights.safetensors   before it, only with --keep-weights
    <root>/runs/<id>/record.json       written last: a run is done if and only if it is there and readable
    <root>/runs/<id>/checkpoint*       how far a long run is; removed once the run is done
    <root>/runs/<id>/failed.json       the last failure and how often it was tried; removed once the run is done
    <root>/runs/<id>/log.txt           what the run printed, for looking into failures
    <root>/runs/<id>/curve.jsonl       its learning curve while it trains, see studies.store.curve
    <root>/leases/                     who is busy with what, see studies.store.leases
    <root>/queue/                      what is wanted, see studies.engines.queue

Every file appears whole or not at all: temporary file, fsync, atomic rename, fsync of the folder. A killed process
leaves at most a hidden temporary file, which the next writer of that run deletes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.arrays import Damaged
from hycon.errors import UserError
from hycon.files import sweep, temporary, write_atomic
from studies.store.arrays import check_needs, npz_bytes, read_arrays
from studies.store.database import Storage
from studies.store.inside import SHARED, Unfit, fit, make_folder, open_log, read_inside
from studies.store.leases import TTL, FileLeases, Held
from studies.store.leases_postgres import PostgresLeases
from studies.store.outputs import OUTPUTS, Labels, read_outputs, with_labels
from studies.store.recompute import other_metrics
from studies.store.record import RESULT, Damage, RunRecord, RunSpec

PREDICTIONS = "predictions.npz"
ANEW = "delete its folder and run it again"
CURVE, LOG = "curve.jsonl", "log.txt"
FOLDERS = ("runs", "leases", "queue", "studies")  # in which files are written
DONE, FAILED = "record.json", "failed.json"
CHECKPOINT, CHECKPOINT_TENSORS = "checkpoint.json", "checkpoint-*.safetensors"  # hycon/checkpoint.py writes them
STATUS = {DONE: "done", FAILED: "failed"}  # of the record in a file
FAILURES = 20  # reasons of earlier attempts that a record keeps, the last ones; chosen here


@dataclass(frozen=True)
class RunStore:
    """Records of runs under `root` (the results folder).

    storage: the database of the leases, and of Optuna's studies; None: both are files under `root`, too.
    beside: a folder whose finished runs and failures are read where this one has none of them (`--with`); nothing is
    written there.
    labels: where the labels of runs are looked for that are kept without them; None: nowhere.
    Raises UserError where one of the folders in `root` is a link.
    """

    root: Path
    storage: Storage | None = field(default=None, compare=False)
    beside: RunStore | None = field(default=None, compare=False)
    labels: Labels | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).absolute())
        for name in SHARED:
            if (self.root / name).is_symlink():
                raise UserError(f"{self.root / name} is a link, which is not followed: put the folder in its place.")

    @cached_property
    def leases(self) -> FileLeases | PostgresLeases:
        folder = self.root / "leases"
        return FileLeases(folder) if self.storage is None else PostgresLeases(folder, self.storage)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders that are read."""
        return (self.root, *(self.beside.roots if self.beside else ()))

    def folder(self, run_id: str) -> Path:
        return self.root / "runs" / run_id

    # ------------------------------------------------------------------------------------------ reading

    def get(self, run_id: str) -> RunRecord | None:
        """The record of a finished run, None where there is none. Raises UserError for a newer version's record."""
        found = self._record(run_id, DONE)
        return self.beside.get(run_id) if found is None and self.beside else found

    def from_beside(self, run_id: str) -> bool:
        """Whether a finished run is not in this folder but in the one beside."""
        return self.beside is not None and self._record(run_id, DONE) is None and self.beside.has(run_id)

    def has(self, run_id: str) -> bool:
        return self.get(run_id) is not None

    def failed(self, run_id: str) -> RunRecord | None:
        """The last failure of a run that is not done: `reason`, and `attempts` over all commands so far."""
        if self.has(run_id):
            return None
        found = self._record(run_id, FAILED)
        return self.beside.failed(run_id) if found is None and self.beside else found

    def damage(self, run_id: str) -> Damage | None:
        """What is damaged about a run: its record, or the note of its failure where it has no record."""
        found = self._read(run_id, DONE) or self._read(run_id, FAILED)
        return found if isinstance(found, Damage) else None

    def damaged(self) -> list[Damage]:
        """Every damaged run. They count as not done, and the next `bench run` makes them again."""
        return [found for run_id in self.ids() if (found := self.damage(run_id))]

    def ids(self) -> list[str]:
        """Names of the run folders, in order, whether finished or not. Raises UserError where they cannot be read."""
        try:
            return sorted(p.name for p in (self.root / "runs").iterdir() if not p.name.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"Cannot read {self.root / 'runs'}: {error.strerror}.") from error

    def records(self) -> Iterator[RunRecord]:
        """All finished runs, in the order of their ids, without those in `damaged`."""
        yield from filter(None, map(self.get, self.ids()))

    def failures(self) -> Iterator[RunRecord]:
        """The last failure of every run that has failed and is not done."""
        yield from filter(None, map(self.failed, self.ids()))

    def has_predictions(self, run_id: str) -> bool:
        """Whether they are there with their labels. A published folder has them without, or not at all."""
        if self.beside and self.from_beside(run_id):
            return self.beside.has_predictions(run_id)
        if os.path.lexists(self.folder(run_id) / PREDICTIONS):
            return True
        record = self.get(run_id) if self.has_outputs(run_id) and self.labels else None
        return record is not None and self.labels is not None and self.labels.of(record.spec) is not None

    def has_outputs(self, run_id: str) -> bool:
        """Whether a run's predictions are kept without their labels."""
        if self.beside and self.from_beside(run_id):
            return self.beside.has_outputs(run_id)
        folder = self.folder(run_id)
        return not os.path.lexists(folder / PREDICTIONS) and os.path.lexists(folder / OUTPUTS)

    def predictions(self, run_id: str, needs: Collection[str] = ()) -> dict[str, np.ndarray]:
        """The arrays stored with a finished run, checked against the sha256 in its record; where they are kept without
        labels, those of the corpus beside them, checked against the metrics.

        needs: arrays that must be there, and fit together.  Raises UserError.
        """
        if self.beside and self.from_beside(run_id):
            return self.beside.predictions(run_id, needs)
        record = self.get(run_id)
        if record is None or record.predictions is None:
            raise UserError(f"{self.folder(run_id)} holds no finished run with predictions: run it first.")
        if self.has_outputs(run_id):
            return self._labelled(record, needs)
        path = self.folder(run_id) / PREDICTIONS
        content = self._content(path)
        if not record.predictions_are(content):
            raise UserError(f"{path} does not have the sha256 of its record: {ANEW}.")
        try:
            return read_arrays(content, needs)
        except Damaged as error:
            raise UserError(f"{path} is damaged ({error}): {ANEW}.") from error

    def outputs(self, run_id: str) -> dict[str, np.ndarray]:
        """The arrays of a run that is kept without labels. Raises UserError."""
        if self.beside and self.from_beside(run_id):
            return self.beside.outputs(run_id)
        path = self.folder(run_id) / OUTPUTS
        try:
            return read_outputs(self._content(path))
        except Damaged as error:
            raise UserError(f"{path} is damaged ({error}): {ANEW}.") from error

    def _labelled(self, record: RunRecord, needs: Collection[str]) -> dict[str, np.ndarray]:
        path = self.folder(record.id) / OUTPUTS
        answers = self.labels.of(record.spec) if self.labels else None
        if answers is None:
            raise UserError(
                f"{path} holds predictions without labels: import corpus {record.spec.corpus}, which has them, or give "
                "its folder with --data."
            )
        try:
            found = with_labels(self.outputs(record.id), answers)
            if differs := other_metrics(record, found):
                raise Damaged(differs)
            check_needs(found, needs)
        except Damaged as error:
            raise UserError(f"{path} is damaged ({error}): {ANEW}.") from error
        return found

    def _content(self, path: Path) -> bytes:
        try:
            return read_inside(self.root, path)
        except OSError as error:
            raise UserError(f"Cannot read {path} ({error.strerror}): {ANEW}.") from error

    # ------------------------------------------------------------------------------------------ writing

    def put(self, record: RunRecord, arrays: Mapping[str, np.ndarray]) -> RunRecord:
        """Store a finished run and return what is stored: the first record wins.

        `predictions` of the record is filled in here, and so are `attempts` and `failures`: what failed before it.
        A second record comes from a worker so slow that its lease expired. It is dropped; where it has another result,
        the run's log says in which fields.
        Raises UserError where it cannot be written; the run then counts as not done.
        """
        content = npz_bytes(arrays)
        with self._locked(record.id) as folder:
            digest = {"file": PREDICTIONS, "sha256": hashlib.sha256(content).hexdigest()}
            first = self.get(record.id)
            if first is not None:
                _note_difference(folder, first, dataclasses.replace(record, status="done", predictions=digest))
                _remove_checkpoint(folder)  # that of a second worker, written since
                return first
            history = _history(self._record(record.id, FAILED))
            record = dataclasses.replace(record, status="done", predictions=digest, **history)
            write_atomic(folder / PREDICTIONS, content)
            write_atomic(folder / DONE, record.to_json())
            (folder / FAILED).unlink(missing_ok=True)
            _remove_checkpoint(folder)
        return record

    def adopt(self, run_id: str, record: bytes, files: Mapping[str, bytes]) -> RunRecord:
        """Store a run finished elsewhere, its files as they are, and return the record that is stored afterwards:
        the first one wins, as in `put`. Predictions that a published folder left out are added to their record.

        files: PREDICTIONS or OUTPUTS, or both -> content; of both, the first is stored.
        Raises ValueError where `record` is damaged, and UserError where it cannot be written.
        """
        new = RunRecord.from_json(record, run_id, "done")
        with self._locked(run_id) as folder:
            first = self.get(run_id)
            kept = first or new
            path, outputs = folder / PREDICTIONS, folder / OUTPUTS
            if first is None:  # left by a run that was killed
                path.unlink(missing_ok=True)
                outputs.unlink(missing_ok=True)
            predictions = files.get(PREDICTIONS)
            if predictions is not None and not path.exists() and kept.predictions_are(predictions):
                write_atomic(path, predictions)
            if path.exists():
                outputs.unlink(missing_ok=True)
            elif OUTPUTS in files and not outputs.exists() and kept.predictions == new.predictions:
                write_atomic(outputs, files[OUTPUTS])
            if first is None:
                write_atomic(folder / DONE, record)
                (folder / FAILED).unlink(missing_ok=True)
                _remove_checkpoint(folder)
        return kept

    def add_robustness(self, again: RunRecord) -> str:
        """Add what `again`, the same run trained once more, measured of robustness to the record that is stored.

        Returns "", or why that cannot be: its weights are others. Raises UserError where it cannot be written.
        """
        with self._locked(again.id) as folder:
            first = self.get(again.id)
            if first is None:
                return "its record has gone meanwhile"
            if first.weights_sha256 != again.weights_sha256:
                return (
                    f"trained again, its weights are others (sha256 {str(again.weights_sha256)[:12]}, stored "
                    f"{str(first.weights_sha256)[:12]}): ask for its robustness on the machine and with the versions "
                    f"that it was made with ({first.device or 'unknown'}), or delete {folder} to run it anew"
                )
            whole = dataclasses.replace(first, robustness=again.robustness, robustness_draws=again.robustness_draws)
            write_atomic(folder / DONE, whole.to_json())
        return ""

    def put_failed(self, spec: RunSpec, reason: str, **known: Any) -> RunRecord:
        """Note one more failed attempt, with whatever else is known of it (fields of RunRecord). Raises UserError."""
        with self._locked(spec.id) as folder:
            record = RunRecord(spec, "failed", reason, **_history(self._record(spec.id, FAILED)), **known)
            write_atomic(folder / FAILED, record.to_json())
        return record

    def check_writable(self) -> None:
        """Raises UserError, before anything is trained, where results could not be stored afterwards."""
        probe = temporary(self.root / "runs" / "probe")
        try:
            make_folder(self.root, probe.parent)
            write_atomic(probe, b"x" * 4096)
        except OSError as error:
            raise unwritable(self.root, error) from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def sweep(self) -> None:
        """Delete what killed processes left: temporary files of this machine, and the leases of dead or silent holders.

        Temporary files of a run go when it is written. Raises UserError where the leases cannot be read.
        """
        for lease in itertools.chain.from_iterable(self.leases.survey()[1].values()):
            lease.release()
        for folder in (self.root, *(self.root / name for name in FOLDERS), *(self.root / "corpora").glob("*/")):
            if folder == self.root or fit(self.root, folder):
                sweep(folder)

    def claim(self, run_id: str, ttl: float = TTL) -> Held | None:
        """The right to do a run, None while another live process has it; see studies.store.leases."""
        return self.leases.claim(run_id, ttl)

    def leased(self) -> set[str]:
        """Ids of the runs that somebody has, or had when he died."""
        return self.leases.leased()

    # ------------------------------------------------------------------------------------------ internals

    def _read(self, run_id: str, name: str) -> RunRecord | Damage | None:
        path = self.folder(run_id) / name
        try:
            return RunRecord.from_json(read_inside(self.root, path), run_id, STATUS[name], str(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Unfit as error:
            return Damage(run_id, path, str(error.strerror))
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror}.") from error
        except ValueError as error:
            return Damage(run_id, path, str(error))

    def _record(self, run_id: str, name: str) -> RunRecord | None:
        found = self._read(run_id, name)
        return found if isinstance(found, RunRecord) else None

    @contextlib.contextmanager
    def _locked(self, run_id: str) -> Iterator[Path]:
        """The run's folder, made and locked for writing. OSErrors inside become one UserError.

        The lock serialises two writers of one run, which only a lost lease can bring about. Where the file system
        has no locks, rename alone still keeps every single file whole.
        """
        folder = self.folder(run_id)
        try:
            make_folder(self.root, folder)
            handle = os.open(folder, os.O_RDONLY)
            try:
                with contextlib.suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    for stray in folder.glob(".*.tmp"):
                        stray.unlink(missing_ok=True)
                yield folder
            finally:
                os.close(handle)
        except OSError as error:
            raise unwritable(folder, error) from error


def _remove_checkpoint(folder: Path) -> None:
    """hycon.checkpoint's files; that module imports torch."""
    for path in (folder / CHECKPOINT, *folder.glob(CHECKPOINT_TENSORS)):
        with contextlib.suppress(OSError):
            path.unlink()


def checkpoint_epochs(store: RunStore, run_id: str) -> int:
    """How many epochs the checkpoint of a run that is not done holds; 0 where there is none."""
    try:
        epoch = json.loads(read_inside(store.root, store.folder(run_id) / CHECKPOINT))["epoch"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0
    return epoch if type(epoch) is int else 0


def _history(failure: RunRecord | None) -> dict[str, Any]:
    """What the next attempt's record says of those before it, the last of which was `failure`."""
    if failure is None:
        return {"attempts": 1, "failures": []}
    return {"attempts": failure.attempts + 1, "failures": [*failure.failures, failure.reason or ""][-FAILURES:]}


def _note_difference(folder: Path, first: RunRecord, second: RunRecord) -> None:
    """Note in the run's log that a second worker's result is not the stored one."""
    stored, other = (json.loads(record.to_json()) for record in (first, second))
    if differing := ", ".join(name for name in RESULT if stored[name] != other[name]):
        note = "A second worker finished this run with another result; the first one stands. They differ in "
        with contextlib.suppress(OSError), open_log(folder / LOG, os.O_APPEND) as log:
            log.write(f"{note}{differing}. See `bench verify {first.id}`.\n")


def unwritable(path: Path, error: OSError) -> UserError:
    remedy = "delete it" if isinstance(error, Unfit) else "free space, or give another --results"
    return UserError(f"Cannot write to {path} ({error.strerror or error}): {remedy}.")
