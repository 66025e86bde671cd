"""`bench show`: from a cell to its runs, from a run to all that is known of it, from a study to its trials.

Each function returns plain data, as `--json` prints it; studies.trust.trace_text is the same for reading. Metrics of
cells and studies are in the tables' units (percent), those of a run as its record has them (fractions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from hycon.errors import UserError, check_known
from hycon.metrics import NARROW_PROTOCOLS
from studies.aggregate.cells import TableResult, measures
from studies.aggregate.inventory import may_fill
from studies.aggregate.render import as_dict
from studies.registry import changed_code
from studies.statistics.cell import cell
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import LOG, RunStore
from studies.store.soundness import unsound_in
from studies.store.study import Study, id_named, load_studies
from studies.tables import TABLES, Column, TableSpec, narrowed
from studies.trust.verify import of_other_code

Command = Callable[[str, str], str]  # ("verify", run id) -> the whole command


def find(store: RunStore, word: str) -> RunRecord | Study:
    """The run or study whose id is `word`, or the only one whose id begins with it; a run may have failed.

    Raises UserError where there is none or are several, and for a run that is neither done nor failed.
    """
    studies = {study.id: study for study in load_studies(store)}
    known = [*studies, *store.ids()]
    found = id_named(word, known, "run or study")
    if not found:
        close = ", ".join(get_close_matches(word.lower(), [*TABLES, *known], cutoff=0.5))
        hint = f"nearest: {close}" if close else "see `bench list runs`"
        raise UserError(f"{store.root} has no run or study {word!r}, and there is no such table ({hint}).")
    if found in studies:
        return studies[found]
    if record := store.get(found) or store.failed(found):
        return record
    unknown = f"Run {found} is neither done nor failed: it is under way, or was killed."
    raise UserError(str(store.damage(found) or unknown))


def column_of(table: TableSpec, word: str) -> Column:
    """A column by its metric or its heading. Raises UserError with the nearest."""
    names = {name.lower(): column for column in table.columns for name in (column.metric, column.heading)}
    if word.lower() not in names:
        check_known("metric", word, [column.metric for column in table.columns], f" of {table.name}")
    return names[word.lower()]


# ------------------------------------------------------------------------------------------------- a cell


def trace_cell(result: TableResult, store: RunStore, column: Column | None, command: Command) -> dict[str, Any]:
    """Of a table that was filled for one row: the row, or with `column` one cell of it."""
    row = result.rows[0]
    shown = [column] if column else list(result.table.columns)
    whole = as_dict(result)
    printed = whole["rows"][0]
    study = next((study for study in load_studies(store) if study.id == row.study), None)
    return {
        "kind": "cell",
        "table": result.table.name,
        "row": row.row.name,
        "corpus": result.corpus.name,
        "protocol": result.protocol,
        **{
            key: printed[key]
            for key in ("status", "reason", "n", "text", "encoder", "search", "not_comparable_because")
        },
        "notes": whole["notes"],
        "metrics": {c.metric: _alone(printed["metrics"][c.metric]) for c in shown},
        "study": _winning(study, store) if study else None,
        "runs": [_run_line(record, shown, result.protocol, command) for record in row.records],
        "changed_code": dict(row.changed),
        "next": [command(verb, row.records[0].id) for verb in ("show", "verify")]
        if row.records
        else [command("run", "")],
    }


def _alone(numbers: dict[str, Any]) -> dict[str, Any]:
    """A cell's numbers without what only the whole column tells."""
    return {key: value for key, value in numbers.items() if key != "best"}


def _winning(study: Study, store: RunStore) -> dict[str, Any]:
    """What a cell says of its study."""
    won = store.get(study.winner) if study.winner else None
    return {
        "id": study.id,
        "trials": len(study.trials) if study.searched else 0,
        "seeds": len(study.runs),
        "winner": study.winner,
        "winner_valid_loss": won.valid_loss if won else None,
        "winner_of": study.winner_of,
        "drawn": study.chosen,
        "row": study.row,
        "fixed": study.options,
    }


def _run_line(record: RunRecord, columns: Iterable[Column], protocol: str, command: Command) -> dict[str, Any]:
    known = measures(record, protocol)
    values = {c.metric: known.get(c.metric) for c in columns}
    return {
        "id": record.id,
        "status": record.status,
        "seed": record.spec.seed,
        "valid_loss": record.valid_loss,
        "best_epoch": record.best_epoch,
        "metrics": {c.metric: None if (v := values[c.metric]) is None else c.scale * v for c in columns},
        "verify": command("verify", record.id) if record.status == "done" else None,
    }


# ------------------------------------------------------------------------------------------------- a run


def trace_run(record: RunRecord, store: RunStore, command: Command) -> dict[str, Any]:
    """Everything about a run: its record, where it belongs, what differs from its model's defaults, and what to do."""
    log = store.folder(record.id) / LOG
    against = of_other_code(record)
    return {
        "kind": "run",
        **record.to_dict(),
        "belongs_to": [
            {"study": study.id, "as": part, "rows": rows_of(study)}
            for study in load_studies(store)
            for part in _parts(study, record.id)
        ],
        "defaults": None if against else defaults(record.spec),
        "code_state": code_state(record),
        "log": str(log) if log.is_file() else None,
        "verify": command("verify", record.id) if record.status == "done" else None,
        "verify_not_here": against,
    }


def _parts(study: Study, run: str) -> list[str]:
    """What a run is in a study: "seeded run 2 of 5". The trial that a variant names is another row's."""
    found = []
    if run in study.trials and study.searched:
        won = ", the winner" if run == study.winner else ""
        found.append(f"trial {study.trials.index(run)} (0 to {len(study.trials) - 1}){won}")
    if run in study.runs:
        found.append(f"seeded run {study.runs.index(run) + 1} of {len(study.runs)}")
    return found


def rows_of(study: Study) -> list[str]:
    """The rows of tables that the study may fill, as "table1 HyCon-BERT"."""
    return [f"{table} {row.name}" for table, row in may_fill(study)]


def defaults(spec: RunSpec) -> dict[str, dict[str, Any]]:
    """The options by which a run differs from its model's defaults, with those, of config and training."""
    from studies.registry import resolve

    config, training = resolve(spec.model, spec.text, {})
    return {
        part: {name: usual.get(name) for name, value in own.items() if usual.get(name) != value}
        for part, own, usual in (("config", spec.config, vars(config)), ("training", spec.training, vars(training)))
    }


def code_state(record: RunRecord) -> str:
    """Whether the code that made a run still stands, in words."""
    if record.code is None:
        return "not recorded"
    if against := of_other_code(record):
        return against.partition(":")[0]
    names = changed_code([record]).get(record.id)
    return f"changed since, with VERSION as it was: {', '.join(names)}" if names else "as it was"


# ------------------------------------------------------------------------------------------------- a study


def trace_study(study: Study, store: RunStore, protocol: str, command: Command) -> dict[str, Any]:
    """A study with its trials, best first, its winner, and its seeded runs."""
    rows = rows_of(study)
    columns = columns_of(rows)
    trials = [_trial(study, number, store) for number in range(len(study.trials))] if study.searched else []
    trials.sort(key=lambda one: (one["valid_loss"] is None, one["valid_loss"], one["trial"]))
    records = [record for run in study.runs if (record := store.get(run) or store.failed(run))]
    if any(NARROW_PROTOCOLS.keys() & record.metrics.get("test", {}).keys() for record in records):
        columns = narrowed(columns)
    lines = [_run_line(record, columns, protocol, command) for record in records]
    values = {c.metric: [v for line in lines if (v := line["metrics"][c.metric]) is not None] for c in columns}
    stats = {metric: cell(found) for metric, found in values.items() if found}
    return {
        "kind": "study",
        "id": study.id,
        "rows": rows,
        **{k: getattr(study, k) for k in ("model", "model_version", "text", "corpus", "data", "encoder", "profile")},
        **{k: getattr(study, k) for k in ("device", "number", "row", "options", "space", "measured", "winner_of")},
        "unsound": unsound_in(store, study),
        "winner": study.winner,
        "chosen": study.chosen,
        "trials": trials,
        "protocol": protocol,
        "metrics": {m: {"mean": stat.mean, "sd": stat.sd, "n": stat.n} for m, stat in stats.items()},
        "runs": lines,
        "next": [command("show", run) for run in [study.winner or next(iter(study.runs), None)] if run],
        "runs_to_do": [run for run in study.runs if store.get(run) is None],
    }


def _trial(study: Study, number: int, store: RunStore) -> dict[str, Any]:
    run = study.trials[number]
    record = store.get(run) or store.failed(run)
    loss = record.valid_loss if record else None
    return {
        "trial": number,
        "run": run,
        "status": record.status if record else "to do",
        "reason": record.reason if record else None,
        "valid_loss": loss if loss is not None and math.isfinite(loss) else None,
        "best_epoch": record.best_epoch if record else None,
        "selected": number == study.selected,
        "options": study.draws[number] if number < len(study.draws) else {},
    }


def columns_of(rows: Sequence[str]) -> tuple[Column, ...]:
    """The columns of the first table of `rows_of` a study; of many emotions their average only."""
    name = rows[0].partition(" ")[0] if rows else "table1"
    columns = tuple(column for column in TABLES[name].columns if column.metric != "winner_loss")
    return tuple(c for c in columns if c.metric.startswith("average_")) or columns
