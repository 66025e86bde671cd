"""How much a search that is repeated moves a row: the spread of studies, split into what seeds and what tuning add.

Study i has n_i seeded runs of its winner, of mean m_i and standard deviation s_i. With a study's own deviation of
variance T² and a run's of variance W², as a random-effects analysis of variance has it (Searle, Casella and McCulloch,
Variance Components, 1992, chapter 3):

    between    sd of the means m_i, whose variance is T² + W² mean(1 / n_i)
    within     W, pooled: sum of (n_i - 1) s_i² over sum of (n_i - 1)
    tuning     T = sqrt(max(0, between² - within² mean(1 / n_i)))

A spread of three studies is rough: the 95 % interval of an sd from three normal values runs from half of it to six
times as much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from studies.statistics.cell import CellStat

PARTS = {  # fields of Spread, with what a table says of them
    "between": "of the studies’ means",
    "within": "of the seeds in a study, pooled",
    "tuning": "between, less what seeds explain",
}


@dataclass(frozen=True)
class Spread:
    """All in the cells' unit. within, tuning: None where no study has two runs."""

    between: float
    within: float | None
    tuning: float | None


def spread(studies: Sequence[CellStat]) -> Spread | None:
    """Of a cell's studies, one CellStat each; None for fewer than two."""
    if len(studies) < 2:
        return None
    between = stdev(study.mean for study in studies)
    repeated = [(study.n - 1, study.sd**2) for study in studies if study.sd is not None]
    if not repeated:
        return Spread(between, None, None)
    within = sum(freedom * variance for freedom, variance in repeated) / sum(freedom for freedom, _ in repeated)
    explained = within * fmean(1 / study.n for study in studies)
    return Spread(between, math.sqrt(within), math.sqrt(max(0.0, between**2 - explained)))
