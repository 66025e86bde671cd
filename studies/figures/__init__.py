"""Figures from the results at hand: Fig. 4 of the paper, learning curves, tables as dots, and robustness.

`figure` gives the picture's bytes with a caption, a text alternative and the numbers that it shows. Importing this
needs no matplotlib; drawing needs the extra `plots`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hycon.errors import check_known
from studies.aggregate.caption import setting
from studies.aggregate.cells import TableResult
from studies.aggregate.table import table_result
from studies.document.words import one_line
from studies.figures import curves, dots, fig4, robustness
from studies.figures.drawing import FORMATS, Drawing, Source, check_extra, encode, stamp, style
from studies.lookup import DEFAULT_VIEW, View, pick_rows, table_spec
from studies.store.run_store import RunStore

__all__ = ["FIGURES", "FORMATS", "Figure", "FigureSpec", "figure"]


@dataclass(frozen=True)
class FigureSpec:
    """table: which one's runs it shows by default; rows: which of its rows, None for all.
    alone: the title on a corpus of one's own, where the paper's numbers do not stand beside ours."""

    name: str
    title: str
    draw: Callable[[Source], Drawing]
    table: str = "table1"
    rows: tuple[str, ...] | None = None
    alone: str = ""


SAID = 5  # chosen here: as many differences fit above a picture

FIGURES = {
    spec.name: spec
    for spec in (
        FigureSpec("fig4", "t-SNE of the multimodal representation", fig4.draw, "table4", fig4.ROWS),
        FigureSpec("curves", "Learning curves", curves.draw),
        FigureSpec("dots", "Our means beside the paper's numbers", dots.draw, alone="Our means"),
        FigureSpec("robustness", "Robustness to words without a modality", robustness.draw, "robustness"),
    )
}


@dataclass(frozen=True)
class Figure:
    """name, table, corpus: what it shows; stem: a file's name without its ending.

    caption: sentences with data, stand-ins (SYNTHETIC DATA ...), encoders, n and how to read it.  alt: a text
    alternative.  content: the file's bytes.  numbers: flat dicts, one for each mark or run.
    """

    name: str
    title: str
    table: str
    corpus: str
    format: str
    caption: str
    alt: str
    content: bytes
    numbers: list[dict[str, Any]]

    @property
    def stem(self) -> str:
        alone = self.table == self.name or self.table == FIGURES[self.name].table == "table4"
        return "-".join([self.name, self.corpus] if alone else [self.name, self.table, self.corpus])


def figure(
    name: str,
    store: RunStore,
    view: View = DEFAULT_VIEW,
    *,
    format: str = "svg",
    table: str | None = None,
    rows: Sequence[str] | None = None,
    runs: str = "median",
) -> Figure:
    """Draw one of FIGURES from the results that `view` picks. The same results give the same bytes.

    table, rows: which runs; the figure's own by default.  runs, of fig4: "median" (of silhouette), "all", or the
    number of a seeded run from 1, as text.
    Raises UserError for an unknown name, format, table or row, where runs are missing, and without the extra `plots`.
    """
    check_known("figure", name, FIGURES)
    check_known("format", format, FORMATS)
    spec = FIGURES[name]
    shown = table_spec(table or spec.table)
    asked = rows if rows is not None else spec.rows if shown.name == spec.table else None
    shown = replace(shown, rows=tuple(pick_rows(shown, asked)))
    check_extra()
    result = table_result(shown, store, view)
    source = Source(store, result, asked is not None, runs, view)
    number = " (the paper's Fig. 4)" if name == "fig4" else f", {shown.name}" if shown.name != name else ""
    heading = spec.title if result.beside_paper else spec.alone or spec.title
    title = f"{heading}{number}, corpus {result.corpus.name}"
    with style():
        drawing = spec.draw(source)
        warning = "SYNTHETIC DATA. " if result.corpus.synthetic else ""
        stamp(drawing.picture, warning.strip() or _otherwise(_only(result, drawing.rows)))
        alt = f"{warning}{drawing.alt}"
        content = encode(drawing.picture, format, name, title, alt)
    caption = " ".join([f"{heading}{number}.", *setting(_only(result, drawing.rows)), *drawing.caption])
    return Figure(name, title, shown.name, result.corpus.name, format, caption, alt, content, drawing.numbers)


def _only(result: TableResult, names: Sequence[str]) -> TableResult:
    return replace(result, rows=tuple(row for row in result.rows if row.row.name in names))


def _otherwise(result: TableResult) -> str:
    """In what the rows differ from the paper's; a picture may travel without its caption."""
    obstacles = list(dict.fromkeys(one_line(said) for row in result.rows for said in row.obstacles))
    more = f"; and {len(obstacles) - SAID} more, in the caption" if len(obstacles) > SAID else ""
    return f"Not run as in the paper: {'; '.join(obstacles[:SAID])}{more}." if obstacles else ""
