"""A table as dots: for each row and metric our mean with its 95 % interval, and the paper's number beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from studies.aggregate.cells import NOT_RUN, Entry, RowResult
from studies.document.words import DAGGER, span
from studies.figures.drawing import BLACK, BLUE, GREY, ORANGE, PLAIN, Drawing, Source, canvas
from studies.tables import Column

ACROSS = 5  # metrics side by side
LOWER = "↓"  # marks a metric of which less is better
ROW = 0.2  # inches of a row
LOG_FROM = 30  # chosen here: a column whose largest value is that many times its smallest gets a logarithmic axis
ROOM = 0.6  # chosen here: how far, in ranges of the means, an axis follows an interval before it cuts it off


def draw(source: Source) -> Drawing:
    """Raises UserError where nothing is measured."""
    result = source.result
    rows, columns = list(result.rows), list(result.table.columns)
    if not any(row.n for row in rows):
        raise source.missing("any row")
    if not result.beside_paper and not source.asked:  # without the paper's marks, a row that nobody ran has none
        rows = [row for row in rows if row.n or (row.status, row.reason) != ("missing", NOT_RUN)]
    numbers = [number for row in rows for column in columns if (number := _number(row, column))]
    measured = [row for row in rows if row.n]
    n = f"n = {span([row.n for row in measured])}"
    papers = (
        f"; diamond: the number that the paper prints; triangle and {DAGGER}: one that the paper quotes from another "
        "publication"
    )
    caption = [
        f"Dot: mean of our seeded runs on the test split ({n}) with its 95 % t-interval over seeds"
        f"{papers if result.beside_paper else ''}.",
        "An interval that ends in an arrow goes on beyond its axis.",
    ]
    missing = [row.row.name for row in rows if not row.n and row.status != "reference"]
    if missing:
        caption.append(f"Not measured here, so without a dot: {', '.join(missing)}.")
    if result.beside_paper and any(row.obstacles for row in measured):
        caption.append("Rows that were not run as in the paper answer another question than its marks do.")
    caption += [f"{row.row.name} (bar): {row.reason}." for row in rows if row.status == "reference"]
    lower = [column.heading for column in columns if not column.higher_is_better]
    if lower:
        caption.append(f"{LOWER} lower is better: {', '.join(lower)}.")
    alt = f"Dot plot of {len(rows)} rows by {len(columns)} metrics; {len(measured)} rows are measured. "
    alt += "; ".join(_spoken(row, columns[: 1 + (len(columns) > 1)]) for row in measured) + "."
    return Drawing(_picture(rows, columns), caption, alt, numbers, [row.row.name for row in rows])


def _number(row: RowResult, column: Column) -> dict[str, Any]:
    """What is drawn of a cell; empty where nothing is."""
    entry = row.cells[column.metric]
    stat, paper = entry.stat, entry.paper
    if not stat and not paper:
        return {}
    return {
        "row": row.row.name,
        "metric": column.metric,
        "n": stat.n if stat else 0,
        "mean": stat.mean if stat else None,
        "sd": stat.sd if stat else None,
        "low": stat.low if stat else None,
        "high": stat.high if stat else None,
        "paper": paper.value if paper else None,
        "quoted": paper.quoted if paper else None,
        "verdict": entry.verdict,
    }


def _spoken(row: RowResult, columns: list[Column]) -> str:
    stats = [(column, row.cells[column.metric].stat) for column in columns]
    return f"{row.row.name}: " + ", ".join(f"{c.heading} {s.mean:.{c.decimals}f}" for c, s in stats if s)


# ------------------------------------------------------------------------------------------------- the picture


@dataclass(frozen=True)
class Range:
    low: float
    high: float
    log: bool


def _picture(rows: list[RowResult], columns: list[Column]):
    bands = -(-len(columns) // ACROSS)
    across = min(ACROSS, len(columns))
    picture = canvas(bands * (ROW * len(rows) + 0.55) + 0.25)
    axes = picture.subplots(bands, across, squeeze=False, sharey=True)
    for axis in list(axes.flat)[len(columns) :]:
        axis.set_axis_off()
    for i, column in enumerate(columns):
        axis = axes.flat[i]
        _panel(axis, rows, column)
        axis.set_title(column.heading + ("" if column.higher_is_better else f" {LOWER}"), **PLAIN)
    axes.flat[0].set_ylim(len(rows) - 0.5, -0.5)
    quoted = [any(e.paper and e.paper.quoted for e in row.cells.values()) for row in rows]
    names = [row.row.name + (f" {DAGGER}" if told else "") for row, told in zip(rows, quoted, strict=True)]
    axes.flat[0].set_yticks(range(len(rows)), names, **PLAIN)
    picture.legend(handles=_legend(axes.flat[0], rows), loc="outside lower center", ncols=4)
    return picture


def _panel(axis, rows: list[RowResult], column: Column) -> None:
    from matplotlib.ticker import EngFormatter

    entries = [row.cells[column.metric] for row in rows]
    shown = _range(entries)
    if shown.log:
        axis.set_xscale("log")
    axis.set_xlim(shown.low, shown.high)
    if not shown.log:
        axis.locator_params(axis="x", nbins=4)
        if shown.high >= 1e5:
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 110M
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    for y, (row, entry) in enumerate(zip(rows, entries, strict=True)):
        if y % 2 == 0:
            axis.axhspan(y - 0.5, y + 0.5, color="#F3F3F3", lw=0, zorder=0)
        if entry.paper:
            _paper(axis, entry.paper.value, y, entry.paper.quoted)
        if entry.stat and row.status == "reference":
            axis.plot([entry.stat.mean], [y], marker="|", ms=7, color=BLACK, mew=1.2, ls="")
        elif entry.stat:
            _ours(axis, entry.stat, y, shown)


def _paper(axis, value: float, y: float, quoted: bool) -> None:
    mark, colour = ("^", GREY) if quoted else ("D", ORANGE)
    axis.plot([value], [y], marker=mark, ms=4.2, mfc="white", mec=colour, mew=0.9, ls="", zorder=3)


def _ours(axis, stat, y: float, shown: Range) -> None:
    if stat.low is not None and stat.high is not None:
        low, high = max(stat.low, shown.low), min(stat.high, shown.high)
        axis.plot([low, high], [y, y], color=BLUE, lw=1.3, zorder=2, solid_capstyle="butt")
        for end, mark, cut in ((low, "<", stat.low < shown.low), (high, ">", stat.high > shown.high)):
            if cut:
                axis.plot([end], [y], marker=mark, ms=3.2, color=BLUE, ls="", clip_on=False, zorder=2)
    axis.plot([stat.mean], [y], marker="o", ms=3.4, color=BLUE, ls="", zorder=4)


def _range(entries: list[Entry]) -> Range:
    """All means and the paper's numbers, and of the intervals as much as leaves those apart."""
    marks = [entry.stat.mean for entry in entries if entry.stat] + [e.paper.value for e in entries if e.paper]
    ends = [end for e in entries if e.stat for end in (e.stat.low, e.stat.high) if end is not None]
    if not marks:
        return Range(0.0, 1.0, False)
    log = min(marks) > 0 and max(marks) / min(marks) >= LOG_FROM
    to, back = (math.log10, lambda x: 10.0**x) if log else (float, float)
    if log:
        ends = [end for end in ends if end > 0]
    low, high = to(min(marks)), to(max(marks))
    span = (high - low) or abs(high) * 0.1 or 1.0
    low = min([low, *(max(to(end), low - ROOM * span) for end in ends)])
    high = max([high, *(min(to(end), high + ROOM * span) for end in ends)])
    return Range(back(low - 0.06 * span), back(high + 0.06 * span), log)


def _legend(axis, rows: list[RowResult]) -> list[Any]:
    papers = [entry.paper for row in rows for entry in row.cells.values() if entry.paper]
    handles = axis.plot([], [], marker="o", ms=3.4, color=BLUE, lw=1.3, label="ours, mean and 95 % interval")
    if any(not paper.quoted for paper in papers):
        style = {"mfc": "white", "mec": ORANGE, "mew": 0.9, "ls": ""}
        handles += axis.plot([], [], marker="D", ms=4.2, label="the paper's number", **style)
    if any(paper.quoted for paper in papers):
        style = {"mfc": "white", "mec": GREY, "mew": 0.9, "ls": ""}
        handles += axis.plot([], [], marker="^", ms=4.2, label=f"{DAGGER} quoted by the paper", **style)
    if any(row.status == "reference" for row in rows):
        handles += axis.plot([], [], marker="|", ms=7, color=BLACK, mew=1.2, ls="", label="reference, no model")
    return handles
