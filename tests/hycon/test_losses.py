"""The hybrid loss against hand-worked numbers, a naive oracle in plain Python written from the equations, and edges."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hycon import losses
from hycon.errors import UserError
from hycon.losses import HybridConfig, anchor_shares, hybrid_loss
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


# --- hand-worked numbers --------------------------------------------------------------------------------------------


def by_hand(rows):
    """The same distributions in each modality, as raw representations whose softmax they are."""
    raw = torch.tensor(rows, dtype=torch.float64).log() + 3.7  # softmax ignores the constant
    return {m: raw for m in MODALITIES}


HALF, RIGHT, LEFT, FAR = [0.5, 0.5], [0.75, 0.25], [0.25, 0.75], [0.9, 0.1]


def test_hycon_by_hand():
    # s01 = .5, s02 = .5, s12 = .375; within a sample .5, .625, .625. Sample 2 has no positive and is left out.
    out = hybrid_loss(by_hand([HALF, RIGHT, LEFT]), torch.tensor([0, 0, 1]), HybridConfig())
    ratios = 3 * (1 / 2 + 4 / 7) / 2
    assert values(out) == pytest.approx(
        [
            -ratios + 3 * 0.5**2,
            -ratios + 3 * 0.3**2,
            3 * (0.3**2 + 2 * 0.175**2) / 3,
            -2 * ratios + 3 * 0.25 + 3 * 0.09 + 0.15125,
        ]
    )


def test_pair_selection_by_hand():
    # Positives of samples 0, 1, 3: the lowest similarity is .5 each; hardest negatives .5, .375, .3. Weights are 1.
    config = HybridConfig(beta=0.25)
    x, classes = by_hand([HALF, RIGHT, LEFT, FAR]), torch.tensor([0, 0, 1, 0])
    ratios = 1 / 2 + 4 / 7 + 5 / 8
    assert values(hybrid_loss(x, classes, config))[:2] == pytest.approx([-ratios + 0.75, -ratios + 3 * 0.09])


def test_table7_by_hand():
    # One positive and one negative each for samples 0 and 1: nothing is left to chance.
    x, classes = by_hand([HALF, RIGHT, LEFT]), torch.tensor([0, 0, 1])
    got = {kind: hybrid_loss(x, classes, HybridConfig(contrastive=kind)).iamcl.item() for kind in TABLE7}
    assert got["classical"] == pytest.approx(-3 * (1 / 2 + 4 / 7) / 2)
    # |p0-p1|^2 = .125, |p0-p2|^2 = .125, |p1-p2|^2 = .5
    assert got["triplet"] == pytest.approx(3 * (1.0 + (0.125 - 0.5 + 1)) / 2)
    assert got["hard-triplet"] == pytest.approx(got["triplet"])
    assert got["n-pair"] == pytest.approx(3 * (math.log(2) + math.log(1 + math.exp(-0.125))) / 2)


def test_hinge_cuts_at_zero():
    x, classes = by_hand([[1 - 1e-9, 1e-9], [1 - 1e-9, 1e-9], [1e-9, 1 - 1e-9]]), torch.tensor([0, 0, 1])
    config = HybridConfig(contrastive="hard-triplet")
    assert hybrid_loss(x, classes, config).iamcl.item() == 0.0
    literal = hybrid_loss(x, classes, replace(config, hinge=False)).iamcl.item()
    assert literal == pytest.approx(3 * (0 - 2 + 1))


def test_scale_at_initialisation():
    """Representations ~ N(0, 1), K = 48, d = 50, 24 samples a class: means over anchors, 10 batches (facts 2.4)."""
    classes = torch.arange(48) % 2
    plain = HybridConfig(reduction="mean", refinement=False)
    runs = []
    for seed in range(10):
        x = representations(48, 50, seed, scale=1.0, dtype=torch.float32)
        with_refinement = values(hybrid_loss(x, classes, replace(plain, refinement=True)))
        ratio = values(hybrid_loss(x, classes, plain))
        runs.append(
            [ratio[2], ratio[0], with_refinement[0] - ratio[0], ratio[1], with_refinement[1] - ratio[1]],
        )
    mean = torch.tensor(runs).mean(0).tolist()
    assert mean == pytest.approx([0.608, -0.489, 0.961, -0.491, 0.609], abs=0.003)


# --- the oracle -----------------------------------------------------------------------------------------------------

CONFIGS = {
    "hycon": HybridConfig(),
    "mean": HybridConfig(reduction="mean"),
    "sum": HybridConfig(reduction="sum"),
    "log": HybridConfig(log=True),
    "no refinement": HybridConfig(refinement=False),
    "no margin": HybridConfig(margin=1.0),
    "lambdas": HybridConfig(iamcl=0.5, iemcl=2.0, scl=0.0),
    "v2": V2,
    "v2 h=1": HybridConfig(beta=0.01),
    "v2 h=K": HybridConfig(beta=1.0),
    "v2 gamma": HybridConfig(beta=0.3, gamma=0.1),
    "v2 gamma 1e-4": HybridConfig(beta=0.3, gamma=1e-4),
    "v2 double": HybridConfig(beta=0.3, h_inter="double"),
    "v2 literal": HybridConfig(beta=0.3, weighted_refinement="literal"),
    "v2 mean": HybridConfig(beta=0.6, weighted_refinement="mean"),
    "v2 log sum": HybridConfig(beta=0.3, log=True, reduction="sum"),
    "v2 negatives only": HybridConfig(beta=0.3, select_positives=False, weighted_refinement="literal"),
    "v2 positives only": HybridConfig(beta=0.3, select_negatives=False),
    "v2 neither": HybridConfig(beta=0.3, select_positives=False, select_negatives=False),
    "classical": HybridConfig(contrastive="classical"),
    "classical log": HybridConfig(contrastive="classical", log=True),
    "triplet": HybridConfig(contrastive="triplet"),
    "triplet literal": HybridConfig(contrastive="triplet", hinge=False, reduction="mean"),
    "hard-triplet": HybridConfig(contrastive="hard-triplet"),
    "n-pair": HybridConfig(contrastive="n-pair", reduction="sum"),
}
BATCHES = {
    "two classes": [0, 1, 1, 0, 1, 0, 0],
    "a lonely one": [0, 0, 0, 1, 0],
    "excluded": [-1, 0, 1, -1, 1, 0, -1, 1],
    "three classes": [2, 0, 1, 2, 1, 0],
    "one class": [1, 1, 1, 1],
    "no positives": [0, 1, 2],
    "all excluded": [-1, -1, -1],
    "K = 1": [0],
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_naive_loops(name, batch):
    classes, config = torch.tensor(BATCHES[batch]), CONFIGS[name]
    x = representations(len(classes), seed=len(batch))
    expected = oracle(x, classes, config, seed=5)
    out = hybrid_loss(x, classes, config, torch.Generator().manual_seed(5))
    assert values(out) == pytest.approx(expected, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("kept", [("text", "audio"), ("text", "vision"), ("audio", "vision"), ("audio",)], ids=",".join)
@pytest.mark.parametrize("config", [HybridConfig(), V2, HybridConfig(reduction="sum"), replace(V2, h_inter="double")])
def test_fewer_modalities_equal_the_naive_loops(config, kept):
    x, classes = representations(8), torch.tensor([-1, 0, 1, 1, 1, 0, -1, 1])
    expected = oracle({m: x[m] for m in kept}, classes, config, seed=5)
    out = hybrid_loss(x, classes, config, modalities=kept)
    assert values(out) == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert (len(kept) == 1) == (out.iemcl.item() == out.scl.item() == 0.0)
    assert out.iamcl.item() != 0.0


@pytest.mark.parametrize(
    "beta, k, h", [(0.2, 48, 10), (0.2, 35, 7), (0.2, 32, 6), (0.2, 1, 1), (0.01, 10, 1), (1, 7, 7)]
)
def test_selected_count(beta, k, h):
    assert losses.selected_count(HybridConfig(beta=beta), k) == h


def test_excluded_samples_do_not_touch_the_supervised_losses():
    x, classes = representations(6), torch.tensor([0, 1, 0, 1, -1, -1])
    full = hybrid_loss(x, classes, HybridConfig())
    alone = hybrid_loss({m: v[:4] for m, v in x.items()}, classes[:4], HybridConfig())
    assert full.iamcl.item() == pytest.approx(alone.iamcl.item())
    assert full.iemcl.item() == pytest.approx(alone.iemcl.item())
    assert full.scl.item() != pytest.approx(alone.scl.item())


def test_margin_of_one_moves_scl_and_iemcl_only():
    x, classes = representations(8), torch.arange(8) % 2
    with_margin, without = (hybrid_loss(x, classes, HybridConfig(margin=m)) for m in (0.8, 1.0))
    assert with_margin.iamcl == without.iamcl
    assert with_margin.iemcl != without.iemcl
    assert with_margin.scl != without.scl


@pytest.mark.parametrize("config", [HybridConfig(), V2, HybridConfig(contrastive="hard-triplet")])
def test_order_of_samples_and_modalities_does_not_matter(config):
    x, classes = representations(9), torch.tensor([0, 1, 1, 0, -1, 2, 2, 0, 1])
    expected = values(hybrid_loss(x, classes, config))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    shuffled = {m: v[order] for m, v in x.items()}
    assert values(hybrid_loss(shuffled, classes[order], config)) == pytest.approx(expected)
    renamed = dict(zip(("vision", "text", "audio"), x.values(), strict=True))
    assert values(hybrid_loss(renamed, classes, config)) == pytest.approx(expected)
    renumbered = torch.where(classes >= 0, 7 - classes, classes)
    assert values(hybrid_loss(x, renumbered, config)) == pytest.approx(expected)


def test_draws_follow_the_generator():
    x, classes, config = representations(12), torch.arange(12) % 2, HybridConfig(contrastive="triplet")
    a, b, c = (values(hybrid_loss(x, classes, config, torch.Generator().manual_seed(s))) for s in (1, 1, 2))
    assert a == b
    assert a != c


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        HybridConfig(),
        HybridConfig(log=True, reduction="sum"),
        HybridConfig(beta=0.4, select_positives=False, select_negatives=False),
        HybridConfig(contrastive="classical"),
        HybridConfig(contrastive="triplet", hinge=False),
        HybridConfig(contrastive="hard-triplet"),
        HybridConfig(contrastive="n-pair"),
    ],
)
def test_gradient(config):
    classes = torch.tensor([0, 1, 0, 1, 1, -1])

    def total(*rows):
        x = dict(zip(MODALITIES, rows, strict=True))
        return hybrid_loss(x, classes, config, torch.Generator().manual_seed(0)).total

    assert torch.autograd.gradcheck(total, tuple(leaves(representations(6, 3)).values()))


@pytest.mark.parametrize("refinement", ["weighted", "literal", "mean"])
def test_gradient_of_v2_treats_weights_as_constants(monkeypatch, refinement):
    classes, config = torch.tensor([0, 1, 0, 1, 1, 0]), HybridConfig(beta=0.4, weighted_refinement=refinement)
    x = leaves(representations(6, 3))
    frozen = {}
    select = losses.selected_pairs

    def remember(s, *args):
        return frozen.setdefault(s.shape[2], select(s, *args))

    def total(*rows):
        return hybrid_loss(dict(zip(MODALITIES, rows, strict=True)), classes, config).total

    expected = torch.autograd.grad(total(*x.values()), tuple(x.values()))
    monkeypatch.setattr(losses, "selected_pairs", remember)
    got = torch.autograd.grad(total(*x.values()), tuple(x.values()))
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert torch.autograd.gradcheck(total, tuple(x.values()))


def test_every_modality_learns():
    x = leaves(representations(10))
    hybrid_loss(x, torch.arange(10) % 2).total.backward()
    assert all(v.grad.abs().sum() > 0 for v in x.values())


def test_descent_pulls_classes_together_and_apart():
    x, classes = leaves(representations(12, 8, scale=0.1, dtype=torch.float32)), torch.arange(12) % 2
    optimiser = torch.optim.Adam(x.values(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        hybrid_loss(x, classes).total.backward()
        optimiser.step()
    p = torch.cat([v.detach().softmax(-1) for v in x.values()])
    s, same = p @ p.T, classes.repeat(3)[:, None] == classes.repeat(3)
    assert s[same].mean() > 0.7
    assert s[~same].mean() < 0.05


# --- edges: whatever the batch, finite values and finite gradients --------------------------------------------------

EDGES = {
    "one class": [1] * 6,
    "all excluded": [-1] * 6,
    "no positives": [0, 1, 2, 3, 4, 5],
    "usual": [0, 1, 0, 1, 1, 0],
}
EDGE_CONFIGS = [
    HybridConfig(),
    HybridConfig(log=True),
    V2,
    HybridConfig(beta=1.0, gamma=1e-6, log=True, weighted_refinement="literal"),
    *[HybridConfig(contrastive=kind) for kind in TABLE7],
]


def assert_finite(x, classes, config):
    x = leaves(x)
    out = hybrid_loss(x, classes, config)
    out.total.backward()
    assert all(math.isfinite(v) for v in values(out))
    for v in x.values():
        assert v.grad.dtype == v.dtype
        assert torch.isfinite(v.grad).all()
    return out


@pytest.mark.parametrize("classes", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 300.0, 1e4])
def test_finite_on_odd_batches_and_huge_inputs(classes, scale):
    for config in EDGE_CONFIGS:
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            assert_finite(representations(6, scale=scale, dtype=dtype), torch.tensor(classes), config)


@pytest.mark.parametrize("config", EDGE_CONFIGS)
def test_finite_on_one_sample_and_identical_rows(config):
    out = assert_finite(representations(1, dtype=torch.float32), torch.tensor([0]), config)
    assert out.iamcl == 0
    assert out.iemcl == 0
    row = representations(1, dtype=torch.float32)
    assert_finite({m: v.repeat(6, 1) for m, v in row.items()}, torch.tensor(EDGES["usual"]), config)
    assert_finite({m: row["text"].repeat(6, 1) for m in MODALITIES}, torch.tensor(EDGES["usual"]), config)


@pytest.mark.parametrize("config", EDGE_CONFIGS)
def test_finite_where_all_similarities_vanish(config):
    """Each row saturates in a feature of its own: every similarity of two samples is exactly 0."""
    raw = 1e4 * torch.eye(6)
    assert_finite({m: raw for m in MODALITIES}, torch.tensor(EDGES["usual"]), config)
    assert_finite({m: raw for m in MODALITIES}, torch.tensor(EDGES["one class"]), config)


def test_ratio_is_exactly_one_without_negatives():
    x = leaves(representations(5, scale=50.0, dtype=torch.float32))
    out = hybrid_loss(x, torch.zeros(5, dtype=torch.int64), HybridConfig(refinement=False, scl=0.0))
    assert values(out)[:2] == pytest.approx([-3.0, -3.0])
    out.total.backward()
    assert all(v.grad.abs().sum() == 0 for v in x.values())


def test_no_anchor_no_loss_but_scl():
    out = hybrid_loss(representations(4), torch.full((4,), -1))
    assert values(out)[:2] == [0.0, 0.0]
    assert out.total == out.scl


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", [HybridConfig(), V2, HybridConfig(contrastive="n-pair")])
def test_autocast_computes_in_float32(dtype, config):
    x, classes = representations(16, 50, dtype=torch.float32), torch.arange(16) % 2
    expected = values(hybrid_loss(x, classes, config, torch.Generator().manual_seed(0)))
    with torch.autocast("cpu", dtype=dtype):
        out = hybrid_loss(x, classes, config, torch.Generator().manual_seed(0))
    assert out.total.dtype == torch.float32
    assert values(out) == expected


def test_representations_may_differ_in_precision():
    x = representations(6, dtype=torch.float32)
    mixed = leaves({"text": x["text"].bfloat16(), "audio": x["audio"], "vision": x["vision"]})
    out = hybrid_loss(mixed, torch.arange(6) % 2)
    out.total.backward()
    rounded = {**x, "text": x["text"].bfloat16().float()}
    assert values(out) == pytest.approx(values(hybrid_loss(rounded, torch.arange(6) % 2)))
    assert mixed["text"].grad.dtype == torch.bfloat16


def test_inputs_are_left_alone():
    x, classes = representations(6), torch.tensor([0, 1, 0, -1, 1, 1])
    before, labels = {m: v.clone() for m, v in x.items()}, classes.clone()
    for config in EDGE_CONFIGS:
        hybrid_loss(x, classes, config)
    assert all(torch.equal(x[m], before[m]) for m in MODALITIES)
    assert torch.equal(classes, labels)


# --- cost -----------------------------------------------------------------------------------------------------------


class Recorder(TorchDispatchMode):
    """Names of operations that would launch a kernel, views and allocations left out."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returns = func._schema.returns
        view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        if not view and not any(word in str(func) for word in ("empty", "_unsafe_view", "scalar_tensor")):
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "config, most", [(HybridConfig(), 60), (V2, 100), *[(HybridConfig(contrastive=k), 100) for k in TABLE7]]
)
def test_few_kernels_and_no_wait_for_the_device(config, most):
    x, classes = representations(8, dtype=torch.float32), torch.arange(8) % 2
    with Recorder() as recorder:
        hybrid_loss(x, classes, config)
    assert len(recorder.names) <= most
    waiting = ("_local_scalar_dense", "nonzero", "masked_select", "aten.index", "equal.default", "is_nonzero")
    assert [name for name in recorder.names if any(word in name for word in waiting)] == []


def test_kernels_do_not_grow_with_the_batch():
    counts = set()
    for k in (4, 32):
        with Recorder() as recorder:
            hybrid_loss(representations(k, dtype=torch.float32), torch.arange(k) % 2, V2)
        counts.add(len(recorder.names))
    assert len(counts) == 1


# --- callers' mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, said",
    [
        ({"reduction": "samples"}, "Unknown reduction 'samples'; nearest: sample"),
        ({"contrastive": "tripletloss"}, "triplet"),
        ({"h_inter": "three"}, "h_inter"),
        ({"weighted_refinement": "none"}, "weighted_refinement"),
        ({"beta": 0.0}, r"expected a share of the batch in \(0, 1\]"),
        ({"beta": 1.5}, "beta is 1.5"),
        ({"gamma": 0.0}, "gamma is 0"),
        ({"margin": 1.2}, "margin is 1.2"),
        ({"iamcl": -1.0}, "iamcl is -1.0"),
        ({"scl": float("nan")}, "scl is nan"),
        ({"beta": 0.2, "contrastive": "n-pair"}, "beta is for contrastive='hycon' only"),
    ],
)
def test_config_refuses(options, said):
    with pytest.raises(UserError, match=said):
        HybridConfig(**options)


def test_shapes_are_checked():
    x = representations(4)
    with pytest.raises(UserError, match="lack vision"):
        hybrid_loss({"text": x["text"], "audio": x["audio"]}, torch.zeros(4))
    with pytest.raises(UserError, match="lack any modality"):
        hybrid_loss(x, torch.zeros(4), modalities=())
    with pytest.raises(UserError, match="expected one \\(K, d\\) for all"):
        hybrid_loss({**x, "text": x["text"][:, :3]}, torch.zeros(4))
    with pytest.raises(UserError, match=r"expected \(4,\), one for each sample"):
        hybrid_loss(x, torch.zeros(4, 1))
    with pytest.raises(UserError, match="above 0"):
        hybrid_loss(representations(0), torch.zeros(0))


def test_shares_add_up():
    pairs = class_pairs(torch.tensor([0, 0, 1, -1, 2, 2]))
    assert anchor_shares(pairs, HybridConfig()).tolist() == [0.25, 0.25, 0, 0, 0.25, 0.25]
    assert 3 * anchor_shares(pairs, HybridConfig(reduction="mean")).sum() == pytest.approx(1)
    assert anchor_shares(pairs, HybridConfig(reduction="sum")).sum() == 4
