"""MFN: parity with MMSA as recorded, and its parts against the paper's equations."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from model_checks import batch_of
from recorded import GOLDEN, compare
from safetensors.torch import load_file

from baselines.mfn import Config, DeltaAttention, GatedMemory
from hycon.data.batch import Batch
from hycon.data.ragged import Both, Ragged
from hycon.kernels.packing import pack
from hycon.kernels.softmax_gate import ROWS
from studies.registry import build_model

GLOVE = {"text": 300, "audio": 74, "vision": 47}
WIDE = {"text": 768, "audio": 74, "vision": 47}
DIMS = {"text": 5, "audio": 4, "vision": 3}
RECORDED = {"text_hidden": 5, "audio_hidden": 3, "vision_hidden": 4, "memory": 6, "attention_hidden": 7}
RECORDED |= {"proposal_hidden": 4, "retain_hidden": 5, "update_hidden": 3, "out_hidden": 6}
LENGTHS = [[1], [4, 4, 4], [1, 9, 3, 9, 2, 5, 7, 1]]


def test_same_numbers_as_mmsa():
    compare(load_file(GOLDEN / "mfn.safetensors"), "mfn", **RECORDED)


@pytest.mark.parametrize(
    ("text", "dims", "count"),
    [
        ("glove", GLOVE, 1_729_905),  # MMSA's MOSI setting
        ("features", WIDE, 2_209_137),
        ("bert", WIDE, 111_100_785),  # nearest natural configuration to Table 8's 111,256,325
    ],
)
def test_counts(text, dims, count):
    with torch.device("meta"):
        model = build_model("mfn", text=text, dims=dims)
    assert sum(p.numel() for p in model.parameters()) == count


def naive_memory(net, x, lengths, sequence):
    """The memory of each utterance on its own, by the paper's equations."""
    final = []
    for i, length in enumerate(lengths):
        own, u = x[sequence == i], x.new_zeros(1, net.proposal.fc2.out_features)
        for t in range(length):
            both = torch.cat([own[t : t + 1], u], 1)
            proposed = torch.tanh(net.proposal(own[t : t + 1]))
            u = torch.sigmoid(net.retain(both)) * u + torch.sigmoid(net.update(both)) * proposed
        final.append(u)
    return torch.cat(final)


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_gated_memory_and_its_gradient(lengths):
    torch.manual_seed(1)
    net = GatedMemory(4, Config(memory=6, proposal_hidden=5, retain_hidden=7, update_hidden=3)).eval()
    packing = pack(Both.of(torch.tensor(lengths)))
    x = torch.randn(sum(lengths), 4, requires_grad=True)
    weights, goal = [x, *net.parameters()], torch.randn(len(lengths), 6)
    found, expected = net(x, packing), naive_memory(net, x, lengths, packing.sequence)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad((m * goal).sum(), weights) for m in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_attention_and_its_gradient():
    """Over more rows than are worked on at once."""
    torch.manual_seed(0)
    net = DeltaAttention(6, 3, 0.0)
    x = (3 * torch.randn(ROWS + 5, 6)).requires_grad_()
    weights, goal = [x, *net.parameters()], torch.randn(ROWS + 5, 6)
    found, expected = net(x), torch.softmax(net.fc2(torch.relu(net.fc1(x))), 1) * x
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad((y * goal).sum(), weights) for y in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_gradient_under_dropout():
    """The same masks again: the function is then fixed, and its gradient is that of differences."""
    net = build_model("mfn", text="features", dims=DIMS, **RECORDED, out_dropout=0.3).train()
    batch = batch_of([3, 6, 1], DIMS)
    weight = net.memory.retain.fc1.weight

    def loss():
        torch.manual_seed(5)
        return net(batch).prediction.sum()

    gradient = torch.autograd.grad(loss(), weight)[0]
    assert gradient.any()
    direction = gradient / gradient.norm()
    with torch.no_grad():
        weight += 1e-2 * direction
        up = loss()
        weight -= 2e-2 * direction
        down = loss()
    torch.testing.assert_close((up - down) / 2e-2, gradient.norm(), atol=1e-3, rtol=2e-2)


def test_every_parameter_learns_and_an_utterance_stands_alone():
    torch.manual_seed(0)
    lengths = [3, 9, 1, 5]
    net, batch = build_model("mfn", text="features", dims=DIMS, **RECORDED).eval(), batch_of(lengths, DIMS)
    together = net(batch).prediction
    together.sum().backward()
    assert all(p.grad.any() for p in net.parameters())
    with torch.no_grad():
        alone = torch.cat([net(batch.slice(i, i + 1)).prediction for i in range(4)])
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(alone, together)
        torch.testing.assert_close(net(batch.take(order)).prediction, together[order])


@pytest.mark.parametrize("changed", ["audio", "vision"])
def test_reads_audio_and_vision_over_time(changed):
    """The order of a modality's rows matters: no mean over time stands in for them."""
    torch.manual_seed(0)
    net, batch = build_model("mfn", text="features", dims=DIMS, **RECORDED).eval(), batch_of([6], DIMS)
    turned = Ragged.from_list([getattr(batch, changed).rows.flip(0)])
    other = Batch(**{**vars(batch), changed: turned})
    assert (net(batch).prediction - net(other).prediction).abs() > 1e-5


@pytest.mark.parametrize("name", ["mfn", "graph_mfn", "raven"])
def test_a_step_never_asks_an_accelerator_for_a_value(name, monkeypatch):
    """On the meta device whatever would have to wait for a value raises; it has no autocast."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    net, batch = build_model(name, text="features", dims=DIMS).to("meta"), batch_of([3, 6, 1], DIMS)
    rows = {m: getattr(batch, m).to("meta") for m in DIMS}
    prediction = net(replace(batch, label=batch.label.to("meta"), **rows)).prediction
    prediction.sum().backward()
    assert prediction.is_meta
    assert prediction.shape == (3,)


@pytest.mark.parametrize("name", ["mfn", "graph_mfn", "raven"])
def test_double_precision(name):
    """`model.double()` computes in double, to the numbers of single precision."""
    torch.manual_seed(0)
    net, batch = build_model(name, text="features", dims=DIMS).eval(), batch_of([3, 6, 1], DIMS)
    single = net(batch).prediction
    rows = {m: getattr(batch, m) for m in DIMS}
    double = replace(batch, **{m: replace(x, rows=x.rows.double()) for m, x in rows.items()})
    prediction = net.double()(double).prediction
    assert prediction.dtype == torch.float64
    torch.testing.assert_close(prediction.float(), single)
    weights = list(net.parameters())
    assert all(g.dtype == torch.float64 for g in torch.autograd.grad(prediction.sum(), weights))


def test_emotions_and_autocast():
    torch.manual_seed(0)
    net, batch = build_model("mfn", text="features", dims=DIMS, emotions=4, **RECORDED), batch_of([2, 5], DIMS)
    with torch.autocast("cpu", torch.bfloat16):
        output = net(batch)
    assert output.prediction.shape == (2, 4, 2)
    output.prediction.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
