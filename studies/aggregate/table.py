"""The table that a results folder holds now. Imports no torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from hycon.errors import check_known
from studies.aggregate.cells import NOT_RUN, TableResult, assemble, corpus_info
from studies.aggregate.comparability import across, described, mixture, refusal
from studies.lookup import PROFILES, corpus_name, manifest_of
from studies.registry import MODELS
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies
from studies.tables import WINNER, Row, TableSpec

if TYPE_CHECKING:
    pass


def table_result(
    table: TableSpec,
    store: RunStore,
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    profile: str | None = None,
    encoders: Mapping[str, str] | None = None,
    rows: Sequence[Row] | None = None,
    protocol: str = "paper",
    studies: Sequence[Study] | None = None,
    mixed: bool = False,
) -> TableResult:
    """The table as the results folder has it now, or of the given studies. Trains nothing and imports no torch.

    mixed: also average runs that differ in data, versions or environment class (studies.aggregate.comparability).
    Without it such a row is `missing`, and its reason names the runs and what they differ in.
    """
    from hycon.metrics import PROTOCOLS

    check_known("protocol", protocol, PROTOCOLS)
    name = corpus_name(table, PROFILES[profile] if profile else None, corpus)
    studies = load_studies(store) if studies is None else studies
    manifest = manifest_of(table, name, data, store.root)
    records: dict[str, list[RunRecord]] = {}
    status: dict[str, tuple[str, str]] = {}
    budgets: dict[str, str] = {}
    winners: dict[str, float] = {}
    for row in rows or table.rows:
        study = study_of(row, studies, name, profile, encoders or {}, manifest.sha256)
        if row.model not in MODELS:
            status[row.name] = ("missing", f"model {row.model} is not built yet")
        elif study is None:
            status[row.name] = ("missing", NOT_RUN)
        else:
            records[row.name], status[row.name] = _unmixed(*_runs_of(study, store), mixed)
            budgets[row.name] = _budget(study)
            if WINNER in table.columns and (loss := _winner_loss(study, store)) is not None:
                winners[row.name] = loss
    shown = table if rows is None else dataclasses.replace(table, rows=tuple(rows))
    told = {name: said for name, said in status.items() if said[0]}
    info = corpus_info(manifest)
    filled = assemble(shown, records, told, corpus=info, protocol=protocol, budgets=budgets, winners=winners)
    beside = across({row.row.name: row.records for row in filled.rows})
    return dataclasses.replace(filled, notes=(*filled.notes, *beside))


def studies_of(
    table: TableSpec,
    store: RunStore,
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    profile: str | None = None,
    encoders: Mapping[str, str] | None = None,
    rows: Sequence[Row] | None = None,
) -> dict[str, Study]:
    """Row name -> the study that `table_result` fills it from; rows without one are left out."""
    name = corpus_name(table, PROFILES[profile] if profile else None, corpus)
    studies, sha256 = load_studies(store), manifest_of(table, name, data, store.root).sha256
    found = {row.name: study_of(row, studies, name, profile, encoders or {}, sha256) for row in rows or table.rows}
    return {row: study for row, study in found.items() if study is not None}


def _runs_of(study: Study, store: RunStore) -> tuple[list[RunRecord], tuple[str, str]]:
    records = [record for run in study.runs if (record := store.get(run) or store.failed(run))]
    if study.selected is None:
        done = sum(store.has(trial) for trial in study.trials)
        failures = [f for trial in study.trials if (f := store.failed(trial))]
        if failures and done == 0 and len(failures) == len(study.trials):
            return records, ("failed", failures[0].reason or "every trial failed")
        return records, ("missing", f"search under way: {done} of {len(study.trials)} trials done")
    failures = [f for trial in study.trials if (f := store.failed(trial))]
    missing = len(study.runs) - len(records)
    said = [f"{missing} of {len(study.runs)} seeded runs to do"] if missing else []
    if failures:
        said.append(f"{len(failures)} of {len(study.trials)} trials failed: {failures[0].reason}")
    return records, ("missing", "; ".join(said)) if said else ("", "")


def _unmixed(records: list[RunRecord], said: tuple[str, str], allowed: bool) -> tuple[list[RunRecord], tuple[str, str]]:
    """The records and what is said of them; none where their finished runs may not be averaged."""
    done = [record for record in records if record.status == "done"]
    found = mixture(done)
    if not found:
        return records, said
    if not allowed:
        return [], ("missing", refusal(done, found))
    note = f"averages runs that differ (--mixed): {described(found)}"
    return records, (said[0] or "missing", f"{said[1]}; {note}" if said[1] else note)


def _winner_loss(study: Study, store: RunStore) -> float | None:
    """The validation loss by which the winner was chosen."""
    record = None if study.selected is None else store.get(study.trials[study.selected])
    return record.valid_loss if record else None


def _budget(study: Study) -> str:
    """ "50 trials", and what else was not left to the model's own settings and the search."""
    fixed = dict(study.options)
    epochs = fixed.pop("epochs", None)
    count = len(study.trials)
    parts = [f"{count} trial{'s' if count != 1 else ''}"]
    if epochs:
        parts.append(f"at most {epochs} epoch{'s' if epochs != 1 else ''}")
    if fixed:
        demo = study.profile in PROFILES and PROFILES[study.profile].demo
        whose = "by the demo profile" if demo else "by hand"
        parts.append("with " + ", ".join(f"{key} = {value}" for key, value in fixed.items()) + f" set {whose}")
    return ", ".join(parts)


def study_of(
    row: Row,
    studies: Iterable[Study],
    corpus: str,
    profile: str | None,
    encoders: Mapping[str, str],
    data: str | None = None,
) -> Study | None:
    """The study that fills a row: of the asked profile and encoder where asked; then one on the data that the corpus
    holds now (`data`, its sha256) before one on what it held earlier; then the model's newest version; then the most
    thorough one."""
    fitting = [
        s
        for s in studies
        if (s.model, s.text, s.corpus, s.row, s.number) == (row.model, row.text, corpus, dict(row.config), row.study)
        and (profile is None or s.profile == profile)
        and (row.text not in encoders or (s.encoder or {}).get("name") == encoders[row.text])
    ]
    return max(fitting, key=lambda s: (s.data == data, s.model_version, len(s.runs), len(s.trials), s.id), default=None)
