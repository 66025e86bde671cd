"""The paper's losses, slowly: eqs. 2 and 6 to 20, transcribed from sections 3.2 to 3.5 and 4.5.7 and from the open
choices A1 to A20 (docs/protocol.md) without a look at hycon/losses.py and hycon/pairs.py.

Loops over modalities, anchors and pairs; each loss of an anchor is a scalar with autograd in float64. Numbers in
parentheses are the paper's equations. Nothing here guards against overflow: inputs are those of the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Candidate = tuple[str, int]  # modality, sample
Draw = Callable[[Candidate, list[Candidate]], Candidate]  # (anchor, its pairs of one kind) -> the one drawn at random


class Pairs(NamedTuple):
    """Of one anchor."""

    positives: list[Candidate]
    negatives: list[Candidate]


class Losses(NamedTuple):
    """Scalars: (9), (12), (6) and (16), or what Table 7 puts in place of (9) and (12)."""

    iamcl: Tensor
    iemcl: Tensor
    scl: Tensor
    total: Tensor


class Selection(NamedTuple):
    """Similarities of an anchor's pairs of one kind, and their weights in the ratio; selected: by (13)."""

    scores: list[Tensor]
    weights: list[float]
    selected: bool


# Classes -------------------------------------------------------------------------------------------------------------


def sentiment_class(label: float, zero: str) -> int:
    """A3. 0 negative, 1 positive; of a label of exactly 0: positive, in no pair (-1), or a class of its own (2)."""
    if label == 0:
        return {"positive": 1, "exclude": -1, "third": 2}[zero]
    return 1 if label > 0 else 0


def same_emotion_class(a: Sequence[int], b: Sequence[int]) -> bool:
    """A17. The emotion where exactly one is present; otherwise equal label vectors are one class."""
    if sum(a) == 1 and sum(b) == 1:
        return list(a).index(1) == list(b).index(1)
    return list(a) == list(b)


# The task ------------------------------------------------------------------------------------------------------------


def sentiment_loss(predictions: Sequence[Tensor], labels: Sequence[float]) -> Tensor:
    """(2): the mean absolute error."""
    return sum_of([abs(y_m - y) for y_m, y in zip(predictions, labels, strict=True)]) / len(labels)


def emotion_loss(logits: Tensor, labels: Sequence[Sequence[int]]) -> Tensor:
    """A18: a cross-entropy over two logits for each utterance and emotion, (K, E, 2); their mean."""
    losses = []
    for utterance, present in zip(logits, labels, strict=True):
        for (absent_logit, present_logit), is_present in zip(utterance, present, strict=True):
            chosen = present_logit if is_present else absent_logit
            losses.append(torch.log(absent_logit.exp() + present_logit.exp()) - chosen)
    return sum_of(losses) / len(losses)


# Pairs (3.3.1 to 3.3.3, A14) -----------------------------------------------------------------------------------------


def pairs_of(anchor: Candidate, among: Sequence[str], classes: Sequence[int]) -> Pairs:
    """Two different samples of one class or of two, in the modalities `among`; none with a class below 0 (A3)."""
    pairs = Pairs([], [])
    _, i = anchor
    for m in among:
        for j in range(len(classes)):
            if j == i or classes[i] < 0 or classes[j] < 0:
                continue
            (pairs.positives if classes[j] == classes[i] else pairs.negatives).append((m, j))
    return pairs


def softmaxed(x: Mapping[str, Tensor], modalities: Sequence[str]) -> dict[Candidate, Tensor]:
    """A20: over the features of each representation."""
    vectors = {}
    for m in modalities:
        for i, representation in enumerate(x[m]):
            exponentials = representation.exp()
            vectors[m, i] = exponentials / exponentials.sum()
    return vectors


# SCL -----------------------------------------------------------------------------------------------------------------


def scl_of_anchor(anchor: Candidate, a: Mapping[Candidate, Tensor], modalities: Sequence[str], alpha: float) -> Tensor:
    """(6), of one anchor: the mean over the other modalities of the same sample (1/2 of two)."""
    m, i = anchor
    others = [n for n in modalities if n != m]
    return sum_of([(a[anchor] @ a[n, i] - alpha) ** 2 for n in others]) / len(others)


# IAMCL and IEMCL -----------------------------------------------------------------------------------------------------


def plain(score: Tensor) -> float:
    """Without its gradient."""
    return float(score.detach())


def hardness_weights(scores: Sequence[float]) -> list[float]:
    """The softmax of (14), over plain floats: weights carry no gradient (A11)."""
    exponentials = [math.exp(s) for s in scores]
    return [e / sum(exponentials) for e in exponentials]


def every_pair(scores: list[Tensor]) -> Selection:
    """HyCon: sums over all pairs, (7) and (10)."""
    return Selection(scores, [1.0] * len(scores), selected=False)


def plain_mean(scores: list[Tensor]) -> Selection:
    """A12: the side of HyCon-v2 that is not selected."""
    return Selection(scores, [1 / len(scores)] * len(scores), selected=False)


def hard_positives(scores: list[Tensor], h: int, gamma: float) -> Selection:
    """Min_h of (13), weighted by (14)."""
    kept = sorted(scores, key=plain)[:h]
    return Selection(kept, hardness_weights([1 / (plain(s) + gamma) for s in kept]), selected=True)


def hard_negatives(scores: list[Tensor], h: int) -> Selection:
    """Max_h of (13), weighted by (14)."""
    kept = sorted(scores, key=plain, reverse=True)[:h]
    return Selection(kept, hardness_weights([plain(s) for s in kept]), selected=True)


def select(positives: list[Tensor], negatives: list[Tensor], h: int, config) -> tuple[Selection, Selection]:
    """What enters (7) and (10): all pairs, or those of section 3.4."""
    if config.beta is None:
        return every_pair(positives), every_pair(negatives)
    return (
        hard_positives(positives, h, config.gamma) if config.select_positives else plain_mean(positives),
        hard_negatives(negatives, h) if config.select_negatives or not negatives else plain_mean(negatives),
    )


def ratio(positives: Selection, negatives: Selection, log: bool) -> Tensor:
    """(7), (10), (18) of one anchor, with the weighted scores of (15): 1 without negatives (A4), A1 for the log."""
    p = sum_of([s * w for s, w in zip(positives.scores, positives.weights, strict=True)])
    n = sum_of([s * w for s, w in zip(negatives.scores, negatives.weights, strict=True)])
    share = p / (p + n)
    return -torch.log(share) if log else -share


def refinement(positives: Selection, target: float, kind: str) -> Tensor:
    """(8) and (11) of one anchor; under selection as A10 says, otherwise the plain mean over all its positives."""
    scored = list(zip(positives.scores, positives.weights, strict=True))
    if positives.selected and kind == "weighted":
        return sum_of([w * (s - target) ** 2 for s, w in scored])
    if positives.selected and kind == "literal":
        return sum_of([(s * w - target) ** 2 for s, w in scored]) / len(scored)
    return sum_of([(s - target) ** 2 for s, _ in scored]) / len(scored)


def hycon_of_anchor(a: Tensor, pairs: Pairs, v: Mapping[Candidate, Tensor], target: float, h: int, config) -> Tensor:
    """(9) and (12), of one anchor: ratio and refinement towards `target`."""
    positives, negatives = select([a @ v[p] for p in pairs.positives], [a @ v[n] for n in pairs.negatives], h, config)
    loss = ratio(positives, negatives, config.log)
    return loss + refinement(positives, target, config.weighted_refinement) if config.refinement else loss


# Table 7: the classical, triplet and N-pair losses over the same pairs (A16) -----------------------------------------


def triplet(a: Tensor, p: Tensor, n: Tensor, hinge: bool) -> Tensor:
    """(19) of one anchor, A15."""
    loss = ((a - p) ** 2).sum() - ((a - n) ** 2).sum() + 1
    return loss.clamp(min=0) if hinge else loss


def alternative_of_anchor(anchor: Candidate, pairs: Pairs, v: Mapping[Candidate, Tensor], config, draw: Draw) -> Tensor:
    """(18) to (20) of one anchor; hard mining as in section 4.5.7."""
    a = v[anchor]
    if config.contrastive == "triplet":
        return triplet(a, v[draw(anchor, pairs.positives)], v[draw(anchor, pairs.negatives)], config.hinge)
    if config.contrastive == "hard-triplet":
        p = min(pairs.positives, key=lambda c: plain(a @ v[c]))
        n = max(pairs.negatives, key=lambda c: plain(a @ v[c]))
        return triplet(a, v[p], v[n], config.hinge)
    p = a @ v[draw(anchor, pairs.positives)]
    negatives = [a @ v[n] for n in pairs.negatives]
    if config.contrastive == "classical":
        return ratio(every_pair([p]), every_pair(negatives), config.log)
    assert config.contrastive == "n-pair"
    return torch.log(1 + sum_of([torch.exp(n - p) for n in negatives]))


# Over a batch --------------------------------------------------------------------------------------------------------


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Of scalars; 0 of none."""
    total = torch.zeros((), dtype=torch.float64)
    for term in terms:
        total = total + term
    return total


def reduced(losses: Mapping[str, list[Tensor]], reduction: str) -> Tensor:
    """E_s (A2, A5) of each modality's anchors; those without a positive are not among them (A4)."""
    sums = {m: sum_of(of_modality) for m, of_modality in losses.items()}
    if reduction == "sample":
        return sum_of([sums[m] / len(losses[m]) for m in losses if losses[m]])
    everything = sum_of(list(sums.values()))
    anchors = sum(len(of_modality) for of_modality in losses.values())
    return everything / anchors if reduction == "mean" and anchors else everything


def pairs_to_select(config, samples: int) -> int:
    """h = K beta of (13), rounded, at least 1 (A8)."""
    return 0 if config.beta is None else max(1, round(samples * config.beta))


def hybrid(x: Mapping[str, Tensor], classes: Sequence[int], modalities: Sequence[str], config, draw: Draw) -> Losses:
    """(16). x: modality -> (K, d).  classes: of each sample.  config: hycon.losses.HybridConfig.
    draw: which of an anchor's pairs is the random one, for the losses of Table 7."""
    v = softmaxed(x, modalities)
    h = pairs_to_select(config, len(classes))
    h_inter = h * (len(modalities) - 1) if config.h_inter == "double" else h
    losses: dict[str, dict[str, list[Tensor]]] = {part: {m: [] for m in modalities} for part in ("a", "e", "s")}
    for m in modalities:
        others = [n for n in modalities if n != m]
        for i in range(len(classes)):
            anchor = (m, i)
            if others:
                losses["s"][m].append(scl_of_anchor(anchor, v, modalities, config.margin))
            for part, among, target, most in (("a", [m], 1.0, h), ("e", others, config.margin, h_inter)):
                pairs = pairs_of(anchor, among, classes)
                if not pairs.positives or ("triplet" in config.contrastive and not pairs.negatives):
                    continue  # A4
                if config.contrastive == "hycon":
                    loss = hycon_of_anchor(v[anchor], pairs, v, target, most, config)
                else:
                    loss = alternative_of_anchor(anchor, pairs, v, config, draw)
                losses[part][m].append(loss)
    iamcl, iemcl, scl = (reduced(losses[part], config.reduction) for part in ("a", "e", "s"))
    return Losses(iamcl, iemcl, scl, config.iamcl * iamcl + config.iemcl * iemcl + config.scl * scl)
