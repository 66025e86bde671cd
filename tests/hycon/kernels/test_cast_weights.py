"""Casting an encoder's weights at once: the numbers of autocast, in fewer launches, on the pretended GPU."""

import contextlib
from collections import Counter

import pytest
import torch
from model_checks import undropped
from pretended_gpu import PretendedGPU

from hycon.kernels.cast_weights import cast_at_once, factors
from hycon.text import PretrainedText
from studies.authors.conformance import loss_of


class Counted(PretendedGPU):
    def __init__(self):
        super().__init__()
        self.by = Counter()

    def ran(self, name, args):
        self.by[name] += 1


def step(net, batch):
    """Loss, gradients and predictions in bf16, and how often what was computed in a step."""
    with Counted() as gpu:
        there = batch.to("cuda")
        net.to("cuda").train()
        gpu.by.clear()
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(net, there)
        loss.backward()
        counts = Counter(gpu.by)
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            found = {"loss": loss.detach(), "prediction": net.eval()(there).prediction}
    return found | {n: p.grad for n, p in net.named_parameters() if p.grad is not None}, counts


@pytest.mark.parametrize(("model", "text"), [("hycon", "bert"), ("mag", "bert"), ("mult", "bert"), ("mag", "xlnet")])
def test_the_numbers_are_autocast_s_in_fewer_launches(model, text, batches, monkeypatch):
    batch = batches("small", text)["train"].slice(0, 9)
    nets = [undropped(model, text, batch) for _ in range(2)]
    found, counts = step(nets[0], batch)
    monkeypatch.setattr(PretrainedText, "_cast", lambda *_: contextlib.nullcontext())
    expected, before = step(nets[1], batch)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    encoder = next(m for m in nets[0].modules() if isinstance(m, PretrainedText))
    layers = encoder.model.config.num_hidden_layers
    # each layer: three matrices at least, with biases or without, there and back, less what casting all of them takes
    assert before.total() - counts.total() >= 12 * layers - 8
    assert counts["aten::_to_copy"] < before["aten::_to_copy"]


@pytest.mark.parametrize("text", ["bert", "xlnet"])
def test_afterwards_the_parameters_are_as_before(text, batches):
    encoder = next(
        m for m in undropped("hycon", text, batches("small", text)["train"]).modules() if isinstance(m, PretrainedText)
    )
    before = dict(encoder.named_parameters())
    places = factors(encoder.model)
    with pytest.raises(ZeroDivisionError), cast_at_once(places, torch.bfloat16):
        assert all(getattr(module, name).dtype == torch.bfloat16 for module, name in places)
        raise ZeroDivisionError
    after = dict(encoder.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


def test_each_matrix_of_a_layer_is_among_them(batches):
    """Norms and embeddings are not: autocast leaves them as they are."""
    for text in ("bert", "xlnet"):
        net = undropped("hycon", text, batches("small", text)["train"])
        encoder = next(m for m in net.modules() if isinstance(m, PretrainedText))
        named = {id(p): name for name, p in encoder.model.named_parameters()}
        found = {named[id(getattr(module, name))] for module, name in factors(encoder.model)}
        left = {name for name in named.values() if name not in found}
        apart = ("norm", "emb", "r_r_bias", "r_s_bias", "r_w_bias")  # the last three are added, not multiplied
        assert [name for name in left if not any(part in name.lower() for part in apart)] == []
