"""Two rows of a table compared: difference of their means, its interval, a permutation test. No store, no table.

Runs differ by their seed, utterances by what is said; both are samples, and crossed: every run meets every utterance.
With A, B the runs' metrics and D = mean(A) - mean(B), the variance of D is estimated as

    unpaired   V = s_A²/n_A + s_B²/n_B + c        paired by seed   V = s_D²/n + c

s² are the variances (ddof 1) between seeds on the utterances at hand; c is what the choice of utterances adds: the mean
covariance, over resamples of utterances that both rows share, of the differences of distinct runs (distinct ones,
because a run's covariance with itself is in s² already). This is the variance of the seed x utterance ("pigeonhole")
bootstrap, without its bias: resampling n seeds gives (n - 1)/n of their variance, four fifths for five, and counts the
interaction of seed and utterance three times (Owen 2007, Ann. Appl. Stat. 1:386). Seeds need no resampling:
the variance of a resampled mean is known. The interval is D ± t(df) sqrt(V), with Satterthwaite's degrees of freedom
(1946, Biometrics Bull. 2:110) over the terms; without c it is the paired t-interval and Welch's. docs/protocol.md has
the coverage that was measured.

Utterances of one video have a speaker and a subject in common, so they are no independent draws. c is therefore the
larger of two: drawing utterances one by one, and drawing whole videos, of which there are far fewer. The second alone
would be rough, and can come out as 0 by chance.

The p-value answers a smaller question: could runs of one training procedure, told apart by their seeds alone, differ as
much on these very utterances? It is a permutation test (studies.statistics.permutation). Utterances enter through the
interval only, which has a p of its own, `p_interval`: below 0.05 where it excludes 0. Over several comparisons the
larger of the two is `adjusted`, everywhere. With S pairs no p is below 2/2^S, so five pairs cannot reach 0.05:
`underpowered`.

Nothing here imports scipy.stats, which takes half a second: every `bench claims` and `bench diff` would.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hycon.errors import UserError
from studies.statistics.cell import CONFIDENCE, FEWEST, range_of
from studies.statistics.permutation import relabelled, sign_flips, smallest_p
from studies.statistics.resample import Measure, measure

LEVEL = 0.05  # a p below this is called significant, also an `adjusted` one


@dataclass(frozen=True, eq=False)
class Group:
    """The seeded runs of one row on one split, all on the same utterances in the same order.

    prediction: (S, N) sentiment, or (S, N, E, 2) logits of emotions.  label: (N,) or (N, E).
    seeds: S of them; rows of equal seeds are paired (HyCon and its ablations share seeds).
    videos: (N,), the name of each utterance's video; None where that is not known.
    """

    prediction: np.ndarray
    label: np.ndarray
    seeds: tuple[int, ...]
    videos: np.ndarray | None = None


@dataclass(frozen=True)
class Comparison:
    """difference: mean of a less mean of b, in the metric's own unit (fractions: times Column.scale to print).
    low, high: its 95 % interval, None where a side has fewer than FEWEST runs, or the metric is about fewer utterances:
    one utterance tells nothing of others.  p: two-sided permutation test, None
    where a side has one run only.  p_interval: 1 less the confidence at which the interval would just reach 0.
    n_a, n_b: runs used.  utterances: those that the metric is about; 0 where only a number per run is known.
    paired: by seed.  underpowered: no outcome of this test could have given p < 0.05 with so few seeds.
    seeds_needed: how many in each row would do at the least; None where not underpowered.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    n_a: int
    n_b: int
    utterances: int
    paired: bool
    underpowered: bool
    seeds_needed: int | None
    p_interval: float | None = None

    def printed(self, metric: str, scale: float) -> Comparison:
        """With difference and interval in the unit of a table, `scale` being Column.scale; the interval ends where no
        two values of the metric can differ more."""
        least, greatest = range_of(metric)
        most = greatest - least
        low = None if self.low is None else max(scale * self.low, -most)
        high = None if self.high is None else min(scale * self.high, most)
        return replace(self, difference=scale * self.difference, low=low, high=high)


def compare(
    a: Group,
    b: Group,
    metric: str,
    *,
    protocol: str = "paper",
    emotions: Sequence[str] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Row a against row b by the stored predictions. resamples: of utterances, and of videos; seed: of their draws.

    Rows are paired where they share more than half of the shorter one's seeds; runs of other seeds are then left out.
    Raises UserError where the two are not of the same utterances, and as studies.statistics.resample.measure.
    """
    if a.label.shape != b.label.shape or not np.array_equal(a.label, b.label):
        raise UserError(
            f"The two rows are not of the same utterances ({len(a.label)} and {len(b.label)} labels, or other ones): "
            "compare rows of one corpus and split."
        )
    first, second, paired = matched(a.seeds, b.seeds)
    measured = measure(
        np.concatenate([a.prediction[first], b.prediction[second]]),
        a.label,
        metric,
        protocol=protocol,
        emotions=emotions,
    )
    values, k = measured.values(), len(first)
    chosen = _choice(measured, a.videos, k, paired, resamples, seed)
    return _comparison(values[:k], values[k:], paired, measured.utterances, *chosen)


def compare_values(a: Sequence[float], b: Sequence[float], *, paired: bool = False) -> Comparison:
    """`compare` where one number per run is all there is (costs, stores without predictions): a paired or Welch's t.

    paired: a[i] and b[i] share a seed.  Raises ValueError for no values, non-finite ones, or pairs that do not match.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not first.size or not second.size or not np.isfinite([*first, *second]).all():
        raise ValueError(f"a comparison needs finite values, one per run; got {list(a)} and {list(b)}")
    if paired and len(first) != len(second):
        raise ValueError(f"pairs need as many values on either side; got {len(first)} and {len(second)}")
    return _comparison(first, second, paired, 0)


def compare_seeded(a: Sequence[tuple[int, float]], b: Sequence[tuple[int, float]]) -> Comparison:
    """As `compare_values`, of (seed, value) for each run: paired where `compare` would pair them."""
    first, second, paired = matched([seed for seed, _ in a], [seed for seed, _ in b])
    return compare_values([a[i][1] for i in first], [b[i][1] for i in second], paired=paired)


def matched(a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int], bool]:
    """Indices of the runs to compare, and whether they are pairs. A row that repeats a seed has none."""
    shared = [seed for seed in a if seed in set(b)]
    distinct = len(set(a)) == len(a) and len(set(b)) == len(b)
    if distinct and 2 * len(shared) > min(len(a), len(b)):
        return [a.index(seed) for seed in shared], [b.index(seed) for seed in shared], True
    return list(range(len(a))), list(range(len(b))), False


def adjusted(tests: Sequence[tuple[float | None, float | None]]) -> list[float | None]:
    """The adjusted p of each test of a family, as claims, ablations and `bench diff` have it. tests: (p, p_interval) of
    each Comparison. It is below LEVEL only where the interval excludes 0, too."""
    return benjamini_hochberg([larger(*test) for test in tests])


def larger(p: float | None, p_interval: float | None) -> float | None:
    """The p to adjust; None where one of them is not known. By p alone, a difference could be found that other
    utterances would not show; by the interval alone, one that is common among so few seeds."""
    return None if p is None or p_interval is None else max(p, p_interval)


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p: the smallest false discovery rate at which each is found (Benjamini and Hochberg 1995). None is kept
    and not counted. Raises ValueError for a p outside [0, 1]."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    if not all(0 <= p <= 1 for p, _ in known):
        raise ValueError(f"p-values lie in [0, 1]; got {list(p_values)}")
    adjusted: list[float | None] = [None] * len(p_values)
    smallest = 1.0
    for rank, (p, i) in reversed(list(enumerate(known, 1))):
        smallest = min(smallest, p * len(known) / rank)
        adjusted[i] = smallest
    return adjusted


# --------------------------------------------------------------------------------------------------- the parts


def _choice(
    measured: Measure, videos: np.ndarray | None, n_a: int, paired: bool, resamples: int, seed: int
) -> tuple[float, int]:
    """(c of the module's docstring, how many utterances or videos were drawn for it)."""
    together: list[tuple[np.ndarray | None, int]] = [(None, measured.utterances)]
    if videos is not None:
        names, video = np.unique(videos[measured.kept], return_inverse=True)
        if FEWEST <= len(names) < measured.utterances:
            together.append((video, len(names)))
    found = []
    for unit, n in together:
        variance = _variance(measured.resampled(resamples, seed, unit), n_a, paired)
        found.append((variance * n / max(n - 1, 1), n))  # resampling n gives (n - 1)/n of the variance
    return max(found)


def _variance(drawn: np.ndarray, n_a: int, paired: bool) -> float:
    """That of the difference over resamples. drawn: (R, n_a + n_b) metrics on each, those of row a first."""
    if paired:
        drawn = drawn[:, :n_a] - drawn[:, n_a:]
    if drawn.shape[1] < 2 or len(drawn) < 2:
        return 0.0
    covariance = np.cov(drawn.T)
    if paired:
        return max(0.0, _between(covariance))
    own = [_between(part) for part in (covariance[:n_a, :n_a], covariance[n_a:, n_a:])]
    return max(0.0, sum(own) - 2 * float(covariance[:n_a, n_a:].mean()))


def _between(covariance: np.ndarray) -> float:
    """Mean over the pairs of distinct runs; 0 where there is one run."""
    n = len(covariance)
    return float((covariance.sum() - np.trace(covariance)) / (n * (n - 1))) if n > 1 else 0.0


def _comparison(
    a: np.ndarray, b: np.ndarray, paired: bool, utterances: int, shared: float = 0.0, drawn: int = 0
) -> Comparison:
    """shared: the variance that the choice of utterances adds, found by drawing so many of them or of their videos."""
    difference = float(a.mean() - b.mean())
    needed = _seeds_needed(len(a), len(b), paired)
    low = high = p = p_interval = None
    fewest = min(len(a), len(b))
    if fewest >= FEWEST and not 0 < utterances < FEWEST:
        half, p_interval = _interval(difference, [a - b] if paired else [a, b], shared, drawn)
        low, high = difference - half, difference + half
    if fewest > 1:
        p = sign_flips(a - b) if paired else relabelled(a, b)
    underpowered = needed is not None
    return Comparison(difference, low, high, p, len(a), len(b), utterances, paired, underpowered, needed, p_interval)


def _interval(difference: float, samples: Sequence[np.ndarray], shared: float, drawn: int) -> tuple[float, float]:
    """Half its width, t times the root of the summed variances with Satterthwaite's degrees of freedom; and its p."""
    from scipy.special import stdtr, stdtrit  # t without the second that scipy.stats takes to import

    terms = [(float(sample.var(ddof=1)) / len(sample), len(sample) - 1) for sample in samples]
    if shared:
        terms.append((shared, drawn - 1))
    total = sum(variance for variance, _ in terms)
    if total == 0:
        return 0.0, 0.0 if difference else 1.0
    freedom = 1 / sum((variance / total) ** 2 / df for variance, df in terms)
    error = math.sqrt(total)
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * error, 2 * float(stdtr(freedom, -abs(difference) / error))


def _seeds_needed(n_a: int, n_b: int, paired: bool) -> int | None:
    """None where there is an interval and the smallest p that the test can give is below LEVEL, else the n in each row
    at which that would be so."""
    if min(n_a, n_b) >= FEWEST and smallest_p(n_a, n_b, paired) < LEVEL:
        return None
    return next(n for n in itertools.count(FEWEST) if smallest_p(n, n, paired) < LEVEL)
