"""`bench verify`: run finished runs again, in a scratch folder, and compare what comes out bit for bit.

A record says completely what was trained, so training it again on the same device and versions must give the same
weights, predictions, metrics and learning curve. Where it does not, this says what differs, how many numbers and by how
much at most; where device or versions are others, it says which, since rounding alone may then explain it.
Nothing is written to the results folder, unless predictions that it lacks are asked for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hycon.data.manifest import read_manifest
from hycon.errors import UserError, nearest
from hycon.saved import WEIGHTS
from studies.aggregate.predictions import without_labels
from studies.engines.executors import DEFAULT
from studies.engines.machine import check_devices
from studies.engines.options import EXECUTE
from studies.engines.robustness import EXECUTE as ROBUST
from studies.registry import MODELS, another_version, changed_code, other_source
from studies.store.outputs import NAMES
from studies.store.recompute import flat
from studies.store.record import ENCODER_LAYERS, RunRecord, RunSpec
from studies.store.run_store import PREDICTIONS, RunStore
from studies.store.study import id_named

IMPORTED_AGAIN = (
    "the corpus has the same files, but was imported anew since: nominal lengths, alignment and emotions were in no "
    "checksum then, and may differ"
)
PAGE = "docs/evidence.md"  # its part on checking a published run


@dataclass(frozen=True)
class Verification:
    """outcome: identical | differs | failed (it could not be run again).

    findings: what differs, or why it failed.  environment: what is another device or version than then.
    notes: what could not be compared, and what explains a difference.
    """

    run: str
    label: str
    outcome: str
    findings: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_run(store: RunStore, prefix: str) -> RunRecord:
    """The finished run whose id is or begins with `prefix`.

    Raises UserError where there is none, where several begin so, and where the run is not done, failed or damaged.
    """
    ids = store.ids()
    run_id = id_named(prefix, ids, "run")
    if not run_id:
        hint = f"nearest: {nearest(prefix, ids)}" if ids and len(ids) <= 20 else "see `bench list runs`"
        raise UserError(f"No run {prefix!r} in {store.root} ({hint}).")
    if record := store.get(run_id):
        return record
    reason = store.damage(run_id) or f"Run {run_id} is not finished"
    if failed := store.failed(run_id):
        reason = f"Run {run_id} failed ({failed.reason})"
    raise UserError(f"{str(reason).rstrip('.')}: only finished runs can be verified.")


def verify(
    records: Sequence[RunRecord],
    store: RunStore,
    *,
    data: str | os.PathLike | None = None,
    device: str | None = None,
    encoders: Mapping[str, str] | None = None,
    workers: int = 1,
    executor: str = DEFAULT,
    execute: str = EXECUTE,
    on_event: Callable[[Any], None] | None = None,
    weights: Path | None = None,
    add_predictions: bool = False,
) -> list[Verification]:
    """Run each of `records` again and compare. weights: a folder that gets the weights of each, `weights_file`.
    add_predictions: whether the store gets those that it lacks, if they have the sha256 of the record.

    device: where, such as "cuda:1"; by default the kind each was made on.  encoders: front-end -> name or folder of
    the pretrained text model, where its name alone does not lead to it.
    Raises UserError, before anything is run, where corpus, encoder, model version or device is not the run's.
    """
    from studies.engines.run import run

    for record in records:
        check_repeatable(record, store, data=data, encoders=encoders or {})
    kind = device.partition(":")[0] if device else None
    held = {record.spec.corpus: read_manifest(record.spec.corpus, data).sha256 for record in records}
    specs = {
        record.id: dataclasses.replace(record.spec, device=kind or record.spec.device, data=held[record.spec.corpus])
        for record in records
    }
    devices = (device,) if device else tuple({spec.device for spec in specs.values()})
    try:
        check_devices(devices)
    except UserError as error:
        raise UserError(f"{error} Say with --device where to run it again.") from error
    kept = {record.id: _kept(store, record) for record in records}
    with scratch_folder() as scratch:
        again = RunStore(scratch)
        summary = run(
            specs.values(),
            again,
            executor=executor,
            workers=workers,
            devices=devices,
            execute=ROBUST if execute == EXECUTE and any(record.robust for record in records) else execute,
            data_root=data,
            on_event=on_event,
            keep_weights=weights is not None,
        )
        for record in records if weights else ():
            made = again.folder(specs[record.id].id) / WEIGHTS
            if weights and made.exists():
                shutil.move(made, weights_file(weights, record))
        reasons = {spec.id: reason for spec, reason in summary.failed}
        found = [_outcome(record, kept[record.id], specs[record.id], again, reasons) for record in records]
        if add_predictions:
            found = [_added(one, r, store, again.folder(specs[r.id].id)) for one, r in zip(found, records, strict=True)]
        return found


def weights_file(folder: Path, record: RunRecord) -> Path:
    return folder / f"{record.id}.safetensors"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    try:
        folder = TemporaryDirectory(prefix="bench-verify-")
    except OSError as error:
        raise UserError(f"No scratch folder can be made ({error.strerror or error}): set TMPDIR to another.") from error
    with folder as path:
        yield Path(path)


def check_repeatable(
    record: RunRecord, store: RunStore, *, data: str | os.PathLike | None, encoders: Mapping[str, str]
) -> None:
    """Raises UserError where this code, this corpus or this encoder is not what the run was made with; of a run without
    its predictions, as published ones are, it names the page that has code, corpora and encoders of those."""
    try:
        _check_repeatable(record, data, encoders)
    except UserError as error:
        if record.predictions is None or store.has_predictions(record.id):
            raise
        raise UserError(f"{error} If it is a published run: {PAGE} says how to check one.") from error


def _check_repeatable(record: RunRecord, data: str | os.PathLike | None, encoders: Mapping[str, str]) -> None:
    spec = record.spec
    if spec.source and (reason := other_source(spec.model, spec.source)):
        raise UserError(f"Run {record.id} cannot be verified: {reason}.")
    if reason := of_other_code(record):
        raise UserError(f"Run {record.id} is {reason}.")
    manifest = read_manifest(spec.corpus, data)
    if spec.data not in (manifest.sha256, manifest.files_sha256):
        raise UserError(
            f"Corpus {spec.corpus!r} is not the one that run {record.id} was made with: its data has changed."
        )
    if spec.encoder:
        _check_encoder(record, encoders.get(spec.text))


def of_other_code(record: RunRecord) -> str | None:
    """Why this code cannot make a run again, as part of a sentence; None: nothing is known against it."""
    if record.spec.model not in MODELS:
        return f"of model {record.spec.model!r}, which this suite does not have"
    found = another_version(record.spec)
    return found and f"of {found}: verify it with the code of commit {record.commit or 'unknown'}"


def _check_encoder(record: RunRecord, given: str | None) -> None:
    """By the rule of checksums that the record's own was made by; a Hugging Face name is fetched if need be."""
    from hycon.pretrained import identify, missing_because, register

    kind, expected = record.spec.text, record.spec.encoder or {}
    found = identify(kind, given or expected.get("name", ""))
    if given and Path(given).expanduser().is_dir():
        register(expected.get("sha256", ""), Path(given).expanduser())
    if missing_because(kind, expected):
        raise UserError(
            f"The text encoder {found['name']!r} is not the one that run {record.id} was made with "
            f"({expected.get('name')!r} with sha256 {expected.get('sha256', '')[:12]}): give it with --encoder."
        )


def _kept(store: RunStore, record: RunRecord) -> dict[str, np.ndarray] | None:
    """The run's predictions, or what published folders keep of them, None for nothing. Raises UserError for damaged
    ones."""
    if record.predictions and store.has_outputs(record.id):
        return store.outputs(record.id)
    return store.predictions(record.id) if record.predictions and store.has_predictions(record.id) else None


def _added(found: Verification, record: RunRecord, store: RunStore, made: Path) -> Verification:
    """What was found, and whether the store has got the run's predictions, which lie in the folder `made`."""
    lacked = record.predictions is not None and not (store.folder(record.id) / PREDICTIONS).exists()
    content = (made / PREDICTIONS).read_bytes() if lacked and (made / PREDICTIONS).exists() else b""
    if not record.predictions_are(content):
        return found
    store.adopt(record.id, record.to_json(), {PREDICTIONS: content})
    return dataclasses.replace(found, notes=(*found.notes, "its predictions were added"))


# ------------------------------------------------------------------------------------------------- comparing


def _outcome(
    before: RunRecord, kept: dict[str, np.ndarray] | None, spec: RunSpec, again: RunStore, reasons: Mapping[str, str]
) -> Verification:
    label = f"{spec.model}-{spec.text} on {spec.corpus}, seed {spec.seed}"
    now = again.get(spec.id)
    if now is None:
        return Verification(before.id, label, "failed", (reasons.get(spec.id, "no reason recorded"),))
    notes: list[str] = []
    findings = [*_weights(before, now), *_curve(before.curve, now.curve)]
    made = again.predictions(spec.id)
    bare = kept is not None and kept.keys() <= NAMES
    if kept is not None:
        findings += _predictions(kept, without_labels(made) if bare else made)
    if kept is None or bare:
        found = "weights, learning curve and metrics are compared, predictions are not"
        if before.predictions is not None:
            same = before.predictions == now.predictions
            found = "their sha256 is the same" if same else "their sha256 is another (newer code may keep more arrays)"
        how = "not kept here" if kept is None else "kept without labels"
        notes.append(f"the run's predictions are {how}: {found}")
    if spec.data != before.spec.data:
        notes.append(IMPORTED_AGAIN)
    findings += _numbers(before, now)
    if files := changed_code([before]).get(before.id):
        notes.append(
            f"code has changed since the run, and VERSION is still {spec.version}: {', '.join(files)}; "
            + ("raise it, if that is why the numbers differ" if findings else "the numbers have not moved")
        )
    elsewhere = tuple(_environment(before, now))
    if findings and not elsewhere:
        notes.append(
            f"device and versions are the same, so these must not differ; commit {before.commit or 'unknown'} then, "
            f"{now.commit or 'unknown'} now"
        )
    outcome = "differs" if findings else "identical"
    return Verification(before.id, label, outcome, tuple(findings), elsewhere, tuple(notes))


def _environment(before: RunRecord, now: RunRecord) -> Iterator[str]:
    """Device and versions that differ; what only one of the records knows is left out."""
    then, found = ({"device": record.device, **record.environment} for record in (before, now))
    if ENCODER_LAYERS in found:
        then.setdefault(ENCODER_LAYERS, "padded")
    for name in (name for name in then if name in found):
        build_untold = name == "torch" and found[name].startswith(f"{then[name]}+")  # as in older records
        if found[name] != then[name] and not build_untold:
            yield f"{name}: {then[name] or 'not recorded'} then, {found[name]} now"


def _weights(before: RunRecord, now: RunRecord) -> Iterator[str]:
    if before.weights_sha256 is None:
        yield "weights: the record has no sha256 of them"
    elif before.weights_sha256 != now.weights_sha256:
        yield f"weights: sha256 {before.weights_sha256[:12]} then, {str(now.weights_sha256)[:12]} now"


def _curve(before: Sequence[Mapping[str, float]], now: Sequence[Mapping[str, float]]) -> Iterator[str]:
    for then, found in zip(before, now, strict=False):
        if then != found:
            gaps = {k: abs(then[k] - found[k]) for k in then if then.get(k) is not None and found.get(k) is not None}
            key = max(gaps, key=lambda k: gaps[k], default="epoch")
            yield f"learning curve: first in epoch {then.get('epoch', 0):g} ({key} by {gaps.get(key, math.nan):.3g})"
            return
    if len(before) != len(now):
        yield f"learning curve: {len(before)} epochs then, {len(now)} now"


def _predictions(before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What differs in arrays that both have: newer code may keep more than older did, beyond what all have kept."""
    for name in sorted(now.keys() - before.keys()):
        if name.rpartition("_")[2] in ("prediction", "label", "id"):
            yield f"predictions: {name} is not among those kept"
    for name in sorted(before):
        if name not in now:
            yield f"predictions: {name} is no longer made"
            continue
        then, found = before[name], now[name]
        if then.shape != found.shape or then.dtype != found.dtype:
            yield f"predictions: {name} was {then.dtype} {then.shape}, is {found.dtype} {found.shape}"
        elif then.tobytes() != found.tobytes():
            yield f"predictions: {name}: {_gap(then, found)}"


def _gap(then: np.ndarray, found: np.ndarray) -> str:
    """ "3 of 686 utterances, by at most 2.4e-07"; equal numbers of other bits (-0) count as well."""
    pairs = list(zip(np.atleast_1d(then), np.atleast_1d(found), strict=True))
    count = f"{sum(a.tobytes() != b.tobytes() for a, b in pairs)} of {len(pairs)} utterances"
    if then.dtype.kind not in "fiu":
        return count
    gap = np.abs(then.astype(np.float64) - found.astype(np.float64))
    return f"{count}, {'not a number in one of them' if np.isnan(gap).all() else f'by at most {np.nanmax(gap):.3g}'}"


def _numbers(before: RunRecord, now: RunRecord) -> Iterator[str]:
    names = ("valid_loss", "best_epoch", "parameters")
    parts = ("metrics", "robustness") if before.robust and now.robust else ("metrics",)
    then, found = (dict(flat({name: getattr(r, name) for name in (*names, *parts)})) for r in (before, now))
    for name in dict.fromkeys([*then, *found]):
        a, b = then.get(name), found.get(name)
        if a != b:
            size = f" (by {abs(a - b):.3g})" if isinstance(a, int | float) and isinstance(b, int | float) else ""
            yield f"{name}: {a} then, {b} now{size}"
