"""MFN's gated memory over packed rows, its dropout in each of the three networks."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, check_derivative, randn
from torch import nn

from hycon.data.ragged import Both
from hycon.kernels.dropout import Dropout
from hycon.kernels.gated_memory import gated_memory, plain_gated_memory
from hycon.kernels.packing import pack


class Network(nn.Module):
    def __init__(self, width, hidden, out, p):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(width, hidden), nn.Linear(hidden, out), Dropout(p)

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(x))))


def case(lengths, p=0.0, width=3, memory=4, seed=0):
    """(kernels' arguments but x, tensors): proposal, retain and update networks of sizes that all differ."""
    torch.manual_seed(seed)
    sizes = ((width, 5), (width + memory, 6), (width + memory, 2))
    networks = nn.ModuleList(Network(*size, memory, p) for size in sizes).double()
    for parameter in networks.parameters():
        nn.init.normal_(parameter, std=0.5)
    given = (*networks, pack(Both.of(torch.tensor(lengths))))
    return given, [randn(sum(lengths), width), *networks.parameters()]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.sampled_from([0.0, 0.3, 0.6]), st.integers(0, 99))
def test_fast_is_plain(lengths, p, seed):
    given, tensors = case(lengths, p, seed=seed)
    check_alike(lambda x, *_: gated_memory(x, *given), lambda x, *_: plain_gated_memory(x, *given), tensors)


@pytest.mark.parametrize("lengths", [[3, 3], [2, 4, 1]], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_gradient_by_finite_differences(lengths, p):
    given, tensors = case(lengths, p)
    check_derivative(lambda x, *_: gated_memory(x, *given), tensors)


def test_dropout_is_drawn_for_each_step_and_only_in_training():
    given, (x, *_) = case([4, 2], p=0.5)
    assert not torch.equal(gated_memory(x, *given), gated_memory(x, *given))
    for network in given[:3]:
        network.eval()
    assert torch.equal(gated_memory(x, *given), gated_memory(x, *given))
