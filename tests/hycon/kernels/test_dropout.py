"""Dropout with cheap random bits: the asked share, the mean, the gradient of what was kept."""

import pytest
import torch
from torch import nn

from hycon.kernels.dropout import Dropout, dropout, keep_mask, replace_dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_it_drops_the_asked_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    dropped = dropout(torch.ones(400, 501), p, True)  # an odd count: the last draw is used in part
    assert float((dropped == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(dropped.unique()) == 2


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4)])
def test_values_and_gradient_are_those_of_the_mask(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    kept, scale = keep_mask(shape, 0.4)
    torch.manual_seed(3)
    found = dropout(x, 0.4, True)
    torch.testing.assert_close(found, x * kept * scale)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], (kept * scale).double())


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_where_nothing_is_dropped_it_is_its_input(p, training):
    x = torch.randn(4)
    assert dropout(x, p, training) is x


def test_all_may_be_dropped():
    assert not dropout(torch.ones(9), 1.0, True).any()


def test_every_dropout_of_a_model_is_replaced():
    model = nn.Sequential(nn.Dropout(0.2), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3)))
    replace_dropout(model)
    found = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [type(module) for module in found] == [Dropout, Dropout]
    assert [module.p for module in found] == [0.2, 0.3]
