"""The table that a results folder holds now. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from hycon.data.manifest import Manifest
from studies.aggregate.cells import NOT_RUN, TableResult, assemble, corpus_info
from studies.aggregate.comparability import across, described, mixture, refusal
from studies.lookup import DEFAULT_VIEW, PROFILES, View, manifest_of
from studies.registry import MODELS
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.store.study import Study
from studies.tables import WINNER, Row, TableSpec


def table_result(
    table: TableSpec,
    store: RunStore,
    view: View = DEFAULT_VIEW,
    *,
    rows: Sequence[Row] | None = None,
    studies: Sequence[Study] | None = None,
    manifest: Manifest | None = None,
) -> TableResult:
    """The table as the results folder has it now. Trains nothing and imports no torch.

    rows: only these.  studies: read already, in place of all of the folder.  manifest: of the corpus, in place of the
    one that the data or the folder has. A row whose runs may not be averaged (see View.mixed) is `missing`; its reason
    names the runs and what they differ in.
    """
    manifest = manifest or manifest_of(view.corpus_of(table), view.data, store.root)
    shown = table if rows is None else dataclasses.replace(table, rows=tuple(rows))
    found = studies_of(shown, view, sound_studies(store) if studies is None else studies, manifest)
    records: dict[str, list[RunRecord]] = {}
    status: dict[str, tuple[str, str]] = {}
    budgets: dict[str, str] = {}
    winners: dict[str, float] = {}
    for row in shown.rows:
        study = found.get(row.name)
        if row.model not in MODELS:
            status[row.name] = ("missing", f"model {row.model} is not built yet")
        elif study is None:
            status[row.name] = ("missing", NOT_RUN)
        else:
            records[row.name], status[row.name] = _unmixed(*_runs_of(study, store), view.mixed)
            budgets[row.name] = _budget(study)
            if WINNER in table.columns and (loss := _winner_loss(study, store)) is not None:
                winners[row.name] = loss
    given = {name: why for name, why in status.items() if why[0]}
    info = corpus_info(manifest)
    filled = assemble(shown, records, given, corpus=info, protocol=view.protocol, budgets=budgets, winners=winners)
    beside = across({row.row.name: row.records for row in filled.rows})
    return dataclasses.replace(filled, notes=(*filled.notes, *beside))


def studies_of(table: TableSpec, view: View, studies: Sequence[Study], manifest: Manifest) -> dict[str, Study]:
    """Row name -> the one of `studies` that `table_result` fills it from; rows without one are left out."""
    corpus = view.corpus_of(table)
    found = {row.name: study_of(row, studies, corpus, view, manifest.sha256) for row in table.rows}
    return {row: study for row, study in found.items() if study is not None}


def _runs_of(study: Study, store: RunStore) -> tuple[list[RunRecord], tuple[str, str]]:
    """The seeded runs of a study, finished or failed, and what else is to say of them: (status, reason)."""
    records = [record for run in study.runs if (record := store.get(run) or store.failed(run))]
    failures = [f for trial in study.trials if (f := store.failed(trial))]
    if study.selected is None:
        done = sum(store.has(trial) for trial in study.trials)
        if failures and done == 0 and len(failures) == len(study.trials):
            return records, ("failed", failures[0].reason or "every trial failed")
        return records, ("missing", f"search under way: {done} of {len(study.trials)} trials done")
    missing = len(study.runs) - len(records)
    said = [f"{missing} of {len(study.runs)} seeded runs to do"] if missing else []
    if failures:
        said.append(f"{len(failures)} of {len(study.trials)} trials failed: {failures[0].reason}")
    return records, ("missing", "; ".join(said)) if said else ("", "")


def _unmixed(records: list[RunRecord], said: tuple[str, str], allowed: bool) -> tuple[list[RunRecord], tuple[str, str]]:
    """The records with their status; no records where the finished ones may not be averaged."""
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
    """ "50 trials, at most 9 epochs, with lr = 0.1 set by hand": the search, and the options that it did not draw."""
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
    row: Row, studies: Iterable[Study], corpus: str, view: View = DEFAULT_VIEW, data: str | None = None
) -> Study | None:
    """The study that fills a row; None where none fits. data: sha256 of the corpus as it is now.

    Of those with the view's profile and encoder, in this order: one on the corpus's current data, the newest model
    VERSION, the most seeded runs, the most trials.
    """
    fitting = [
        s
        for s in studies
        if (s.model, s.text, s.corpus, s.row, s.number) == (row.model, row.text, corpus, dict(row.config), row.study)
        and (view.profile is None or s.profile == view.profile)
        and (row.text not in view.encoders or (s.encoder or {}).get("name") == view.encoders[row.text])
    ]
    return max(fitting, key=lambda s: (s.data == data, s.model_version, len(s.runs), len(s.trials), s.id), default=None)
