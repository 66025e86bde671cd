"""The runs of a table as pandas DataFrames: what `studies.results`, `studies.trials` and `studies.curves` return.

The columns follow from the table, its rows and the corpus, never from what has been run so far.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hycon.config import unset
from studies.aggregate.cells import measures
from studies.aggregate.choice import choices
from studies.aggregate.comparability import environment_class
from studies.aggregate.robustness import KINDS
from studies.aggregate.table import table_result
from studies.lookup import View, manifest_of
from studies.registry import MODELS, model_module, option_names
from studies.store.curve import read_curve
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.store.study import Study
from studies.tables import COST, SENTIMENT, Row, TableSpec, for_emotions, for_range

if TYPE_CHECKING:
    import pandas

RUN = ("table", "row", "study", "run", "seed_index", "seed")
SETTING = ("model", "text", "corpus", "encoder")
MEASURED = ("valid_loss", "best_epoch", "environment", "notes")
TRIAL = ("table", "row", "study", "trial", "run", "state", "selected", "valid_loss", "best_epoch", "epochs", "seconds")
CURVE = (*RUN, "state", "epoch", "train_loss", "valid_loss")
DONE, FAILED, TRAINING, MISSING = "done", "failed", "training", "to do"


def results_frame(table: TableSpec, rows: Sequence[Row], store: RunStore, view: View) -> pandas.DataFrame:
    """One line a finished seeded run; see `studies.results`."""
    manifest = manifest_of(view.corpus_of(table), view.data, store.root)
    known = sound_studies(store)
    filled = table_result(table, store, view, rows=rows, studies=known, manifest=manifest)
    studies = {study.id: study for study in known}
    lines = [
        {
            **_run(table, row.row, studies[row.study], record.id, record.spec),
            "model": record.spec.model,
            "text": record.spec.text,
            "corpus": record.spec.corpus,
            "encoder": (record.spec.encoder or {}).get("name"),
            **_measures(record, filled.protocol, table.robust),
            "valid_loss": record.valid_loss,
            "best_epoch": record.best_epoch,
            "environment": ", ".join(environment_class(record).values()),
            "notes": "; ".join(record.notes),
            **_options(record.spec),
        }
        for row in filled.rows
        if row.study
        for record in row.records
    ]
    whole = dataclasses.replace(table, columns=SENTIMENT) if table.task == "sentiment" else table
    shown = for_range(for_emotions(whole, manifest.emotions), manifest.label_bound).columns
    metrics = [column.metric for column in (*shown, *(table.columns if table.robust else ()), *COST)]
    return _frame(lines, [*RUN, *SETTING, *metrics, *MEASURED, *_option_columns(rows)])


def _measures(record: RunRecord, protocol: str, robust: bool) -> dict[str, Any]:
    """What tables can show of a run; its robustness in those on robustness only, since not every run has it."""
    found = measures(record, protocol)
    return found if robust else {name: value for name, value in found.items() if not name.startswith(KINDS)}


def trials_frame(table: TableSpec, rows: Sequence[Row], store: RunStore, view: View) -> pandas.DataFrame:
    """One line a trial of a search; see `studies.trials`."""
    lines = [
        {
            **{"table": table.name, "row": row.name, "study": study.id, "trial": number, "run": run},
            **_trial(store, run, {**study.draws[number], **study.row, **study.options}),
            "selected": number == study.selected,
        }
        for row, study in _filled(table, rows, store, view)
        for number, run in enumerate(study.trials if study.searched else ())
    ]
    return _frame(lines, [*TRIAL, "reason", *_option_columns(rows)])


def curves_frame(table: TableSpec, rows: Sequence[Row], store: RunStore, view: View) -> pandas.DataFrame:
    """One line an epoch of a seeded run; see `studies.curves`."""
    lines = [
        {**_run(table, row, study, run, record.spec if record else None), "state": state, **_losses(epoch)}
        for row, study in _filled(table, rows, store, view)
        for run in study.runs
        for record, state in [_state(store, run)]
        for epoch in (record.curve if record and state == DONE else read_curve(store, run))
    ]
    return _frame(lines, CURVE)


def _filled(table: TableSpec, rows: Sequence[Row], store: RunStore, view: View) -> Iterator[tuple[Row, Study]]:
    """The rows that a study fills, and the study."""
    manifest = manifest_of(view.corpus_of(table), view.data, store.root)
    shown = dataclasses.replace(table, rows=tuple(rows))
    chosen = choices(shown, view, sound_studies(store), manifest, store)
    return ((row, study) for row in rows if (study := chosen[row.name].best))


def _frame(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """With all of `columns`, and behind them what else the lines have, such as an option that the model had once."""
    import pandas

    return pandas.DataFrame(lines, columns=list(dict.fromkeys([*columns, *(key for line in lines for key in line)])))


def _run(table: TableSpec, row: Row, study: Study, run: str, spec: RunSpec | None) -> dict[str, Any]:
    number = study.runs.index(run) + 1
    place = {"table": table.name, "row": row.name, "study": study.id, "run": run}
    return {**place, "seed_index": number, "seed": spec.seed if spec else None}


def _state(store: RunStore, run: str) -> tuple[RunRecord | None, str]:
    """The record of a run or of its last failure, and what became of it."""
    if record := store.get(run):
        return record, DONE
    if failed := store.failed(run):
        return failed, FAILED
    return None, TRAINING if read_curve(store, run) else MISSING


def _trial(store: RunStore, run: str, planned: Mapping[str, Any]) -> dict[str, Any]:
    record, state = _state(store, run)
    epochs = record.curve if record and state == DONE else read_curve(store, run)
    return {
        "state": state,
        "valid_loss": record.valid_loss if record else None,
        "best_epoch": record.best_epoch if record else None,
        "epochs": len(epochs),
        "seconds": record.seconds if record else None,
        "reason": record.reason if record else None,
        **(_options(record.spec) if record else {f"config.{name}": value for name, value in planned.items()}),
    }


def _losses(epoch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: epoch.get(name) for name in ("epoch", "train_loss", "valid_loss")}


def _options(spec: RunSpec) -> dict[str, Any]:
    """Every option of the model and of its training, also those that have come after the run."""
    later = unset(model_module(spec.model).Config) if spec.model in MODELS else {}
    return {f"config.{name}": value for name, value in {**later, **spec.config, **spec.training}.items()}


def _option_columns(rows: Sequence[Row]) -> list[str]:
    models = dict.fromkeys(row.model for row in rows if row.model in MODELS)
    return list(dict.fromkeys(f"config.{name}" for model in models for name in option_names(model)))
