"""The run store: a folder per run, and the only truth about what was measured.

    <root>/runs/<id>/predictions.npz   written first
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
import io
import itertools
import json
import math
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.arrays import BAD_ZIP, Damaged, read_npz
from hycon.errors import UserError
from hycon.files import sweep, temporary, write_atomic
from studies.store.database import Storage
from studies.store.inside import SHARED, Unfit, fit, make_folder, open_log, read_inside
from studies.store.leases import TTL, FileLeases, Held
from studies.store.leases_postgres import PostgresLeases
from studies.store.record import RESULT, Damage, RunRecord, RunSpec

PREDICTIONS = "predictions.npz"
CURVE, LOG = "curve.jsonl", "log.txt"
FOLDERS = ("runs", "leases", "queue", "studies")  # in which files are written
DONE, FAILED = "record.json", "failed.json"
CHECKPOINT, CHECKPOINT_TENSORS = "checkpoint.json", "checkpoint-*.safetensors"  # hycon/checkpoint.py writes them
STATUS = {DONE: "done", FAILED: "failed"}  # of the record in a file
LARGEST_ARRAYS = 2**29  # bytes that predictions unpack to; chosen here: the largest corpus takes 100 MB
FAILURES = 20  # reasons of earlier attempts that a record keeps, the last ones; chosen here


@dataclass(frozen=True)
class RunStore:
    """Records of runs under `root` (the results folder).

    storage: the database of the leases, and of Optuna's studies; None: both are files under `root`, too.
    beside: a folder whose finished runs and failures are read where this one has none of them (`--with`); nothing is
    written there.
    Raises UserError where one of the folders in `root` is a link.
    """

    root: Path
    storage: Storage | None = field(default=None, compare=False)
    beside: RunStore | None = field(default=None, compare=False)

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
        """Whether the file is there; a published folder leaves it out."""
        if self.beside and self.from_beside(run_id):
            return self.beside.has_predictions(run_id)
        return os.path.lexists(self.folder(run_id) / PREDICTIONS)

    def predictions(self, run_id: str, needs: Collection[str] = ()) -> dict[str, np.ndarray]:
        """The arrays stored with a finished run, checked against the sha256 in its record.

        needs: arrays that must be there, and fit together.  Raises UserError.
        """
        if self.beside and self.from_beside(run_id):
            return self.beside.predictions(run_id, needs)
        record = self.get(run_id)
        if record is None or record.predictions is None:
            raise UserError(f"{self.folder(run_id)} holds no finished run with predictions: run it first.")
        path = self.folder(run_id) / PREDICTIONS
        try:
            content = read_inside(self.root, path)
        except OSError as error:
            raise UserError(f"Cannot read {path} ({error.strerror}): delete its folder and run it again.") from error
        if not record.predictions_are(content):
            raise UserError(f"{path} does not have the sha256 of its record: delete its folder and run it again.")
        try:
            return _arrays(content, needs)
        except Damaged as error:
            raise UserError(f"{path} is damaged ({error}): delete its folder and run it again.") from error

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
            write_atomic(folder / DONE, _to_json(record))
            (folder / FAILED).unlink(missing_ok=True)
            _remove_checkpoint(folder)
        return record

    def adopt(self, run_id: str, record: bytes, predictions: bytes | None) -> RunRecord:
        """Store a run finished elsewhere, its files as they are, and return the record that is stored afterwards:
        the first one wins, as in `put`. Predictions that a published folder left out are added to their record.

        Raises ValueError where `record` is damaged, and UserError where it cannot be written.
        """
        new = RunRecord.from_json(record, run_id, "done")
        with self._locked(run_id) as folder:
            first = self.get(run_id)
            kept = first or new
            path = folder / PREDICTIONS
            if first is None:
                path.unlink(missing_ok=True)  # left by a run that was killed
            if predictions is not None and not path.exists() and kept.predictions_are(predictions):
                write_atomic(path, predictions)
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
            write_atomic(folder / DONE, _to_json(whole))
        return ""

    def put_failed(self, spec: RunSpec, reason: str, **known: Any) -> RunRecord:
        """Note one more failed attempt, with whatever else is known of it (fields of RunRecord). Raises UserError."""
        with self._locked(spec.id) as folder:
            record = RunRecord(spec, "failed", reason, **_history(self._record(spec.id, FAILED)), **known)
            write_atomic(folder / FAILED, _to_json(record))
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
    stored, other = (json.loads(_to_json(record)) for record in (first, second))
    if differing := ", ".join(name for name in RESULT if stored[name] != other[name]):
        note = "A second worker finished this run with another result; the first one stands. They differ in "
        with contextlib.suppress(OSError), open_log(folder / LOG, os.O_APPEND) as log:
            log.write(f"{note}{differing}. See `bench verify {first.id}`.\n")


def _arrays(content: bytes, needs: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays of a .npz. Raises Damaged, also where they would take more memory than any run's, where one of `needs`
    is not there, and where those of one split are not of the same utterances or hold other things than they must."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except BAD_ZIP as error:
        raise Damaged(f"no readable .npz file ({error})") from error
    if size > LARGEST_ARRAYS:
        raise Damaged(f"it unpacks to {size} bytes")
    arrays = dict(read_npz(content))
    if lacking := sorted(set(needs) - arrays.keys()):
        raise Damaged(f"it has no {lacking[0]}")
    for split in ("valid", "test") if needs else ():
        known = {name: found for name, found in arrays.items() if name.startswith(f"{split}_")}
        odd = [name for name, found in known.items() if (found.dtype.kind == "U") != (name == f"{split}_id")]
        odd += [name for name, found in known.items() if name.endswith("_multimodal") and found.ndim != 2]
        if odd:
            raise Damaged(f"{odd[0]} holds {known[odd[0]].ndim}-d {known[odd[0]].dtype}")
        if len({np.shape(found)[:1] for found in known.values()}) > 1:
            raise Damaged(f"the arrays of {split} are not of the same utterances")
    return arrays


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A compressed .npz as numpy.load reads it, the same bytes for the same arrays. Refuses pickles (TypeError)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            if array.dtype.hasobject:
                raise TypeError(f"array {name!r} holds Python objects; numbers or strings are expected")
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: the time of writing must not enter the hash
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as handle:
                np.lib.format.write_array(handle, array, allow_pickle=False)
    return buffer.getvalue()


def _to_json(record: RunRecord) -> bytes:
    text = json.dumps(_finite(record.to_dict()), indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "replace")  # a name of a file that is no UTF-8 may be in a reason


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined metric (a correlation with a constant) is stored as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unwritable(path: Path, error: OSError) -> UserError:
    remedy = "delete it" if isinstance(error, Unfit) else "free space, or give another --results"
    return UserError(f"Cannot write to {path} ({error.strerror or error}): {remedy}.")
