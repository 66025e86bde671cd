"""ICCN: canonical correlations against scipy and closed forms, gradients on degenerate spectra, and the model."""

import numpy as np
import pytest
import scipy.linalg
import torch
from model_checks import check_batch_of_one, check_gradients, check_own_prediction, small_model

from baselines.iccn import SEARCH_SPACE, _Correlation, canonical_correlation
from hycon.output import task_loss

SMALL = {"d": 12, "channels": 2, "correlated": 4, "hidden": 8}


def slow_correlation(one, other, ridge):
    """By the generalised eigenproblem S12 S22^-1 S21 a = rho^2 S11 a."""
    one, other = one - one.mean(0), other - other.mean(0)
    n = len(one) - 1
    s11, s22 = one.T @ one / n, other.T @ other / n
    s11 = s11 + ridge * np.trace(s11) / len(s11) * np.eye(len(s11))
    s22 = s22 + ridge * np.trace(s22) / len(s22) * np.eye(len(s22))
    s12 = one.T @ other / n
    squares = scipy.linalg.eigh(s12 @ np.linalg.solve(s22, s12.T), s11, eigvals_only=True)
    return np.sqrt(squares.clip(min=0)).sum()


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


def test_the_initial_outputs_are_judged_by_correlation_not_scale(batches):
    """The untrained network's views vary by thousandths; ten times as large they correlate no more."""
    batch = batches("small", "glove")["train"].slice(0, 32)
    net = small_model("iccn", **SMALL).eval()
    with torch.no_grad():
        before = float(net.loss(net(batch), batch) - task_loss(net(batch).prediction, batch.label))
        for view in (net.text_audio, net.text_vision):
            view.linear.weight.mul_(10.0)
            view.linear.bias.mul_(10.0)
        after = float(net.loss(net(batch), batch) - task_loss(net(batch).prediction, batch.label))
    assert before < 0.09  # 0.1 would be no correlation at all
    assert after == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("shape", [(9, 3, 3), (12, 4, 2)])
def test_gradient_is_the_derivative(shape):
    torch.manual_seed(1)
    one = torch.randn(*shape[:2], dtype=torch.double, requires_grad=True)
    other = torch.randn(shape[0], shape[2], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: _Correlation.apply(x, y, 1e-2), (one, other))


def test_gradient_with_equal_eigenvalues():
    """Whitened columns: every eigenvalue of S11 is the same, where differentiating `eigh` gives NaN."""
    torch.manual_seed(2)
    x = torch.randn(20, 3, dtype=torch.double)
    one = torch.linalg.qr(x - x.mean(0))[0].requires_grad_()
    other = torch.randn(20, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y: _Correlation.apply(x, y, 1e-2), (one, other))


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
    assert torch.isfinite(one.grad).all() and torch.isfinite(other.grad).all()
    without = name in ("constant", "zero", "constant but for rounding")
    assert (float(value.detach()) == 0.0) == without == (not one.grad.any())


@pytest.mark.parametrize(("rows", "correlated"), [(1, False), (2, False), (9, False), (10, True)])
def test_few_rows_have_no_correlation(rows, correlated):
    """Ten are twice the five columns."""
    x, y = torch.randn(rows, 4, requires_grad=True), torch.randn(rows, 5)
    value = canonical_correlation(x, y)
    value.backward()
    assert (float(value.detach()) > 0) == correlated == bool(x.grad.any())


def test_every_searched_batch_is_large_enough():
    for space in SEARCH_SPACE.values():
        assert min(space["batch_size"]) >= 2 * max(space["correlated"])


def test_half_precision_is_finite():
    x = torch.randn(12, 4, dtype=torch.bfloat16, requires_grad=True)
    value = canonical_correlation(x, torch.randn(12, 4, dtype=torch.bfloat16))
    value.backward()
    assert value.dtype == torch.float32 and torch.isfinite(x.grad).all()


def test_loss_is_task_plus_missing_correlation(batches):
    batch = batches("small", "glove")["train"].slice(0, 16)
    net = small_model("iccn", weight=0.5, ridge=1e-3, **SMALL).eval()
    with torch.no_grad():
        output = net(batch)
        task = float(task_loss(output.prediction, batch.label))
        text_audio = net.text_audio(output.representations["text"], output.representations["audio"])
        text_vision = net.text_vision(output.representations["text"], output.representations["vision"])
        found = slow_correlation(text_audio.double().numpy(), text_vision.double().numpy(), 1e-3)
        assert float(net.loss(output, batch)) == pytest.approx(task + 0.5 * (1 - found / 4), abs=1e-5)
        plain = small_model("iccn", weight=0.0, **SMALL).eval()
        assert float(plain.loss(plain(batch), batch)) == task


def test_training_correlates_the_two_views(batches):
    batch = batches("small", "glove")["train"].slice(0, 32)
    net = small_model("iccn", weight=10.0, dropout=0.0, **SMALL)
    steps = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = net(batch)
        multimodal = output.multimodal
        losses.append(float(canonical_correlation(multimodal[:, :4], multimodal[:, -4:]).detach()))
        steps.zero_grad()
        net.loss(output, batch).backward()
        steps.step()
    assert losses[-1] > losses[0] + 0.3


def test_conformance(batches):
    split = batches("small", "glove")["train"]
    check_gradients(small_model("iccn", **SMALL), split.slice(0, 12))
    check_own_prediction(small_model("iccn", **SMALL), split)
    check_batch_of_one(small_model("iccn", **SMALL), split)
