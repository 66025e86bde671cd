"""Learning curves in a terminal: a panel of bars for each series, above one axis of epochs.

          train loss
    1.412 █▅
          ██▆▃▁
    0.487 █████▇▅▃▂▁▁
          valid loss
    1.405 ▇
          █▅▂▁  ▁ ▂
    1.195 ████▆▅█▇█▁▃
          1        ▲
                   epoch 10 of 11, the best

A bar stands on its panel's lowest value, not on 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

EIGHTHS = " ▁▂▃▄▅▆▇█"
PLAIN = " .....::#"  # the same eight heights, for terminals without block characters
HEIGHT = 4  # lines of a panel
WIDTH = 64  # columns; with the labels before them 76
WIDEST_BAR = 4  # columns of an epoch, where there are few


def plot(series: Mapping[str, Sequence[float | None]], best: int | None, *, plain: bool = False) -> str:
    """series: name -> a value for each epoch, None where there is none.  best: its epoch, from 1.

    plain: ASCII only. Epochs beyond WIDTH share columns, each the mean of its epochs.
    """
    epochs = max(map(len, series.values()), default=0)
    if not epochs:
        return "no learning curve"
    step = math.ceil(epochs / WIDTH)
    wide = 1 if step > 1 else max(1, min(WIDEST_BAR, WIDTH // epochs))
    lines: list[str] = []
    for name, values in series.items():
        binned = [_mean(values[i : i + step]) for i in range(0, len(values), step)]
        lines += _panel(name, binned, wide, PLAIN if plain else EIGHTHS)
    lines += _axis(epochs, best, step, wide, "^" if plain else "▲")
    return "\n".join(line.rstrip() for line in lines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(known) if known else None


def _panel(name: str, values: Sequence[float | None], wide: int, marks: str) -> list[str]:
    known = [value for value in values if value is not None]
    lines = [f"{'':12}{name}"]
    if not known:
        return [*lines, f"{'':12}no value"]
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    levels = [0 if v is None else 1 + round((v - low) / span * (8 * HEIGHT - 1)) for v in values]
    for line in range(HEIGHT, 0, -1):
        label = f"{high:.4g}" if line == HEIGHT else f"{low:.4g}" if line == 1 else ""
        bars = "".join(marks[max(0, min(8, level - 8 * (line - 1)))] * wide for level in levels)
        lines.append(f"{label:>11} {bars}")
    return lines


def _axis(epochs: int, best: int | None, step: int, wide: int, mark: str) -> list[str]:
    """The first epoch, a mark under the best one, and what it is."""
    if best is None or not 1 <= best <= epochs:
        return [f"{'':12}1 to {epochs} epochs"]
    at = (best - 1) // step * wide
    said = f"epoch {best} of {epochs}, the best"
    line = f"{mark * wide}" if at < 2 else f"1{'':{at - 1}}{mark * wide}"
    return [f"{'':12}{line}", f"{'':12}{'':{max(0, min(at, WIDTH - len(said)))}}{said}"]
