"""Fusion: outer products keep lower orders, low-rank fusion against its equation."""

import pytest
import torch

from hycon.data.manifest import MODALITIES
from hycon.errors import UserError
from hycon.fusion import LowRank, TensorFusion, build_fusion, with_one
from hycon.kernels.tensor_product import outer

WIDTHS = {"text": 3, "audio": 4, "vision": 5}


def inputs(batch=6):
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(batch, d, generator=generator, dtype=torch.double) for m, d in WIDTHS.items()}


def test_outer_keeps_lower_orders():
    x = {m: with_one(v) for m, v in inputs().items()}
    product = outer(*x.values()).unflatten(1, (4, 5, 6))
    torch.testing.assert_close(product[:, :3, -1, -1], inputs()["text"])
    torch.testing.assert_close(product[:, -1, -1, :5], inputs()["vision"])
    assert (product[:, -1, -1, -1] == 1).all()


@pytest.mark.parametrize("learned", [True, False])
def test_low_rank_is_a_sum_over_ranks_of_products(learned):
    torch.manual_seed(0)
    fusion, x = LowRank(WIDTHS, out=2, rank=3, learned=learned).double(), inputs()
    expected = torch.zeros(6, 2, dtype=torch.double)
    for r in range(3):
        term = torch.ones(6, 2, dtype=torch.double)
        for m in MODALITIES:
            term = term * (torch.cat([torch.ones(6, 1), x[m]], 1) @ fusion.factors[m][r])
        expected = expected + fusion.weights[0, r] * term
    torch.testing.assert_close(fusion(x), expected + fusion.bias)
    assert fusion.weights.requires_grad is learned


def test_tensor_fusion_has_the_widths_of_the_papers_count():
    sizes = [tuple(layer.weight.shape) for layer in TensorFusion(4).layers]
    assert sizes == [(50, 125), (50, 50), (4, 50)]


def test_unknown_fusion_names_the_nearest():
    with pytest.raises(UserError, match="tensor"):
        build_fusion("tensr", 4)
