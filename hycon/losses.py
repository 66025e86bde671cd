"""HyCon's contrastive losses (sections 3.3 to 3.5) and those of Table 7, as pure functions of tensors.

    out = hybrid_loss({"text": x_l, "audio": x_a, "vision": x_v}, classes, HybridConfig())
    (mae + out.total).backward()

In: raw representations x^m (K, d), one a modality, and classes (K,) integers (`sentiment_classes`, `emotion_classes`;
-1 takes part in no pair). Out: three scalars and their weighted sum (eq. 16). Inside, each representation is
softmax-normalised over its d features, and one batched product gives the similarities of each anchor (3 modalities
x K samples) to its candidates, own modality first:

    similarity (3, K, 3, K)   [anchor's modality, anchor, 0 = same modality | 1, 2 = the other two, candidate]

IAMCL reads block 0, IEMCL blocks 1 and 2 but for pairs within a sample, SCL exactly those pairs. With M = 2 modalities
each 3 here is a 2; with one alone there are no pairs across modalities, so IEMCL and SCL are 0. The paper leaves
some choices open; `HybridConfig` names each. Where an anchor has no positive, it is left out of IAMCL and IEMCL and
of their averages; where it has no negative, its ratio is the constant 1 and only the refinement teaches.

Computes in float32 whatever autocast says (float64 stays float64), waits for no accelerator, and gives finite values
and gradients for any finite input. Deviates from the paper: none known beyond the choices named here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hycon.data.manifest import MODALITIES
from hycon.errors import UserError, check_known
from hycon.pairs import (
    Pairs,
    Weights,
    all_pairs,
    class_pairs,
    emotion_classes,
    hardest_pair,
    random_pair,
    selected_pairs,
    sentiment_classes,
)

__all__ = [
    "HybridConfig",
    "HybridOutput",
    "emotion_classes",
    "hybrid_loss",
    "iamcl",
    "iemcl",
    "scl",
    "sentiment_classes",
]

CHOICES = {
    "reduction": ("sample", "mean", "sum"),
    "h_inter": ("same", "double"),
    "weighted_refinement": ("weighted", "literal", "mean"),
    "contrastive": ("hycon", "classical", "triplet", "hard-triplet", "n-pair"),
}
# Smallest denominator of a ratio. Similarities of saturated softmaxes can all be 0; below this, gradients through
# the softmax are at most of the order of 1 and fade to 0 with the similarities themselves.
TINY = 1e-12


@dataclass(frozen=True)
class HybridConfig:
    """beta=None is HyCon, beta=0.2 is HyCon-v2. Defaults are the paper's; where it is silent, the comment says so.

    reduction: "sample" takes the mean over samples and the sum over modalities, "mean" the mean over all anchors,
    "sum" the sum over all anchors (next to a mean absolute error this is about K times stronger).
    log: -log of the ratios (7), (10), (18) instead of the ratios as printed.
    h_inter: pairs that IEMCL selects, "same" h = K beta as IAMCL, or "double", as it has twice as many to select from
    (of two modalities as many: then no more).
    weighted_refinement: under selection, "weighted" is sum w (s-t)^2, "literal" 1/h sum (s w - t)^2, "mean" 1/h sum
    (s-t)^2, for similarities s, weights w and target t.
    contrastive: the loss in place of IAMCL and IEMCL with their refinement (Table 7).  hinge: max(0, .) around (19).
    """

    iamcl: float = 1.0  # lambda 1, sec. 4.4
    iemcl: float = 1.0  # lambda 2
    scl: float = 1.0  # lambda 3
    margin: float = 0.8  # alpha, sec. 4.4(3); 1.0 is Table 4's "w/o margin", in SCL and IEMCL
    refinement: bool = True  # eqs. 8 and 11
    beta: float | None = None  # sec. 4.4: 0.2 for HyCon-v2
    gamma: float = 1.0  # chosen here: paper silent; 1/(s+1) mirrors exp(s), but weighs all nearly alike: searched
    select_positives: bool = True
    select_negatives: bool = True
    reduction: str = "sample"  # E_s over samples, yet "summed over all data samples of different modalities", sec. 3.5
    log: bool = False  # as printed
    h_inter: str = "same"  # sec. 3.4 names one h for both
    weighted_refinement: str = "weighted"  # chosen here: with "literal" s w <= w ~ 1/h never reaches the margin
    contrastive: str = "hycon"
    hinge: bool = True  # chosen here: without it the +1 of eq. 19 has no effect

    def __post_init__(self):
        for name, choices in CHOICES.items():
            check_known(name, getattr(self, name), choices)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float | int) and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{field.name} is {value}: expected a finite number of at least 0.")
        if self.margin > 1:
            raise UserError(f"margin is {self.margin}: similarities lie in (0, 1], expected a margin in [0, 1].")
        if self.gamma == 0:
            raise UserError("gamma is 0: eq. 14 divides by s + gamma, expected a number above 0.")
        if self.beta is not None and not 0 < self.beta <= 1:
            raise UserError(f"beta is {self.beta}: expected a share of the batch in (0, 1], or None for all pairs.")
        if self.beta is not None and self.contrastive != "hycon":
            raise UserError(f"beta is for contrastive='hycon' only: set it to None with {self.contrastive!r}.")


@dataclass(frozen=True)
class HybridOutput:
    """Scalars with gradient. iamcl, iemcl: reduced, refinement included, not weighted.  total: eq. 16."""

    iamcl: Tensor
    iemcl: Tensor
    scl: Tensor
    total: Tensor


@dataclass(frozen=True)
class Scores:
    """similarity: (3, K, C, K) of anchors to candidates in C modalities.  candidates: (3, C, K, d) softmaxed."""

    similarity: Tensor
    candidates: Tensor


def hybrid_loss(
    x: Mapping[str, Tensor],
    classes: Tensor,
    config: HybridConfig | None = None,
    generator: torch.Generator | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> HybridOutput:
    """The hybrid contrastive loss, eq. 16.

    x: {"text", "audio", "vision"} -> (K, d) raw representations, of any float type, on one device.
    modalities: which of them take part, one at least; `x` must have these.
    classes: (K,) integers on that device; below 0: in no pair of IAMCL and IEMCL (SCL needs no class).
    generator: for the random pairs of "classical", "triplet" and "n-pair"; on the device of x. Default: torch's own.
    Raises UserError where a modality is missing, shapes do not fit, or classes are no integers.
    """
    config = config or HybridConfig()
    _check_inputs(x, classes, modalities)
    with torch.autocast(x[modalities[0]].device.type, enabled=False):
        intra, inter = scores(x, modalities)
        pairs = class_pairs(classes, intra.similarity.dtype)
        share = anchor_shares(pairs, config, len(modalities))
        ia = iamcl(intra, pairs, share, config, generator)
        alone = len(modalities) == 1
        ie = torch.zeros_like(ia) if alone else iemcl(inter, pairs, share, config, generator)
        sc = torch.zeros_like(ia) if alone else scl(inter, config)
        total = (config.iamcl * ia).add(ie, alpha=config.iemcl).add(sc, alpha=config.scl)
        return HybridOutput(ia, ie, sc, total)


def scores(x: Mapping[str, Tensor], modalities: Sequence[str] = MODALITIES) -> tuple[Scores, Scores]:
    """Similarities within modalities (3, K, 1, K) and across (3, K, 2, K), from raw representations (K, d) each."""
    # text, audio, vision, text, audio: the window of three that starts at a modality holds it and the other two.
    count = len(modalities)
    raw = torch.stack([x[modality] for modality in (*modalities, *modalities[: count - 1])])
    dtype = torch.float64 if raw.dtype == torch.float64 else torch.float32
    p = raw.softmax(-1, dtype=dtype)  # (5, K, d)
    candidates = p.unfold(0, count, 1).movedim(-1, 1)  # (3, 3, K, d), a view
    similarity = (p[:count] @ candidates.flatten(1, 2).mT).unflatten(-1, (count, -1))  # (3, K, 3, K)
    own, others = similarity.split([1, count - 1], dim=2)
    return Scores(own, candidates[:, :1]), Scores(others, candidates[:, 1:])


def scl(inter: Scores, config: HybridConfig) -> Tensor:
    """Semi-contrastive loss, eq. 6: the three modalities of one sample at similarity alpha. Every sample counts."""
    own = inter.similarity.diagonal(dim1=1, dim2=3)  # (3, 2, K): the two pairs of each anchor
    mean = (own - config.margin).square().mean()
    modalities, samples = len(own), own.shape[-1]
    return mean * {"sample": modalities, "mean": 1, "sum": modalities * samples}[config.reduction]


def iamcl(
    intra: Scores, pairs: Pairs, share: Tensor, config: HybridConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Intra-modal contrastive loss, eqs. 7 to 9: refinement pulls positives to similarity 1.

    intra, pairs: from `scores` and `class_pairs`.  share: (K,) from `anchor_shares`.
    """
    h = selected_count(config, len(share))
    return _reduced(_contrast(intra, pairs, 1.0, h, config, generator), share)


def iemcl(
    inter: Scores, pairs: Pairs, share: Tensor, config: HybridConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Inter-modal contrastive loss, eqs. 10 to 12: refinement pulls positives to the margin alpha.  Else as `iamcl`."""
    h = selected_count(config, len(share)) * (inter.similarity.shape[2] if config.h_inter == "double" else 1)
    return _reduced(_contrast(inter, pairs, config.margin, h, config, generator), share)


def selected_count(config: HybridConfig, samples: int) -> int:
    """h = K beta of eq. 13, rounded, at least 1; 0 where nothing is selected (beta=None)."""
    return 0 if config.beta is None else max(1, round(samples * config.beta))


def anchor_shares(pairs: Pairs, config: HybridConfig, modalities: int = 3) -> Tensor:
    """(K,) what each anchor's loss is multiplied with before all are summed, over samples and modalities alike.

    0 for anchors without the pairs that their loss needs: a positive, and for triplets a negative too. The others
    share equally: 1 / their number per modality ("sample"), per batch ("mean"), or 1 each ("sum").
    """
    valid = pairs.positives[:, 0, 0].clamp(max=1)
    if config.contrastive in ("triplet", "hard-triplet"):
        valid = valid * pairs.contrasted
    if config.reduction == "sum":
        return valid
    anchors = valid.sum().clamp(min=1)
    return valid / (modalities * anchors if config.reduction == "mean" else anchors)


def _reduced(loss: Tensor, share: Tensor) -> Tensor:
    """(3, K) losses of anchors -> scalar."""
    return (loss * share).sum()


def _contrast(
    scores: Scores, pairs: Pairs, target: float, h: int, config: HybridConfig, generator: torch.Generator | None
) -> Tensor:
    """(3, K): the loss of every anchor, 0 or any finite number where it lacks pairs."""
    s = scores.similarity
    if config.contrastive == "hycon":
        if h:
            weights = selected_pairs(s, pairs, h, config.gamma, config.select_positives, config.select_negatives)
        else:
            weights = all_pairs(pairs, s.shape[2])
        gain = _ratio(s, weights.positive, weights.negative, pairs, config.log)
        return _refinement(s, weights, target, h, pairs, config) - gain if config.refinement else -gain
    if config.contrastive == "hard-triplet":
        return _triplet(scores, hardest_pair(-s, pairs.positive), hardest_pair(s, pairs.negative), config.hinge)
    positive = random_pair(s, pairs.positive, generator)
    if config.contrastive == "triplet":
        return _triplet(scores, positive, random_pair(s, pairs.negative, generator), config.hinge)
    if config.contrastive == "classical":
        return -_ratio(s, positive, pairs.negative, pairs, config.log)
    return _n_pair(s, positive, pairs.negative)


def _ratio(s: Tensor, positive: Tensor, negative: Tensor, pairs: Pairs, log: bool) -> Tensor:
    """(3, K): the share of positives in the similarity, eqs. 7, 10, 15 and 18, or its logarithm."""
    attracted, repelled = _weighted(s, positive), _weighted(s, negative)
    ratio = attracted / (attracted + repelled).clamp(min=TINY)
    ratio = ratio.masked_fill(~pairs.contrasted, 1.0)
    return ratio.clamp(min=TINY).log() if log else ratio


def _refinement(s: Tensor, weights: Weights, target: float, h: int, pairs: Pairs, config: HybridConfig) -> Tensor:
    """(3, K): mean squared distance of positives from `target`, eqs. 8 and 11.

    Under selection as `weighted_refinement` says; without selection of positives always the plain mean.
    """
    average = weights.average
    if h and config.select_positives and config.weighted_refinement != "weighted":
        chosen = average > 0
        count = (pairs.positives * s.shape[2]).clamp(min=1, max=h)
        if config.weighted_refinement == "literal":
            s = s * average
        average = chosen / count
    return _weighted((s - target).square(), average)


def _triplet(scores: Scores, positive: Tensor, negative: Tensor, hinge: bool) -> Tensor:
    """(3, K): |a-p|^2 - |a-n|^2 + 1, eq. 19."""
    norms = scores.candidates.square().sum(-1)[:, None]  # (3, 1, C, K)
    distance = norms - 2 * scores.similarity  # short of |a|^2, which is the same for p and n
    loss = _weighted(distance, positive - negative) + 1
    return loss.relu() if hinge else loss


def _n_pair(s: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(3, K): log(1 + sum_j exp(a.n_j - a.p)), eq. 20; similarities are at most 1, so exp cannot overflow."""
    margin = s - _weighted(s, positive)[..., None, None]
    return _weighted(margin.exp(), negative).log1p()


def _weighted(value: Tensor, weight: Tensor) -> Tensor:
    """Sum over all candidates: (3, K, C, K) -> (3, K)."""
    return (value * weight).sum((-2, -1))


def _check_inputs(x: Mapping[str, Tensor], classes: Tensor, modalities: Sequence[str]) -> None:
    missing = [modality for modality in modalities if modality not in x]
    if missing or not modalities:
        lack = ", ".join(missing) or "any modality"
        raise UserError(f"Representations lack {lack}: the hybrid loss needs {', '.join(modalities or MODALITIES)}.")
    given = {**{modality: x[modality] for modality in modalities}, "classes": classes}
    if other := [
        f"{name} (a {type(value).__name__})" for name, value in given.items() if not isinstance(value, Tensor)
    ]:
        raise UserError(f"The hybrid loss needs tensors, not {', '.join(other)}.")
    shapes = {modality: tuple(x[modality].shape) for modality in modalities}
    first = shapes[modalities[0]]
    if len(first) != 2 or not all(first) or len(set(shapes.values())) > 1:
        raise UserError(f"Representations have shapes {shapes}: expected one (K, d) for all, K and d above 0.")
    if tuple(classes.shape) != first[:1]:
        raise UserError(f"Classes have shape {tuple(classes.shape)}: expected ({first[0]},), one for each sample.")
    if classes.is_floating_point() or classes.is_complex():  # scores would hardly have a positive pair: a loss of 0
        raise UserError(
            f"Classes are {classes.dtype}: expected integers, which sentiment_classes makes of scores and "
            "emotion_classes of emotion labels."
        )
