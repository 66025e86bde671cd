"""The hybrid loss against hand-worked numbers and a naive oracle in plain Python; its gradients."""

import math
from dataclasses import replace

import pytest
import torch
from losses_oracle import MODALITIES, TABLE7, V2, leaves, oracle, representations, values

from hycon import losses
from hycon.losses import HybridConfig, hybrid_loss

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
