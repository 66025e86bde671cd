"""The feed-forward part of several encoders at once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, check_derivative, randn

from hycon.kernels.feed_forward import feed_forward, plain_feed_forward


def case(encoders, rows, d, seed=0):
    """x and the weights; as in a Transformer, hidden layers are 4d wide: their dropout is then drawn alike by both."""
    torch.manual_seed(seed)
    shapes = ((rows, d), (d, 4 * d), (4 * d,), (4 * d, d), (d,))
    return [randn(encoders, *shape) for shape in shapes]


def dropped(kernel, p):
    return lambda *tensors: kernel(*tensors, p)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.0, 0.2, 0.6]), st.integers(0, 99))
def test_fast_is_plain(encoders, rows, d, p, seed):
    check_alike(dropped(feed_forward, p), dropped(plain_feed_forward, p), case(encoders, rows, d, seed))


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_gradient_by_finite_differences(p):
    check_derivative(dropped(feed_forward, p), case(3, 4, 2))


def test_dropout_keeps_the_mean():
    tensors = case(3, 5, 4)
    plain = plain_feed_forward(*tensors, 0.0)
    draws = torch.stack([feed_forward(*tensors, 0.3) for _ in range(400)])
    error = (draws.mean(0) - plain).abs() / (draws.std(0) / 400**0.5)
    assert draws.std(0).min() > 0
    assert error.max() < 4.5  # of 60 numbers: one in ten thousand tries
