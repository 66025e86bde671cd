"""Fig. 4 (sec. 4.5.6): t-SNE of the multimodal representation, with and without contrastive losses, with numbers.

As in the paper: without contrastive losses on the left, HyCon on the right; purple x for negative, blue dot for
positive. The paper does not say which run, split or t-SNE settings; here it is the test split, the run whose
silhouette is the median of its row's (so that no run is picked for its looks), and t-SNE as in
studies.figures.separation.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hycon.errors import UserError
from studies.aggregate.cells import RowResult
from studies.document.words import listed, mean_sd
from studies.figures.drawing import GREY, PLAIN, WIDTH, Drawing, Source, canvas, wrapped
from studies.figures.separation import (
    NEIGHBOURS,
    Separation,
    embed,
    perplexity,
    sentiment_classes,
    separation,
)
from studies.store.record import RunRecord

ROWS = ("HyCon (W/O Contrast Learning)", "HyCon")  # of Table 4, left and right
# Mark, colour, size and name of each class. The paper's colours, the blue lighter: they differ in grey too.
MARKS = {0: ("x", "#6A1B7F", 9, "negative"), 1: ("o", "#56B4E9", 8, "positive"), -1: ("+", GREY, 9, "label 0")}


@dataclass(frozen=True)
class Run:
    """One seeded run: its representations (N, d), labels and classes (N,), and how far the classes lie apart."""

    row: str
    index: int  # from 1, in the order of the seeds
    record: RunRecord
    points: np.ndarray
    label: np.ndarray
    classes: np.ndarray
    found: Separation


def draw(source: Source) -> Drawing:
    """Raises UserError where a row has no finished run, or a run no representation, or the labels are emotions."""
    rows = [row for row in source.result.rows if row.status != "reference"]
    without = [row.row.name for row in rows if not row.records]
    if without:
        raise source.missing(listed(without))
    runs = {row.row.name: [_read(source, row, i) for i in range(row.n)] for row in rows}
    _check_same_split(runs)
    shown = {name: _shown(of_row, source.runs) for name, of_row in runs.items()}
    numbers = [
        {
            "row": run.row,
            "index": run.index,
            "seed": run.record.spec.seed,
            "run": run.record.id,
            "shown": run in shown[name],
            **asdict(run.found),
        }
        for name, of_row in runs.items()
        for run in of_row
    ]
    caption = [*_what(source, runs, shown), *(_summary(name, of_row) for name, of_row in runs.items())]
    alt = f"Scatter plots of t-SNE, negative and positive test utterances, for {listed(runs)}. " + " ".join(
        f"{name}: mean silhouette {_mean_sd([run.found.silhouette for run in of_row])}."
        for name, of_row in runs.items()
    )
    return Drawing(_picture(runs, shown), caption, alt, numbers, list(runs))


def _read(source: Source, row: RowResult, i: int) -> Run:
    record = row.records[i]
    bare = source.store.has_outputs(record.id)
    if record.predictions and (bare or not source.store.has_predictions(record.id)):
        raise UserError(
            f"The representations of run {record.id} ({row.row.name}) are not in this folder: published results come "
            "without them."
        )
    arrays = source.store.predictions(record.id, ("test_label",))
    if "test_multimodal" not in arrays:
        raise UserError(
            f"Run {record.id} ({row.row.name}) keeps no multimodal representation: runs made before these were kept "
            f"need to run again (delete {source.store.folder(record.id)}), and some models have none that is kept."
        )
    label = arrays["test_label"]
    if label.ndim != 1:
        raise UserError(f"The labels of corpus {source.result.corpus.name} are emotions; Fig. 4 shows two sentiments.")
    points = np.asarray(arrays["test_multimodal"], np.float64)
    classes = sentiment_classes(label, _zero(record))
    return Run(row.row.name, i + 1, record, points, label, classes, separation(points, classes))


def _check_same_split(runs: dict[str, list[Run]]) -> None:
    """Pictures of different utterances must not stand side by side. Raises UserError."""
    every = [run for of_row in runs.values() for run in of_row]
    for run in every[1:]:
        if not np.array_equal(run.label, every[0].label):
            raise UserError(
                f"Runs {every[0].record.id} ({every[0].row}) and {run.record.id} ({run.row}) have different test "
                "utterances: the corpus was changed between them; run both rows on its present state."
            )


def _zero(record: RunRecord) -> str:
    return record.spec.config.get("zero", "positive")  # models without pairs: as the metrics' protocol "paper"


def _shown(runs: Sequence[Run], which: str) -> list[Run]:
    """ "all", a number from 1, or "median": the run of median silhouette (of an even number, the lower one)."""
    if which == "all":
        return list(runs)
    if which == "median":
        ranked = sorted(runs, key=lambda run: -np.inf if run.found.silhouette is None else run.found.silhouette)
        return [ranked[(len(runs) - 1) // 2]]
    if not which.isdigit() or not 1 <= int(which) <= len(runs):
        raise UserError(f"--seed-index is {which!r}; {runs[0].row} has runs 1 to {len(runs)}: expected one of them.")
    return [runs[int(which) - 1]]


def _picture(runs: dict[str, list[Run]], shown: dict[str, list[Run]]):
    """Rows side by side where each shows one run; otherwise a line for each row and a column for each run."""
    several = max(map(len, shown.values()))
    lines = len(shown) if several > 1 else -(-len(shown) // 4)  # at most four side by side
    columns = several if several > 1 else min(len(shown), 4)
    side = min(WIDTH / columns, 3.2)
    picture = canvas(lines * (side + 0.3) + 0.3)
    axes = picture.subplots(lines, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    flat = list(axes.flat)
    used: set[int] = set()
    for i, (name, of_row) in enumerate(shown.items()):
        for j, run in enumerate(of_row):
            axis = axes[i][j] if several > 1 else flat[i]
            _panel(axis, run, 0.5 if several > 1 else 1.0)
            axis.set_title(_heading(run, runs[name], side, several > 1), **PLAIN)
            used |= set(np.unique(run.classes).tolist())
    handles = [
        flat[0].scatter([], [], marker=mark, c=colour, s=14, linewidths=0.8, label=name)
        for code, (mark, colour, _, name) in MARKS.items()
        if code in used
    ]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return picture


def _heading(run: Run, runs: Sequence[Run], inches: float, several: bool) -> str:
    score = "undefined" if run.found.silhouette is None else f"{run.found.silhouette:.3f}"
    if several:
        return f"{wrapped(run.row, inches)}\nrun {run.index}: silhouette {score}"
    name = wrapped(f"{run.row}, run {run.index} of {len(runs)}", inches)
    over = f"; of all {len(runs)}: {_mean_sd([each.found.silhouette for each in runs])}" if len(runs) > 1 else ""
    return f"{name}\nsilhouette {score}{over}"


def _panel(axis, run: Run, scale: float) -> None:
    position = embed(run.points)
    axis.set_axis_on()
    axis.set(xticks=[], yticks=[])
    axis.set_aspect("equal", adjustable="datalim")
    for spine in axis.spines.values():
        spine.set_visible(True)
    shrink = scale * min(1.2, 0.5 + 500 / len(run.points))  # chosen here: 686 (CMU-MOSI) to 4,659 points stay apart
    for code, (mark, colour, size, _) in MARKS.items():
        own = position[run.classes == code]
        width = 0.0 if mark == "o" else 0.8 * shrink**0.5
        axis.scatter(own[:, 0], own[:, 1], marker=mark, c=colour, s=size * shrink, linewidths=width)


def _what(source: Source, runs: dict[str, list[Run]], shown: dict[str, list[Run]]) -> list[str]:
    points = next(iter(runs.values()))[0].points
    middle = "the run of median silhouette of each row, the lower one of an even number"
    which = {"median": middle, "all": "every run"}.get(source.runs)
    picked = ", ".join(f"run {of_row[0].index} of {len(runs[name])} of {name}" for name, of_row in shown.items())
    zeros = {_zero(run.record) for of_row in runs.values() for run in of_row}
    zero = (
        "a label of 0 is positive" if zeros == {"positive"} else f"labels of 0: {listed(sorted(zeros))} (option zero)"
    )
    return [
        f"t-SNE of the multimodal representation of the {len(points)} utterances of the test split ({zero}).",
        f"Shown: {which}{'' if source.runs == 'all' else f' ({picked})'}." if which else f"Shown: {picked}.",
        f"Perplexity {perplexity(len(points)):.3g}, started from the principal components, fixed seed; the axes have "
        "no unit, and t-SNE does not keep distances or densities.",
        f"The numbers are of the representation space, not of the picture, as mean ± sample standard deviation over "
        f"seeded runs: silhouette (-1 to 1, 0: overlap), leave-one-out accuracy of the {NEIGHBOURS} nearest "
        "neighbours, and distance of the class centroids over the root mean square distance from them.",
    ]


def _summary(name: str, runs: Sequence[Run]) -> str:
    found = [run.found for run in runs]
    majority = found[0].majority
    beside = f" (guessing the commoner class: {majority:.3f})" if majority is not None else ""
    return (
        f"{name}, n = {len(runs)}: silhouette {_mean_sd([f.silhouette for f in found])}, accuracy of the "
        f"{NEIGHBOURS} nearest neighbours {_mean_sd([f.knn_accuracy for f in found])}{beside}, "
        f"centroid distance over spread {_mean_sd([f.centroid_ratio for f in found])}."
    )


def _mean_sd(values: Sequence[Any]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "undefined"
    sd = statistics.stdev(known) if len(known) > 1 else None
    return mean_sd(statistics.fmean(known), sd, 0, 3) + (f" (of {len(known)} runs)" if len(known) < len(values) else "")
