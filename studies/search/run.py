"""From rows to runs: search each row, choose on validation, run the winner's seeds.

Validation chooses; the test split is measured in every run and read by tables only.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hycon.data.manifest import corpus_folder
from hycon.errors import UserError
from studies.registry import MODELS
from studies.search.draws import select
from studies.search.plan import Setting, built, repeat_specs, trial_specs
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies, remember_corpus, save_study
from studies.tables import Row

if TYPE_CHECKING:
    from studies.engines.backlog import Summary
    from studies.engines.options import How

log = logging.getLogger(__name__)


def run_table(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    how: How,
    progress: Callable[[list[RunSpec]], Any] | None = None,
) -> tuple[list[Study], list[tuple[RunSpec, str]]]:
    """Run the studies of `rows`; returns them, and the failed runs with their reasons.

    progress: specs -> context manager that takes events.  Raises UserError, before anything is written or run, where
    `check_table` does.
    """
    from studies.engines.run import run
    from studies.store.quarantine import set_aside_damaged

    check_table(rows, setting, how)
    store.leases.check()
    store.sweep()
    summaries: list[Summary] = []

    def execute(specs: list[RunSpec]) -> None:
        for sentence in set_aside_damaged(store, specs):
            log.warning("bench: %s", sentence)
        pending = [spec for spec in specs if not store.has(spec.id)]
        lowered = summaries[-1].lowered if summaries else None
        with progress(pending) if progress else nullcontext() as on_event:
            summaries.append(run(specs, store, how=how, on_event=on_event, lowered=lowered))
        _check_kept(store, specs)

    studies = run_rows(built(rows), setting, store, execute)
    return studies, [failed for summary in summaries for failed in summary.failed]


def _check_kept(store: RunStore, specs: Sequence[RunSpec]) -> None:
    """Raises UserError where runs that have ended are not in the store: a choice among the others would be wrong."""
    lost = [spec for spec in specs if not store.has(spec.id) and store.failed(spec.id) is None]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(specs)} runs that have ended are gone from {store.root}: was the folder deleted or "
            "replaced meanwhile? Issue the same command again."
        )


def check_table(rows: Sequence[Row], setting: Setting, how: How) -> None:
    """Raises UserError as `check_rows` does, and where executor or devices cannot do what is asked."""
    from studies.engines.run import check

    check(how, here=True)
    check_rows(rows, setting, how.data_root)


def check_rows(rows: Sequence[Row], setting: Setting, data: str | os.PathLike | None) -> None:
    """Raises UserError where the corpus is damaged or cannot serve a row, or a row's configurations cannot be built."""
    from hycon.data import load
    from studies.registry import check_buildable, resolve, unserved_because

    manifest = setting.manifest
    there = (corpus_folder(manifest.name, data) / "manifest.json").exists()  # not where a dry run made it up
    corpus = load(manifest.name, data) if there else None
    dims = {m: manifest.dims[m] for m in ("audio", "vision")}
    unserved: dict[str, list[str]] = {}  # reason -> rows
    for row in built(rows):
        if corpus and (reason := unserved_because(row.model, row.text, corpus, setting.encoders.get(row.text))):
            unserved.setdefault(reason, []).append(row.name)
    if unserved:
        why = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in unserved.items())
        raise UserError(f"Corpus {manifest.name!r} {why}. Name the rows to run with --rows.")
    for row in built(rows):
        study, _ = trial_specs(row, setting)
        configs = [resolve(row.model, row.text, {**study.row, **study.options, **draw})[0] for draw in study.draws]
        check_buildable(row.model, row.text, dims, len(manifest.emotions or ()), configs)


def run_rows(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    execute: Callable[[list[RunSpec]], Any],
) -> list[Study]:
    """Search every row, choose on validation, run the winners' seeds. execute: runs specs.

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
    """What a row still needs. seconds: of the runs of measured kinds.  unknown: how many runs are of other kinds."""

    row: str
    trials: int
    seeds: int
    seconds: float
    unknown: int
    text: str


def forecast(rows: Sequence[Row], setting: Setting, store: RunStore, how: How) -> list[Forecast]:
    """For --dry-run: the runs still to do, row by row, with times from the store's own records.

    Raises UserError where `check_table` does.
    """
    from studies.engines.history import History, duration

    check_table(rows, setting, how)
    history = History(store.records())
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
        guess = history.estimate([*pending, *[specs[0]] * seeds])
        text = "unknown: no run of its kind has been measured" if guess.unknown else duration(guess.seconds)
        found.append(Forecast(row.name, len(pending), seeds, guess.seconds, guess.unknown, text))
    return found
