"""From rows to runs: search each row, choose on validation, run the winner's seeds.

Validation chooses; the test split is measured in every run and read by tables only.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hycon.data.manifest import Manifest, corpus_folder
from hycon.errors import UserError
from studies.lookup import Profile, corpus_for, corpus_name
from studies.registry import MODELS
from studies.search.draws import draw, select
from studies.search.seeds import derive_seed
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies, remember_corpus, save_study
from studies.tables import Row, TableSpec

if TYPE_CHECKING:
    from studies.engines.options import Cluster
    from studies.engines.slots import Asked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setting:
    """What a command fixes for all rows of a table."""

    manifest: Manifest
    profile: Profile
    encoders: Mapping[str, dict[str, str]]  # "bert"/"xlnet" -> {"name", "sha256"}
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)  # --set


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


def trial_specs(row: Row, setting: Setting) -> tuple[Study, list[RunSpec]]:
    """The study of a row as planned, and the specs of its trials."""
    from studies.registry import search_space

    options = {**demo_options(row, setting), **setting.options}
    if setting.profile.epochs:
        options.setdefault("epochs", setting.profile.epochs)
    overrides = {**row.config, **options}
    space = search_space(row.model, row.text, overrides)
    axes = _axes(row, setting)
    draws = draw(space, setting.profile.trials, *axes, "search")
    specs = [_spec(row, setting, {**overrides, **d}, (*axes, "trial", i)) for i, d in enumerate(draws)]
    study = Study(
        model=row.model,
        text=row.text,
        corpus=setting.manifest.name,
        data=setting.manifest.sha256,
        row=dict(row.config),
        options=options,
        encoder=setting.encoders.get(row.text),
        device=setting.device,
        profile=setting.profile.name,
        draws=draws,
        trials=[spec.id for spec in specs],
        model_version=specs[0].version,
        number=row.study,
        space={name: list(choices) for name, choices in space.items()},
    )
    return study, specs


def repeat_specs(row: Row, setting: Setting, study: Study) -> list[RunSpec]:
    """The seeded runs of the study's winner."""
    assert study.selected is not None
    overrides = {**study.row, **study.options, **study.draws[study.selected]}
    axes = _axes(row, setting)
    return [_spec(row, setting, overrides, (*axes, "repeat", i)) for i in range(setting.profile.seeds)]


def _axes(row: Row, setting: Setting) -> tuple[object, ...]:
    """What the row's draws and seeds are derived from; the options are not among them, so variants share both."""
    axes = (row.model, setting.manifest.name, row.text)
    return (*axes, "study", row.study) if row.study else axes


def _spec(row: Row, setting: Setting, overrides: Mapping[str, Any], axes: Sequence[object]) -> RunSpec:
    from hycon.config import settings
    from studies.registry import model_module, resolve

    config, training = resolve(row.model, row.text, overrides)
    return RunSpec(
        model=row.model,
        version=model_module(row.model).VERSION,
        text=row.text,
        corpus=setting.manifest.name,
        data=setting.manifest.sha256,
        config=settings(config),
        training=dataclasses.asdict(training),
        seed=derive_seed(*axes),
        encoder=setting.encoders.get(row.text),
        device=setting.device,
    )


def demo_options(row: Row, setting: Setting) -> dict[str, Any]:
    """The demo profile's tiny, untrained encoders learn nothing at the paper's learning rate in five epochs."""
    if not setting.profile.demo:
        return {}
    from hycon.data.batch import form_of
    from studies.registry import model_module

    form = form_of(row.text)
    sizes = getattr(model_module(row.model), "DEMO", {}).get(form, {})
    return {**sizes, **({"lr": 1e-3} if form == "tokens" else {})}


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
    from studies.engines.run import run
    from studies.store.quarantine import set_aside_damaged

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
                preload=("torch", "studies.engines.preload", *modules({spec.text for spec in specs if spec.encoder})),
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
    from studies.engines.machine import check_devices
    from studies.engines.run import run

    check_devices(devices, here=executor not in ("ray", "slurm"))
    run([], store, executor=executor, workers=workers, devices=devices, time_limit=time_limit, slots=slots)


def run_rows(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    execute: Callable[[list[RunSpec]], Any],
) -> list[Study]:
    """Search every row, choose on validation, run the winners' seeds. execute: brings specs to an end.

    Safe to repeat: what is done is not done again. Returns a study per row, without winner where every trial failed.
    """
    planned = [(row, *trial_specs(row, setting)) for row in rows]
    remember_corpus(store, setting.manifest)
    known = {study.id for study in load_studies(store)}  # may have a winner already, which a table shows meanwhile
    for _, study, _ in planned:
        if study.id not in known:
            save_study(store, study)
    execute([spec for _, _, specs in planned for spec in specs])
    chosen = [(row, choose_winner(store, study, row, setting, specs)) for row, study, specs in planned]
    won = [(row, study) for row, study in chosen if study.selected is not None]
    execute([spec for row, study in won for spec in repeat_specs(row, setting, study)])
    return [study for _, study in chosen]


def choose_winner(store: RunStore, study: Study, row: Row, setting: Setting, specs: Sequence[RunSpec]) -> Study:
    """The study with its winner by validation loss (None where every trial failed), saved and entered in the ledger."""
    from studies.search.ledger import write_ledger

    records: dict[int, RunRecord | None] = {i: store.get(spec.id) for i, spec in enumerate(specs)}
    selected = select(records.items())
    study = dataclasses.replace(study, selected=selected)
    if selected is not None:
        study = dataclasses.replace(study, runs=[spec.id for spec in repeat_specs(row, setting, study)])
    save_study(store, study)
    write_ledger(store, study, [record.valid_loss if record else None for record in records.values()])
    return study


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
    from studies.engines.durations import duration, estimate

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
