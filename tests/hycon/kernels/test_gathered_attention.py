"""Attention over gathered rows: against one query at a time, its plain form, finite differences, and float64."""

import pytest
import torch
from kernel_checks import check_alike, check_derivative, randn, seeded

from hycon.kernels.gathered_attention import gathered_attention, gathered_plan, plain_gathered_attention

HEADS = 2
CASES = [  # lengths of the sentences, positions beside them, whether these alone ask
    ([5, 3, 3, 2, 1], 0, False),
    ([5, 3, 3, 2, 1], 2, False),
    ([5, 3, 3, 2, 1], 2, True),
    ([9, 9, 8, 7, 7, 7, 3, 2, 1], 1, False),
    ([4, 4], 0, False),
]


def case(lengths, extra, only, width=6):
    torch.manual_seed(0)
    rows = sum(lengths)
    asked = len(lengths) * extra + (0 if only else rows)
    return [randn(n, width) for n in (asked, rows, rows)], gathered_plan(torch.tensor(lengths), extra, HEADS, only)


def by(kernel, plan, p):
    return lambda q, k, v: kernel(q, k, v, plan, p)


@pytest.mark.parametrize(("lengths", "extra", "only"), CASES)
def test_one_query_at_a_time(lengths, extra, only):
    (q, k, v), plan = case(lengths, extra, only)
    sentences = torch.arange(len(lengths))
    rows = sentences.repeat_interleave(torch.tensor(lengths))  # whose each row is
    asked = sentences.repeat_interleave(extra) if only else torch.cat([rows, sentences.repeat_interleave(extra)])
    expected = torch.zeros_like(q)
    for i, owner in enumerate(asked):
        own = rows == owner
        for head in (slice(0, 3), slice(3, 6)):
            scores = k[own, head] @ q[i, head] / 3**0.5
            expected[i, head] = scores.softmax(0) @ v[own, head]
    for kernel in (gathered_attention, plain_gathered_attention):
        torch.testing.assert_close(kernel(q, k, v, plan, 0.0), expected)


@pytest.mark.parametrize(("lengths", "extra", "only"), CASES)
def test_fast_is_plain(lengths, extra, only):
    inputs, plan = case(lengths, extra, only)
    check_alike(by(gathered_attention, plan, 0.0), by(plain_gathered_attention, plan, 0.0), inputs)


@pytest.mark.parametrize(("lengths", "extra", "only"), CASES)
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_gradient_by_finite_differences(lengths, extra, only, p):
    inputs, plan = case(lengths, extra, only, width=4)
    check_derivative(by(gathered_attention, plan, p), inputs, fast_mode=True)


def test_it_drops_weights_as_dropout_does():
    """Values that are unit vectors show the weights; each is dropped or grows by what is kept."""
    (q, k, _), plan = case([6, 5, 2], 2, False, width=6 * HEADS)
    units = torch.cat([torch.eye(6, dtype=torch.float64)[:n] for n in (6, 5, 2)]).repeat(1, HEADS)
    whole = gathered_attention(q, k, units, plan, 0.0)
    (dropped,) = seeded(lambda q, k: gathered_attention(q, k, units, plan, 0.25), (q, k))
    scale = (dropped / whole)[whole > 0]
    assert ((scale < 1e-9) | ((scale - 1 / 0.75).abs() < 1e-9)).all()
    assert 0.1 < (scale < 1e-9).double().mean() < 0.4  # of 130, a quarter: three standard deviations


def test_under_autocast_it_rounds_no_more_than_its_inputs_and_outputs():
    """Against float64 on the same bfloat16 inputs, by the norm of the error: once rounded is 2**-9 at most, 0.0017 on
    average over all significands. PyTorch's own attention in bfloat16 has 0.002 to 0.003 here."""
    torch.manual_seed(0)
    plan = gathered_plan(torch.tensor([20, 12, 12, 7, 3]), 2, 12, False)
    q, k, v, goal = (torch.randn(n, 768).bfloat16() for n in (64, 54, 54, 64))

    def run(kernel, dtype):
        inputs = [x.to(dtype).detach().requires_grad_() for x in (q.clone(), k.clone(), v.clone())]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = kernel(*inputs, plan, 0.0).to(dtype)
        return [out, *torch.autograd.grad((out * goal.to(dtype)).sum(), inputs)]

    exact = run(plain_gathered_attention, torch.float64)
    found = run(gathered_attention, torch.bfloat16)
    assert [x.dtype for x in found] == [torch.bfloat16] * 4
    for x, y in zip(found, exact, strict=True):
        assert (x.double() - y).norm() < 0.002 * y.norm()
