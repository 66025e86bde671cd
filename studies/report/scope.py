"""What a report is about: a results folder, read once, and which corpus, profile and encoders of it are shown."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hycon.data.manifest import PAPER, Manifest, corpus_folder, named_after, read_manifest
from hycon.errors import UserError
from studies.aggregate.cells import TableResult
from studies.aggregate.table import study_of, table_result
from studies.lookup import PROFILES, corpus_name, profile_of
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies
from studies.tables import TABLES, Row


@dataclass(frozen=True)
class Use:
    """A study that fills rows. row: the first.  rows: "table1 HyCon-BERT", ...  trials, runs: finished ones.
    failures: of either."""

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
    """corpus, profile: as given, or as found to be all that the folder holds.  results: a filled table per name.
    uses: the studies behind them, each once.  unshown: studies of the folder that fill no row here."""

    store: RunStore
    corpus: str | None
    profile: str | None
    encoders: Mapping[str, str]
    protocol: str
    data: str | os.PathLike | None
    results: Mapping[str, TableResult]
    uses: tuple[Use, ...]
    unshown: tuple[Study, ...] = ()
    manifests: Mapping[str, Manifest] = field(default_factory=dict)

    @property
    def records(self) -> list[RunRecord]:
        """The finished runs of all studies in use, each once, by the time of their start."""
        found = {record.id: record for use in self.uses for record in use.done}
        return sorted(found.values(), key=lambda record: (record.started or "", record.id))


def read_scope(
    store: RunStore,
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    profile: str | None = None,
    encoders: Mapping[str, str] | None = None,
    protocol: str = "paper",
) -> Scope:
    """Read all tables. Raises UserError for an unknown profile, or a corpus that neither data nor results know."""
    if profile:
        profile_of(profile)
    studies = load_studies(store)
    encoders = encoders or {}
    if not (corpus or profile):
        corpus, profile = _only_choice(studies)
    task = _manifest(corpus, data, store).task if corpus else None
    results: dict[str, TableResult] = {}
    found: dict[str, tuple[Study, Row, list[str]]] = {}
    for table in TABLES.values():
        own = corpus if corpus and table.task == task and _may_stand_for(corpus, table.corpus) else None
        results[table.name] = table_result(
            table,
            store,
            corpus=own,
            data=data,
            profile=profile,
            encoders=encoders,
            protocol=protocol,
            studies=studies,
        )
        name = corpus_name(table, PROFILES[profile] if profile else None, own)
        manifest = _known(name, data, store)
        for row in table.rows:
            study = study_of(row, studies, name, profile, encoders, manifest.sha256 if manifest else None)
            if study:
                found.setdefault(study.id, (study, row, []))[2].append(f"{table.name} {row.name}")
    uses = tuple(_use(store, study, row, names) for study, row, names in found.values())
    unshown = tuple(study for study in studies if study.id not in found)
    corpora = {use.study.corpus for use in uses}
    manifests = {name: m for name in sorted(corpora) if (m := _known(name, data, store))}
    return Scope(store, corpus, profile, encoders, protocol, data, results, uses, unshown, manifests)


def _only_choice(studies: Sequence[Study]) -> tuple[str | None, str | None]:
    """(corpus, profile) for a folder that holds nothing on the paper's corpora, but one thing only: that thing."""
    corpora = {study.corpus for study in studies}
    if not corpora or corpora & {table.corpus for table in TABLES.values()}:
        return None, None
    profiles = {study.profile for study in studies}
    if all(name in PROFILES and PROFILES[name].demo for name in profiles) and len(profiles) == 1:
        return None, profiles.pop()
    return (corpora.pop(), None) if len(corpora) == 1 else (None, None)


def _may_stand_for(corpus: str, papers: str) -> bool:
    """mosi_resampled fills the tables on mosi, not the one on mosei; a corpus of any other name fills both."""
    return named_after(corpus, PAPER) in (None, papers)


def _manifest(corpus: str, data: str | os.PathLike | None, store: RunStore) -> Manifest:
    return _known(corpus, data, store) or read_manifest(corpus, data)


def _known(corpus: str, data: str | os.PathLike | None, store: RunStore) -> Manifest | None:
    """From the data, or from what the results remember."""
    for root in (data, store.root / "corpora"):
        if (corpus_folder(corpus, root) / "manifest.json").exists():
            try:
                return read_manifest(corpus, root)
            except UserError:
                continue
    return None


def _use(store: RunStore, study: Study, row: Row, rows: Sequence[str]) -> Use:
    trials = tuple(record for run in study.trials if (record := store.get(run)))
    runs = tuple(record for run in study.runs if (record := store.get(run)))
    failures = tuple(failed for run in (*study.trials, *study.runs) if (failed := store.failed(run)))
    return Use(study, row, tuple(rows), trials, runs, failures)
