"""Robustness as curves: a metric over the share of words that have lost a modality, a panel for each modality.

Above Acc2, below MAE; of emotions, F1 and accuracy. At 0 is the intact test split, at 1 the modality is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hycon.data.manifest import MODALITIES
from hycon.errors import UserError
from studies.aggregate.cells import RowResult, measures
from studies.aggregate.robustness import NOT_MEASURED, coarse, curve, remedy
from studies.document.words import listed, sentence, span
from studies.figures.drawing import BLACK, PLAIN, WIDTH, Drawing, Source, canvas
from studies.statistics.cell import CellStat, cell, range_of
from studies.store.record import RunRecord
from studies.tables import ROBUST_EMOTIONS, SENTIMENT, Column

SHOWN = {  # task -> what is above and below
    "sentiment": tuple(column for column in SENTIMENT if column.metric in ("acc2", "mae")),
    "emotion": tuple(column for column in ROBUST_EMOTIONS if column.metric in ("average_acc", "average_f1")),
}
BELOW = {
    "sentiment": "Above Acc2 in percent, below MAE, of which less is better.",
    "emotion": "F1 above and accuracy below, in percent: the average over emotions.",
}
# Of Okabe and Ito, as all colours here, without the yellow, which is too light for a line
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", BLACK)
DASHES: tuple[Any, ...] = ("-", (0, (4, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)))  # for the next seven rows, and so on
MARKS = "osD^vP"


def draw(source: Source) -> Drawing:
    """Raises UserError where no row's robustness was measured, and for tables of other runs."""
    if not source.result.table.robust:
        raise UserError(f"The runs of {source.result.table.name} are not measured for it: leave --table out.")
    rows = [row for row in source.result.rows if any(record.robust for record in row.records)]
    if not rows:
        done = [row.row.name for row in source.result.rows if row.n]
        if done:
            raise UserError(sentence(remedy(source.result.table, done, source.view)[0]))
        raise source.missing(listed(row.row.name for row in source.result.rows) if source.asked else "any row")
    protocol, shown = source.result.protocol, SHOWN[source.result.table.task]
    numbers = [
        {"row": row.row.name, "modality": modality, "metric": column.metric, "share": share, **_spread(stat)}
        for row in rows
        for modality in MODALITIES
        for column in shown
        for share, stat in points(row, modality, column, protocol)
    ]
    left_out = [row.row.name for row in source.result.rows if row not in rows and row.n]
    n = f"n = {span([sum(record.robust for record in row.records) for row in rows])}"
    measured = f", protocol {protocol}" if source.result.table.task == "sentiment" else ""
    caption = [
        "Over the share of each utterance’s words that have lost a modality: 0 is the intact test split, at 1 the "
        "modality is missing. Models are trained on intact data; all lose it at the same words.",
        f"Lines: means over seeded runs ({n}{measured}); bands: their 95 % t-intervals, none below 3 runs.",
        BELOW[source.result.table.task],
        *coarse(source.result.table, source.result.corpus.one_row),
        *([f"{NOT_MEASURED.capitalize()}, and left out: {', '.join(left_out)}."] if left_out else []),
    ]
    metrics = " and ".join(column.heading for column in shown)
    alt = f"Curves of {metrics} over the share of dropped words, for {len(rows)} rows. " + " ".join(
        f"{row.row.name}: {_spoken(row, shown[0], protocol)}." for row in rows
    )
    return Drawing(_picture(rows, shown, protocol), caption, alt, numbers, [row.row.name for row in rows])


def points(row: RowResult, modality: str, column: Column, protocol: str) -> list[tuple[float, CellStat]]:
    """(share, mean and interval over the runs that were measured), from 0 to 1; undefined points are left out."""
    curves = [_curve(record, modality, column.metric, protocol) for record in row.records if record.robust]
    found = []
    for at in zip(*curves, strict=True):
        known = [column.scale * value for _, value in at if value is not None]
        if known:
            found.append((at[0][0], cell(known, range_of(column.metric))))
    return found


def _curve(record: RunRecord, modality: str, metric: str, protocol: str) -> list[tuple[float, float | None]]:
    known = measures(record, protocol)
    return curve(modality, metric, known, known)


def _spread(stat: CellStat) -> dict[str, Any]:
    return {"n": stat.n, "mean": stat.mean, "sd": stat.sd, "low": stat.low, "high": stat.high}


def _spoken(row: RowResult, column: Column, protocol: str) -> str:
    parts = []
    for modality in MODALITIES:
        if found := points(row, modality, column, protocol):
            last = f"{found[-1][1].mean:.{column.decimals}f}"
            parts.append(f"from {found[0][1].mean:.{column.decimals}f} to {last} without {modality}")
    return f"{column.heading} {', '.join(parts)}" if parts else "undefined"


# ------------------------------------------------------------------------------------------------- the picture


def _picture(rows: list[RowResult], shown: Sequence[Column], protocol: str):
    legend = -(-len(rows) // 4)  # lines of it
    picture = canvas(3.6 + 0.14 * legend)
    axes = picture.subplots(len(shown), len(MODALITIES), squeeze=False, sharex=True, sharey="row")
    for axis, modality in zip(axes[0], MODALITIES, strict=True):
        axis.set_title(f"without {modality}", **PLAIN)
    for line, column in zip(axes, shown, strict=True):
        for axis, modality in zip(line, MODALITIES, strict=True):
            for number, row in enumerate(rows):
                _line(axis, points(row, modality, column, protocol), number)
            axis.set_xlim(0, 1)
            axis.locator_params(axis="y", nbins=5)
        line[0].set_ylabel(column.heading + ("" if column.higher_is_better else " (lower is better)"))
    for axis in axes[-1]:
        axis.set_xlabel("share of words")
    handles = [axes[0][0].plot([], [], label=row.row.name, **_look(i))[0] for i, row in enumerate(rows)]
    wide = max(len(row.row.name) for row in rows) * 0.06 + 0.5  # inches of an entry
    columns = max(1, min(len(rows), 6, int(WIDTH / wide)))
    picture.legend(handles=handles, loc="outside lower center", ncols=columns)
    return picture


def _line(axis, found: list[tuple[float, CellStat]], number: int) -> None:
    look = _look(number)
    axis.plot([share for share, _ in found], [stat.mean for _, stat in found], **look)
    banded = [(share, stat.low, stat.high) for share, stat in found if stat.low is not None]
    if banded:
        axis.fill_between(*zip(*banded, strict=True), color=look["color"], alpha=0.12, lw=0)


def _look(number: int) -> dict[str, Any]:
    """Rows differ in colour and mark, and from the eighth on in their dashes."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "ls": DASHES[number // len(COLOURS) % len(DASHES)],
        "marker": MARKS[number % len(MARKS)],
        "ms": 2.2,
        "lw": 0.9,
    }
