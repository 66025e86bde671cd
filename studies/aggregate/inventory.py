"""What a results folder holds, line by line: studies with the cells that they fill, runs with their rows, and how far
a table is. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

from hycon.errors import UserError, nearest
from hycon.metrics import of_protocol
from studies.aggregate.cells import measures
from studies.aggregate.choice import Choice, choices, choose
from studies.aggregate.robustness import EMOTIONS
from studies.aggregate.table import table_result
from studies.lookup import PROFILES, View, is_of, known_manifest, manifest_of, may_stand_for
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies, unsound_in
from studies.store.study import Study, goes_on, load_studies
from studies.tables import SENTIMENT, TABLES, Column, Row, TableSpec, emotion_columns

NO_TABLE = "of no row of a table (`bench ablate` prints its own)"


# ------------------------------------------------------------------------------------------------- studies


def list_studies(store: RunStore, data: str | os.PathLike | None = None) -> list[dict[str, Any]]:
    """One dict a study: what it is of, how far it is, which tables show it by default on its corpus, and if none does,
    why."""
    studies = load_studies(store)
    shas = {s.corpus: m.sha256 for s in studies if (m := known_manifest(s.corpus, data, store.root))}
    found = []
    for study in sorted(studies, key=lambda s: (s.corpus, _order(s), s.profile, s.id)):
        fills, because = _cells(study, studies, shas.get(study.corpus), store)
        if why := unsound_in(store, study):
            fills, because = [], f"not sound: {why}"
        found.append({**_described(study, store), "fills": fills, "because": because})
    return found


def _described(study: Study, store: RunStore) -> dict[str, Any]:
    own = study.trials if study.searched else []
    return {
        "id": study.id,
        "row": row_name(study),
        "corpus": study.corpus,
        "profile": study.profile,
        "options": study.options,
        "encoder": (study.encoder or {}).get("name"),
        "trials": len(own),
        "trials_done": sum(map(store.has, own)),
        "seeds": len(study.runs),
        "seeds_done": sum(map(store.has, study.runs)),
        "winner": study.winner,
    }


def study_lines(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`list_studies` for a terminal."""
    return [
        {
            **{key: item[key] for key in ("id", "row", "corpus", "profile")},
            "options": ", ".join(f"{key} = {value}" for key, value in item["options"].items()),
            "trials": f"{item['trials_done']}/{item['trials']}" if item["trials"] else "",
            "seeds": f"{item['seeds_done']}/{item['seeds']}",
            "winner": (item["winner"] or "")[:8],
            "fills": ", ".join(item["fills"]) or f"no: {item['because']}",
        }
        for item in items
    ]


def _cells(study: Study, studies: Sequence[Study], sha: str | None, store: RunStore) -> tuple[list[str], str]:
    """(tables whose cell it fills on its corpus, why it fills none of the cells that it could)."""
    fills, because = [], NO_TABLE
    for table, row in may_fill(study):
        choice = choose(row, studies, study.corpus, View(study.corpus), sha, store)
        if choice.best and choice.best.id == study.id:
            fills.append(table)
        else:
            because = choice.behind.get(study.id, because)
    return fills, "" if fills else because


def may_fill(study: Study) -> list[tuple[str, Row]]:
    """(table, row) for each row that a study can fill."""
    tables = [table for table in TABLES.values() if may_stand_for(study.corpus, table.corpus)]
    return [(table.name, row) for table in tables for row in table.rows if is_of(study, row)]


def row_names(study: Study) -> list[str]:
    """What tables call its row, the first of them as a rule Table 1's; of a row of no table, what it is made of."""
    names = dict.fromkeys(row.name for table in TABLES.values() for row in table.rows if is_of(study, row))
    changes = ", ".join(f"{key}={value}" for key, value in study.row.items())
    return list(names) or [f"{study.model}-{study.text}" + (f" ({changes})" if changes else "")]


def row_name(study: Study) -> str:
    return row_names(study)[0]


def _order(study: Study) -> int:
    """By the first row of the tables that it is of."""
    rows = [row for table in TABLES.values() for row in table.rows]
    return next((number for number, row in enumerate(rows) if is_of(study, row)), len(rows))


# ------------------------------------------------------------------------------------------------- runs


def list_runs(
    store: RunStore,
    *,
    rows: Sequence[str] | None = None,
    kind: str | None = None,
    corpus: str | None = None,
    failed: bool = False,
) -> list[dict[str, Any]]:
    """One dict a run, finished or failed. rows: names of rows, or patterns of them.  kind: "trial" or "seed".

    The test split is reported of seeded runs only: nothing is chosen by it. Metrics are fractions, of protocol paper.
    Raises UserError for a row that no run is of.
    """
    kinds, names = _members(load_studies(store))
    if rows is not None:
        _check_rows(rows, names.values())
    found = []
    for record in (*(() if failed else store.records()), *store.failures()):
        own = names.get(record.id, [])
        if rows is not None and not any(fnmatch(name.lower(), row.lower()) for name in own for row in rows):
            continue
        if kind not in (None, kinds.get(record.id)) or corpus not in (None, record.spec.corpus):
            continue
        found.append(_run(record, kinds.get(record.id), own))
    return found


def run_lines(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`list_runs` for a terminal; metrics as tables print them."""

    def printed(column: Column, value: float | None) -> str | None:
        return None if value is None else f"{column.scale * value:.{column.decimals}f}"

    shown = ("id", "kind", "row", "corpus", "status")
    columns = {c.metric: c for c in (*SENTIMENT, *emotion_columns(())) if c.metric in ("acc2", "mae", "average_acc")}
    return [
        {
            **{key: item[key] for key in shown},
            "valid_loss": None if item["valid_loss"] is None else f"{item['valid_loss']:.4g}",
            **{key: printed(columns[key], value) for key, value in item["test"].items() if key in columns},
            "best_epoch": item["best_epoch"],
            "seconds": item["seconds"],
            "reason": item["reason"],
        }
        for item in items
    ]


def _members(studies: Iterable[Study]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Run id -> "trial" or "seed", and -> the names of the rows whose studies name it."""
    kinds: dict[str, str] = {}
    names: dict[str, list[str]] = {}
    for study in studies:
        own = row_names(study)
        for kind, ids in (("trial", study.trials if study.searched else []), ("seed", study.runs)):
            for run in ids:
                kinds[run] = kind if kinds.get(run) != "seed" else "seed"
                names[run] = list(dict.fromkeys([*names.get(run, []), *own]))
    return kinds, names


def _check_rows(rows: Sequence[str], known: Iterable[Collection[str]]) -> None:
    every = list(dict.fromkeys(name for own in known for name in own))
    for row in rows:
        if not any(fnmatch(name.lower(), row.lower()) for name in every):
            hint = f"; nearest: {nearest(row, every)}" if every else ""
            raise UserError(f"No run is of a row {row!r}{hint}.")


def _run(record: RunRecord, kind: str | None, names: Sequence[str]) -> dict[str, Any]:
    metrics: Mapping[str, Any] = record.metrics.get("test", {})
    flat = list(of_protocol(metrics, "paper") or ("acc7", "acc2", "f1", "mae", "corr"))
    if EMOTIONS in metrics:
        flat = [f"{emotion}_{name}" for emotion, of in metrics[EMOTIONS].items() for name in of]
    known = measures(record, "paper") if kind == "seed" and record.status == "done" else {}
    return {
        "id": record.id,
        "kind": kind,
        "row": names[0] if names else None,
        "status": record.status,
        "model": record.spec.model,
        "text": record.spec.text,
        "corpus": record.spec.corpus,
        "valid_loss": record.valid_loss,
        "test": {name: known.get(name) for name in flat},
        "best_epoch": record.best_epoch,
        "seconds": record.seconds and round(record.seconds, 1),
        "reason": record.reason,
    }


# ------------------------------------------------------------------------------------------------- progress


def progress(
    table: TableSpec, store: RunStore, view: View, running: Collection[str], rows: Sequence[Row] | None = None
) -> list[dict[str, Any]]:
    """How far each row of a table is: trials and seeds done of those wanted, failures, and runs under way.

    wanted: by the row's study or, where a longer search of it has begun, by that; by the profile where there is none.
    running: ids of the runs that somebody is busy with.  rows: only these.
    """
    studies = sound_studies(store)
    manifest = manifest_of(view.corpus_of(table), view.data, store.root)
    result = table_result(table, store, view, rows=rows, studies=studies, manifest=manifest)
    chosen = choices(table, view, studies, manifest, store)
    profile = PROFILES[view.profile or "paper"]
    found = []
    for line in result.rows:
        if line.status == "reference":
            continue
        study = _furthest(chosen[line.row.name])
        searched = study.searched if study else not (line.row.intact or line.row.measured)
        trials = study.trials if study and searched else []
        runs = study.runs if study else []
        failed = [run for run in (*trials, *runs) if store.failed(run)]
        found.append(
            {
                **{"row": line.row.name, "status": line.status, "n": line.n},
                "trials_done": sum(map(store.has, trials)) if searched else None,
                "trials_wanted": (len(trials) if study else profile.trials) if searched else None,
                "seeds_done": sum(map(store.has, runs)),
                "seeds_wanted": len(runs) or profile.seeds,
                "failed": len(failed),
                "running": len({*running} & {*trials, *runs}),
                "study": study.id if study else None,
                "reason": line.reason,
            }
        )
    return found


def progress_lines(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`progress` for a terminal."""
    return [
        {
            **{key: item[key] for key in ("row", "status")},
            "trials": "" if item["trials_wanted"] is None else f"{item['trials_done']}/{item['trials_wanted']}",
            "seeds": f"{item['seeds_done']}/{item['seeds_wanted']}",
            "failed": item["failed"] or "",
            "running": item["running"] or "",
            "reason": item["reason"],
        }
        for item in items
    ]


def _furthest(choice: Choice) -> Study | None:
    """The longest search that goes on with the one that fills the row."""
    if choice.best is None:
        return None
    longer = [study for study in choice.others if goes_on(study, choice.best)]
    return max((choice.best, *longer), key=lambda study: len(study.trials))
