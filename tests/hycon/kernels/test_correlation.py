"""Canonical correlations against scipy, closed forms and the plain form; gradients on degenerate spectra."""

import numpy as np
import pytest
import torch
from correlation_oracle import slow_correlation
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, check_derivative, randn

from hycon.kernels.correlation import _Correlation, canonical_correlation, plain_correlation


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(3, 9), st.sampled_from([1e-3, 0.1]), st.integers(0, 99))
def test_fast_is_plain(k, width, more, ridge, seed):
    """...where spectra are not degenerate, which random ones are not."""
    torch.manual_seed(seed)
    rows = 2 * max(k, width) + more
    inputs = [randn(rows, k), randn(rows, width)]

    def plain(x, y):
        return plain_correlation(x, y, ridge)

    check_alike(lambda x, y: _Correlation.apply(x, y, ridge), plain, inputs, atol=1e-7)
    found = canonical_correlation(*inputs, ridge)
    torch.testing.assert_close(found, plain(*inputs).float())


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("shape", [(40, 5, 5), (30, 6, 3), (12, 6, 4)])
def test_against_scipy(shape, ridge):
    rng = np.random.default_rng(0)
    one = rng.normal(size=shape[:2])
    other = 0.5 * one[:, : shape[2]] + rng.normal(size=(shape[0], shape[2]))
    found = canonical_correlation(torch.tensor(one), torch.tensor(other), ridge)
    assert float(found) == pytest.approx(slow_correlation(one, other, ridge), rel=1e-4)


def test_known_correlations():
    x = torch.randn(60, 4, dtype=torch.double)
    turned = x @ torch.randn(4, 4, dtype=torch.double) + 3.0  # any invertible map of x correlates perfectly
    assert float(canonical_correlation(x, turned, 1e-9)) == pytest.approx(4.0, abs=1e-3)
    a, b = torch.randn(50, 1), torch.randn(50, 1)
    pearson = np.corrcoef(a[:, 0], b[:, 0])[0, 1]
    assert float(canonical_correlation(a, b, 1e-9)) == pytest.approx(abs(pearson), abs=1e-4)


@pytest.mark.parametrize("factor", [1e3, 1e-3, 1e-9])
def test_scale_changes_nothing(factor):
    """Nor does it change the gradient, but by the chain rule."""
    torch.manual_seed(4)
    one = torch.randn(20, 4, dtype=torch.double, requires_grad=True)
    other = one.detach() + torch.randn(20, 4, dtype=torch.double)
    value, scaled = (canonical_correlation(x, other) for x in (one, factor * one))
    assert float(scaled.detach()) == pytest.approx(float(value.detach()), rel=1e-6)
    assert float(canonical_correlation(one, factor * other).detach()) == pytest.approx(float(value.detach()), rel=1e-6)
    (expected,), (found,) = (torch.autograd.grad(v, one) for v in (value, scaled))
    torch.testing.assert_close(found, expected)
    assert expected.abs().max() > 1e-2


@pytest.mark.parametrize("shape", [(9, 3, 3), (12, 4, 2)])
def test_gradient_is_the_derivative(shape):
    torch.manual_seed(1)
    one = torch.randn(*shape[:2], dtype=torch.double, requires_grad=True)
    other = torch.randn(shape[0], shape[2], dtype=torch.double, requires_grad=True)
    check_derivative(lambda x, y: _Correlation.apply(x, y, 1e-2), (one, other))


def test_gradient_with_equal_eigenvalues():
    """Whitened columns: every eigenvalue of S11 is the same, where differentiating `eigh` gives NaN."""
    torch.manual_seed(2)
    x = torch.randn(20, 3, dtype=torch.double)
    one = torch.linalg.qr(x - x.mean(0))[0].requires_grad_()
    other = torch.randn(20, 3, dtype=torch.double, requires_grad=True)
    check_derivative(lambda x, y: _Correlation.apply(x, y, 1e-2), (one, other))


DEGENERATE = {
    "constant": lambda x: torch.ones_like(x),
    "zero": lambda x: torch.zeros_like(x),
    "one column repeated": lambda x: x[:, :1].expand(-1, x.shape[1]).clone(),
    "identical rows but one": lambda x: torch.cat([x[:1], x[1:2].expand(len(x) - 1, -1)]),
    "constant but for rounding": lambda x: 0.1 + 1e-8 * x,
    "huge": lambda x: 1e6 * x,
    "tiny": lambda x: 1e-12 * x,
    "itself": lambda x: x.clone(),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_batches_have_finite_gradients(name):
    torch.manual_seed(3)
    one = DEGENERATE[name](torch.randn(16, 6)).requires_grad_()
    other = torch.randn(16, 6) if name != "itself" else one.detach().clone()
    other.requires_grad_()
    value = canonical_correlation(one, other)
    value.backward()
    assert 0.0 <= float(value.detach()) <= 6.0 + 1e-4
    assert torch.isfinite(one.grad).all()
    assert torch.isfinite(other.grad).all()
    without = name in ("constant", "zero", "constant but for rounding")
    assert (float(value.detach()) == 0.0) == without == (not one.grad.any())


@pytest.mark.parametrize(("rows", "correlated"), [(1, False), (2, False), (9, False), (10, True)])
def test_few_rows_have_no_correlation(rows, correlated):
    """Ten are twice the five columns."""
    x, y = torch.randn(rows, 4, requires_grad=True), torch.randn(rows, 5)
    value = canonical_correlation(x, y)
    value.backward()
    assert (float(value.detach()) > 0) == correlated == bool(x.grad.any())


def test_half_precision_is_finite():
    x = torch.randn(12, 4, dtype=torch.bfloat16, requires_grad=True)
    value = canonical_correlation(x, torch.randn(12, 4, dtype=torch.bfloat16))
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(x.grad).all()
