"""Attention over chunks of padded utterances: against one query at a time, and against PyTorch's attention."""

import itertools

import pytest
import torch
from kernel_checks import check_alike, check_derivative, randn, seeded

from hycon.data.ragged import Both
from hycon.kernels.attention import attention, few_calls, masked_attention, plain_attention
from hycon.kernels.dropout import dropout
from hycon.kernels.padding import last_step, make_plan

HEADS = 2
CASES = [([5, 3, 3, 2, 1], [5, 3, 3, 2, 1]), ([30, 26, 9], [30, 26, 9]), ([30, 4, 1], [26, 9, 1]), ([7, 7], [7, 7])]


def case(lengths, future_mask, encoders=2, width=6, seed=0):
    """q, k, v of `encoders` encoders over rows of utterances whose queries and keys have these lengths; the plan."""
    torch.manual_seed(seed)
    queries, keys = (Both.of(torch.tensor(x)) for x in lengths)
    q, k, v = (randn(encoders, n.total, width) for n in (queries, keys, keys))
    return [q, k, v], make_plan(queries, keys, future_mask)


def by(kernel, plan, p):
    return lambda q, k, v: kernel(q, k, v, plan, HEADS, p)


@pytest.mark.parametrize("lengths", CASES)
@pytest.mark.parametrize("future_mask", [True, False])
def test_one_utterance_one_step_at_a_time(lengths, future_mask):
    (q, k, v), plan = case(lengths, future_mask)
    expected, row, key = torch.zeros_like(q), 0, 0
    for steps, others in zip(*lengths, strict=True):
        for i in range(steps):
            seen = min(others, i + abs(others - steps) + 1) if future_mask else others
            for e, head in itertools.product(range(2), (slice(0, 3), slice(3, 6))):
                scores = k[e, key : key + seen, head] @ q[e, row + i, head] / 3**0.5
                expected[e, row + i, head] = scores.softmax(0) @ v[e, key : key + seen, head]
        row, key = row + steps, key + others
    for kernel in (attention, plain_attention):
        torch.testing.assert_close(kernel(q, k, v, plan, HEADS, (0.0, 0.0)), expected)
    rows = torch.tensor(lengths[0]).cumsum(0) - 1
    last = last_step(plan, Both.of(torch.tensor(lengths[0])))
    torch.testing.assert_close(attention(q[:, rows], k, v, last, HEADS, (0.0, 0.0)), expected[:, rows])


@pytest.mark.parametrize("lengths", CASES)
@pytest.mark.parametrize("p", [(0.0, 0.0), (0.4, 0.0), (0.3, 0.3)])
def test_gradient_by_finite_differences(lengths, p):
    inputs, plan = case(lengths, True, width=2)
    check_derivative(by(attention, plan, p), inputs, fast_mode=True)


def random_lengths(seed, longest):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, longest + 1, (2, 1 + seed), generator=generator).tolist()


@pytest.mark.parametrize("future_mask", [True, False])
@pytest.mark.parametrize("seed", range(9))
def test_fast_is_plain(seed, future_mask, monkeypatch):
    """...without dropout; from 1 to 9 utterances, in chunks of 4, behind the mask in two blocks."""
    monkeypatch.setattr("hycon.kernels.padding.HALVED", 4)
    inputs, plan = case(random_lengths(seed, 9), future_mask, encoders=3, seed=seed)
    p = (0.0, 0.0, 0.0)
    check_alike(by(attention, plan, p), by(plain_attention, plan, p), inputs)


@pytest.mark.parametrize("future_mask", [True, False])
@pytest.mark.parametrize("seed", range(2, 8))
def test_fast_is_plain_under_dropout(seed, future_mask, monkeypatch):
    """Values that are unit vectors show the weights themselves, and so which of them the fast one drops."""
    monkeypatch.setattr("hycon.kernels.padding.HALVED", 4)
    lengths, p = random_lengths(seed, 6), (0.5, 0.0, 0.25)
    inputs, plan = case(lengths, future_mask, encoders=3, width=6 * HEADS, seed=seed)
    units = torch.cat([torch.eye(6, dtype=torch.float64)[:n] for n in lengths[1]]).repeat(3, 1, HEADS)

    def weights(kernel, q, k, p):
        return kernel(q, k, units, plan, HEADS, p).unflatten(-1, (HEADS, 6))  # (3, R, heads, keys)

    whole = weights(plain_attention, *inputs[:2], (0.0, 0.0, 0.0))
    (dropped,) = seeded(lambda q, k: weights(attention, q, k, p), inputs[:2])
    scale = (dropped / whole.where(whole > 0, 1.0)).detach()
    for own, share in zip(scale, p, strict=True):
        assert ((own < 1e-9) | ((own - 1 / (1 - share)).abs() < 1e-9)).all()
    assert ((scale[0] < 1e-9) & (whole[0] > 0)).any()  # some are dropped

    def plain(q, k, v):
        mixed = []
        of_queries, of_keys = (torch.arange(sum(n)).split(n) for n in lengths)
        kept = weights(plain_attention, q, k, (0.0, 0.0, 0.0)) * scale
        for own, seen in zip(of_queries, of_keys, strict=True):
            values = v[:, seen].unflatten(-1, (HEADS, 6))
            mixed.append(torch.einsum("prhk,pkhd->prhd", kept[:, own, :, : len(seen)], values).flatten(2))
        return torch.cat(mixed, 1)

    check_alike(by(attention, plan, p), plain, inputs)


@pytest.mark.parametrize("kernel", [attention, plain_attention])
def test_dropout_keeps_the_mean(kernel):
    """The first encoder drops nothing, the second half of its weights: on average it gives what it would without."""
    inputs, plan = case(([4, 3], [4, 3]), False)
    exact = attention(*inputs, plan, HEADS, (0.0, 0.0))
    draws = torch.stack([kernel(*inputs, plan, HEADS, (0.0, 0.5)) for _ in range(600)])
    torch.testing.assert_close(draws[:, 0], exact[0].expand(600, -1, -1))
    error = (draws[:, 1].mean(0) - exact[1]).abs() / (draws[:, 1].std(0) / 600**0.5)
    assert draws[:, 1].std(0).min() > 0
    assert error.max() < 4.5


@pytest.mark.parametrize("masked", [True, False])
def test_masked_attention_drops_weights_in_training_alone(masked):
    torch.manual_seed(0)
    inputs = [randn(3, 2, t, 4) for t in (2, 5, 5)]
    mask = (torch.arange(5) < torch.tensor([5, 2, 3])[:, None])[:, None, None] if masked else None
    units = torch.eye(5, dtype=torch.float64).expand(3, 2, 5, 5)

    def plain(q, k, v):
        return dropout(masked_attention(q, k, units, mask, 0.0), 0.4, True) @ v  # without dropout PyTorch's attention

    check_alike(lambda q, k, v: masked_attention(q, k, v, mask, 0.4), plain, inputs)


@pytest.mark.parametrize("lengths", CASES)
@pytest.mark.parametrize("future_mask", [True, False])
def test_few_calls_are_plain(lengths, future_mask):
    """What runs on a GPU, but for its kernels: heads that the fused attention takes, and others."""
    for width in (6, 8):
        inputs, plan = case(lengths, future_mask, encoders=3, width=width)
        p = (0.0, 0.0, 0.0)
        check_alike(by(few_calls, plan, p), by(plain_attention, plan, p), inputs)
