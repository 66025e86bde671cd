"""GFN and Table 5's graph fusion, against a slow evaluation of the equations: one utterance, one edge at a time."""

from __future__ import annotations

import math

import pytest
import torch

from hycon.data.batch import Batch, Layout
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.errors import UserError
from hycon.fusion import GraphFusion, build_fusion
from studies.registry import build_model

D = 6


def softmax(v: list[float]) -> list[float]:
    e = [math.exp(x) for x in v]
    return [x / sum(e) for x in e]


def affine(layer: torch.nn.Linear, v: list[float]) -> list[float]:
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [sum(w * x for w, x in zip(row, v, strict=True)) + b for row, b in rows]


def normed(norm: torch.nn.BatchNorm1d, v: list[float]) -> list[float]:
    parts = zip(
        v,
        norm.running_mean.tolist(),
        norm.running_var.tolist(),
        norm.weight.tolist(),
        norm.bias.tolist(),
        strict=True,
    )
    return [(x - m) / math.sqrt(s + norm.eps) * w + b for x, m, s, w, b in parts]


def mix(network: torch.nn.Sequential, one: list[float], other: list[float]) -> list[float]:
    hidden = [x if x > 0 else 0.2 * x for x in affine(network[0], one + other)]
    return [math.tanh(x) for x in affine(network[2], hidden)]


def by_hand(f: GraphFusion, text: list[float], audio: list[float], vision: list[float], functions: str) -> list[float]:
    """The equations of facts 3.7 as they stand, by name of vertex, in lists of floats."""
    importance = (lambda x: 1 / (1 + math.exp(-x))) if functions == "argf" else math.tanh
    phi = (lambda x: x if x > 0 else math.exp(x) - 1) if functions == "argf" else math.tanh
    x = {"l": text, "a": audio, "v": vision}
    if f.norm_vertices:
        x = {m: normed(f.vertex_norm, v) for m, v in x.items()}
    w = {m: importance(affine(f.attention, v)[0]) for m, v in x.items()}
    s = {m: softmax(v) for m, v in x.items()}

    def edge(i: str, j: str) -> float:
        return (w[i] + w[j]) / (sum(p * q for p, q in zip(s[i], s[j], strict=True)) + 0.5)

    pairs = [("a", "v"), ("a", "l"), ("v", "l")]
    normal = softmax([edge(i, j) for i, j in pairs])
    raw = {i + j: edge(i, j) for i, j in pairs}
    for (i, j), share in zip(pairs, normal, strict=True):
        mixed = mix(f.pairs, x[i], x[j])
        s[i + j], w[i + j] = softmax(mixed), raw[i + j]
        x[i + j] = [phi(share * y) for y in mixed]
    triples = [("av", "vl"), ("av", "al"), ("vl", "al"), ("av", "l"), ("al", "v"), ("vl", "a")]
    shares = softmax([edge(i, j) for i, j in triples])
    three = [
        [phi(share * y) for y in mix(f.triples, x[i], x[j])] for (i, j), share in zip(triples, shares, strict=True)
    ]
    unimodal = [sum(w[m] * x[m][k] for m in "lav") / 3 for k in range(D)]
    bimodal = [sum(x[m][k] for m in ("av", "al", "vl")) for k in range(D)]
    trimodal = [sum(v[k] for v in three) for k in range(D)]
    layers = unimodal + bimodal + trimodal
    return [math.tanh(y) for y in affine(f.out, normed(f.norm, layers) if functions == "argf" else layers)]


def fusion(**options) -> GraphFusion:
    torch.manual_seed(0)
    built = GraphFusion(D, **options).double()
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm1d):  # as after some training
            for t in (module.running_mean, module.weight.data, module.bias.data):
                t.normal_()
            module.running_var.uniform_(0.5, 2)
    return built


@pytest.mark.parametrize("functions", ["argf", "mib"])
@pytest.mark.parametrize("norm_vertices", [True, False])
def test_equations(functions, norm_vertices):
    built = fusion(middle=5, hidden=4, functions=functions, norm_vertices=norm_vertices).eval()
    x = {m: torch.randn(3, D, dtype=torch.float64) for m in MODALITIES}
    expected = [by_hand(built, *(x[m][i].tolist() for m in MODALITIES), functions) for i in range(3)]
    torch.testing.assert_close(built(x), torch.tensor(expected, dtype=torch.float64))
    assert built.width == 4


def test_batch_norm_of_a_batch_and_of_one():
    """In training a batch is normalised by itself, a single utterance by the running statistics, which it leaves."""
    built = fusion()
    x = {m: torch.randn(4, D, dtype=torch.float64) for m in MODALITIES}
    one = {m: v[:1] for m, v in x.items()}
    before = built.norm.running_mean.clone()
    torch.testing.assert_close(built.train()(one), built.eval()(one))
    assert torch.equal(built.norm.running_mean, before)
    assert not torch.allclose(built.train()(x)[:1], built.eval()(one))
    assert not torch.equal(built.norm.running_mean, before)


def test_table_5_names_it():
    assert isinstance(build_fusion("graph", D), GraphFusion)
    with pytest.raises(UserError, match="expected one of argf, mib"):
        GraphFusion(D, functions="relu")


@pytest.mark.parametrize(("model", "config"), [("gfn", {}), ("hycon", {"fusion": "graph"})])
def test_count(model, config):
    with torch.device("meta"):
        built = build_model(model, text="bert", dims={"text": 768, "audio": 74, "vision": 47}, **config)
    assert sum(p.numel() for p in built.parameters()) == 109_232_350  # Table 8


def batch(lengths: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    widths = dict(zip(MODALITIES, (9, 4, 3), strict=True))
    rows = {m: [torch.randn(n, w, generator=generator) for n in lengths] for m, w in widths.items()}
    layout = Layout(dict.fromkeys(MODALITIES, 8))
    return Batch(*(Ragged.from_list(rows[m]) for m in MODALITIES), torch.linspace(-2, 2, len(lengths)), layout)


def test_model():
    model = build_model("gfn", text="glove", dims={"text": 9, "audio": 4, "vision": 3}, d=10, layers=1)
    some = batch([3, 8, 1])
    out = model(some)
    out.prediction.square().sum().backward()
    assert out.prediction.shape == (3,)
    assert {m: tuple(x.shape) for m, x in out.representations.items()} == dict.fromkeys(MODALITIES, (3, 10))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.requires_grad)
    model.eval()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(some.take(order)).prediction, model(some).prediction[order])
    torch.testing.assert_close(model(some.slice(1, 2)).prediction, model(some).prediction[1:2])
