"""A metric of many runs on many resamples of the same utterances, by matrix products instead of loops.

Every metric of hycon.metrics is a function of a few means over utterances: the share of right answers, a mean error,
the moments of a correlation. On a resample they are weighted means, so all runs and all resamples are one product of
weights (R, N) and terms (N, S * K). hycon.metrics is the definition; tests compare this file with it.

Only the utterances that enter a metric are resampled: under protocol `paper`, labels of 0 do not enter Acc2 and are
left out before the draw. Utterances can be drawn together, as those of one video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hycon.errors import UserError, check_known, nearest
from hycon.metrics import RULES, Rules

EMOTION = ("acc", "f1")
BLOCK = 2**20  # chosen here: weights held at a time, 8 MiB
FLAT = 1e-12  # chosen here: a variance, of values scaled to at most 1, that is nothing but rounding

Parts = tuple[list[np.ndarray], Callable[[np.ndarray], np.ndarray]]  # terms and combine of a Measure


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric of S runs on N utterances, ready to be evaluated under any weights of them.

    terms: (N, S, E, K), what to average for each of E emotions (1 for sentiment).  combine: means (..., K) -> value.
    kept: bool, of all utterances that were given: the N that the metric is about.
    """

    terms: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]
    kept: np.ndarray

    @property
    def utterances(self) -> int:
        return len(self.terms)

    def values(self) -> np.ndarray:
        """(S,): the metric of each run on all utterances, as a fraction."""
        return self.under(np.full((1, self.utterances), 1 / self.utterances))[0]

    def resampled(self, resamples: int, seed: int, together: np.ndarray | None = None) -> np.ndarray:
        """(resamples, S): the same on utterances drawn with replacement, in each line the same ones for all runs.

        together: (N,) of 0, 1, ...: utterances of the same number are drawn together; None: each by itself.
        """
        unit = np.arange(self.utterances) if together is None else together
        return np.concatenate([self.under(weights) for weights in _draws(unit, resamples, seed)])

    def under(self, weights: np.ndarray) -> np.ndarray:
        """weights: (R, N), each line summing to 1 -> (R, S)."""
        means = weights @ self.terms.reshape(self.utterances, -1)
        return self.combine(means.reshape(len(weights), *self.terms.shape[1:])).mean(-1)


def measure(
    prediction: np.ndarray, label: np.ndarray, metric: str, *, protocol: str = "paper", emotions: Sequence[str] = ()
) -> Measure:
    """prediction: (S, N) scores with label (N,), or (S, N, E, 2) logits with label (N, E) of 0 and 1.

    metric: "acc7" (or "acc3", "acc5"), "acc2", "f1", "mae", "corr", as the protocol has it; for emotions "happy_acc",
    "average_f1" and so on, of names in `emotions`; protocol concerns sentiment only.  Raises UserError for unknown
    names, shapes that do not belong together, values that are not finite, and where the protocol leaves no utterance
    over.
    """
    prediction, label = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    if not (np.isfinite(prediction).all() and np.isfinite(label).all()):
        raise UserError("Some predictions or labels are not finite: compare finished runs only.")
    if prediction.shape[1 : 1 + label.ndim] != label.shape or not label.size:
        raise UserError(f"Predictions of shape {prediction.shape} do not fit labels of shape {label.shape}.")
    if label.ndim == 2:
        return _emotion(prediction, label, metric, emotions)
    check_known("protocol", protocol, RULES)
    known = (*RULES[protocol].classes, "acc2", "f1", "mae", "corr")
    if metric not in known:
        raise UserError(f"No metric {metric!r} of sentiment predictions; nearest: {nearest(metric, known)}.")
    rules = RULES[protocol]
    kept = _counted(label, metric, rules)
    if not kept.any():
        raise UserError(f"All {len(label)} labels are 0 and protocol {protocol!r} leaves those out.")
    terms, combine = _sentiment(rules.clipped(prediction[:, kept].T), rules.clipped(label[kept, None]), metric, rules)
    return _measure(terms, combine, kept)


def _counted(label: np.ndarray, metric: str, rules: Rules) -> np.ndarray:
    """(N,) bool: the utterances that the metric is about."""
    neutral = {
        **dict.fromkeys(rules.classes, True),
        "mae": rules.neutral_counts_in_mae,
        "corr": rules.neutral_counts_in_mae,
    }
    return np.ones(len(label), bool) if neutral.get(metric, rules.neutral_counts_in_acc2) else label != 0


def _sentiment(predicted: np.ndarray, true: np.ndarray, metric: str, rules: Rules) -> Parts:
    """predicted: (N, S).  true: (N, 1)."""
    if of := rules.classes.get(metric):
        return [of(predicted) == of(true)], _mean
    if metric == "mae":
        return [np.abs(predicted - true)], _mean
    if metric == "corr":
        x, y = _scaled(predicted), np.broadcast_to(_scaled(true), predicted.shape)
        return [x, y, x * x, y * y, x * y], _correlation
    positive = np.greater_equal if rules.zero_is_positive else np.greater
    t, p = positive(true, 0), positive(predicted, 0)
    return _binary(t, p, "acc" if metric == "acc2" else "f1", rules.swapped_f1)


def _emotion(prediction: np.ndarray, label: np.ndarray, metric: str, emotions: Sequence[str]) -> Measure:
    emotion, _, kind = metric.rpartition("_")
    if prediction.shape[2:] != (label.shape[1], 2) or len(emotions) != label.shape[1]:
        raise UserError(
            f"Emotion logits of shape {prediction.shape} and {len(emotions)} names of emotions do not fit labels of "
            f"shape {label.shape}: expected (runs, {label.shape[0]}, {label.shape[1]}, 2) and a name for each."
        )
    names = [*emotions, "average"]
    if emotion not in names or kind not in EMOTION:
        known = [f"{name}_{kind}" for name in names for kind in EMOTION]
        raise UserError(f"No metric {metric!r} of emotion predictions; nearest: {nearest(metric, known)}.")
    chosen = range(len(emotions)) if emotion == "average" else [names.index(emotion)]
    true, predicted = label[:, None, chosen] == 1, prediction.argmax(-1).swapaxes(0, 1)[:, :, chosen] == 1
    return _measure(*_binary(true, predicted, kind), np.ones(len(label), bool))


def _binary(t: np.ndarray, p: np.ndarray, kind: str, swapped: bool = False) -> Parts:
    if kind == "acc":
        return [t == p], _mean
    t = np.broadcast_to(t, p.shape)
    return [p, t, t & p] if swapped else [t, p, t & p], _weighted_f1


def _measure(terms: Sequence[np.ndarray], combine: Callable[[np.ndarray], np.ndarray], kept: np.ndarray) -> Measure:
    stacked = np.stack(terms, -1).astype(np.float64)
    return Measure(stacked if stacked.ndim == 4 else stacked[:, :, None], combine, kept)


def _mean(means: np.ndarray) -> np.ndarray:
    return means[..., 0]


def _weighted_f1(means: np.ndarray) -> np.ndarray:
    """Of the shares of true, answered, and both: F1 of either class, weighted by its true share."""
    true, answered, both = np.moveaxis(means, -1, 0)
    yes, no = true + answered, 2 - true - answered
    hits = both, 1 - true - answered + both
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = (true * 2 * hits[0] / yes, (1 - true) * 2 * hits[1] / no)
    return np.where(yes > FLAT, parts[0], 0) + np.where(no > FLAT, parts[1], 0)


def _correlation(means: np.ndarray) -> np.ndarray:
    """Of the means of x, y, x², y², xy; 0 where a side is constant, as hycon.metrics.correlation."""
    x, y, xx, yy, xy = np.moveaxis(means, -1, 0)
    spread = (xx - x * x, yy - y * y)
    flat = (spread[0] <= FLAT) | (spread[1] <= FLAT)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (xy - x * y) / np.sqrt(spread[0] * spread[1])
    return np.where(flat, 0.0, np.clip(found, -1, 1))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Each column (of axis 0) centred and scaled to at most 1; a constant one is exactly 0."""
    centred = np.where(np.ptp(values, 0) == 0, 0.0, values - values.mean(0))
    largest = np.abs(centred).max(0)
    return centred / np.where(largest == 0, 1, largest)


def _draws(unit: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights (r, N) of resamples with replacement, in blocks that bound the memory and move no draw. unit: (N,)."""
    rng, units = np.random.default_rng(seed), int(unit.max()) + 1
    block = max(1, BLOCK // len(unit))
    for start in range(0, resamples, block):
        lines = min(block, resamples - start)
        drawn = rng.integers(units, size=(lines, units)) + units * np.arange(lines)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=lines * units).reshape(lines, units)[:, unit]
        yield counts / counts.sum(1, keepdims=True)
