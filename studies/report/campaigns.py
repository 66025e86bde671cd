"""Campaign files from the records: what `bench run` is given to make a published folder again, file by file.

A file has rows that were run alike: trials, seeds, options set by hand, encoder. Whole tables share a file; a part of a
table has one of its own. The device is left to the command line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hycon.pretrained import DEFAULT
from studies.aggregate.cells import TableResult
from studies.lookup import LIMITS
from studies.report.experiments import Experiment
from studies.store.study import Study, find_study

ENCODERS = "encoders"  # the folder where an encoder lies that is no name of the Hugging Face hub
Alike = tuple[tuple[str, Any], ...]  # key of a campaign file -> its value, as JSON


def campaign_files(e: Experiment) -> dict[str, str]:
    """Name of a file -> its content, for all rows of the experiment's tables that have a finished seeded run."""
    found: dict[str, str] = {}
    for keys, studies in _alike(e).items():
        rows = {name: _rows(result, studies) for name, result in e.tables.items()}
        whole = [name for name in rows if len(rows[name]) == _models(e.tables[name])]
        parts = [name for name in rows if rows[name] and name not in whole]
        if whole:
            found[_free(e, [], found)] = _text(e, whole, None, keys)
        for name in parts:
            found[_free(e, [name], found)] = _text(e, [name], rows[name], keys)
    return found


def _alike(e: Experiment) -> dict[Alike, set[str]]:
    """What rows were given -> the studies of those rows."""
    found: dict[Alike, set[str]] = {}
    for use in e.scope.uses:
        found.setdefault(_given(use.study, e), set()).add(use.study.id)
    return found


def _given(study: Study, e: Experiment) -> Alike:
    searched = find_study(e.scope.store, study.winner_of) if study.winner_of else study
    options = {key: "None" if value is None else value for key, value in study.options.items()}  # TOML has no null
    given: dict[str, Any] = {"profile": study.profile} if study.profile != "paper" else {}
    if study.encoder and study.encoder["name"] != DEFAULT.get(study.text):
        given[f"encoder.{study.text}"] = _encoder(study.encoder["name"])
    if searched and not study.measured:
        given["trials"] = len(searched.trials)
    given |= {"seeds": len(study.runs), **{key: options.pop(key) for key in LIMITS if study.options.get(key)}}
    options = {key: value for key, value in options.items() if key not in LIMITS}
    return (*((key, json.dumps(value)) for key, value in given.items()), ("set", json.dumps(options, sort_keys=True)))


def _encoder(name: str) -> str:
    return name if "/" in name or name == "demo" else f"{ENCODERS}/{name}"


def _rows(result: TableResult, studies: set[str]) -> list[str]:
    """The rows of a table that these studies fill; of robustness those that were tested so."""
    own = [row for row in result.rows if row.n and row.study in studies]
    return [row.row.name for row in own if not result.table.robust or any(record.robust for record in row.records)]


def _models(result: TableResult) -> int:
    return sum(row.status != "reference" for row in result.rows)


def _free(e: Experiment, more: Sequence[str], taken: Mapping[str, str]) -> str:
    """A name that begins with the folder's and is not taken: "mosi.toml", "mosi-table1.toml", "mosi-table1-2.toml"."""
    stem = "-".join([re.sub(r"[^\w-]+", "-", e.title), *more])
    names = (f"{stem}{f'-{number}' if number > 1 else ''}.toml" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _text(e: Experiment, tables: Sequence[str], rows: Sequence[str] | None, keys: Alike) -> str:
    options = json.loads(dict(keys)["set"])
    lines = [
        f"# Part of what made {e.title}, written from its records by studies.report.published.",
        f"table = {json.dumps(list(tables) if len(tables) > 1 else tables[0])}",
        *([f"rows = {json.dumps(list(rows), ensure_ascii=False)}"] if rows else []),
        f"corpus = {json.dumps(e.corpus)}",
        f"results = {json.dumps(f'results/{e.folder.name}')}",
        *(f"{key} = {value}" for key, value in keys if key != "set"),
        *(["", "[set]", *(f"{key} = {json.dumps(value)}" for key, value in options.items())] if options else []),
    ]
    return "\n".join(lines) + "\n"
