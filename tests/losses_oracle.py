"""The hybrid loss in loops, from the equations of sections 3.3 to 3.5 and 4.5.7; what its tests read."""

import math

import torch

from hycon.losses import HybridConfig
from hycon.pairs import class_pairs, random_pair

MODALITIES = ("text", "audio", "vision")
TABLE7 = ("classical", "triplet", "hard-triplet", "n-pair")
V2 = HybridConfig(beta=0.3)


def representations(k, d=5, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {m: (scale * torch.randn(k, d, generator=generator, dtype=torch.float64)).to(dtype) for m in MODALITIES}


def leaves(x):
    return {m: v.clone().requires_grad_() for m, v in x.items()}


def values(out):
    return [v.item() for v in (out.iamcl.detach(), out.iemcl.detach(), out.scl.detach(), out.total.detach())]


# --- the oracle: sections 3.3 to 3.5 and 4.5.7 in loops -------------------------------------------------------------


def softmax(row):
    top = max(row)
    weights = [math.exp(v - top) for v in row]
    return [w / sum(weights) for w in weights]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def hycon_anchor(s_pos, s_neg, n, target, h, c):
    """One anchor's eq. (7)+(8), (10)+(11), or the same under eqs. (13) to (15). n: positives before selection."""
    refinement = sum((s - target) ** 2 for s in s_pos) / n
    if h is None:
        top, bottom = sum(s_pos), sum(s_neg)
    else:
        if c.select_positives:
            s_pos = sorted(s_pos)[:h]
            w = softmax([1 / (s + c.gamma) for s in s_pos])
            refinement = {
                "weighted": sum(wi * (s - target) ** 2 for wi, s in zip(w, s_pos, strict=True)),
                "literal": sum((wi * s - target) ** 2 for wi, s in zip(w, s_pos, strict=True)) / len(s_pos),
                "mean": sum((s - target) ** 2 for s in s_pos) / len(s_pos),
            }[c.weighted_refinement]
        else:
            w = [1 / len(s_pos)] * len(s_pos)
        top = dot(w, s_pos)
        if c.select_negatives:
            s_neg = sorted(s_neg)[-h:]
            bottom = dot(softmax(s_neg), s_neg) if s_neg else 0.0
        else:
            bottom = sum(s_neg) / len(s_neg) if s_neg else 0.0
    ratio = top / (top + bottom)
    return -(math.log(ratio) if c.log else ratio) + (refinement if c.refinement else 0.0)


def table7_anchor(a, pos, neg, c, drawn_pos, drawn_neg=None):
    """Eqs. (18), (19), (20). drawn_*: which of pos and neg the generator drew."""

    def distance(u, v):
        return sum((x - y) ** 2 for x, y in zip(u, v, strict=True))

    p = pos[drawn_pos]
    if c.contrastive == "classical":
        ratio = dot(a, p) / (dot(a, p) + sum(dot(a, n) for n in neg))
        return -(math.log(ratio) if c.log else ratio)
    if c.contrastive == "n-pair":
        return math.log(1 + sum(math.exp(dot(a, n) - dot(a, p)) for n in neg))
    if c.contrastive == "hard-triplet":
        p, n = min(pos, key=lambda v: dot(a, v)), max(neg, key=lambda v: dot(a, v))
    else:
        n = neg[drawn_neg]
    loss = distance(a, p) - distance(a, n) + 1
    return max(0.0, loss) if c.hinge else loss


def reduce_anchors(per_modality, reduction):
    """per_modality: three lists of the losses of those anchors that count."""
    everything = [v for losses_of_m in per_modality for v in losses_of_m]
    if not everything:
        return 0.0
    if reduction == "sum":
        return sum(everything)
    if reduction == "mean":
        return sum(everything) / len(everything)
    return sum(sum(v) / len(v) for v in per_modality)


def oracle(x, classes, c, seed):
    p = [[softmax(row) for row in x[m].tolist()] for m in x]
    classes, k, count = classes.tolist(), len(classes), len(x)
    draws = replay(classes, c, seed) if count == 3 else {}
    parts = {}
    for part, target in (("iamcl", 1.0), ("iemcl", c.margin)):
        kept = [[] for _ in x]
        for m in range(count):
            # the drawn index counts candidates in the implementation's order: modalities m+1, m+2 (mod 3)
            others = [m] if part == "iamcl" else [(m + n) % count for n in range(1, count)]
            for i in range(k):
                near = [(o, j) for o in others for j in range(k) if classes[i] >= 0 and classes[j] >= 0]
                pos = [(o, j) for o, j in near if j != i and classes[j] == classes[i]]
                neg = [(o, j) for o, j in near if classes[j] != classes[i]]
                if not pos or ("triplet" in c.contrastive and not neg):
                    continue
                a, pv, nv = p[m][i], [p[o][j] for o, j in pos], [p[o][j] for o, j in neg]
                if c.contrastive == "hycon":
                    h = None if c.beta is None else max(1, round(k * c.beta))
                    h = len(others) * h if h and part == "iemcl" and c.h_inter == "double" else h
                    value = hycon_anchor([dot(a, v) for v in pv], [dot(a, v) for v in nv], len(pv), target, h, c)
                else:
                    drawn = {
                        side: [n for n, (o, j) in enumerate(meant) if draws[part, side][m, i, others.index(o), j] == 1]
                        for side, meant in (("pos", pos), ("neg", neg))
                    }
                    assert len(drawn["pos"]) == 1
                    value = table7_anchor(a, pv, nv, c, drawn["pos"][0], *drawn["neg"])
                kept[m].append(value)
        parts[part] = reduce_anchors(kept, c.reduction)
    kept = [
        [
            sum((dot(p[m][i], p[o][i]) - c.margin) ** 2 for o in range(count) if o != m) / (count - 1 or 1)
            for i in range(k)
        ]
        for m in range(count)
    ]
    parts["scl"] = reduce_anchors(kept, c.reduction)
    total = c.iamcl * parts["iamcl"] + c.iemcl * parts["iemcl"] + c.scl * parts["scl"]
    return [parts["iamcl"], parts["iemcl"], parts["scl"], total]


def replay(classes, c, seed):
    """The pairs that a generator of this seed draws: IAMCL first, a positive before a negative."""
    generator, k = torch.Generator().manual_seed(seed), len(classes)
    pairs, draws = class_pairs(torch.tensor(classes)), {}
    for part, modalities in (("iamcl", 1), ("iemcl", 2)):
        like = torch.zeros(3, k, modalities, k, dtype=torch.float64)
        for side, mask in (("pos", pairs.positive), ("neg", pairs.negative)):
            wanted = side == "pos" or c.contrastive == "triplet"
            draws[part, side] = random_pair(like, mask, generator) if wanted else torch.zeros_like(like)
    return draws
