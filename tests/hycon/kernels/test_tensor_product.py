"""A linear layer over the dropped outer product: block by block it is the layer over the product itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, check_derivative, randn
from torch import nn

from hycon.kernels.dropout import keep_mask
from hycon.kernels.tensor_product import outer, plain_tensor_linear, tensor_linear

WIDTHS = st.integers(1, 5)


def case(batch, widths, out=3, seed=0):
    """(x, y, z, linear): three vectors and a layer over their product."""
    torch.manual_seed(seed)
    return *(randn(batch, width) for width in widths), nn.Linear(widths[0] * widths[1] * widths[2], out).double()


def fast(linear, p):
    return lambda x, y, z, *_: tensor_linear(x, y, z, linear, p, training=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.tuples(WIDTHS, WIDTHS, WIDTHS), st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 99))
def test_fast_is_plain(batch, widths, p, seed):
    """With the same dropout, since one block holds all of a product as small as these."""
    *x, linear = case(batch, widths, seed=seed)
    check_alike(
        fast(linear, p), lambda x, y, z, *_: plain_tensor_linear(x, y, z, linear, p), [*x, *linear.parameters()]
    )


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradient_by_finite_differences(p, monkeypatch):
    monkeypatch.setattr("hycon.kernels.tensor_product.BLOCK", 2 * 8)
    *x, linear = case(4, (2, 3, 2))
    check_derivative(fast(linear, p), [*x, *linear.parameters()])


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_in_several_blocks(p, monkeypatch):
    monkeypatch.setattr("hycon.kernels.tensor_product.BLOCK", 5 * 30)
    *x, linear = case(6, (3, 4, 5), out=7)

    def plain(*x):
        masks = [keep_mask((6, width), p) for width in (25, 25, 10)]  # 12 pairs in blocks of 5, with 5 features of z
        return linear(outer(*x[:3]) * torch.cat([kept for kept, _ in masks], 1) * masks[0][1])

    check_alike(fast(linear, p), plain, [*x, *linear.parameters()])


def test_nothing_is_dropped_in_evaluation():
    *x, linear = case(6, (3, 4, 5))
    torch.testing.assert_close(tensor_linear(*x, linear, 0.5, training=False), linear(outer(*x)))


def test_outer_has_its_first_factor_slowest():
    x, y, z = case(2, (3, 4, 5))[:3]
    torch.testing.assert_close(outer(x, y, z).unflatten(1, (3, 4, 5)), torch.einsum("bi,bj,bk->bijk", x, y, z))
