"""What a report is about: a results folder, read once, and which corpus, profile and encoders of it are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hycon.busy import counted
from hycon.data.manifest import Manifest
from studies.aggregate.cells import TableResult
from studies.aggregate.table import table_result
from studies.authors.rows import own_tables
from studies.lookup import DEFAULT_VIEW, View, held_view, known_manifest, manifest_of, may_stand_for
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.store.study import Study
from studies.tables import TABLES, Row


@dataclass(frozen=True)
class Use:
    """A study that fills rows. row: the first.  rows: "table1 HyCon-BERT", ...  trials, runs: finished ones, without
    the trial of a row that took another's winner.  failures: of either."""

    study: Study
    row: Row
    rows: tuple[str, ...]
    trials: tuple[RunRecord, ...]
    runs: tuple[RunRecord, ...]
    failures: tuple[RunRecord, ...]

    @property
    def done(self) -> tuple[RunRecord, ...]:
        """All finished runs, each once."""
        return tuple({record.id: record for record in (*self.trials, *self.runs)}.values())


@dataclass(frozen=True)
class Scope:
    """view: its corpus and profile as given, or as found to be all that the folder holds.  results: a filled table per
    name.  uses: the studies behind them, each once.  unshown: studies of the folder that fill no row here."""

    store: RunStore
    view: View
    results: Mapping[str, TableResult]
    uses: tuple[Use, ...]
    unshown: tuple[Study, ...] = ()
    manifests: Mapping[str, Manifest] = field(default_factory=dict)

    @property
    def records(self) -> list[RunRecord]:
        """The finished runs of all studies in use, each once, by the time of their start."""
        found = {record.id: record for use in self.uses for record in use.done}
        return sorted(found.values(), key=lambda record: (record.started or "", record.id))


def read_scope(store: RunStore, view: View = DEFAULT_VIEW) -> Scope:
    """Read all tables. Raises UserError for a corpus that neither the data nor the results know."""
    studies = sound_studies(store)
    by_id = {study.id: study for study in studies}
    view, _ = held_view(view, TABLES.values(), studies, store.root)
    task = manifest_of(view.corpus, view.data, store.root).task if view.corpus else None
    results: dict[str, TableResult] = {}
    found: dict[str, tuple[Study, Row, list[str]]] = {}
    for table in counted((*TABLES.values(), *own_tables()), "table"):
        own = view.corpus if view.corpus and table.task == task and may_stand_for(view.corpus, table.corpus) else None
        shown = replace(view, corpus=own)
        manifest = manifest_of(shown.corpus_of(table), view.data, store.root)
        filled = table_result(table, store, shown, studies=studies, manifest=manifest)
        if table.robust and not any(record.robust for row in filled.rows for record in row.records):
            continue  # Table 1's runs, of which nothing more is known
        results[table.name] = filled
        for row in filled.rows:
            if row.study:
                used = found.setdefault(row.study, (by_id[row.study], row.row, []))
                used[2].append(f"{table.name} {row.row.name}")
    uses = tuple(_use(store, study, row, names) for study, row, names in found.values())
    unshown = tuple(study for study in studies if study.id not in found)
    corpora = sorted({use.study.corpus for use in uses})
    manifests = {name: m for name in corpora if (m := known_manifest(name, view.data, store.root))}
    return Scope(store, view, results, uses, unshown, manifests)


def _use(store: RunStore, study: Study, row: Row, rows: Sequence[str]) -> Use:
    tried = study.trials if study.searched else []
    trials = tuple(record for run in tried if (record := store.get(run)))
    runs = tuple(record for run in study.runs if (record := store.get(run)))
    failures = tuple(failed for run in (*tried, *study.runs) if (failed := store.failed(run)))
    return Use(study, row, tuple(rows), trials, runs, failures)
