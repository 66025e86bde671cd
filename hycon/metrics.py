"""Metrics of sentiment regression and of emotion recognition, in numpy, as fractions (0.85, not 85).

The same numbers mean different things in different papers. Each lineage is a named protocol (facts: the public
evaluation code of MAG-BERT/MIB/MCL, MulT, MMSA and CH-SIMS), and a record carries all of its corpus's kind:

    protocol   classes      Acc2 and F1 on          positive is    F1 weighted by      MAE, Corr on
    labels in [-3, 3]
    paper      Acc7         labels other than 0     >= 0           true supports       labels other than 0
    all        Acc7         all samples             >= 0           true supports       all samples
    mult       Acc7         labels other than 0     > 0            predicted supports  all samples
    mmsa       Acc7         labels other than 0     > 0            true supports       all samples
    labels in [-1, 1]
    sims       Acc3, Acc5   all samples             > 0            true supports       all samples, clipped
    sims_non0  Acc3, Acc5   labels other than 0     > 0            true supports       all samples, clipped

Acc7, Acc5 and Acc3 are of all samples. Acc7 clips prediction and label to [-3, 3] and rounds half to even (numpy's
rounding). Acc3 and Acc5 cut at -0.1, 0.1 and at -0.7, -0.1, 0.1, 0.7, and a value at a cut belongs to the class below
it. The sims protocols clip prediction and label to [-1, 1] first, for every metric. MMSA's names has0 and non0 mean
`all` and `mmsa`, or `sims` and `sims_non0`: has0 counts a label of 0 as positive in the first kind, as negative in the
second. A correlation with a constant side is undefined; it is reported as 0.0, so that no record ever holds a NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hycon.errors import UserError, check_known

Classes = Callable[[np.ndarray], np.ndarray]  # (N,) scores -> (N,) a score that stands for the class of each

WIDE, NARROW = 3.0, 1.0  # labels lie in [-3, 3] or in [-1, 1]
PROTOCOLS = {
    "paper": "Acc2, F1, MAE and Corr on labels other than 0, prediction >= 0 counts as positive (MAG-BERT, MIB, MCL)",
    "all": "every metric on all samples, >= 0 counts as positive (negative / non-negative; MMSA's Has0)",
    "mult": "Acc2 and F1 on labels other than 0, > 0 is positive, F1 weighted by predicted supports; MAE, Corr on all",
    "mmsa": "Acc2 and F1 on labels other than 0, > 0 is positive (MMSA's Non0); MAE and Corr on all samples",
}
NARROW_PROTOCOLS = {
    "sims": "CH-SIMS's and MMSA's: clipped to [-1, 1], > 0 is positive, every metric on all samples",
    "sims_non0": "as sims, Acc2 and F1 on labels other than 0",
}
MMSA_NAMES = {"has0": {WIDE: "all", NARROW: "sims"}, "non0": {WIDE: "mmsa", NARROW: "sims_non0"}}
PROTOCOL_NAMES = (*PROTOCOLS, *NARROW_PROTOCOLS, *MMSA_NAMES)


def seven_classes(score: np.ndarray) -> np.ndarray:
    """(N,) scores -> -3 ... 3: clipped, then rounded half to even, so 0.5 is class 0 and 1.5 is class 2."""
    return np.round(np.clip(score, -3, 3))


def three_classes(score: np.ndarray) -> np.ndarray:
    """(N,) scores -> -1, 0 or 1 for [-1, -0.1], (-0.1, 0.1], (0.1, 1]: CH-SIMS's negative, neutral, positive."""
    return _cut(score, (-0.1, 0.1), (-1.0, 0.0, 1.0))


def five_classes(score: np.ndarray) -> np.ndarray:
    """(N,) scores -> -1, -0.4, 0, 0.4 or 1 for [-1, -0.7], (-0.7, -0.1], (-0.1, 0.1], (0.1, 0.7], (0.7, 1]."""
    return _cut(score, (-0.7, -0.1, 0.1, 0.7), (-1.0, -0.4, 0.0, 0.4, 1.0))


def _cut(score: np.ndarray, cuts: Sequence[float], values: Sequence[float]) -> np.ndarray:
    """In single precision, as labels are stored: in double precision the label 0.1 would lie above the cut 0.1."""
    return np.array(values)[np.searchsorted(np.array(cuts, np.float32), score.astype(np.float32), side="left")]


@dataclass(frozen=True)
class Rules:
    """One line of the table above."""

    neutral_counts_in_acc2: bool
    neutral_counts_in_mae: bool
    zero_is_positive: bool
    swapped_f1: bool = False  # MulT calls f1_score(prediction, truth)
    clip: float | None = None  # prediction and label, before anything else
    classes: Mapping[str, Classes] = field(default_factory=lambda: {"acc7": seven_classes})

    def clipped(self, score: np.ndarray) -> np.ndarray:
        return score if self.clip is None else np.clip(score, -self.clip, self.clip)


_SIMS: dict[str, Classes] = {"acc3": three_classes, "acc5": five_classes}
RULES = {
    "paper": Rules(False, False, True),
    "all": Rules(True, True, True),
    "mult": Rules(False, True, False, swapped_f1=True),
    "mmsa": Rules(False, True, False),
    "sims": Rules(True, True, False, clip=NARROW, classes=_SIMS),
    "sims_non0": Rules(False, True, False, clip=NARROW, classes=_SIMS),
}


def protocols_of(bound: float) -> tuple[str, ...]:
    """The protocols for labels in [-bound, bound]; the first is what tables show unasked."""
    return tuple(NARROW_PROTOCOLS if bound == NARROW else PROTOCOLS)


def protocol_for(name: str, bound: float) -> str:
    """The protocol that `name` means for labels in [-bound, bound]; "paper", which is no choice, is `sims` in [-1, 1].

    Raises UserError where it is for labels in another range.
    """
    check_known("protocol", name, PROTOCOL_NAMES)
    known = protocols_of(bound)
    found = MMSA_NAMES[name][bound] if name in MMSA_NAMES else name
    if found == "paper" and bound == NARROW:
        return known[0]
    if found not in known:
        raise UserError(
            f"Protocol {name!r} is not for labels in [-{bound:g}, {bound:g}], which this corpus has; "
            f"choose one of {', '.join((*known, *MMSA_NAMES))}."
        )
    return found


def of_protocol(found: Mapping[str, Any], name: str) -> Any:
    """What a record's {protocol: metrics} has of the protocol that `name` means for its labels; {} where nothing."""
    names = MMSA_NAMES[name].values() if name in MMSA_NAMES else ("paper", "sims") if name == "paper" else (name,)
    return next((found[known] for known in names if known in found), {})


def sentiment_metrics(prediction: Any, label: Any, protocol: str = "paper") -> dict[str, float]:
    """Acc7 (or Acc3 and Acc5), Acc2, F1, MAE and Corr of sentiment scores.

    prediction, label: N numbers each, as list, array or tensor of any shape with N elements (N,), (N, 1), ...;
    labels in the protocol's range.  protocol: a name in RULES.
    Returns {"acc7", "acc2", "f1", "mae", "corr"} as floats, with "acc3" and "acc5" in place of "acc7" for labels in
    [-1, 1]: fractions, MAE in units of the label.
    Raises UserError for unknown protocols, unequal or empty inputs, non-finite values, and where the protocol needs
    labels other than 0 and there are none.
    """
    check_known("protocol", protocol, RULES)
    rules = RULES[protocol]
    predicted, true = (rules.clipped(_scores(*of)) for of in ((prediction, "prediction"), (label, "label")))
    if len(predicted) != len(true):
        raise UserError(f"{len(predicted)} predictions for {len(true)} labels: give one prediction for each label.")
    everywhere, polar = np.ones(len(true), bool), true != 0
    if not polar.any() and not rules.neutral_counts_in_acc2:
        whole = "sims" if rules.clip else "all"
        raise UserError(
            f"All {len(true)} labels are 0 and protocol {protocol!r} leaves those out: use protocol {whole!r} here."
        )
    keep = everywhere if rules.neutral_counts_in_acc2 else polar
    positive = np.greater_equal if rules.zero_is_positive else np.greater
    binary_true, binary_predicted = positive(true[keep], 0), positive(predicted[keep], 0)
    f1_arguments = (binary_predicted, binary_true) if rules.swapped_f1 else (binary_true, binary_predicted)
    keep = everywhere if rules.neutral_counts_in_mae else polar
    return {
        **{name: float(np.mean(of(predicted) == of(true))) for name, of in rules.classes.items()},
        "acc2": float(np.mean(binary_true == binary_predicted)),
        "f1": weighted_f1(*f1_arguments),
        "mae": float(np.mean(np.abs(predicted[keep] - true[keep]))),
        "corr": correlation(predicted[keep], true[keep]),
    }


def all_protocols(prediction: Any, label: Any, bound: float = WIDE) -> dict[str, dict[str, float]]:
    """{protocol: sentiment_metrics(prediction, label, protocol)} for every protocol of labels in [-bound, bound]."""
    return {name: sentiment_metrics(prediction, label, name) for name in protocols_of(bound)}


def constant_metrics(train: Any, label: Any, bound: float = WIDE) -> dict[str, dict[str, float]]:
    """{protocol: {"acc7", ...}}: what predictions that never change reach on `label`, the line to read others against.

    For each metric the constant that is best on `train`: the majority sign for Acc2 and F1, the commonest class for
    Acc7 (Acc3, Acc5), the median for MAE, of the labels that the metric counts; the correlation with a constant is 0.
    train, label: (N,) labels in [-bound, bound].  A protocol that counts none of them is left out.
    """
    known, true = _scores(train, "label"), _scores(label, "label")
    found = {}
    for name in protocols_of(bound):
        rules, polar = RULES[name], known[known != 0]
        if not (rules.neutral_counts_in_acc2 or (polar.size and (true != 0).any())):
            continue
        signed = known if rules.neutral_counts_in_acc2 else polar
        positive = (np.greater_equal if rules.zero_is_positive else np.greater)(signed, 0)
        sign = 1.0 if 2 * positive.sum() >= len(positive) else -1.0
        median = float(np.median(known if rules.neutral_counts_in_mae or not polar.size else polar))
        commonest = {metric: _commonest(of(known)) for metric, of in rules.classes.items()}
        best = {**commonest, "acc2": sign, "f1": sign, "mae": median, "corr": 0.0}
        reached = {c: sentiment_metrics(np.full(len(true), c), true, name) for c in set(best.values())}
        found[name] = {metric: reached[c][metric] for metric, c in best.items()}
    return found


def _commonest(classes: np.ndarray) -> float:
    """The lowest of those that occur most."""
    values, counts = np.unique(classes, return_counts=True)
    return float(values[counts.argmax()])


def emotion_metrics(prediction: Any, label: Any, emotions: Sequence[str]) -> dict[str, dict[str, float]]:
    """Accuracy and weighted F1 of each emotion and their plain averages (Table 3; MulT's evaluation).

    prediction: (N, E, 2) logits (no, yes) of which the larger counts, or (N, E) of 0 and 1.  label: (N, E) of 0 and 1.
    emotions: E names in the label's order.
    Returns {emotion: {"acc", "f1"}, ..., "average": {"acc", "f1"}}.  Raises UserError where shapes or values are off.
    """
    true = _binary(label, emotions, "label")
    raw = _array(prediction)
    if raw.ndim == 3:
        _refuse_nonfinite(raw, "prediction")
        if raw.shape != (*true.shape, 2):
            raise UserError(f"Emotion logits have shape {raw.shape}: expected {(*true.shape, 2)} for these labels.")
        predicted = raw.argmax(-1) == 1
    else:
        predicted = _binary(raw, emotions, "prediction")
    if predicted.shape != true.shape:
        raise UserError(f"{len(predicted)} predictions for {len(true)} labels: give one prediction for each label.")
    scores = {
        emotion: {"acc": float(np.mean(t == p)), "f1": weighted_f1(t, p)}
        for emotion, t, p in zip(emotions, true.T, predicted.T, strict=True)
    }
    average = {key: float(np.mean([score[key] for score in scores.values()])) for key in ("acc", "f1")}
    return {**scores, "average": average}


def majority_metrics(label: Any, emotions: Sequence[str]) -> dict[str, dict[str, float]]:
    """What answering each emotion's more frequent value gives: the line to read emotion accuracies against.

    The more frequent value is taken from `label` (N, E) itself; a tie counts as "no".  Returns as `emotion_metrics`.
    """
    true = _binary(label, emotions, "label")
    return majority_of_counts(true.sum(0).tolist(), len(true), emotions)


def majority_of_counts(positives: Sequence[int], count: int, emotions: Sequence[str]) -> dict[str, dict[str, float]]:
    """`majority_metrics` of labels of which only this is known: how many of `count` have each emotion.

    With a share of m for the commoner answer, accuracy is m and weighted F1 2 m^2 / (1 + m): the other is never hit.
    """
    shares = [max(n, count - n) / count for n in positives]
    scores = {name: {"acc": m, "f1": 2 * m * m / (1 + m)} for name, m in zip(emotions, shares, strict=True)}
    average = {key: float(np.mean([score[key] for score in scores.values()])) for key in ("acc", "f1")}
    return {**scores, "average": average}


def weighted_f1(true: np.ndarray, predicted: np.ndarray) -> float:
    """F1 of both classes, weighted by how often each occurs in `true`; (N,) bool. A class never hit scores 0."""
    total = 0.0
    for value in (False, True):
        actual, answered = true == value, predicted == value
        both = actual.sum() + answered.sum()  # 2 TP + FP + FN
        if both:
            total += actual.sum() * 2 * (actual & answered).sum() / both
    return float(total / len(true))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two (N,) arrays; 0.0 where a side is constant (undefined) or N = 1."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:  # the variance of a constant can round to something above 0
        return 0.0
    a, b = _unit(a), _unit(b)
    return float(np.clip(a @ b, -1.0, 1.0))


def _unit(a: np.ndarray) -> np.ndarray:
    """Centred and of length 1; scaled by the largest value first, so that tiny spreads do not underflow."""
    a = a - a.mean()
    a = a / np.abs(a).max()
    return a / np.sqrt(a @ a)


def _array(value: Any) -> np.ndarray:
    """A numpy array of a list, an array, or a tensor on any device, of any dtype, with or without gradient."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()  # double: numpy has no bfloat16
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"Expected an array of numbers, found a ragged sequence ({error}).") from error


def _refuse_nonfinite(array: np.ndarray, what: str) -> None:
    if array.dtype.kind not in "fiub":
        raise UserError(f"Every {what} must be a number, found an array of type {array.dtype}.")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise UserError(f"{bad} of {array.size} {what} values are not finite: metrics need finite numbers.")


def _scores(value: Any, what: str) -> np.ndarray:
    array = _array(value).reshape(-1)
    if not array.size:
        raise UserError(f"No {what} was given: metrics need at least one sample.")
    _refuse_nonfinite(array, what)
    return array.astype(np.float64)


def _binary(value: Any, emotions: Sequence[str], what: str) -> np.ndarray:
    array = _array(value)
    if array.ndim != 2 or array.shape[1] != len(emotions) or not len(array):
        raise UserError(f"Emotion {what} has shape {array.shape}: expected (N, {len(emotions)}), a column each.")
    _refuse_nonfinite(array, what)
    if not np.isin(array, (0, 1)).all():
        raise UserError(f"Emotion {what} holds values other than 0 and 1: expected 1 where the emotion is present.")
    return array == 1
