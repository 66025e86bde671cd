"""softmax(W h + b) o x, a few rows at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, check_derivative, randn

from hycon.kernels.softmax_gate import ROWS, plain_softmax_gate, softmax_gate


def case(rows, hidden, width, seed=0):
    torch.manual_seed(seed)
    return [randn(rows, hidden), randn(width, hidden), randn(width), randn(rows, width)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 7), st.integers(0, 99))
def test_fast_is_plain(rows, hidden, width, seed):
    check_alike(softmax_gate, plain_softmax_gate, case(rows, hidden, width, seed))


def test_over_more_rows_than_are_worked_on_at_once():
    check_alike(softmax_gate, plain_softmax_gate, case(2 * ROWS + 5, 3, 6))


def test_gradient_by_finite_differences(monkeypatch):
    monkeypatch.setattr("hycon.kernels.softmax_gate.ROWS", 2)
    check_derivative(softmax_gate, case(5, 3, 4))


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_scores_stay_finite(size):
    h, weight, bias, x = case(4, 2, 3)
    torch.testing.assert_close(softmax_gate(size * h, weight, bias, x), plain_softmax_gate(size * h, weight, bias, x))


def test_in_the_weights_precision_under_autocast():
    h, weight, bias, x = (t.detach().float() for t in case(4, 2, 3))
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax_gate(h.bfloat16(), weight, bias, x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain_softmax_gate(h.bfloat16().float(), weight, bias, x))
