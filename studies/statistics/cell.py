"""Statistics of one cell of a table: mean, spread and interval of the seeded runs, and a verdict beside the paper.

A verdict compares the 95 % interval of our mean with the band [paper - tolerance, paper + tolerance]:

    reproduced      the whole interval lies in the band
    differs         no part of it does
    inconclusive    it straddles an edge: more seeds would tell
    too few seeds   one or two runs have no interval
    not comparable  there is no number of the paper's, or what was run is not what the paper ran
    not run         nothing was measured

`explained` gives a verdict's direction and size, and the number of seeds that would probably settle an inconclusive
one.

This is the two one-sided tests procedure with each test at 2.5 %. The paper prints no spread of its own; the tolerance
stands for it, and is therefore no smaller than what five seeds can move a mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
POWER = 0.8  # chosen here: the usual power of a planned sample; "probably" means this
MOST_SEEDS = 100  # chosen here: nobody trains more of one row
FEWEST = 3  # chosen here: runs below which no interval is given; with two, t is 12.7 standard errors
COMPARED = ("reproduced", "differs", "inconclusive")  # the verdicts that compare two numbers
TOO_FEW = "too few seeds"
VERDICTS = (*COMPARED, TOO_FEW, "not comparable", "not run")


@dataclass(frozen=True)
class Tolerance:
    """value: in the units the paper prints (percentage points for accuracies and F1)."""

    value: float
    reason: str


_LIKE_ACC2 = (
    "chosen here: range of {} over range of Acc2 in the unquoted BERT and XLNet rows of Table 1, {}, rounded to {}"
)
TOLERANCES = {
    "acc2": Tolerance(1.0, "chosen here: a point is what maintainers in this field accept of a re-run (MMSA issue 68)"),
    "f1": Tolerance(1.0, "as Acc2, which it follows within tenths of a point in every row of Tables 1 and 2 with BERT"),
    "acc7": Tolerance(1.5, _LIKE_ACC2.format("Acc7", "1.55", "halves")),
    "mae": Tolerance(0.03, _LIKE_ACC2.format("MAE", "0.0286", "0.005")),
    "corr": Tolerance(0.015, _LIKE_ACC2.format("Corr", "0.0143", "0.005")),
    "acc": Tolerance(1.0, "chosen here: of an emotion or their average, as Acc2; its F1 likewise"),
    "parameters": Tolerance(
        0.0, "a count is the same or it is not; times and memory depend on the machine and have none"
    ),
}


SHARE = ("acc7", "acc5", "acc3", "acc2", "f1", "acc")  # printed in percent
COUNTED = ("mae", "parameters", "seconds", "epoch", "mib", "separation")  # last part of the name; not negative


def range_of(metric: str) -> tuple[float, float]:
    """The least and the greatest value that a metric can have, as it is printed."""
    last = metric.rpartition("_")[2]
    if last in SHARE:
        return 0.0, 100.0
    if last == "corr":
        return -1.0, 1.0
    return (0.0 if last in COUNTED else -math.inf), math.inf


@dataclass(frozen=True)
class CellStat:
    """sd: ddof 1, None for a single run.  low, high: the 95 % t-interval of the mean, None below FEWEST runs."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


def cell(values: Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> CellStat:
    """Mean, sd and 95 % t-interval of `values`, one per run. within: the interval ends there (`range_of` the metric).

    Raises ValueError for no values, or for a non-finite one.
    """
    if not values or not all(math.isfinite(v) for v in values):
        raise ValueError(f"a cell needs finite values, one per run; got {list(values)}")
    n = len(values)
    mean = statistics.fmean(values)
    if n < 2:
        return CellStat(mean, None, None, None, n)
    sd = statistics.stdev(values)
    if n < FEWEST:
        return CellStat(mean, sd, None, None, n)
    from scipy.special import stdtrit  # the t quantile without the second that scipy.stats takes to import

    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * sd / math.sqrt(n)
    return CellStat(mean, sd, max(mean - half, within[0]), min(mean + half, within[1]), n)


def tolerance_for(metric: str) -> Tolerance | None:
    """Emotions ("happy_acc") share theirs. None where a number has nothing to be near."""
    if metric.endswith("_f1"):
        return TOLERANCES["acc"]  # of an emotion; its reason says so
    return TOLERANCES.get(metric) or TOLERANCES.get(metric.rpartition("_")[2])


def tolerance_of(metric: str) -> float | None:
    """The value of `tolerance_for`, in the paper's units."""
    found = tolerance_for(metric)
    return found.value if found else None


def verdict(stat: CellStat | None, paper: float | None, tolerance: float | None) -> str:
    """One of VERDICTS; see the module's docstring. All three are in the paper's units."""
    if stat is None:
        return "not run"
    if paper is None or tolerance is None:
        return "not comparable"
    if tolerance == 0:  # a count: no interval is asked
        return "reproduced" if stat.mean == paper and not stat.sd else "differs"
    if stat.low is None or stat.high is None:
        return TOO_FEW
    low, high = paper - tolerance, paper + tolerance
    slack = 1e-9  # decimal numbers on the edge of the band belong to it
    if low - slack <= stat.low and stat.high <= high + slack:
        return "reproduced"
    if stat.high < low - slack or high + slack < stat.low:
        return "differs"
    return "inconclusive"


def explained(found: str, stat: CellStat | None, paper: float | None, tolerance: float | None, decimals: int) -> str:
    """Direction and size of a verdict in words, as "1.9 below the paper's, the interval 0.4 beyond the tolerance of
    1.0". decimals: as the table prints. "" for a verdict that compares nothing."""
    if found not in (*COMPARED, TOO_FEW) or stat is None or paper is None or tolerance is None:
        return ""

    def in_print(value: float) -> str:
        return f"{value:,.{decimals}f}"

    off, band = stat.mean - paper, f"the tolerance of {in_print(tolerance)}"
    size, nothing = in_print(abs(off)), in_print(0)
    where = "in print the paper's" if size == nothing else f"{size} {'above' if off > 0 else 'below'} the paper's"
    if tolerance == 0:
        return where
    if stat.low is None or stat.high is None:
        return f"{where}, but {'one run has' if stat.n == 1 else f'{stat.n} runs have'} no interval"
    if found == "reproduced":
        return f"{where}, the interval within {band}"
    if found == "differs":
        beyond = max(stat.low - paper, paper - stat.high) - tolerance
        return f"{where}, the interval {in_print(beyond)} beyond {band}"
    seeds = seeds_to_settle(stat, paper, tolerance)
    more = f"{seeds} seeds would probably settle it" if seeds else f"{MOST_SEEDS} seeds would hardly settle it"
    return f"{where}, the interval across an edge of {band}; {more}"


def seeds_to_settle(stat: CellStat, paper: float, tolerance: float) -> int | None:
    """How many seeds in all would make an inconclusive verdict conclusive with probability POWER, if our mean and sd
    are the true ones. None where there is no sd, or where more than MOST_SEEDS would be needed."""
    if not stat.sd:
        return None
    from scipy.special import ndtr, stdtrit

    low, high = paper - tolerance - stat.mean, paper + tolerance - stat.mean
    for n in range(stat.n + 1, MOST_SEEDS + 1):
        error = stat.sd / math.sqrt(n)
        half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * error
        within = max(0.0, ndtr((high - half) / error) - ndtr((low + half) / error))  # clear of both edges
        beyond = ndtr((low - half) / error) + ndtr(-(high + half) / error)
        if within + beyond >= POWER:
            return n
    return None
