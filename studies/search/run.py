"""From rows to runs: search each row that has a search, choose on validation, run the seeds of every row.

Validation chooses; the test split is measured in every run and read by tables only.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError
from hycon.source import said
from studies.registry import MODELS, changed_code
from studies.search.check import check_table
from studies.search.draws import select
from studies.search.growth import grown, planned_search, said_of_fewer, stored_studies
from studies.search.parts import Part, seeds_of, together, trials_of
from studies.search.plan import (
    Setting,
    built,
    expected,
    following,
    follows,
    measurement,
    repeat_specs,
    searched_rows,
)
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, find_study, remember_corpus, remember_model, save_study
from studies.tables import Row

if TYPE_CHECKING:
    from studies.engines.backlog import Summary
    from studies.engines.options import How
    from studies.engines.progress import Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a table's runs. done: how many now, here or elsewhere; skipped: how many were done before."""

    studies: list[Study]
    failed: list[tuple[RunSpec, str]]
    done: int = 0
    skipped: int = 0


def run_table(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    how: How,
    progress: Progress | None = None,
    robust: bool = False,
) -> Outcome:
    """Run the studies of `rows`. progress: is told what is to do, and every event.  robust: the seeded runs are
    measured for robustness, too; those that are done and were not are trained again for it.

    What is stored of a row stays: where less of it is asked for, that is logged and nothing is run for it.
    Raises UserError, before anything is written or run, where `check_table` does.
    """
    from studies.engines.run import run
    from studies.search import again
    from studies.store.quarantine import set_aside_damaged

    check_table(rows, setting, how)
    how = timed_alone(rows, how)
    store.leases.check()
    store.sweep()
    summaries: list[Summary] = []
    told: set[str] = set()

    def execute(specs: list[RunSpec], how: How = how, keep_weights: bool = False) -> None:
        tell_changed(store, specs, told)
        for sentence in set_aside_damaged(store, specs):
            log.warning("bench: %s", sentence)
        lowered = summaries[-1].lowered if summaries else None
        summaries.append(run(specs, store, how=how, keep_weights=keep_weights, on_event=progress, lowered=lowered))
        _check_kept(store, specs)

    def execute_seeded(specs: list[RunSpec]) -> None:
        if not robust:
            return execute(specs, how, how.keep_weights)
        lacking = again.to_measure(store, specs)
        execute([spec for spec in specs if spec not in lacking], again.measured_by(how), how.keep_weights)
        summaries.append(again.measure(store, again.to_measure(store, specs), how, progress))

    def announce(part: Part) -> None:
        if progress:
            progress.expect(to_do(part.specs, store, part.seeded if robust else ()), part.names, part.doing)

    for sentence in said_of_fewer(built(rows), setting, stored_studies(store), store):
        log.warning("bench: %s", sentence)
    studies = run_rows(built(rows), setting, store, execute, announce, execute_seeded)
    return Outcome(
        studies,
        [failed for summary in summaries for failed in summary.failed],
        done=sum(len(summary.done) for summary in summaries),
        skipped=sum(len(summary.skipped) for summary in summaries),
    )


def timed_alone(rows: Sequence[Row], how: How) -> How:
    """What is timed has the machine for itself: one job at a time, and one run at a time in it."""
    if not any(row.measured for row in rows):
        return how
    return dataclasses.replace(how, workers=1, slots=how.slots and 1, cluster=dataclasses.replace(how.cluster, slots=1))


def tell_changed(store: RunStore, specs: Iterable[RunSpec], told: set[str]) -> None:
    """Warn, once in a command, of runs that are done already and were made by other code under the same VERSION."""
    done = [record for spec in specs if (record := store.get(spec.id))]
    files = changed_code(done)
    models: dict[str, list[str]] = {}
    for record in done:
        names = models.setdefault(record.spec.model, [])
        names += [name for name in files.get(record.id, ()) if name not in names]
    which = said(models, "all models")
    if which and which not in told:
        told.add(which)
        log.warning(
            "bench: stored runs that are used again were made by other code, and no VERSION was raised since: %s; if "
            "the change moves numbers, raise VERSION in the model's file, and they are made anew.",
            which,
        )


def _check_kept(store: RunStore, specs: Sequence[RunSpec]) -> None:
    """Raises UserError where runs that have ended are not in the store: a choice among the others would be wrong."""
    lost = [spec for spec in specs if not store.has(spec.id) and store.failed(spec.id) is None]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(specs)} runs that have ended are gone from {store.root}: was the folder deleted or "
            "replaced meanwhile? Issue the same command again."
        )


def run_rows(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    execute: Callable[[list[RunSpec]], Any],
    announce: Callable[[Part], Any] = lambda part: None,
    execute_seeded: Callable[[list[RunSpec]], Any] | None = None,
) -> list[Study]:
    """Search every row that has a search, choose on validation, run the seeds of `rows`. execute: runs specs.
    execute_seeded: those of the seeded runs, where it is another.

    announce: is told of each part what is to do from there on. While winners are unknown, the seeded runs of each
    search's first draw stand for theirs.

    Safe to repeat: what is done is not done again. Returns the studies of `rows` and those that they follow; one
    whose trials all failed is without winner, and rows that follow it have no study.
    """
    stored = stored_studies(store)
    planned = [(row, *planned_search(row, setting, stored)) for row in searched_rows(rows, setting)]
    remember_corpus(store, setting.manifest)
    for file in {row.model: file for row in rows if (file := MODELS[row.model].file)}.values():
        remember_model(store, file)
    for _, study, _ in planned:
        if find_study(store, study.id) is None:  # else it may have a winner already, which a table shows meanwhile
            save_study(store, study)
    if trials := [spec for _, _, specs in planned for spec in specs]:
        searches = {row.key: find_study(store, study.id) or study for row, study, _ in planned}
        seeds = [seeds_of(row, _seeded(row, setting, searches, stored, store)) for row in rows]
        announce(together("search", [*(trials_of(row, specs) for row, _, specs in planned), *seeds]))
        execute(trials)
    found = {
        row.key: choose_winner(store, study, row, setting, specs) if specs else study for row, study, specs in planned
    }
    for row in rows:
        intact = follows(row, setting)
        if row.measured:
            found[row.key] = measurement(row, setting)
        elif intact and found[intact.key].selected is not None:
            found[row.key] = following(row, setting, found[intact.key])
    ready = [row for row in rows if row.key in found and found[row.key].chosen is not None]
    seeded = {
        row.key: repeat_specs(row, grown(setting, found[row.key], stored, store), found[row.key]) for row in ready
    }
    for key, specs in seeded.items():
        found[key] = keep_study(store, dataclasses.replace(found[key], runs=[spec.id for spec in specs]))
    announce(together("seeds", [seeds_of(row, seeded[row.key]) for row in ready]))
    (execute_seeded or execute)([spec for row in ready for spec in seeded[row.key]])
    for key in seeded:
        found[key] = keep_study(store, found[key], ended=True)
    return list(found.values())


def choose_winner(store: RunStore, study: Study, row: Row, setting: Setting, specs: Sequence[RunSpec]) -> Study:
    """The study with its winner by validation loss (None where every trial failed), saved and entered in the ledger."""
    from studies.search.ledger import write_ledger

    records: dict[int, RunRecord | None] = {i: store.get(spec.id) for i, spec in enumerate(specs)}
    selected = select(records.items())
    study = dataclasses.replace(study, selected=selected)
    if selected is not None:
        study = dataclasses.replace(study, runs=[spec.id for spec in repeat_specs(row, setting, study)])
    study = keep_study(store, study)
    write_ledger(store, study, [record.valid_loss if record else None for record in records.values()])
    return study


def keep_study(store: RunStore, study: Study, *, ended: bool = False) -> Study:
    """The study as saved: it only grows. Further seeded runs of the same winner that an earlier command asked for stay
    in it. A winner that has changed (a failed trial was tried again) is saved when its seeded runs have `ended`."""
    before = find_study(store, study.id)
    if before is None:
        save_study(store, study)
        return study
    study = dataclasses.replace(study, profile=before.profile)
    if study.runs and before.runs[: len(study.runs)] == study.runs:
        study = dataclasses.replace(study, runs=before.runs)
    if ended or study.winner == before.winner or not any(map(store.has, before.runs)):
        save_study(store, study)
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


def to_do(specs: Iterable[RunSpec], store: RunStore, robust: Collection[str] = ()) -> list[RunSpec]:
    """The runs that are not done. robust: ids of runs that are done only once their robustness is measured."""
    records = ((spec, store.get(spec.id)) for spec in specs)
    return [spec for spec, record in records if record is None or (spec.id in robust and not record.robust)]


def forecast(rows: Sequence[Row], setting: Setting, store: RunStore, how: How, robust: bool = False) -> list[Forecast]:
    """For --dry-run: the runs still to do, row by row, with times from the store's own records. A search that `rows`
    need of a row that is not among them has a line of its own, before theirs.  robust: as for `run_table`.

    Raises UserError where `check_table` does.
    """
    from studies.engines.history import History, duration

    check_table(rows, setting, how)
    history, stored = History(store.records()), stored_studies(store)
    asked = {row.key for row in rows}
    searched = searched_rows(built(rows), setting)
    planned = {row.key: planned_search(row, setting, stored) for row in searched}
    searches = {key: find_study(store, study.id) or study for key, (study, _) in planned.items()}
    found: list[Forecast] = []
    specs: list[RunSpec] = []
    for row in (*(row for row in searched if row.key not in asked), *rows):
        if row.model not in MODELS:
            found.append(Forecast(row.name, 0, 0, 0.0, 0, "not built yet"))
            continue
        pending = [spec for spec in planned[row.key][1] if not store.has(spec.id)] if row.key in planned else []
        seeded = _seeded(row, setting, searches, stored, store) if row.key in asked else []
        left = to_do(seeded, store, {spec.id for spec in seeded} if robust else ())
        specs += [*(planned[row.key][1] if row.key in planned else []), *seeded]
        guess = history.estimate([*pending, *left])
        known = f"about {duration(guess.seconds)}" if pending or left else ""
        text = "unknown" if guess.unknown else known
        found.append(Forecast(row.name, len(pending), len(left), guess.seconds, guess.unknown, text))
    tell_changed(store, specs, set())
    return found


def _seeded(
    row: Row, setting: Setting, searches: Mapping[tuple, Study], stored: Sequence[Study], store: RunStore
) -> list[RunSpec]:
    """The seeded runs of a row, as far as `expected` knows them. searches: row key -> the study."""
    study = expected(row, setting, searches.get((follows(row, setting) or row).key))
    return repeat_specs(row, grown(setting, study, stored, store), study)
