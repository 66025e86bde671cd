"""Search scatter: validation loss of every trial against each hyper-parameter of a row's study.

The search draws from grids, so each value is a place on the axis, in the order of size, and trials of equal value lie
side by side in the order of their numbers. Only validation is shown: a search has no business with the test split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from studies.figures.drawing import BLUE, GREY, ORANGE, Drawing, Source, canvas, listed
from studies.store.record import canonical
from studies.store.study import Study

ACROSS = 5  # panels in a line
SPREAD = 0.6  # of the distance between two values that their trials fill


@dataclass(frozen=True)
class Trial:
    """status: done | failed | not run."""

    number: int
    values: dict[str, Any]
    status: str
    loss: float | None
    reason: str = ""


def draw(source: Source) -> Drawing:
    """Raises UserError where no row has a finished trial.

    Unless rows were named, only the row whose winner has the lowest validation loss is drawn.
    """
    found = {name: _trials(source, study) for name, study in source.studies.items()}
    best = {
        name: min(losses)
        for name, of_row in found.items()
        if (losses := [t.loss for t in of_row if t.loss is not None])
    }
    if not best or (source.asked and set(best) != {row.row.name for row in source.result.rows}):
        names = [row.row.name for row in source.result.rows if row.row.name not in best]
        raise source.missing(listed(names) if source.asked else "any search")
    rows = list(best) if source.asked else [min(best, key=lambda name: best[name])]
    numbers = [
        {
            "row": name,
            "trial": trial.number,
            "run": source.studies[name].trials[trial.number],
            "status": trial.status,
            "valid_loss": trial.loss,
            "winner": trial.number == source.studies[name].selected,
            **trial.values,
        }
        for name in rows
        for trial in found[name]
    ]
    caption = ["Validation loss at the best epoch against each value of the grid; star: the winner; the bar: median."]
    caption += [_summary(name, source.studies[name], found[name]) for name in rows]
    others = [name for name in best if name not in rows]
    if others:
        said = f"The row with the lowest validation loss of the {len(best)} that were searched; --rows shows others."
        caption.append(said)
    alt = "Validation loss of the search's trials by hyper-parameter. " + " ".join(caption[1 : 1 + len(rows)])
    return Drawing(_picture(rows, source, found), caption, alt, numbers, rows)


def _trials(source: Source, study: Study) -> list[Trial]:
    trials = []
    for number, (values, run) in enumerate(zip(study.draws, study.trials, strict=True)):
        record, failure = source.store.get(run), source.store.failed(run)
        loss = record.valid_loss if record else None
        if loss is not None and math.isfinite(loss):
            trials.append(Trial(number, values, "done", loss))
        elif failure:
            trials.append(Trial(number, values, "failed", None, failure.reason or "no reason recorded"))
        else:
            trials.append(Trial(number, values, "not run", None))
    return trials


def _summary(name: str, study: Study, trials: list[Trial]) -> str:
    counts = {status: sum(trial.status == status for trial in trials) for status in ("done", "failed", "not run")}
    encoder = f" (text encoder: {study.encoder['name']})" if study.encoder else ""
    said = f"{name}{encoder}: {counts['done']} of {len(trials)} trials done"
    said += "".join(f", {counts[status]} {status}" for status in ("failed", "not run") if counts[status])
    if study.selected is None:
        return f"{said}; no winner yet."
    winner = trials[study.selected]
    values = ", ".join(f"{key} = {value}" for key, value in winner.values.items())
    loss = "" if winner.loss is None else f", validation loss {winner.loss:.4f}"
    return f"{said}; winner: trial {winner.number}{loss}, {values}."


def _picture(rows: list[str], source: Source, found: dict[str, list[Trial]]):
    parts = [(name, parameter) for name in rows for parameter in _varied(source.studies[name])]
    across = min(ACROSS, max(len(parts), 2))
    by_row = {name: [p for n, p in parts if n == name] for name in rows}
    lines = sum(-(-len(of_row) // across) for of_row in by_row.values())
    picture = canvas(1.7 * lines + 0.25)
    axes = picture.subplots(lines, across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    line = 0
    for name, parameters in by_row.items():
        for i, parameter in enumerate(parameters):
            axis = axes[line + i // across][i % across]
            _panel(axis, found[name], parameter, source.studies[name].selected)
            axis.set_ylabel("validation loss" if i % across == 0 else "")
            if i == 0 and len(rows) > 1:
                axis.set_title(name, loc="left", fontweight="bold")
        line += -(-len(parameters) // across)
    failed = any(trial.status == "failed" for name in rows for trial in found[name])
    picture.legend(handles=_legend(axes[0][0], failed), loc="outside lower center", ncols=4)
    return picture


def _varied(study: Study) -> list[str]:
    """The hyper-parameters that took more than one value; all of them where none did."""
    names = list(dict.fromkeys(name for values in study.draws for name in values))
    varied = [name for name in names if len({canonical(values.get(name)) for values in study.draws}) > 1]
    return varied or names or ["(nothing searched)"]


def _panel(axis, trials: list[Trial], parameter: str, selected: int | None) -> None:
    axis.set_axis_on()
    values = sorted(
        {canonical(trial.values.get(parameter)): trial.values.get(parameter) for trial in trials}.values(), key=_size
    )
    done = [trial.loss for trial in trials if trial.loss is not None]
    top = max(done) + 0.08 * ((max(done) - min(done)) or 1.0)  # where failed trials are put: they have no loss
    for place, value in enumerate(values):
        own = [
            trial
            for trial in trials
            if canonical(trial.values.get(parameter)) == canonical(value) and trial.status != "not run"
        ]
        for i, trial in enumerate(own):
            x = place + SPREAD * ((i + 0.5) / len(own) - 0.5)
            if trial.loss is None:
                axis.plot([x], [top], marker="x", ms=3.5, color=ORANGE, mew=0.9, ls="", clip_on=False)
            elif trial.number == selected:
                axis.plot([x], [trial.loss], marker="*", ms=7, color=ORANGE, mec="black", mew=0.5, ls="", zorder=4)
            else:
                axis.plot([x], [trial.loss], marker="o", ms=2.6, mfc="none", mec=BLUE, mew=0.7, ls="")
        losses = sorted(trial.loss for trial in own if trial.loss is not None)
        if losses:
            axis.plot([place - 0.38, place + 0.38], [_median(losses)] * 2, color=GREY, lw=1.1, zorder=1)
    axis.set_xlim(-0.6, len(values) - 0.4)
    axis.set_xticks(range(len(values)), [_short(value) for value in values])
    axis.set_xlabel(parameter)
    axis.locator_params(axis="y", nbins=4)


def _legend(axis, failed: bool) -> list[Any]:
    handles = axis.plot([], [], marker="o", ms=3, mfc="none", mec=BLUE, mew=0.7, ls="", label="trial")
    handles += axis.plot([], [], marker="*", ms=7, color=ORANGE, mec="black", mew=0.5, ls="", label="winner")
    if failed:
        handles += axis.plot([], [], marker="x", ms=3.5, color=ORANGE, mew=0.9, ls="", label="failed (no loss)")
    return handles + axis.plot([], [], color=GREY, lw=1.1, label="median")


def _median(ordered: list[float]) -> float:
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def _size(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then the rest by their text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, str(value))


def _short(value: Any) -> str:
    """0.0003 is 3e-4: ticks stand close."""
    if not isinstance(value, float):
        return str(value)
    mantissa, _, exponent = f"{value:e}".partition("e")
    return min(f"{value:g}", f"{float(mantissa):g}e{int(exponent)}", key=len)
