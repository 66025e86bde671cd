"""MMIM: parity with MMSA as recorded; the Gaussian, the covariances and the contrast by hand; what the memory keeps."""

import numpy as np
import pytest
import torch
from model_checks import build, loss_of
from peer.test_against_mmsa_mmim import SIZES, WEIGHTS
from recorded import GOLDEN
from recorded_states import compare_mmim
from safetensors.torch import load_file

from baselines.mmim import Conditional, Entropy, contrast, log_det_covariance
from hycon.errors import UserError
from studies.registry import resolve


def test_same_numbers_as_recorded():
    compare_mmim(load_file(GOLDEN / "mmim.safetensors"), **SIZES, **WEIGHTS)


@pytest.mark.parametrize("log_variance", [False, True])
def test_the_log_of_a_gaussian(log_variance):
    torch.manual_seed(0)
    q, x, y = Conditional(3, 4, log_variance), torch.randn(5, 3), torch.randn(5, 4)
    mean, log = q.mean(x), q.variance(x)
    constant = 0.5 * np.log(2 * np.pi) + (0 if log_variance else log / 2)
    expected = (torch.distributions.Normal(mean, (log / 2).exp()).log_prob(y) + constant).sum(1).mean()
    torch.testing.assert_close(q(x, y), expected)


def test_q_learns_from_its_own_loss_alone_and_nothing_else_does():
    torch.manual_seed(0)
    q, x, y = Conditional(3, 4, False), torch.randn(5, 3, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    bound = q.frozen(x, y)
    assert torch.equal(bound, q(x, y))
    bound.backward()
    assert all(p.grad is None for p in q.parameters())
    assert x.grad.any()
    assert y.grad.any()


def test_covariance_by_hand():
    rows = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    member = torch.tensor([1, 1, 0, 1, 0, 1, 1, 0, 0]).bool()
    expected = np.log(np.linalg.det(np.cov(rows[member].double().numpy().T, bias=True)))
    assert float(log_det_covariance(rows, member)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", ["none", "as many as dimensions", "all alike", "on a line"])
def test_a_singular_covariance_adds_nothing_and_has_no_gradient(case):
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    member = torch.ones(6, dtype=torch.bool)
    if case == "none":
        member[:] = False
    elif case == "as many as dimensions":
        member[3:] = False
    elif case == "all alike":
        rows = rows[:1].expand(6, 3).clone()
    else:
        rows = rows[:, :1] * torch.tensor([1.0, 2.0, -1.0])
    rows.requires_grad_()
    found = log_det_covariance(rows, member)
    found.backward()
    assert float(found.detach()) == 0
    assert not rows.grad.any()


def test_contrast_by_hand():
    x, predicted = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    scores = np.array([[0.6, 0.8], [0.0, 1.0]])
    expected = -np.mean(np.diag(scores) - np.log(np.exp(scores).sum(1)))
    assert float(contrast(x, predicted)) == pytest.approx(expected)


def test_the_memory_keeps_the_last_utterances_of_training():
    torch.manual_seed(0)
    entropy, y, label = Entropy(8, memory=5), torch.randn(3, 8), torch.tensor([1.0, -1.0, 2.0])
    entropy.eval()(y, label)
    assert not entropy.recent_label.any()
    entropy.train()(y, label)
    assert entropy.recent_label.tolist() == [0, 0, 1, -1, 2]
    entropy(y[:2], -label[:2])
    assert entropy.recent_label.tolist() == [1, -1, 2, -1, 1]
    assert not entropy.recent.requires_grad
    long = Entropy(8, memory=2)
    long(y, label)
    assert long.recent_label.tolist() == [-1, 2]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_batches_and_batches_of_one_class_are_finite(count, batches):
    batch = batches("small", "bert")["train"]
    some = batch.take(torch.argsort(batch.label)[:count])  # negative labels only
    net = build("mmim", "bert", some).train()
    for _ in range(3):
        loss = loss_of(net, some)
        loss.backward()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_ablations_take_out_what_they_name(batches):
    batch = batches("small", "bert")["train"].slice(0, 8)
    net = build("mmim", "bert", batch, alpha=0.0, beta=0.0).train()
    loss_of(net, batch).backward()
    assert not any(p.grad.any() for p in net.cpc.parameters())
    plain = build("mmim", "bert", batch).eval()
    torch.testing.assert_close(net.eval()(batch).prediction, plain(batch).prediction)


def test_too_narrow_for_an_entropy():
    with pytest.raises(UserError, match="expected at least 4"):
        resolve("mmim", "bert", {"audio_out": 3})
