"""A table and its rows by name, with those of models of one's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from hycon.errors import UserError, check_known, nearest
from studies.authors.rows import own_rows, with_models
from studies.authors.table_file import is_table_file, read_table_file
from studies.tables import TABLES, Row, TableSpec, with_studies

_WILD = re.compile(r"[*?\[\]]+")  # makes a name of rows a pattern


def table_spec(name: str, studies: int | None = None) -> TableSpec:
    """The table of that name, or of the TOML file at that path (studies.authors.table_file).

    studies: how often each row is searched, in a table that repeats searches.
    """
    if not is_table_file(name):
        check_known("table", name, TABLES)
    table = read_table_file(name) if is_table_file(name) else TABLES[name]
    if studies is None or studies == table.studies:
        return table
    if table.studies == 1:
        repeating = ", ".join(t.name for t in TABLES.values() if t.studies > 1)
        raise UserError(f"--studies is {studies}, but {name} has one search a row; tables that repeat it: {repeating}.")
    if studies < 2:
        raise UserError(f"--studies is {studies}; expected at least 2: one search has no spread.")
    return with_studies(table, studies)


def pick_rows(table: TableSpec, names: Sequence[str] | None) -> list[Row]:
    """The rows of a table by the paper's names, or by patterns such as "HyCon*", each row once; all by default.

    Case does not matter. In a pattern, * is any text, ? one letter, [ab] one of these. Raises UserError for a name or
    pattern without a row.
    """
    if names is None:
        return list(table.rows)
    found: dict[str, Row] = {}
    for name in (name.strip() for name in names):
        exact = [row for row in table.rows if row.name.lower() == name.lower()]
        matching = exact or [row for row in table.rows if fnmatchcase(row.name.lower(), name.lower())]
        if not matching:
            known = [row.name for row in table.rows]
            if _WILD.search(name):
                raise UserError(f"{table.name} has no row that matches {name!r}; nearest: {_like(name, known)}.")
            raise UserError(f"{table.name} has no row {name!r}; nearest: {nearest(name, known)}.")
        found |= {row.name: row for row in matching}
    return list(found.values())


def _like(pattern: str, names: Sequence[str]) -> str:
    """The three names whose beginning, end or whole is most like what the pattern spells out."""
    from difflib import SequenceMatcher

    letters = _WILD.sub("", pattern).lower()
    size = len(letters)

    def likeness(name: str) -> float:
        parts = (name[:size], name[-size:], name)
        return max(SequenceMatcher(None, letters, part.lower()).ratio() for part in parts)

    return ", ".join(sorted(names, key=likeness, reverse=True)[:3])


def with_own(table: TableSpec, names: Sequence[str] | None, models: Sequence[str]) -> tuple[TableSpec, list[Row]]:
    """A table with the rows of `models`, and which of its rows are asked for: those named, all where none is.

    With models, their rows are asked for too, and alone where no row is named; some of them where some are named.
    """
    if not models:
        return table, pick_rows(table, names)
    table = with_models(table, models)
    own, named = own_rows(table, models), pick_rows(table, names) if names else []
    return table, named if any(row in own for row in named) else [*named, *own]
