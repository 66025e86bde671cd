"""Permutation tests of two rows' runs. Paired: signs of the differences are flipped; unpaired: runs are dealt anew.

All permutations are counted up to MOST runs, without making each of them: a permuted sum is a sum over the first half
of the runs and one over the second, so the halves' sums, sorted, tell how many of their pairs reach the observed sum
(the splitting of Horowitz and Sahni 1974, J. ACM 21:277). 16 pairs need 2 x 256 sums in place of 65,536.

scipy.stats.permutation_test does the same, but takes sums for different that differ in the last bits only: accuracies
are shares of a few hundred utterances and tie often, so its p would be too small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

MOST = 32  # chosen here: pairs, or runs of both rows, up to which all permutations are counted: 65,536 sums a half
DRAWN = 49_999  # chosen here: beyond, so many are drawn; with the observed one 50,000

Halves = Iterator[tuple[np.ndarray, np.ndarray]]  # the sums of one half, and those of the other that go with them


def sign_flips(differences: np.ndarray) -> float:
    """Two-sided p of the mean of paired differences: every sign is as likely as its opposite."""
    n, scale = len(differences), float(np.abs(differences).sum())
    observed = float(differences.sum())
    if n <= MOST:
        halves = [_signed(part) for part in (differences[: n // 2], differences[n // 2 :])]
        return _counted(iter([(halves[0], halves[1])]), 2**n, observed, scale)
    flips = np.random.default_rng(0).integers(2, size=(DRAWN, n))
    return _drawn((1 - 2 * flips) @ differences, observed, scale)


def relabelled(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p of the difference of means: every choice of which runs are a's is equally likely."""
    pooled = np.concatenate([a, b])
    pooled = pooled - pooled.mean()
    n, k = len(pooled), len(a)
    # With the total fixed, the sum of a's runs orders the permutations as the difference of means does.
    observed, scale = float(pooled[:k].sum()), float(np.abs(pooled).sum())
    if n <= MOST:
        return _counted(_choices(pooled, k), math.comb(n, k), observed, scale)
    chosen = np.random.default_rng(0).permuted(np.tile(np.arange(n), (DRAWN, 1)), axis=1)[:, :k]
    return _drawn(pooled[chosen].sum(1), observed, scale)


def smallest_p(n_a: int, n_b: int, paired: bool) -> float:
    """The least p that the test can give; 1 where a row has one run, which has none."""
    if min(n_a, n_b) < 2:
        return 1.0
    n = n_a if paired else n_a + n_b
    exact = 2 / (2**n if paired else math.comb(n, n_a))
    return exact if n <= MOST else max(exact, 2 / (DRAWN + 1))


# --------------------------------------------------------------------------------------------------- the parts


def _signed(values: np.ndarray) -> np.ndarray:
    """(2^n,): the sum of n values under every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums


def _choices(values: np.ndarray, k: int) -> Halves:
    """The sums of every k of `values`: of j from the first half, beside those of k - j from the second."""
    halves = []
    for part in (values[: len(values) // 2], values[len(values) // 2 :]):
        sums, sizes = np.zeros(1), np.zeros(1, int)
        for value in part:
            sums, sizes = np.concatenate([sums, sums + value]), np.concatenate([sizes, sizes + 1])
        halves.append((sums, sizes))
    (first, of_first), (second, of_second) = halves
    return ((first[of_first == j], second[of_second == k - j]) for j in range(k + 1))


def _counted(halves: Halves, permutations: int, observed: float, scale: float) -> float:
    """Twice the smaller tail, at most 1, over all permutations."""
    slack = 1e-12 * scale  # sums in another order are equal but for rounding
    above = below = 0
    for first, second in halves:
        ordered = np.sort(second)
        above += int((len(ordered) - np.searchsorted(ordered, observed - slack - first, "left")).sum())
        below += int(np.searchsorted(ordered, observed + slack - first, "right").sum())
    return min(1.0, 2 * min(above, below) / permutations)


def _drawn(permuted: np.ndarray, observed: float, scale: float) -> float:
    """The same over drawn permutations, which count the observed one too (Phipson and Smyth 2010)."""
    slack = 1e-12 * scale
    tails = [int((permuted >= observed - slack).sum()), int((permuted <= observed + slack).sum())]
    return min(1.0, 2 * (min(tails) + 1) / (len(permuted) + 1))
