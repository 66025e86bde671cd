"""Packed order is PyTorch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pretended_gpu import PretendedGPU
from torch.nn.utils.rnn import pack_padded_sequence

from hycon.data.ragged import Both, Ragged
from hycon.kernels.packing import pack


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=9))
def test_packed_order_is_pytorch_s(lengths):
    n = torch.tensor(lengths)
    values = torch.arange(len(lengths) * max(lengths)).view(len(lengths), -1)
    packing = pack(Both.of(n))
    order = torch.argsort(n, descending=True, stable=True)
    theirs = pack_padded_sequence(values[order, :, None], n[order], batch_first=True)
    assert packing.sizes == theirs.batch_sizes.tolist()
    assert torch.equal(packing.rows(values), theirs.data[:, 0])
    assert torch.equal(packing.rows(values)[packing.last], values[torch.arange(len(lengths)), n - 1])
    assert torch.equal(packing.first, order)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=9))
def test_the_step_before(lengths):
    packing = pack(Both.of(torch.tensor(lengths)))
    rows = torch.stack([packing.sequence, packing.step], 1)
    before = packing.step_before(rows)
    assert torch.equal(before, rows[len(lengths) :] - torch.tensor([0, 1]))
    shifted = packing.shifted(rows)
    assert not shifted[: len(lengths)].any()
    assert torch.equal(shifted[len(lengths) :], before)


@pytest.mark.parametrize("lengths", [[3, 1, 5], [2, 2]], ids=str)
def test_rows_of_ragged_and_of_padded_sequences(lengths):
    sequences = Ragged.from_list([torch.randn(n, 4) for n in lengths])
    packing = pack(sequences.both)
    assert torch.equal(packing.rows(sequences), packing.rows(sequences.padded()))


@pytest.mark.parametrize("lengths", [[3, 1, 5], [2, 2], [1], [4, 4, 1]], ids=str)
def test_the_last_rows_on_a_gpu_and_their_gradient(lengths):
    """What PyTorch's own gives, to the bit: each row is picked at most once."""
    packing = pack(Both.of(torch.tensor(lengths)))
    x = torch.randn(sum(lengths), 4, requires_grad=True)
    expected = packing.last_rows(x)
    assert torch.equal(expected, x[packing.last])
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    with PretendedGPU():
        there = x.detach().to("cuda").requires_grad_()
        found = pack(Both.of(torch.tensor(lengths), "cuda")).last_rows(there)
        (found * weights.to("cuda")).sum().backward()
    assert torch.equal(found, expected)
    assert torch.equal(there.grad, x.grad)
