"""Which pairs of representations meet in a contrastive loss, and with what weight.

An anchor is one modality of one sample. Its candidates are the samples of the batch in one or more modalities, so a
similarity has shape (A, K, C, K): A anchor modalities, K anchors, C candidate modalities, K candidates. Pairs depend
on classes alone and are (K, 1, K) masks, one for all modalities; weights broadcast against a similarity. HyCon takes
all pairs (`all_pairs`), HyCon-v2 selects and weights hard ones (`selected_pairs`, eqs. 13-15), Table 7 draws
(`random_pair`) or picks (`hardest_pair`) one. Losses (hycon/losses.py) only consume weights.

Weights never carry a gradient (section 3.4), and nothing here waits for an accelerator: all sizes come from shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hycon.errors import UserError

ZEROS = ("positive", "exclude", "third")


def sentiment_classes(label: Tensor, zero: str = "positive") -> Tensor:
    """Sentiment scores (K,) -> classes (K,) int64 on the same device: 0 negative, 1 positive.

    zero: what a label of exactly 0 is. "positive": class 1, as the lineage's code thresholds at >= 0. "third": class
    2. With either, N + M = K - 1 for every anchor (section 3.3.2). "exclude": -1, in no pair.
    """
    if zero not in ZEROS:
        raise UserError(f"No way {zero!r} to treat labels of 0: choose one of {', '.join(ZEROS)}.")
    classes = (label >= 0).long()
    if zero == "positive":
        return classes
    return classes.masked_fill(label == 0, -1 if zero == "exclude" else 2)


def emotion_classes(label: Tensor) -> Tensor:
    """Emotion labels (K, E) of 0 and 1 -> classes (K,) int64: equal label vectors are one class.

    A vector with one emotion has that emotion's index as its class, 0 ... E-1 (the 4-way id on IEMOCAP); any other
    vector has a class of its own from E on. Decided per sample, so a batch's classes do not depend on its company.
    """
    present = label != 0
    code = (present << torch.arange(label.shape[-1], device=label.device)).sum(-1)
    return torch.where(present.sum(-1) == 1, present.long().argmax(-1), code + label.shape[-1])


@dataclass(frozen=True)
class Pairs:
    """positive, negative: (K, 1, K) masks of 1 and 0, [anchor, any modality, candidate].

    positives: (K, 1, 1) how many positives an anchor has in one modality (N).  contrasted: (K,) bool, M > 0.
    """

    positive: Tensor
    negative: Tensor
    positives: Tensor
    contrasted: Tensor


@dataclass(frozen=True)
class Weights:
    """What a loss multiplies similarities (A, K, C, K) with; each broadcasts to that shape.

    positive, negative: weights of the two sums in the ratio (eqs. 7 and 10).
    average: weights of the refinement's average over positives (eqs. 8 and 11); they sum to 1 for each anchor
    that has positives.
    """

    positive: Tensor
    negative: Tensor
    average: Tensor


def class_pairs(classes: Tensor, dtype: torch.dtype = torch.float32) -> Pairs:
    """Positive pairs share a class and are two samples, negative pairs differ in class (sections 3.3.2 and 3.3.3).

    classes: (K,) integers; a sample of a class below 0 takes part in no pair.  dtype: of the masks.
    A sample is never its own positive, in any modality: pairs within a sample belong to the SCL alone.
    """
    counted = classes >= 0
    both = counted[:, None] & counted
    same = (classes[:, None] == classes) & both
    negative = (both ^ same).to(dtype)
    positive = same.fill_diagonal_(False).to(dtype)
    return Pairs(positive[:, None], negative[:, None], positive.sum(-1)[:, None, None], negative.any(-1))


def all_pairs(pairs: Pairs, modalities: int) -> Weights:
    """HyCon: every pair, weight 1 in the ratio, 1/N (IAMCL) or 1/2N (IEMCL) in the refinement.

    modalities: of the candidates (C).
    """
    return Weights(pairs.positive, pairs.negative, _mean(pairs.positive, pairs.positives, modalities))


@torch.no_grad()
def selected_pairs(
    similarity: Tensor,
    pairs: Pairs,
    h: int,
    gamma: float,
    positives: bool = True,
    negatives: bool = True,
) -> Weights:
    """HyCon-v2: the h positives of lowest and the h negatives of highest similarity, weighted by hardness (13, 14).

    similarity: (A, K, C, K).  h: pairs to keep for each anchor and side, out of all C modalities together; where an
    anchor has fewer, all it has.  gamma: offset in the weight of a positive, above 0.
    A side that is not to be selected (positives=False or negatives=False) becomes the plain mean over all its pairs:
    weights of either kind sum to 1, so that the ratio compares two averages. So with neither side selected this is not
    HyCon, whose ratio compares two sums (`all_pairs`).
    """

    def by_lowest(score: Tensor) -> Tensor:
        return (gamma - score).reciprocal()

    if positives and negatives:  # both sides at once: half the calls
        masks = torch.stack([pairs.positive, pairs.negative])[:, None]  # (2, 1, K, 1, K)
        scores = torch.stack([-similarity, similarity])
        both = _harder(scores, masks, h, lambda score: torch.stack([by_lowest(score[0]), score[1]]))
        return Weights(both[0], both[1], both[0])
    positive = _mean(pairs.positive, pairs.positives, similarity.shape[2])
    negative = _mean(pairs.negative, pairs.negative.sum(-1, keepdim=True), similarity.shape[2])
    if positives:
        positive = _harder(-similarity, pairs.positive, h, by_lowest)
    if negatives:
        negative = _harder(similarity, pairs.negative, h, lambda score: score)
    return Weights(positive, negative, positive)


@torch.no_grad()
def random_pair(similarity: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Weight 1 on one of each anchor's pairs in `mask` (K, 1, K), every one as likely; 0 for anchors without any."""
    draw = torch.rand(similarity.shape, generator=generator, device=similarity.device, dtype=similarity.dtype)
    return _harder(draw, mask, 1, torch.zeros_like)


@torch.no_grad()
def hardest_pair(score: Tensor, mask: Tensor) -> Tensor:
    """Weight 1 on the pair in `mask` (K, 1, K) of highest `score` (A, K, C, K); 0 for anchors without any."""
    return _harder(score, mask, 1, torch.zeros_like)


def _harder(score: Tensor, mask: Tensor, h: int, hardness) -> Tensor:
    """softmax(hardness(score)) over the h highest scores in `mask`, 0 elsewhere: (..., K, C, K), as `score`.

    The softmax subtracts its maximum, so gamma near 0 does not overflow as eq. 14 taken literally would. A weight
    above 0 tells that a pair was chosen, so one that underflows becomes the smallest normal number.
    """
    impossible = float("-inf")
    flat = score.masked_fill(mask == 0, impossible).flatten(-2)  # (..., K, C*K)
    kept, index = flat.topk(min(h, flat.shape[-1]), dim=-1, sorted=False)
    missing = kept == impossible
    weight = hardness(kept).masked_fill(missing, impossible).softmax(-1)
    weight = weight.clamp(min=torch.finfo(weight.dtype).tiny).masked_fill(missing, 0.0)
    if score.is_cuda:  # where a deterministic scatter takes 25 launches
        chosen = index[..., None] == torch.arange(flat.shape[-1], device=index.device)  # (..., K, h, C*K)
        return (weight[..., None] * chosen).sum(-2).view(score.shape)
    return torch.zeros_like(flat).scatter(-1, index, weight).view(score.shape)


def _mean(mask: Tensor, count: Tensor, modalities: int) -> Tensor:
    """(K, 1, K) weights that average over an anchor's `count` (K, 1, 1) pairs in each of C candidate modalities."""
    return mask / (count * modalities).clamp(min=1)
