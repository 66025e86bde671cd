"""RAVEN: against its equations word by word, the bound on the shift, and who learns."""

import pytest
import torch
from model_checks import batch_of, unmoved
from torch import nn

from baselines.raven import Config, Nonverbal
from hycon.errors import UserError
from studies.registry import build_model

DIMS = {"text": 5, "audio": 4, "vision": 3}
SMALL = {"norm": 6, "cell": 4, "hidden": 7}
NONVERBAL = ("norm.", "audio.", "vision.", "mix.")


def build(**overrides):
    torch.manual_seed(0)
    return build_model("raven", text="features", dims=DIMS, **{**SMALL, **overrides})


def own_rows(sequences, i):
    start = int(sequences.starts[i])
    return sequences.rows[start : start + int(sequences.lengths[i])]


def by_the_equations(net, batch, rule):
    """One utterance, one word at a time."""
    predictions = []
    for i in range(len(batch)):
        shifted = []
        triples = zip(*(own_rows(getattr(batch, m), i) for m in ("text", "audio", "vision")), strict=True)
        for e, a, v in triples:
            a = (a - net.norm.running_mean) / (net.norm.running_var + net.norm.eps).sqrt() * net.norm.weight
            mixed = net.mix.bias
            weights = net.mix.weight.chunk(2, 1)
            for part, frame, weight in ((net.audio, a + net.norm.bias, weights[0]), (net.vision, v, weights[1])):
                state = lstm_step(part, frame)
                gate = part.gate(torch.cat([state, e]))
                mixed = mixed + (torch.sigmoid(gate) if rule == "paper" else gate) * (weight @ state)
            if rule == "paper":
                shifted.append(e + min(0.2 * e.norm() / mixed.norm(), torch.tensor(1.0)) * mixed)
            else:
                shifted.append(e + mixed / (max(mixed.norm(), torch.tensor(1.0)) / 0.2) * e.norm())
        predictions.append(net.out(net.lstm(torch.stack(shifted)[:, None])[0][-1, 0]))
    return torch.cat(predictions)


def lstm_step(part, frame):
    """nn.LSTM from a zero state, with the gates i, g, o of ours."""
    cell = len(part.step.bias) // 3
    lstm = nn.LSTM(part.step.in_features, cell)
    rows = torch.cat([torch.arange(cell), torch.arange(2 * cell, 4 * cell)])
    with torch.no_grad():
        lstm.weight_ih_l0[rows], lstm.bias_ih_l0[rows] = part.step.weight, part.step.bias
        lstm.bias_hh_l0.zero_()
        return lstm(part.resize(frame)[None, None])[0][0, 0]


@pytest.mark.parametrize("rule", ["paper", "code"])
def test_equations(rule):
    net, batch = build(rule=rule).train(), batch_of([3, 6, 1, 4], DIMS)
    net(batch)  # moves the running statistics away from their start
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(net(batch).prediction, by_the_equations(net, batch, rule), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", ["paper", "code"])
def test_shift_is_bounded_and_finite(rule):
    net = build(rule=rule)
    words = torch.tensor([[3.0, 4, 0, 0, 0], [3, 4, 0, 0, 0], [0, 0, 0, 0, 0], [3, 4, 0, 0, 0]])
    mixed = torch.tensor([[0.0, 60, 80, 0, 0], [0, 0.5, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], requires_grad=True)
    shift = net.shift(words, mixed)
    torch.testing.assert_close(shift.norm(dim=1), torch.tensor([1.0, 0.5, 0, 0]))  # beta |e| = 1
    gradient = torch.autograd.grad(shift.sum(), mixed)[0]
    assert torch.isfinite(gradient).all()


def test_nonverbal_parts_learn_unless_detached():
    """A word's norm of 0.2 and more: the shift is scaled, and still passes a gradient to all that made it."""
    batch = batch_of([3, 6, 1], DIMS)
    for detach in (False, True):
        net = build(detach=detach)
        net(batch).prediction.sum().backward()
        expected = {name for name, _ in net.named_parameters() if name.startswith(NONVERBAL)} if detach else set()
        assert unmoved(net) == expected


def test_an_utterance_stands_alone():
    net, batch = build().eval(), batch_of([3, 9, 1, 5], DIMS)
    with torch.no_grad():
        together = net(batch).prediction
        alone = torch.cat([net(batch.slice(i, i + 1)).prediction for i in range(4)])
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(alone, together)
        torch.testing.assert_close(net(batch.take(order)).prediction, together[order])


def test_one_word_trains():
    net = build().train()
    loss = net(batch_of([1], DIMS)).prediction.sum()
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_parameters_are_those_that_are_read():
    """Official sizes, without what an LSTM's single step from zero does not read."""
    net = Nonverbal(74, 300, Config())
    assert sum(p.numel() for p in net.parameters()) == 75 * 150 + 151 * 450 + 451


def test_emotions_and_unknown_rule():
    assert build(emotions=4)(batch_of([2, 5], DIMS)).prediction.shape == (2, 4, 2)
    with pytest.raises(UserError, match="rule is 'papre'; expected one of paper, code"):
        build(rule="papre")
