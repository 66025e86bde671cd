"""`bench doctor`: what is wrong in a results folder, and repairing what is safe.

Safe means that no finished run is lost. Deleted are temporary files, stale leases and locks, and the note of an old
failure beside a finished run; everything damaged is moved to <results>/quarantine/, where it keeps its place. A run
moved there counts as not done, and the next `bench run` makes it again. Whatever a live process holds a lease on is
left alone, and so is every temporary file that is younger than a lease may be silent.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hycon.data.manifest import read_manifest
from hycon.errors import UserError
from hycon.saved import WEIGHTS, digest_in
from studies.aggregate.comparability import described, mixture
from studies.engines import queue
from studies.search.draws import select
from studies.search.plan import seed_of
from studies.store.inside import check_results, fit, read_inside, refuse_links
from studies.store.leases import TTL, Held
from studies.store.outputs import OUTPUTS
from studies.store.quarantine import damage, quarantine
from studies.store.recompute import other_choice, other_metrics
from studies.store.record import RunRecord
from studies.store.run_store import CURVE, DONE, FAILED, FOLDERS, LOG, PREDICTIONS, RunStore, checkpoint_epochs
from studies.store.soundness import unsound
from studies.store.study import Study, load_studies, read_study

RUN_FILES = (DONE, PREDICTIONS, OUTPUTS, WEIGHTS, FAILED, LOG, CURVE)
CHECKPOINT_FILES = re.compile(r"checkpoint\.json|checkpoint-\d+\.safetensors")
STUDY_FILES = re.compile(r"[0-9a-f]{16}\.(json|journal|journal\.guard)")  # guard: of earlier versions of this suite
LOCK = re.compile(r"[0-9a-f]{16}\.journal\.lock.*")  # Optuna's, on a journal that one of its tools writes
LOOKED_AT = 1000  # seeds of a study, chosen here: nobody runs more of a row
TEMPORARY = re.compile(r"\..*\.tmp|\.(probe|clock)-[0-9a-f]+")


@dataclass(frozen=True)
class Finding:
    """kind: temporary | damaged | predictions | metrics | weights | unfinished | failed | stray | journal | lock |
    study | mixed | lease | queue.

    path: below the results folder.  said: what is wrong, and what to do where `action` is None.
    action: what `--repair` does, delete | quarantine | release; None where a person has to decide.
    """

    kind: str
    path: str
    said: str
    action: str | None = None
    lease: Held | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "path": self.path, "said": self.said, "repair": self.action}


def examine(store: RunStore) -> list[Finding]:
    """All findings, in a fixed order. Reads every record and every file of predictions, of which it computes the
    metrics again. Raises UserError where the folder is not there, is no results folder, or cannot be read."""
    if not store.root.is_dir():
        raise UserError(f"{store.root} is not there: give a results folder with --results.")
    check_results(store.root)
    live, stale = store.leases.survey()
    findings = [
        Finding("lease", lease.label, f"of run {run_id}: its holder is dead or silent", "release", lease)
        for run_id, leases in stale.items()
        for lease in leases
    ]
    findings += _temporary(store, live)
    records: dict[str, RunRecord] = {}
    held = set(live)  # runs that studies may name
    for run_id in store.ids():
        if run_id not in live:
            findings += _run(store, run_id, records, held)
    findings += _numbers(store, records)
    findings += _studies(store, records, held, bool(live))
    findings += _corpora(store)
    findings += _queue(store)
    return findings


def repair(store: RunStore, findings: Sequence[Finding]) -> list[Finding]:
    """Repair what can be, and return the findings that remain. Raises UserError where the folder cannot be written."""
    live, _ = store.leases.survey()
    left = []
    for finding in findings:
        parts = Path(finding.path).parts
        busy = parts[0] == "runs" and parts[1] in live  # a `bench run` may have started meanwhile
        if finding.action is None or busy:
            left.append(finding)
            continue
        try:
            _mend(store, finding)
        except OSError as error:
            raise UserError(f"Cannot repair {finding.path} in {store.root}: {error.strerror or error}.") from error
    return left


def _mend(store: RunStore, finding: Finding) -> None:
    path = store.root / finding.path
    refuse_links(store.root, path.parent)
    if finding.action == "release" and finding.lease is not None:
        finding.lease.release()
    elif finding.action == "delete":
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # no longer empty: somebody has begun to use it
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    elif finding.action == "quarantine" and os.path.lexists(path):
        quarantine(store.root, finding.path)


# ------------------------------------------------------------------------------------------------- files


def _below(store: RunStore, path: Path) -> str:
    return path.relative_to(store.root).as_posix()


def _temporary(store: RunStore, live: set[str]) -> Iterator[Finding]:
    folders = [store.root / part for part in ("", *FOLDERS)]
    folders += [store.folder(run_id) for run_id in store.ids() if run_id not in live]
    folders += sorted((store.root / "corpora").glob("*/"))
    for folder in (one for one in folders if one == store.root or fit(store.root, one)):
        for path in sorted(folder.glob(".*")):
            if TEMPORARY.fullmatch(path.name) and _old(path):
                yield Finding("temporary", _below(store, path), "left by a process that was killed", "delete")


def _old(path: Path) -> bool:
    """Older than a lease may be silent, by this machine's clock; what vanished meanwhile is no finding."""
    try:
        return time.time() - path.lstat().st_mtime > TTL
    except OSError:
        return False


def _run(store: RunStore, run_id: str, records: dict[str, RunRecord], held: set[str]) -> Iterator[Finding]:
    """Findings on one run's folder. A readable record is put into `records`; that or a failure, into `held`."""
    folder = store.folder(run_id)
    name = _below(store, folder)
    if folder.is_symlink():
        yield Finding("damaged", name, "a link, which is not followed", "quarantine")
        return
    if not folder.is_dir():
        yield Finding("stray", name, "no run's folder: move it elsewhere")
        return
    try:
        record = store.get(run_id)
        broken = None if record else store.damage(run_id)
        failed = None if record or broken else store.failed(run_id)
    except UserError as error:  # of a newer version
        held.add(run_id)
        yield Finding("damaged", name, str(error))
        return
    there = sorted(path.name for path in folder.iterdir())
    if record is not None:
        records[run_id] = record
        if FAILED in there:
            yield Finding("stray", f"{name}/{FAILED}", "an old failure of a run that is done now", "delete")
        for left in filter(CHECKPOINT_FILES.fullmatch, there):
            yield Finding("stray", f"{name}/{left}", "a checkpoint of a run that is done now", "delete")
        if WEIGHTS in there and digest_in(folder / WEIGHTS) != record.weights_sha256:
            said = "not the weights of its record: `bench train` makes them again"
            yield Finding("weights", f"{name}/{WEIGHTS}", said, "delete")
    elif broken is not None:
        yield Finding("damaged", name, f"{broken.path.name} cannot be read ({broken.reason})", "quarantine")
        return
    elif failed is not None:
        times = f"{failed.attempts} time{'s' if failed.attempts != 1 else ''}"
        yield Finding("failed", name, f"failed {times}: {failed.reason}; `bench run` tries it again")
    elif epochs := checkpoint_epochs(store, run_id):
        if _old(folder):
            said = f"no record, but a checkpoint after epoch {epochs}: the next `bench run` goes on from it"
            yield Finding("unfinished", name, said)
    elif _old(folder):
        what = ", ".join(there) or "empty"
        yield Finding("unfinished", name, f"no record ({what})", "quarantine" if there else "delete")
        return
    if record or failed:
        held.add(run_id)
    for other in there:
        known = CHECKPOINT_FILES.fullmatch(other) or TEMPORARY.fullmatch(other)
        if other not in RUN_FILES and not known:
            yield Finding("stray", f"{name}/{other}", "no file of the suite: move it elsewhere")


def _numbers(store: RunStore, records: dict[str, RunRecord]) -> Iterator[Finding]:
    """A published folder may keep no predictions at all, which is no damage; a single file that is missing is."""
    wrong = {run_id: said for run_id, record in records.items() if (said := other_choice(record))}
    for run_id, said in wrong.items():
        yield Finding("metrics", f"runs/{run_id}", said, "quarantine")
    named = [run_id for run_id, record in records.items() if record.predictions is not None and run_id not in wrong]
    kept = {run_id for run_id in named if store.has_predictions(run_id) or store.has_outputs(run_id)}
    for run_id in named:
        if kept and run_id not in kept:
            yield Finding("predictions", f"runs/{run_id}", "gone: delete the folder to have the run made again")
        elif found := damage(store, run_id):
            yield Finding("predictions", f"runs/{run_id}", found.reason, "quarantine")
        elif store.has_predictions(run_id) and (other := other_metrics(records[run_id], store.predictions(run_id))):
            yield Finding("metrics", f"runs/{run_id}", other, "quarantine")


# ------------------------------------------------------------------------------------------------- studies


def _studies(store: RunStore, records: dict[str, RunRecord], held: set[str], busy: bool) -> Iterator[Finding]:
    folder = store.root / "studies"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = _below(store, path)
        if TEMPORARY.fullmatch(path.name):
            continue
        if LOCK.fullmatch(path.name):
            if _old(path):
                yield Finding("lock", name, "of a process that was killed while it wrote the journal", "delete")
        elif path.name.endswith((".torn", ".old")):
            yield Finding("journal", name, "set aside by an earlier version of `bench run`", "quarantine")
        elif not STUDY_FILES.fullmatch(path.name):
            yield Finding("stray", name, "no file of the suite: move it elsewhere")
        elif path.suffix == ".journal" and not _whole(store.root, path):
            yield Finding("journal", name, "torn: Optuna cannot read past it; `bench run` writes it anew", "quarantine")
        elif path.suffix == ".json":
            yield from _study(store, path, records, held, busy)


def _whole(root: Path, journal: Path) -> bool:
    """False where a line is torn: Optuna does not read past it."""
    try:
        content = read_inside(root, journal)
        return content[-1:] in (b"", b"\n") and all(json.loads(line) for line in content.splitlines())
    except (ValueError, RecursionError, OSError):
        return False


def _study(store: RunStore, path: Path, records: dict[str, RunRecord], held: set[str], busy: bool) -> Iterator[Finding]:
    name = _below(store, path)
    try:
        study = read_study(read_inside(store.root, path))
    except UserError as error:
        yield Finding("study", name, str(error))
        return
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        yield Finding("study", name, f"damaged ({reason}); `bench run` writes it anew", "quarantine")
        return
    if study.id != path.stem:
        yield Finding("study", name, f"holds study {study.id}", "quarantine")
        return
    what = f"{study.model}-{study.text} on {study.corpus}"
    if why := unsound(study, lambda run: records[run].spec if run in records else None):
        yield Finding("study", name, f"{what}: not sound ({why}); `bench run` writes it anew", "quarantine")
        return
    odd = (*_contradictions(study, records, held, busy), *_left_out(store, study, records), *_picked(study, records))
    for sentence in odd:
        yield Finding("study", name, f"{what}: {sentence}")
    if mixed := mixture(records[run] for run in study.runs if run in records):
        yield Finding("mixed", name, f"{what}: not averaged without --mixed: {described(mixed)}")


def _contradictions(study: Study, records: dict[str, RunRecord], held: set[str], busy: bool) -> Iterator[str]:
    """Where a study and the runs in the store disagree. busy: a command is running, which may be making the runs."""
    if study.selected is None:
        return
    gone = [trial for trial in study.trials if trial not in held]
    if gone:
        some = ", ".join(trial[:8] for trial in gone[:3])
        yield f"{len(gone)} of {len(study.trials)} trials are gone ({some}); `bench run` makes them again"
    best = select((i, records.get(trial)) for i, trial in enumerate(study.trials))
    if not gone and best is not None and best != study.selected:
        lower = f"trial {best} has the lower validation loss, but trial {study.selected} was selected"
        yield f"{lower}; `bench run` selects again"
    missing = sum(run not in held for run in study.runs)
    if 0 < missing < len(study.runs) and not busy:
        yield f"{missing} of {len(study.runs)} seeded runs are gone or to do"


def _left_out(store: RunStore, study: Study, records: dict[str, RunRecord]) -> Iterator[str]:
    """Seeded runs of the winner that no study names, as when somebody took the worst ones out of the file."""
    like = records.get((study.winner if study.searched else next(iter(study.runs), None)) or "")
    if like is None:
        return
    of_winner = {run for run, found in records.items() if replace(found.spec, seed=like.spec.seed).id == like.id}
    if left := of_winner - {study.winner, *study.runs}:
        left -= {run for other in load_studies(store) for run in (*other.trials, *other.runs)}
    if left:
        first = f"{min(left)[:8]}{', ...' if len(left) > 1 else ''}"
        yield f"{len(left)} finished runs of its winner are named by no study ({first}); `bench run` adds them again"


def _picked(study: Study, records: dict[str, RunRecord]) -> Iterator[str]:
    """Trials or seeded runs between which others were left out, and deleted: a seed follows from its number."""
    trials = study.trials if study.searched else []  # a variant's is its intact row's winner
    for name, what, ids in (("trial", "trial", trials), ("seeded run", "repeat", study.runs)):
        for place, run in enumerate(ids):
            number = _number(study, what, place, records[run].spec.seed) if run in records else place
            if number != place:
                yield f"its {name} {place + 1} is number {number + 1} by its seed ({run[:8]}): others were left out"
                break


def _number(study: Study, what: str, place: int, seed: int) -> int:
    """Which of a study's seeds it is, counted from 0; `place`, where it is expected, also where it is none of them."""
    if seed == seed_of(study, what, place):
        return place
    return next((number for number in range(LOOKED_AT) if seed_of(study, what, number) == seed), place)


def _corpora(store: RunStore) -> Iterator[Finding]:
    for path in sorted((store.root / "corpora").glob("*/manifest.json")):
        if not fit(store.root, path):
            below = path.parent if path.parent.is_symlink() else path
            yield Finding("damaged", _below(store, below), "a link, no regular file, or too large", "quarantine")
            continue
        try:
            read_manifest(path.parent.name, store.root / "corpora")
        except UserError as error:
            yield Finding("damaged", _below(store, path), str(error), "quarantine")


def _queue(store: RunStore) -> Iterator[Finding]:
    """What still waits is no finding: a driver or a `bench worker` may come to it any time."""
    for run_id in sorted(queue.waiting(store)):
        name = f"{queue.FOLDER}/{run_id}.json"
        entry = queue.read(store, run_id)
        if entry is None and queue.wanted(store, run_id):
            yield Finding("queue", name, "cannot be read; `bench run` publishes it anew", "quarantine")
        elif entry is not None and queue.ended(store, entry):
            yield Finding("queue", name, "of a run that has ended; its driver was killed", "delete")
