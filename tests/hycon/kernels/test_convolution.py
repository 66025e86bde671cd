"""A convolution over rows without padding is that of each utterance by itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, randn

from hycon.data.ragged import Both
from hycon.kernels.convolution import convolve, plain_convolve


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.sampled_from([1, 2, 3, 5]),
    st.booleans(),
    st.integers(0, 99),
)
def test_fast_is_plain(lengths, kernel, same_length, seed):
    torch.manual_seed(seed)
    n = Both.of(torch.tensor(lengths))
    inputs = [randn(sum(lengths), 3), randn(4, 3, kernel)]
    found, expected = (f(inputs[0], n, inputs[1], same_length)[1] for f in (convolve, plain_convolve))
    assert torch.equal(found.host, expected.host)
    check_alike(
        lambda rows, weight: convolve(rows, n, weight, same_length)[0],
        lambda rows, weight: plain_convolve(rows, n, weight, same_length)[0],
        inputs,
    )


@pytest.mark.parametrize(("same_length", "lengths"), [(True, [2, 6]), (False, [1, 4])])
def test_lengths(same_length, lengths):
    """Without zeros on both sides k - 1 steps fewer, and one at least."""
    convolved, found = convolve(torch.randn(8, 3), Both.of(torch.tensor([2, 6])), torch.randn(4, 3, 3), same_length)
    assert found.host.tolist() == lengths
    assert convolved.shape == (sum(lengths), 4)
