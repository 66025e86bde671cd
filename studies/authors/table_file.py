"""A table of one's own, as a TOML file with a table [table]; Tables 1 to 8 stay the paper's.

    [table]
    title = "Mean-pool beside two baselines"
    corpus = "mosi"                         # where --corpus names no other
    models = ["mean_pool.py"]               # files of models of one's own, from this file's folder
    columns = ["acc2", "f1", "mae"]         # default: all of the task's
    published = "published.csv"             # what others published of its rows, as studies/literature.py has it
    rows = [
      "TFN-GloVe",                          # a row of Table 1 (of Table 3 where task = "emotion")
      { name = "Mean-pool", model = "mean_pool", text = "glove" },
      { name = "Wide", model = "mean_pool", text = "glove", options = { hidden = 256 }, variant_of = "Mean-pool" },
    ]

A row with `variant_of` is not searched: it takes the winning configuration of the row that it names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hycon.errors import UserError, check_known
from hycon.files import read_toml
from studies.authors.rows import known_model
from studies.literature import quotations_in
from studies.registry import MODELS, resolve
from studies.tables import EMOTION, SENTIMENT, TABLES, Column, Row, TableSpec

SUFFIX = ".toml"
TASKS = {"sentiment": ("table1", SENTIMENT), "emotion": ("table3", EMOTION)}  # where rows by name are from; columns
BEYOND = "Not in the paper."


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    model: str
    text: str
    options: dict[str, Any] = {}
    variant_of: str | None = None


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[str | _Row]
    title: str | None = None
    task: str = "sentiment"
    corpus: str | None = None
    models: list[str] = []
    columns: list[str] | None = None
    published: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    table: _Table


def is_table_file(name: str) -> bool:
    """Whether TABLE is the path of a file."""
    return name.endswith(SUFFIX)


def read_table_file(path: str | Path) -> TableSpec:
    """The table; the models that it names are known to this process afterwards.

    Raises UserError, which names the file, for what is no table or names what there is not.
    """
    path = Path(path).expanduser()
    raw = read_toml(path, str(path))
    if not isinstance(raw.get("table"), dict):  # as in a campaign file, where it names tables
        raise UserError(f"{path} has no [table]: expected one with rows = [...] (docs/adding-a-model.md).")
    try:
        for key in raw["table"]:
            check_known("key", key, _Table.__struct_fields__, " in [table]")
        found = msgspec.convert(raw, _File).table
        return _table(path, found)
    except msgspec.ValidationError as error:
        said = str(error).replace("`", "").replace("$.", "").replace("Object", "It")
        raise UserError(f"{path} is no table: {said}.") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _table(path: Path, found: _Table) -> TableSpec:
    name = path.stem
    if name in TABLES:
        raise UserError(f"a table of this suite is called {name}; give the file another name.")
    check_known("task", found.task, TASKS)
    for model in found.models:
        known_model(str(path.parent / model))
    base, columns = TABLES[TASKS[found.task][0]], TASKS[found.task][1]
    rows: dict[str, Row] = {}
    for given in found.rows:
        row = _own(given, rows) if isinstance(given, _Row) else _of(base, given)
        if row.name in rows or row.key in (other.key for other in rows.values()):
            raise UserError(f"row {row.name!r} is there twice, or another row is the same model with the same options.")
        rows[row.name] = row
    if not rows:
        raise UserError("rows is empty; expected at least one.")
    title = (found.title or name).rstrip(".")
    return TableSpec(
        name,
        title,
        found.corpus or base.corpus,
        _columns(found.columns, columns),
        tuple(rows.values()),
        task=found.task,
        beyond=BEYOND,
        published=_published(path.parent / found.published, rows) if found.published else "",
    )


def _published(path: Path, rows: Mapping[str, Row]) -> str:
    """The file's path, once it has been read."""
    for quotation in quotations_in(path):
        check_known("row", quotation.model, rows, f" in {path.name}")
    return str(path.resolve())


def _of(base: TableSpec, name: str) -> Row:
    known = {row.name: row for row in base.rows}
    check_known("row", name, known, f" of {base.name}")
    return known[name]


def _own(given: _Row, rows: Mapping[str, Row]) -> Row:
    check_known("model", given.model, MODELS)
    resolve(given.model, given.text, given.options)
    intact = None
    if given.variant_of is not None:
        check_known("row", given.variant_of, rows, " above (variant_of)")
        intact = rows[given.variant_of]
        if (intact.model, intact.text) != (given.model, given.text) or intact.intact:
            raise UserError(
                f"row {given.name!r} cannot be a variant of {intact.name!r}; expected a searched row of the same model "
                "and text."
            )
    return Row(given.name, given.model, given.text, given.options, intact=intact)


def _columns(names: Sequence[str] | None, known: Sequence[Column]) -> tuple[Column, ...]:
    by_name = {column.metric: column for column in known}
    for name in names or ():
        check_known("column", name, by_name)
    return tuple(by_name[name] for name in names) if names else tuple(known)
