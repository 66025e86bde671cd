"""Rows of a model of one's own beside the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from hycon.errors import UserError, check_known
from hycon.model_file import is_model_file, read_model_file
from studies.registry import MODELS, literal, register
from studies.tables import SENTIMENT, Row, TableSpec

# Those that rows are made for: one of each form; others by a table file.
FRONT_ENDS = {"glove": "GloVe", "bert": "BERT"}
OWN = "Models of one’s own"
GROUP = "hycon.models"  # of entry points


def known_model(name: str) -> str:
    """The name of a model: one that this process knows, of a file, or of an installed package's entry point in GROUP
    (`my_model = "my_package.my_model"`). The process knows it afterwards.

    Raises UserError for what is none of these.
    """
    if is_model_file(name):
        return register(read_model_file(name))
    if name not in MODELS and (found := tuple(entry_points(group=GROUP, name=name))):
        return register(read_model_file(_file_of(found[0]), name))
    known = {*MODELS, *(point.name for point in entry_points(group=GROUP))}
    check_known("model", name, known)
    return name


def _file_of(point: EntryPoint) -> str:
    try:
        spec = find_spec(point.module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise UserError(f"Entry point {point.name} of {GROUP} names {point.module}, which is no module here.")
    return spec.origin


def rows_of(model: str) -> tuple[Row, ...]:
    """A row for each form of text that the model takes: "my-GloVe", "my-BERT". Its file may say another NAME.

    Raises UserError for an unknown model.
    """
    check_known("model", model, MODELS)
    name = literal(model, "NAME") or model
    return tuple(Row(f"{name}-{said}", model, text) for text, said in FRONT_ENDS.items() if text in MODELS[model].text)


def with_models(table: TableSpec, models: Sequence[str]) -> TableSpec:
    """The table with the rows of `models` below its own; a row that it has already is not repeated.

    Raises UserError for an unknown model, one that the table's corpora cannot be read by, and a row's name that the
    table has already.
    """
    keys, names = {row.key for row in table.rows}, {row.name.lower(): row for row in table.rows}
    added = [row for model in models for row in rows_of(model) if row.key not in keys]
    for row in added:
        if row.name.lower() in names:
            file = MODELS[row.model].file
            raise UserError(
                f"{table.name} has a row {row.name!r} already: give the model another NAME"
                f"{f' in {file.path}' if file else ''}."
            )
        names[row.name.lower()] = row
    if not added:
        return table
    said = f"Not in the paper: {', '.join(row.name for row in added)}."
    return replace(table, rows=(*table.rows, *added), added=f"{table.added} {said}".strip())


def own_rows(table: TableSpec, models: Sequence[str]) -> list[Row]:
    """The rows of `models` in a table of `with_models`."""
    keys = {row.key for model in models for row in rows_of(model)}
    return [row for row in table.rows if row.key in keys]


def own_tables() -> tuple[TableSpec, ...]:
    """A table of all models outside the repository that this process knows; none where it knows none."""
    rows = tuple(row for name, entry in MODELS.items() if entry.file for row in rows_of(name))
    return (TableSpec("own", OWN, "mosi", SENTIMENT, rows, beyond="Not in the paper."),) if rows else ()
