"""LSTMs over packed rows: values and gradients against PyTorch's own, on each sequence alone and on a packed batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import check_alike, check_derivative
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from hycon.data.ragged import Both, Ragged
from hycon.errors import UserError
from hycon.kernels.lstm import last_hidden, packed_lstm, packed_states, plain_states, torch_lstm
from hycon.kernels.packing import pack

LENGTHS = [
    [1],
    [4, 4, 4],
    [1, 9, 3, 9, 2, 5, 7, 1],
    [12, 1, 11, 2, 10, 3, 9, 4, 8, 5, 7, 6],
]


def case(lengths, layers=1, dtype=torch.float32, **options):
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 5, layers, **options).to(dtype)
    x = torch.randn(len(lengths), max(lengths), 3, dtype=dtype)
    return lstm, x, Both.of(torch.tensor(lengths))


def one_by_one(lstm, x, lengths):
    return torch.stack([lstm(x[i, :length, None])[0][-1, 0] for i, length in enumerate(lengths)])


def ours_last(lstm, x, n):
    return last_hidden(lstm, x, lengths=n)


def gradients(lstm, x, lengths, hidden):
    x.requires_grad_()
    goal = torch.randn(len(lengths), 5, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((hidden(lstm, x, lengths) * goal).sum(), [x, *lstm.parameters()])


def by_pytorch(lstm, x, lengths):
    packed = pack_padded_sequence(x.transpose(0, 1), lengths.host, enforce_sorted=False)
    return lstm(packed)[1][0][-1]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_each_sequence_alone(lengths, layers):
    lstm, x, n = case(lengths, layers)
    with torch.no_grad():
        torch.testing.assert_close(last_hidden(lstm, x, lengths=n), one_by_one(lstm, x, lengths))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=10))
def test_any_lengths(lengths):
    lstm, x, n = case(lengths)
    with torch.no_grad():
        torch.testing.assert_close(last_hidden(lstm, x, lengths=n), one_by_one(lstm, x, lengths))


def test_what_the_padding_holds_does_not_matter():
    lstm, x, n = case([2, 6, 4], 2)
    noisy = x.clone()
    noisy[0, 2:], noisy[2, 4:] = 1e6, float("nan")
    padded = torch.cat([noisy, torch.full((3, 7, 3), float("nan"))], 1)
    assert torch.equal(last_hidden(lstm, padded, lengths=n), last_hidden(lstm, x, lengths=n))
    for ours, clean in zip(gradients(lstm, padded, n, ours_last), gradients(lstm, x, n, ours_last), strict=True):
        assert torch.equal(ours[:, :6] if ours.dim() == 3 else ours, clean)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_gradients_equal_those_of_a_packed_batch(lengths, layers):
    lstm, x, n = case(lengths, layers, torch.float64)
    expected = gradients(lstm, x, n, by_pytorch)
    for ours, theirs in zip(gradients(lstm, x, n, ours_last), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def test_gradients_by_finite_differences():
    lstm, x, n = case([2, 4, 1], 2, torch.float64)
    x.requires_grad_()
    weights = list(lstm.parameters())
    torch.autograd.gradcheck(lambda x, *_: last_hidden(lstm, x, lengths=n), (x, *weights))


def test_gradient_of_every_step_reaches_the_weights():
    """All steps are outputs, as a model over states would read them, not the last one alone."""
    lstm, x, n = case([3, 5, 1], 1, torch.float64)
    packing = pack(n)
    ours = torch.autograd.grad(packed_lstm(lstm, packing.rows(x), packing).square().sum(), list(lstm.parameters()))
    packed = pack_padded_sequence(x.transpose(0, 1), n.host, enforce_sorted=False)
    expected = torch.autograd.grad(lstm(packed)[0].data.square().sum(), list(lstm.parameters()))
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_what_runs_on_a_gpu(lengths):
    """PyTorch's module over the same packed rows, here on the CPU; in float32 under autocast too."""
    lstm, x, n = case(lengths, 2)
    packing = pack(n)
    rows = packing.rows(x).requires_grad_()
    ours, theirs = (by(lstm, rows, packing) for by in (packed_lstm, torch_lstm))
    torch.testing.assert_close(theirs, ours)
    gradients = (torch.autograd.grad(y.square().sum(), [rows, *lstm.parameters()]) for y in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = torch_lstm(lstm, rows.bfloat16(), packing)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, torch_lstm(lstm, rows.bfloat16().float(), packing))


def test_backward_twice_gives_the_same():
    lstm, x, n = case([3, 5, 1], 2)
    loss = last_hidden(lstm, x, lengths=n).square().sum()
    first = torch.autograd.grad(loss, list(lstm.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(lstm.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_frozen_weights_get_no_gradient():
    lstm, x, n = case([3, 5, 1])
    lstm.weight_ih_l0.requires_grad_(False)
    last_hidden(lstm, x, lengths=n).sum().backward()
    assert lstm.weight_ih_l0.grad is None
    assert lstm.weight_hh_l0.grad.any()


def test_dropout_between_layers_in_training_only():
    lstm, x, n = case([3, 5, 1], 2, dropout=0.5)
    one, other = last_hidden(lstm.train(), x, lengths=n), last_hidden(lstm, x, lengths=n)
    assert not torch.equal(one, other)
    lstm.eval()
    torch.testing.assert_close(last_hidden(lstm, x, lengths=n), by_pytorch(lstm, x, n))


def test_autocast_runs_the_recurrence_in_float32():
    lstm, x, n = case([3, 5, 1], 2)
    with torch.autocast("cpu", torch.bfloat16):
        hidden = last_hidden(lstm, x.bfloat16(), lengths=n)
        hidden.float().sum().backward()
    assert hidden.dtype == torch.float32
    torch.testing.assert_close(hidden, last_hidden(lstm, x.bfloat16().float(), lengths=n))
    assert all(torch.isfinite(p.grad).all() for p in lstm.parameters())


def test_ragged_sources_side_by_side_equal_their_padded_concatenation():
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(7, 4, 2)
    one, other = (Ragged.from_list([torch.randn(n, d) for n in (3, 1, 5)]) for d in (5, 2))
    joined = torch.cat([one.padded(), other.padded()], 2)
    expected = last_hidden(lstm, joined, lengths=one.both)
    assert torch.equal(last_hidden(lstm, one, other, lengths=one.both), expected)
    assert torch.equal(last_hidden(lstm, one.padded(), other, lengths=one.both), expected)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_states_of_every_step(lengths, layers):
    """Hidden and cell states, and the gradient through both, against an LSTM written step by step."""
    torch.manual_seed(0)
    lstm, n = nn.LSTM(3, 5, layers), Both.of(torch.tensor(lengths))
    x = torch.randn(len(lengths), max(lengths), 3, requires_grad=True)
    packing = pack(n)
    found = packed_states(lstm, packing.rows(x), packing)
    expected = [packing.rows(states) for states in stepwise(lstm, x)]
    weights = [x, *lstm.parameters()]
    goals = [torch.randn_like(s) for s in found]
    for chosen in ((0, 1), (0,), (1,)):  # a gradient may come from either alone
        for i in chosen:
            torch.testing.assert_close(found[i], expected[i])
        ours, theirs = (
            torch.autograd.grad(sum((s[i] * goals[i]).sum() for i in chosen), weights, retain_graph=True)
            for s in (found, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(last_hidden(lstm, x, lengths=n), expected[0][packing.last])


def stepwise(lstm, x):
    for layer in range(lstm.num_layers):
        w_ih, w_hh, b_ih, b_hh = (
            getattr(lstm, f"{k}_l{layer}") for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = c = x.new_zeros(len(x), lstm.hidden_size)
        hidden, cells = [], []
        for t in range(x.shape[1]):
            i, f, g, o = (x[:, t] @ w_ih.t() + b_ih + h @ w_hh.t() + b_hh).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            hidden.append(h)
            cells.append(c)
        x = torch.stack(hidden, 1)
    return x, torch.stack(cells, 1)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.4]),
    st.integers(0, 99),
)
def test_fast_is_plain(lengths, layers, p, seed):
    """Hidden and cell states; with the same dropout between layers."""
    lstm, x, n = case(lengths, layers, torch.float64, dropout=p if layers > 1 else 0.0)
    packing = pack(n)
    torch.manual_seed(seed)
    inputs = [torch.randn_like(packing.rows(x)).requires_grad_(), *lstm.parameters()]
    for by in (packed_states, plain_states):
        assert all(states.shape == (sum(lengths), 5) for states in by(lstm, inputs[0], packing))
    check_alike(lambda x, *_: packed_states(lstm, x, packing), lambda x, *_: plain_states(lstm, x, packing), inputs)


@pytest.mark.parametrize("lengths", [[3, 3], [2, 4, 1]], ids=str)
def test_gradient_of_both_states_by_finite_differences(lengths):
    lstm, x, n = case(lengths, 2, torch.float64, dropout=0.3)
    packing = pack(n)
    check_derivative(
        lambda x, *_: packed_states(lstm, x, packing), [packing.rows(x).requires_grad_(), *lstm.parameters()]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bidirectional": True}, r"cannot have two directions \(bidirectional=True\)"),
        ({"bias": False}, r"cannot have no biases \(bias=False\)"),
        ({"proj_size": 2}, r"cannot have a projection \(proj_size=2\)"),
    ],
)
def test_what_it_cannot_do_is_refused(options, said):
    lstm, x, n = case([3, 5, 1], **options)
    packing = pack(n)
    with pytest.raises(UserError, match=said):
        last_hidden(lstm, x, lengths=n)
    for by in (packed_lstm, packed_states, torch_lstm):
        with pytest.raises(UserError, match=said):
            by(lstm, packing.rows(x), packing)


def test_batch_first_changes_nothing():
    lstm, x, n = case([3, 5, 1])
    first, _, _ = case([3, 5, 1], batch_first=True)
    for by in (packed_lstm, torch_lstm):
        assert torch.equal(by(first, pack(n).rows(x), pack(n)), by(lstm, pack(n).rows(x), pack(n)))
