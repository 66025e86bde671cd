"""What the commands do, without parsing or printing: each function is a command's body, usable from a notebook too."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.data.corpus import Manifest, corpus_folder, existing_folder, read_manifest
from hycon.errors import UserError, nearest
from studies.plan import PROFILES, Profile, Setting, Study, load_studies, run_rows, trial_specs
from studies.registry import MODELS
from studies.runs import RunSpec
from studies.store import RunStore
from studies.tables import TABLES, Row, TableSpec, with_studies

if TYPE_CHECKING:
    from studies.cluster import Cluster
    from studies.slots import Asked

log = logging.getLogger(__name__)

DEMO_CORPORA = {"sentiment": "synthetic", "emotion": "synthetic_emotions"}  # task -> name


def results_root(root: str | os.PathLike | None = None) -> Path:
    """Where runs live: the argument, else $BENCH_RESULTS, else ./results."""
    root = Path(root or os.environ.get("BENCH_RESULTS") or "results")
    return existing_folder(root, "a results folder (--results or BENCH_RESULTS)")


def table_spec(name: str, studies: int | None = None) -> TableSpec:
    """The table of that name. studies: how often each row is searched, in a table that repeats searches."""
    if name not in TABLES:
        raise UserError(f"Unknown table {name!r}; nearest: {nearest(name, TABLES)}.")
    table = TABLES[name]
    if studies is None or studies == table.studies:
        return table
    if table.studies == 1:
        repeating = ", ".join(t.name for t in TABLES.values() if t.studies > 1)
        raise UserError(f"--studies is {studies}, but {name} has one search a row; tables that repeat it: {repeating}.")
    if studies < 2:
        raise UserError(f"--studies is {studies}; expected at least 2: one search has no spread.")
    return with_studies(table, studies)


def profile_of(name: str, **changes: Any) -> Profile:
    """A named profile with trials, seeds or epochs replaced where given."""
    if name not in PROFILES:
        raise UserError(f"Unknown profile {name!r}; nearest: {nearest(name, PROFILES)}.")
    for key, value in changes.items():
        if value is not None and value < 1:
            raise UserError(f"--{key} is {value}; expected at least 1.")
    return dataclasses.replace(PROFILES[name], **{k: v for k, v in changes.items() if v is not None})


def pick_rows(table: TableSpec, names: Sequence[str] | None) -> list[Row]:
    """The rows of a table by the paper's names (case does not matter), all of them by default."""
    by_name = {row.name.lower(): row for row in table.rows}
    if names is None:
        return list(table.rows)
    names = [name.strip() for name in names]
    for name in names:
        if name.lower() not in by_name:
            known = [row.name for row in table.rows]
            raise UserError(f"{table.name} has no row {name!r}; nearest: {nearest(name, known)}.")
    return [by_name[name.lower()] for name in dict.fromkeys(names)]


def corpus_for(name: str, data: str | os.PathLike | None, keep: bool = True) -> Manifest:
    """The manifest of a corpus; a demo corpus is made where it is missing (and with keep=False thrown away again)."""
    if name not in DEMO_CORPORA.values() or (corpus_folder(name, data) / "manifest.json").exists():
        return read_manifest(name, data)
    from tempfile import TemporaryDirectory

    from hycon.data.synthetic import synthesize

    emotions = name == DEMO_CORPORA["emotion"]
    if keep:
        return synthesize(name, data, emotions=emotions)
    with TemporaryDirectory() as scratch:
        return synthesize(name, scratch, emotions=emotions)


def task_of(corpus: str | None, data: str | os.PathLike | None) -> str:
    """What the labels of the corpus are that was asked for; sentiment where none was."""
    for task, name in DEMO_CORPORA.items():
        if corpus == name:
            return task
    return read_manifest(corpus, data).task if corpus else "sentiment"


def corpus_name(table: TableSpec, profile: Profile | None, corpus: str | None) -> str:
    """The corpus that was asked for, or the profile's for this kind of table, or the paper's."""
    demo = DEMO_CORPORA[table.task] if profile and profile.demo else None
    return corpus or demo or table.corpus


def setting_for(
    table: TableSpec,
    rows: Sequence[Row],
    profile: Profile,
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    encoders: Mapping[str, str] | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    keep: bool = True,
) -> Setting:
    """What a command fixes for all rows. encoders: front-end -> name or folder; only those that rows need are read.

    keep: whether a demo corpus that has to be made stays in the data folder.
    """
    from hycon.pretrained import DEFAULT, identify

    manifest = corpus_for(corpus_name(table, profile, corpus), data, keep)
    if manifest.task != table.task:
        raise UserError(
            f"{table.name} is about {table.task}s; the labels of corpus {manifest.name} are {manifest.task}s."
        )
    names = {**DEFAULT, **profile.encoders, **(encoders or {})}
    needed = {row.text for row in rows if row.model in MODELS} & set(DEFAULT)
    identified = {kind: identify(kind, names[kind]) for kind in sorted(needed)}
    return Setting(manifest, profile, identified, device.split(":")[0], dict(options or {}))


def built(rows: Sequence[Row]) -> list[Row]:
    """The rows whose model exists."""
    return [row for row in rows if row.model in MODELS]


def run_table(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    *,
    data: str | os.PathLike | None = None,
    executor: str = "local",
    workers: int = 1,
    devices: Sequence[str] = ("cpu",),
    time_limit: float | None = None,
    progress: Callable[[list[RunSpec]], Any] | None = None,
    cluster: Cluster | None = None,
    slots: Asked | None = None,
) -> tuple[list[Study], list[tuple[RunSpec, str]]]:
    """Run the studies of `rows`; returns them, and the failed runs with their reasons.

    progress: specs -> context manager that takes events.  Raises UserError before anything is written or run where
    devices or executor do not exist.
    """
    from contextlib import nullcontext

    from hycon.pretrained import modules
    from studies.executors import run
    from studies.quarantine import set_aside_damaged

    check_machines(store, executor, workers, devices, time_limit, slots)
    check_rows(rows, setting, data)
    store.leases.check()
    store.sweep()
    failed: list[tuple[RunSpec, str]] = []
    lowered: dict[str, int] = {}

    def execute(specs: list[RunSpec]) -> None:
        for sentence in set_aside_damaged(store, specs):
            log.warning("bench: %s", sentence)
        pending = [spec for spec in specs if not store.has(spec.id)]
        with progress(pending) if progress else nullcontext() as on_event:
            summary = run(
                specs,
                store,
                executor=executor,
                workers=workers,
                devices=devices,
                data_root=data,
                time_limit=time_limit,
                on_event=on_event,
                preload=("torch", "studies.preload", *modules({spec.text for spec in specs if spec.encoder})),
                cluster=cluster,
                slots=slots,
                lowered=lowered,
            )
        failed.extend(summary.failed)
        _check_kept(store, specs)

    return run_rows(built(rows), setting, store, execute), failed


def _check_kept(store: RunStore, specs: Sequence[RunSpec]) -> None:
    """Raises UserError where runs that have ended are not in the store: a choice among the others would be wrong."""
    lost = [spec for spec in specs if not store.has(spec.id) and store.failed(spec.id) is None]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(specs)} runs that have ended are gone from {store.root}: was the folder deleted or "
            "replaced meanwhile? Issue the same command again."
        )


def check_rows(rows: Sequence[Row], setting: Setting, data: str | os.PathLike | None) -> None:
    """Raises UserError, before anything is written, where the corpus is damaged or cannot serve a row, or where a
    row's configurations cannot be built."""
    from hycon.data import load
    from studies.registry import check_buildable, resolve, unserved_because

    manifest = setting.manifest
    there = (corpus_folder(manifest.name, data) / "manifest.json").exists()  # not where a dry run made it up
    corpus = load(manifest.name, data) if there else None
    dims = {m: manifest.dims[m] for m in ("audio", "vision")}
    unserved: dict[str, list[str]] = {}  # reason -> rows
    for row in built(rows):
        if corpus and (reason := unserved_because(row.model, row.text, corpus)):
            unserved.setdefault(reason, []).append(row.name)
    if unserved:
        said = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in unserved.items())
        raise UserError(f"Corpus {manifest.name!r} {said}. Name the rows to run with --rows.")
    for row in built(rows):
        study, _ = trial_specs(row, setting)
        configs = [resolve(row.model, row.text, {**study.row, **study.options, **draw})[0] for draw in study.draws]
        check_buildable(row.model, row.text, dims, len(manifest.emotions or ()), configs)


def check_machines(
    store: RunStore,
    executor: str,
    workers: int,
    devices: Sequence[str],
    time_limit: float | None = None,
    slots: Asked | None = None,
) -> None:
    """Raises UserError where there is no such executor or device, or where it has no time limit or slots."""
    from studies.executors import run

    check_devices(devices, here=executor not in ("ray", "slurm"))
    run([], store, executor=executor, workers=workers, devices=devices, time_limit=time_limit, slots=slots)


def check_devices(devices: Sequence[str], here: bool = True) -> None:
    """Raises UserError for what is no device's name, and (here) for one that this machine does not have."""
    for device in devices:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise UserError(f"Unknown device {device!r}; expected cpu, or a list such as cuda:0,cuda:1.")
    wanted = [int(device.partition(":")[2] or 0) for device in devices if device != "cpu"]
    if wanted and here:
        import torch

        if max(wanted) >= torch.cuda.device_count():
            raise UserError(
                f"Device cuda:{max(wanted)} was asked for, but PyTorch finds {torch.cuda.device_count()} GPUs."
            )


@dataclass(frozen=True)
class Forecast:
    """What a row still needs. seconds: of the runs that have a measured like.  unknown: how many have none."""

    row: str
    trials: int
    seeds: int
    seconds: float
    unknown: int
    text: str


def forecast(rows: Sequence[Row], setting: Setting, store: RunStore) -> list[Forecast]:
    """For --dry-run: the runs still to do, row by row, with times from the store's own records."""
    from studies.progress import duration, estimate

    records = list(store.records())
    known = {study.id: study for study in load_studies(store)}
    found = []
    for row in rows:
        if row.model not in MODELS:
            found.append(Forecast(row.name, 0, 0, 0.0, 0, "not built yet"))
            continue
        study, specs = trial_specs(row, setting)
        pending = [spec for spec in specs if not store.has(spec.id)]
        runs = known[study.id].runs[: setting.profile.seeds] if study.id in known else []
        seeds = setting.profile.seeds - sum(store.has(run) for run in runs)
        guess = estimate([*pending, *[specs[0]] * seeds], records)
        text = "unknown: nothing like it was run yet" if guess.unknown else duration(guess.seconds)
        found.append(Forecast(row.name, len(pending), seeds, guess.seconds, guess.unknown, text))
    return found
