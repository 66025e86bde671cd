"""The hybrid loss on odd batches and huge inputs, its cost on a device, and what it refuses."""

import dataclasses
import math

import pytest
import torch
from losses_oracle import MODALITIES, TABLE7, V2, leaves, representations, values
from torch.utils._python_dispatch import TorchDispatchMode

from hycon.errors import UserError
from hycon.losses import HybridConfig, anchor_shares, hybrid_loss
from hycon.pairs import class_pairs

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
    "config, most", [(HybridConfig(), 62), (V2, 100), *[(HybridConfig(contrastive=k), 100) for k in TABLE7]]
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


# --- defaults -------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_paper_and_of_the_protocol():
    assert dataclasses.asdict(HybridConfig()) == {
        "iamcl": 1.0,
        "iemcl": 1.0,
        "scl": 1.0,
        "margin": 0.8,
        "refinement": True,
        "beta": None,
        "gamma": 1.0,
        "select_positives": True,
        "select_negatives": True,
        "reduction": "sample",
        "log": False,
        "h_inter": "same",
        "weighted_refinement": "weighted",
        "contrastive": "hycon",
        "hinge": True,
    }


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
    with pytest.raises(UserError, match="expected one \\(K, d\\) for all"):
        hybrid_loss({modality: rows[:, None] for modality, rows in x.items()}, torch.zeros(4))
    with pytest.raises(UserError, match=r"expected \(4,\), one for each sample"):
        hybrid_loss(x, torch.zeros(4, 1))
    with pytest.raises(UserError, match="above 0"):
        hybrid_loss(representations(0), torch.zeros(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.complex64])
def test_scores_are_no_classes(dtype):
    """Two scores are hardly ever equal, so that no anchor had a positive: IAMCL and IEMCL were 0 without a word."""
    scores = torch.tensor([-1.2, 0.4, -0.2, 2.0]).to(dtype)
    with pytest.raises(UserError, match=f"Classes are {dtype}: expected integers, which sentiment_classes makes"):
        hybrid_loss(representations(4), scores)


def test_integers_of_any_width_are_classes():
    x, classes = representations(4), torch.tensor([0, 1, 1, 0])
    expected = values(hybrid_loss(x, classes))
    for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
        assert values(hybrid_loss(x, classes.to(dtype))) == expected


def test_only_tensors_are_taken():
    x = representations(4)
    with pytest.raises(UserError, match=r"tensors, not classes \(a list\)"):
        hybrid_loss(x, [0, 1, 1, 0])
    with pytest.raises(UserError, match=r"tensors, not vision \(a ndarray\)"):
        hybrid_loss({**x, "vision": x["vision"].detach().numpy()}, torch.zeros(4, dtype=torch.int64))


def test_shares_add_up():
    pairs = class_pairs(torch.tensor([0, 0, 1, -1, 2, 2]))
    assert anchor_shares(pairs, HybridConfig()).tolist() == [0.25, 0.25, 0, 0, 0.25, 0.25]
    assert 3 * anchor_shares(pairs, HybridConfig(reduction="mean")).sum() == pytest.approx(1)
    assert anchor_shares(pairs, HybridConfig(reduction="sum")).sum() == 4
