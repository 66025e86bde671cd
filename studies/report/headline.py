"""A filled table in a few columns, to be read on a page that is not about it alone."""

from __future__ import annotations

from collections.abc import Iterable

from studies.aggregate.cells import RowResult, TableResult
from studies.document.blocks import Cell, Grid, Heading, numbers
from studies.document.words import NOTHING, listed, mean_sd
from studies.report.sections import label
from studies.tables import Column

METRICS = ("acc2", "mae", "corr")  # what of a table of sentiment fits beside the rows' names
CELLS = "mean ± sd (n) over seeded runs on the test split. Bold: best mean of the column, which may be chance."


def headline(result: TableResult) -> Grid:
    """The measured rows, and those that they are read against, beside the paper's numbers where it has them."""
    columns = _columns(result)
    printed = {c for c in columns if any(row.cells[c.metric].paper for row in measured(result))}
    heads = [
        heading
        for c in columns
        for heading in (*numbers(c.heading), *([Heading("paper", number=True, of=c.heading)] if c in printed else []))
    ]
    lines = []
    for row in (row for row in result.rows if row.n or _known_reference(row, columns)):
        line = [Cell(row.row.name)]
        for column in columns:
            entry = row.cells[column.metric]
            shown = mean_sd(entry.stat.mean, entry.stat.sd, entry.stat.n, column.decimals) if entry.stat else NOTHING
            line += [Cell(shown, best=entry.best)]
            line += [Cell(entry.paper.text if entry.paper else NOTHING)] if column in printed else []
        lines.append(tuple(line))
    said = f"{label(result.table.name)}: {result.table.title}, on {result.corpus.name}: {CELLS}"
    return Grid(f"headline-{result.table.name}", said, (Heading("Model"), *heads), tuple(lines), narrow=True)


def _known_reference(row: RowResult, columns: Iterable[Column]) -> bool:
    """A line to read the others against, of which something is known."""
    return row.status == "reference" and any(row.cells[column.metric].stat for column in columns)


def _columns(result: TableResult) -> list[Column]:
    """Acc2, MAE and Corr; of robustness its missing modalities; every column of a table that has none of them."""
    known = result.table.columns
    few = [c for c in known if c.metric in METRICS or (result.table.robust and c.metric.startswith("missing_"))]
    return few or list(known)


def lacking(result: TableResult) -> list[str]:
    """What the table is short of: rows with runs to do, and rows without any."""
    said = [f"{row.row.name}: {row.reason}." for row in measured(result) if row.reason]
    absent: dict[str, list[str]] = {}
    for row in result.rows:
        if not row.n and row.status not in ("reference", "quoted"):
            absent.setdefault(row.reason, []).append(row.row.name)
    return [*said, *(f"{', '.join(names)}: {reason}." for reason, names in absent.items())]


def measured(result: TableResult) -> list[RowResult]:
    return [row for row in result.rows if row.n]


def tables_in_words(names: Iterable[str]) -> str:
    """ "Tables 4, 6 and 7; beyond"."""
    names = list(names)
    numbered = [name.removeprefix("table") for name in names if label(name) != name]
    own = [name for name in names if label(name) == name]
    words = f"Table{'s' * (len(numbered) > 1)} {listed(numbered)}" if numbered else ""
    return "; ".join(filter(None, (words, ", ".join(own))))
