"""`bench export` and `bench import-results`: results as one file, and back into any results folder.

An export holds the records, predictions, failures and studies that were chosen, and the manifests of their corpora. It
never holds data of a corpus; but predictions hold the labels of its validation and test split, so make an archive that
you publish without labels (studies.store.outputs), or without predictions. Nor does it hold weights, which are large,
or the files of models outside the repository, which are code.

An import checks the whole archive before it writes anything. Then it adds what is missing, run by run, record last:
killed at any point, it can be issued again. It never replaces a finished run; to one without robustness it adds what
the same run in the archive has measured.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hycon.data.arrays import Damaged
from hycon.data.manifest import FORMAT_VERSION, IDENTITY, Manifest
from hycon.errors import UserError
from hycon.saved import WEIGHTS
from studies.aggregate.predictions import without_labels
from studies.lookup import recorded_profile
from studies.store.arrays import npz_bytes
from studies.store.inside import largest, read_inside
from studies.store.outputs import OUTPUTS, read_outputs
from studies.store.record import RunRecord, RunSpec, read_object
from studies.store.run_store import DONE, FAILED, PREDICTIONS, STATUS, RunStore
from studies.store.soundness import sound_studies, unsound
from studies.store.study import Study, load_studies, read_study, write_result
from studies.trust.tarball import MANIFEST, pack, unpack

NAMES = re.compile(
    r"runs/(?P<run>[0-9a-f]{16})/(?P<file>record\.json|failed\.json|predictions\.npz|outputs\.npz)"
    r"|studies/(?P<study>[0-9a-f]{16})\.(?P<kind>json|journal)"
    r"|corpora/(?P<corpus>[a-z0-9][a-z0-9_-]{0,63})/manifest\.json"
)
WHAT = ("runs", "studies", "corpora", "failures", "robustness")


@dataclass(frozen=True)
class Exported:
    runs: int
    predictions: int  # runs with them and their labels
    studies: int
    size: int  # bytes of the archive
    weights: int = 0  # runs whose kept weights are left out
    models: tuple[str, ...] = ()  # models outside the repository, whose files are left out


@dataclass
class Imported:
    """How many were added and were there already; `conflicts`: what is there and differs, one sentence each.

    robustness: of runs that were there already."""

    added: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WHAT, 0))
    present: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WHAT, 0))
    conflicts: list[str] = field(default_factory=list)


def export(
    store: RunStore,
    file: str | os.PathLike,
    *,
    corpus: str | None = None,
    profile: str | None = None,
    predictions: bool = True,
    labels: bool = True,
) -> Exported:
    """Write an archive of all finished runs, or those of a corpus or of a profile's studies, and what belongs to them.

    predictions: whether with them.  labels: whether they go with their labels.
    Raises UserError where nothing is to be exported, where a record or its predictions are damaged, and where the
    archive cannot be written.
    """
    recorded = profile and recorded_profile(profile)
    studies = [s for s in sound_studies(store) if corpus in (None, s.corpus) and recorded in (None, s.profile)]
    named = {run for study in studies for run in (*study.trials, *study.runs)}
    chosen = [
        record
        for record in (*store.records(), *store.failures())
        if corpus in (None, record.spec.corpus) and (profile is None or record.id in named)
    ]
    if damaged := store.damaged():
        raise UserError(f"{str(damaged[0]).rstrip('.')}; `bench doctor --repair` sets it aside.")
    done = [record for record in chosen if record.status == "done"]
    if not done:
        which = "".join(f" of {w}" for w in (corpus, profile) if w)
        raise UserError(f"{store.root} holds no finished run{which} to export.")
    paths = [store.folder(r.id) / (DONE if r.status == "done" else FAILED) for r in chosen]
    kept = [r for r in done if predictions and (store.folder(r.id) / PREDICTIONS).exists()]
    bare = [r for r in done if predictions and store.has_outputs(r.id)]
    for record in kept:
        store.predictions(record.id)  # raises where they are not the record's
    for record in bare:
        store.outputs(record.id)  # raises where they are damaged
    paths += [store.folder(r.id) / OUTPUTS for r in bare]
    paths += [store.folder(r.id) / PREDICTIONS for r in kept if labels]
    for study in studies:
        found = (store.root / "studies" / f"{study.id}.{kind}" for kind in ("json", "journal"))
        paths += [path for path in found if path.exists()]
    corpora = sorted({record.spec.corpus for record in chosen})
    manifests = [p for name in corpora if (p := store.root / "corpora" / name / "manifest.json").exists()]
    for path in manifests:
        _check_manifest(store.root, path)
    paths += manifests
    files: dict[str, Callable[[], bytes]] = {
        p.relative_to(store.root).as_posix(): partial(_bytes, store.root, p) for p in paths
    }
    if not labels:
        files |= {f"runs/{r.id}/{OUTPUTS}": partial(_without_labels, store, r.id) for r in kept}
        kept = []
    size = pack(Path(file), files, {"corpora": corpora, "runs": len(done), "predictions": bool(kept)})
    weights = sum((store.folder(record.id) / WEIGHTS).exists() for record in done)
    models = tuple(sorted({record.spec.model for record in done if record.spec.source}))
    return Exported(len(done), len(kept), len(studies), size, weights, models)


def _without_labels(store: RunStore, run_id: str) -> bytes:
    """Raises UserError where predictions are damaged, not the record's, or such that an import would refuse them."""
    content = npz_bytes(without_labels(store.predictions(run_id)))
    try:
        _check_outputs(content)
    except ValueError as error:
        raise UserError(f"Run {run_id} cannot be exported without labels: {error}.") from error
    return content


def _check_manifest(root: Path, path: Path) -> None:
    """Raises UserError for one that an import would refuse."""
    try:
        _name_as(path.parent.name, _bytes(root, path))
    except ValueError as error:
        below = path.relative_to(root).as_posix()
        raise UserError(f"{below} is damaged ({error}); `bench doctor --repair` sets it aside.") from error


def _bytes(root: Path, path: Path) -> bytes:
    try:
        return read_inside(root, path)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error


# ------------------------------------------------------------------------------------------------- import


def import_results(file: str | os.PathLike, store: RunStore) -> Imported:
    """Add what an archive holds to `store`. Raises UserError, before anything is written, for an archive with
    anything in it that is not as `export` writes it."""
    path = Path(file)
    _check(path)
    report = Imported()
    files: dict[str, bytes] = {}  # of the run whose record comes next
    for name, content in unpack(path, largest):  # checked again as it is read: the file may have changed
        match = NAMES.fullmatch(name)
        if match is None:
            continue  # the manifest
        if match["file"] in (OUTPUTS, PREDICTIONS):
            files[match["file"]] = content
        elif match["file"] == DONE:
            _add_run(store, match["run"], content, files, report)
            files = {}
        elif match["file"] == FAILED:
            _add_failure(store, match["run"], name, content, report)
        elif match["study"]:
            _add_study(store, match["study"], match["kind"], name, content, report)
        else:
            _add_corpus(store, match["corpus"], name, content, report)
    return report


def _check(path: Path) -> None:
    """Read the whole archive and refuse it for anything that is not as it must be. Raises UserError."""
    pending: dict[str, str | None] = {}  # run id -> sha256 of predictions with labels, which come before their record
    specs: dict[str, RunSpec] = {}  # of finished runs, which come before the studies
    for name, content in unpack(path, largest):
        if name == MANIFEST:
            continue
        match = NAMES.fullmatch(name)
        if match is None:
            raise _refused(path, f"it holds {name!r}, no file of a results folder")
        try:
            _check_file(match, content, pending, specs)
        except ValueError as error:
            raise _refused(path, f"{name!r} is damaged ({error})") from error
    if pending:
        raise _refused(path, f"run {min(pending)} has predictions but no record")


def _refused(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is refused, nothing was imported: {reason}.")


def _check_file(
    match: re.Match[str], content: bytes, pending: dict[str, str | None], specs: dict[str, RunSpec]
) -> None:
    """Raises ValueError where a file is damaged or not the one of its name, UserError where a newer suite wrote it."""
    if match["file"] == OUTPUTS:
        _check_outputs(content)
        pending[match["run"]] = None
    elif match["file"] == PREDICTIONS:
        pending[match["run"]] = hashlib.sha256(content).hexdigest()
    elif match["run"]:
        status = STATUS[match["file"]]
        record = RunRecord.from_json(content, match["run"], status, f"Run {match['run']}")
        digest = pending.pop(record.id, None)
        if digest and digest != (record.predictions or {}).get("sha256"):
            raise ValueError("its predictions are not those of its record")
        if status == "done":
            specs[record.id] = record.spec
    elif match["kind"] == "json":
        study = read_study(content)
        if study.id != match["study"]:
            raise ValueError("it is another study")
        if why := unsound(study, specs.get):
            raise ValueError(why)
    elif match["corpus"]:
        _name_as(match["corpus"], content)


def _check_outputs(content: bytes) -> None:
    try:
        read_outputs(content)
    except Damaged as error:
        raise ValueError(error) from error


def _name_as(corpus: str, manifest: bytes) -> None:
    """Raises ValueError where the manifest is not that of the corpus in whose folder it lies."""
    if _manifest(manifest).name != corpus:
        raise ValueError("it is another corpus's")


def _manifest(content: bytes) -> Manifest:
    return msgspec.convert(read_object(content, "The manifest of a corpus", FORMAT_VERSION), Manifest)


def _add_run(store: RunStore, run_id: str, content: bytes, files: dict[str, bytes], report: Imported) -> None:
    before = store.get(run_id)
    kept = store.adopt(run_id, content, files)
    new = RunRecord.from_json(content, run_id, "done")
    if before is None and kept == new:
        report.added["runs"] += 1
    elif outcome(kept) == outcome(new):
        report.present["runs"] += 1
        _add_robustness(store, kept, new, report)
    else:
        differs = ", ".join(k for k, v in outcome(new).items() if outcome(kept)[k] != v)
        report.conflicts.append(f"run {run_id} is there with other {differs}: the present one is kept")


def _add_robustness(store: RunStore, kept: RunRecord, new: RunRecord, report: Imported) -> None:
    if kept.robust and new.robust and kept.robustness != new.robustness:
        report.conflicts.append(f"run {new.id} is there with other robustness: the present one is kept")
    elif kept.robust:
        report.present["robustness"] += new.robust
    elif new.robust and not store.add_robustness(new):
        report.added["robustness"] += 1


def outcome(record: RunRecord) -> dict[str, Any]:
    """What two runs of one spec must agree in; times, memory, device and commit may differ."""
    return {
        "weights": record.weights_sha256,
        "metrics": record.metrics,
        "validation loss": record.valid_loss,
        "best epoch": record.best_epoch,
    }


def _add_failure(store: RunStore, run_id: str, name: str, content: bytes, report: Imported) -> None:
    if store.has(run_id) or store.failed(run_id):
        report.present["failures"] += 1
    else:
        write_result(store, name, content)
        report.added["failures"] += 1


def _add_study(store: RunStore, study_id: str, kind: str, name: str, content: bytes, report: Imported) -> None:
    """A study grows (a winner, then more seeds): the longer one stays. A journal is added where there is none."""
    path = store.root / name
    if kind == "journal":
        if not path.exists():
            write_result(store, name, content)
        return
    new = read_study(content)
    present = next((s for s in load_studies(store) if s.id == study_id), None)
    if present is not None and _covers(present, new):
        report.present["studies"] += 1
    elif present is None or _covers(new, present):
        write_result(store, name, content)
        report.added["studies"] += 1
    else:
        report.conflicts.append(f"study {study_id} is there with another winner or other runs: the present one is kept")


def _covers(longer: Study, shorter: Study) -> bool:
    same_winner = longer.selected == shorter.selected
    return shorter.chosen is None or (same_winner and set(longer.runs) >= set(shorter.runs))


def _add_corpus(store: RunStore, corpus: str, name: str, content: bytes, report: Imported) -> None:
    """The same data may be told in two formats: the newer one stays, which knows runs by the older one's checksum."""
    path, new = store.root / name, _manifest(content)
    if not path.exists():
        write_result(store, name, content)
        report.added["corpora"] += 1
        return
    try:
        present = _manifest(read_inside(store.root, path))
    except (ValueError, OSError):
        report.conflicts.append(f"corpus {corpus} is there with a damaged manifest, which is kept")
        return
    if differs := _other_corpus(present, new):
        report.conflicts.append(f"corpus {corpus} is there with {differs}: the present manifest is kept")
        return
    report.present["corpora"] += 1
    if new.version > present.version:
        write_result(store, name, content)


def _other_corpus(present: Manifest, new: Manifest) -> str:
    """What makes `new` other data than `present`; "" where it is the same, whatever the formats of the manifests."""
    if present.files_sha256 != new.files_sha256:
        return "other data"
    read = [key for key in IDENTITY if key != "files" and getattr(present, key) != getattr(new, key)]
    return f"the same files, but other {' and '.join(map(_in_words, read))}" if read else ""


def _in_words(key: str) -> str:
    return {"aligned": "alignment", "own_glove": "word vectors", "label_range": "range of labels"}.get(key, key)
