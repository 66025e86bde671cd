"""A filled table as text, Markdown, LaTeX, CSV, HTML or JSON.

Text, Markdown, LaTeX and HTML show the same grid: ours as "mean ± sd (n)" beside the paper's number, the best measured
mean of each column marked, quoted numbers with a dagger, and a caption that names protocol, corpus, n, every stand-in
and the text encoder. Below a table of others' models stands what they published. CSV has a line for each row and
metric, JSON an object for each row; both carry plain numbers, and the same warnings as fields. CSV has no published
numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hycon.errors import check_known
from studies.aggregate.caption import caption, code_changed
from studies.aggregate.cells import Entry, RowResult, TableResult
from studies.aggregate.published import published_grid, published_of
from studies.document import formats
from studies.document.blocks import Cell, Grid, Heading
from studies.document.data import as_csv, as_json, rounded, yes_no
from studies.document.text import WIDTH
from studies.document.words import NOTHING, mean_sd, one_line
from studies.statistics.cell import COMPARED, TOO_FEW, explained, seeds_to_settle, tolerance_for, tolerance_of
from studies.tables import Column

FORMATS = ("text", "md", "latex", "csv", "html", "json")
SHORT = 32  # characters: a longer reason goes below the table


def render(result: TableResult, format: str, *, width: int = WIDTH, notes: bool = False) -> str:
    """`result` in one of FORMATS, ending in a newline. Raises UserError for an unknown format.

    width, notes: of text: the longest line, and whether the caption is whole.
    """
    check_known("format", format, FORMATS)
    if format == "json":
        return as_json(as_dict(result))
    if format == "csv":
        return as_csv(as_lines(result))
    blocks = [grid(result), *published_grid(result)]
    return formats.write(blocks, format, page_title(result), width=width, notes=notes)


def page_title(result: TableResult) -> str:
    return f"{result.table.name} on {result.corpus.name}"


# ------------------------------------------------------------------------------------------------- to be read


def grid(result: TableResult, runs_of: Callable[[str], str] | None = None) -> Grid:
    """The table as every document shows it. Reasons that are too long for the last column stand below it; where all
    do, or there is none, that column is left out.

    runs_of: from a study's id to the id of the Fold with its runs, in a document that has one for each.
    """
    columns, beside_paper = result.table.columns, result.beside_paper
    notes = tuple(one_line(f"{row.row.name}: {_reason(row)}") for row in result.rows if _below(row))
    rows = [_row(row, columns, beside_paper, runs_of) for row in result.rows]
    headings, states = _headings(columns, beside_paper), [_state(row) for row in result.rows]
    if any(states):
        headings = (*headings, Heading("Status"))
        rows = [(*cells, Cell(state)) for cells, state in zip(rows, states, strict=True)]
    return Grid(result.table.name, caption(result), headings, tuple(rows), notes=notes, narrow=True)


def _headings(columns: Sequence[Column], beside_paper: bool) -> tuple[Heading, ...]:
    pairs = [(Heading(c.heading, number=True), Heading("paper", number=True, of=c.heading)) for c in columns]
    shown = [heading for pair in pairs for heading in (pair if beside_paper else pair[:1])]
    return (Heading("Model"), *shown)


def _row(
    row: RowResult, columns: Sequence[Column], beside_paper: bool, runs_of: Callable[[str], str] | None
) -> tuple[Cell, ...]:
    link = runs_of(row.study) if runs_of and row.study and row.n else ""
    cells = [Cell(one_line(row.row.name), link=link)]
    for column in columns:
        entry = row.cells[column.metric]
        cells.append(_ours(entry, column))
        if beside_paper:
            cells.append(_papers(entry, column))
    return tuple(cells)


def _ours(entry: Entry, column: Column) -> Cell:
    stat = entry.stat
    return Cell(mean_sd(stat.mean, stat.sd, stat.n, column.decimals) if stat else NOTHING, best=entry.best)


def _papers(entry: Entry, column: Column) -> Cell:
    """The paper's number as printed, with the verdict on ours; a verdict that compares nothing is only a hint."""
    if entry.paper is None:
        return Cell(NOTHING, hint=entry.verdict)
    paper = entry.paper
    size = explained(entry.verdict, entry.stat, paper.value, tolerance_of(column.metric), column.decimals)
    if entry.verdict not in COMPARED:
        return Cell(paper.text, quoted=paper.quoted, hint=": ".join(filter(None, (entry.verdict, size))))
    return Cell(paper.text, quoted=paper.quoted, verdict=entry.verdict, hint=size)


def _state(row: RowResult) -> str:
    """Empty where all is well, else the reason; a long one goes below the table, its status stays."""
    if not _below(row):
        return _reason(row)
    return {"measured": "see below", "reference": ""}.get(row.status, row.status)


def _below(row: RowResult) -> bool:
    """Whether the reason stands below the table: a long one, or what a line is that is no model's."""
    return len(_reason(row)) > (0 if row.status == "reference" else SHORT)


def _reason(row: RowResult) -> str:
    reason = one_line(row.reason)
    if row.status in ("missing", "measured", "reference"):
        return reason
    return f"{row.status}: {reason}" if reason else row.status


# ------------------------------------------------------------------------------------------------- for programs


def as_lines(result: TableResult) -> list[dict[str, Any]]:
    """What --format csv prints: a line for each row and metric. The warnings of the caption are columns, so that they
    travel with every line."""
    return [
        {
            "table": result.table.name,
            "corpus": result.corpus.name,
            "synthetic": yes_no(result.corpus.synthetic),
            "protocol": result.protocol,
            "row": one_line(row.row.name),
            "status": row.status,
            "reason": one_line(row.reason),
            "encoder": one_line(row.encoder or ""),
            "metric": metric,
            **{key: yes_no(value) if isinstance(value, bool) else value for key, value in numbers.items()},
            "search": row.budget,
            "notes": one_line("; ".join((*code_changed(result), *result.notes))),
        }
        for row in result.rows
        for metric, numbers in _metrics(row).items()
    ]


def as_dict(result: TableResult) -> dict[str, Any]:
    """What --format json prints: percentages as the paper prints them, None for what was not measured."""
    return {
        "table": result.table.name,
        "title": result.table.title,
        "corpus": result.corpus.name,
        "synthetic": result.corpus.synthetic,
        "protocol": result.protocol,
        "notes": list(result.notes),
        "caption": caption(result).text(),
        "tolerances": {
            column.metric: {"value": found.value, "reason": found.reason}
            for column in result.table.columns
            if (found := tolerance_for(column.metric))
        },
        "rows": [
            {
                "row": row.row.name,
                "status": row.status,
                "reason": row.reason,
                "n": row.n,
                "text": row.row.text,
                "encoder": row.encoder,
                "search": row.budget,
                "not_comparable_because": list(row.obstacles),
                "study": row.study,
                "runs": [record.id for record in row.records],
                **({"taken_from": row.origin} if row.origin else {}),
                "changed_code": row.changed_code,
                "metrics": _metrics(row),
                **({"published": published_of(result, row.row.name)} if result.table.published else {}),
            }
            for row in result.rows
        ],
    }


def _metrics(row: RowResult) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for metric, entry in row.cells.items():
        stat, paper = entry.stat, entry.paper
        found[metric] = {
            **{key: rounded(getattr(stat, key, None)) for key in ("mean", "sd", "low", "high")},
            "n": stat.n if stat else 0,
            "paper": paper.value if paper else None,
            "quoted": paper.quoted if paper else False,
            "best": entry.best,
            "verdict": entry.verdict,
            **_beside_the_paper(metric, entry),
        }
    return found


def _beside_the_paper(metric: str, entry: Entry) -> dict[str, float | None]:
    """Ours less the paper's, the tolerance, and for "inconclusive" the seeds that would probably settle it; None where
    the two are not comparable."""
    tolerance = tolerance_of(metric)
    if entry.verdict not in (*COMPARED, TOO_FEW) or not entry.stat or not entry.paper or tolerance is None:
        return {"difference": None, "tolerance": None, "seeds_to_settle": None}
    stat, paper = entry.stat, entry.paper.value
    seeds = seeds_to_settle(stat, paper, tolerance) if entry.verdict == "inconclusive" else None
    return {"difference": rounded(stat.mean - paper), "tolerance": tolerance, "seeds_to_settle": seeds}
