"""MAG: parity with MMSA as recorded; the gate by hand; what is injected where; what weight decay spares."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from recorded import GOLDEN, compare_mag
from safetensors.torch import load_file
from torch import nn

from baselines.mag import Gate
from hycon.data.ragged import Both, Ragged
from hycon.errors import UserError
from hycon.pretrained import DEMO, identify
from hycon.text import PretrainedText
from studies.registry import build_model, resolve

MOSI = {"text": 768, "audio": 74, "vision": 47}


def test_same_numbers_as_mmsa():
    compare_mag(load_file(GOLDEN / "mag.safetensors"))


@pytest.mark.parametrize(("text", "expected"), [("bert", 110_853_121), ("xlnet", 118_679_809)])
def test_count(text, expected):
    with torch.device("meta"):
        built = build_model("mag", text=text, dims=MOSI)
    assert sum(p.numel() for p in built.parameters()) == expected


def test_gate_by_hand():
    """Two features, one of audio and one of vision; weights chosen so that every step can be followed."""
    gate = Gate(2, 1, 1, beta_shift=1.0, dropout=0.5).eval()
    with torch.no_grad():
        gate.gate_vision.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, -1]]))  # relu(v), relu(-z_2)
        gate.gate_audio.weight.copy_(torch.tensor([[0.0, 1, 0], [2, 0, 0]]))  # relu(z_1), relu(2 a)
        gate.vision.weight.copy_(torch.tensor([[3.0], [1]]))
        gate.audio.weight.copy_(torch.tensor([[1.0], [1]]))
        for linear in (gate.gate_vision, gate.gate_audio, gate.vision, gate.audio):
            linear.bias.zero_()
    gate.norm = nn.Identity()
    z, audio, vision = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]]), torch.tensor([[2.0]])
    # g_v = (2, 0), W_v v = (6, 2); g_a = (3, 2), W_a a = (1, 1): h = (15, 2), |h| = 15.13 > |z| = 5
    alpha = 5 / (math.sqrt(15**2 + 2**2) + 1e-6)
    torch.testing.assert_close(gate(z, audio, vision), torch.tensor([[3 + 15 * alpha, 4 + 2 * alpha]]))
    # a tenth: h = (0.2 * 0.6 + 3 * 0.1, 0.2 * 0.1) = (0.42, 0.02) is shorter than z, so it is added whole
    torch.testing.assert_close(gate(z, audio / 10, vision / 10), torch.tensor([[3.42, 4.02]]))
    assert torch.equal(gate(z, audio * 0, vision * 0), z)


def model_and_batch(text, batches, **config):
    some = batches("small", text)["train"].slice(0, 12)
    dims = {"text": 32, "audio": some.audio.rows.shape[1], "vision": some.vision.rows.shape[1]}
    torch.manual_seed(0)
    return build_model("mag", text=text, dims=dims, encoder=identify(text, DEMO), **config), some


@pytest.mark.parametrize("text", ["bert", "xlnet"])
def test_model(text, batches):
    model, batch = model_and_batch(text, batches)
    out = model(batch)
    assert out.prediction.shape == (12,)
    assert out.representations is None
    assert out.multimodal.shape == (12, 32)
    out.prediction.square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == (["text.model.mask_emb"] if text == "xlnet" else [])  # XLNet's pretraining only
    model.eval()
    together = model(batch).prediction
    alone = torch.cat([model(batch.slice(i, i + 1)).prediction for i in range(12)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(batch.take(order)).prediction, together[order], atol=1e-5, rtol=0)


def numbers(sequences: Ragged) -> torch.Tensor:
    return sequences.padded()[:, 0]


@pytest.mark.parametrize(("text", "layer"), [("bert", 0), ("xlnet", 1)])
def test_the_gate_stands_before_its_layer(text, layer, batches):
    """Each utterance's shift meets its own audio and vision; other layers' inputs stay; no hook is left behind."""
    model, batch = model_and_batch(text, batches)
    model.eval()
    layers = model.text.model.layer if text == "xlnet" else model.text.model.encoder.layer
    inputs: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    watched = [
        (module if text == "xlnet" else module.attention.self.query).register_forward_pre_hook(
            lambda _, args, i=i: inputs[i].append(args[0])  # of BERT, rows: sentence by sentence, longest first
        )
        for i, module in enumerate(layers)
    ]
    plain = model.text.states(batch.text)
    before = {i: list(x) for i, x in inputs.items()}
    for x in inputs.values():
        x.clear()
    seen = []
    numbered = Ragged.from_list([torch.tensor([i]) for i in range(12)])  # each utterance's own number
    shifted = model.text.states(batch.text, lambda z, pick: seen.append((z, numbers(pick(numbered)))) or z + 1, layer)
    for handle in watched:
        handle.remove()
    assert not torch.allclose(plain, shifted, atol=1e-3)
    if text == "xlnet":
        for (z, who), was in zip(seen, before[layer], strict=True):
            assert torch.equal(z.transpose(0, 1), was)
            assert len(who) == was.shape[1]
        assert all(torch.equal(x, was) for x, was in zip(inputs[0], before[0], strict=True))  # as they come to it
        assert all(torch.equal(x, was) for x, was in zip(inputs[1], before[1], strict=True))
    else:
        rows = [x[:n] for z, who in seen for x, n in zip(z, batch.text.lengths[who].tolist(), strict=True)]
        assert torch.equal(torch.cat(rows), before[0][0])
        assert torch.equal(inputs[0][0], before[0][0] + 1)
        assert not torch.equal(inputs[1][0], before[1][0])
    assert sorted(torch.cat([who for _, who in seen]).tolist()) == list(range(12))
    assert not any(module._forward_pre_hooks for module in layers)
    assert torch.equal(model.text.states(batch.text), plain)
    longest_first = torch.argsort(batch.text.lengths, descending=True, stable=True)
    assert torch.equal(torch.cat([who for _, who in seen]), longest_first)


def test_xlnet_s_gate_and_head(batches):
    """The gate reads what layer 0 gives; [CLS], the last real step, is summarised through tanh and predicted from."""
    model, batch = model_and_batch("xlnet", batches)
    model.eval()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    one, gave, got, read = batch.slice(3, 4), [], [], []
    watched = [
        model.text.model.layer[0].register_forward_hook(lambda _, given, out: gave.append(out[0])),
        model.gate.register_forward_pre_hook(lambda _, given: got.append(given[0])),
        model.summary.register_forward_pre_hook(lambda _, given: read.append(given[0])),
    ]
    found = model(one).prediction
    for handle in watched:
        handle.remove()
    assert torch.equal(got[0], gave[0].transpose(0, 1))

    def shift(z, pick):
        return model.gate(z, *(pick(m).padded(z.shape[1]) for m in (one.audio, one.vision)))

    cls = model.text.states(one.text, shift, 1)[:, int(one.text.lengths[0]) - 1]
    torch.testing.assert_close(read[0], cls)
    torch.testing.assert_close(found, model.predictor(torch.tanh(model.summary(cls)))[:, 0])


class FirstOrByName(nn.Module):
    """What a layer of transformers looks like to the hook."""

    def forward(self, *given, **named):
        return given, named


@pytest.mark.parametrize(("kind", "name"), [("bert", "hidden_states"), ("xlnet", "output_h")])
def test_hidden_states_come_first_or_by_name(kind, name):
    layer, model = FirstOrByName(), nn.Module()
    model.config = SimpleNamespace(model_type=kind)
    holder = model if kind == "xlnet" else nn.Module()
    holder.layer = nn.ModuleList([layer])
    if kind == "bert":
        model.encoder = holder
    z, who = torch.randn(2, 5, 3), Both.of(torch.tensor([4, 7]))
    numbered = Ragged.from_list([torch.tensor([i]) for i in range(9)])
    inside = z.transpose(0, 1) if kind == "xlnet" else z
    added = torch.arange(2.0)[:, None, None]  # by utterance: time first would not fit
    with PretrainedText(model, kind)._injected(lambda x, pick: x + added + numbers(pick(numbered)).sum(), 0, who):
        (first, mask), named = layer(inside, "mask", other=1)
        none, by_name = layer(other=1, **{name: inside})
    expected = (z + added + 11).transpose(0, 1) if kind == "xlnet" else z + added + 11
    assert torch.equal(first, expected)
    assert (mask, named) == ("mask", {"other": 1})
    assert torch.equal(by_name.pop(name), expected)
    assert (none, by_name) == ((), {"other": 1})
    assert layer(inside)[0][0] is inside


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_both_modalities_reach_the_prediction(modality, batches):
    model, batch = model_and_batch("bert", batches)
    model.eval()
    for p in model.parameters():  # as large as after training
        nn.init.normal_(p, std=0.3)
    own = getattr(batch, modality)
    start, length = int(own.starts[3]), int(own.lengths[3])
    rows = own.rows.clone()
    rows[start + 1 : start + length - 1] += 1
    changed = replace(batch, **{modality: replace(own, rows=rows)})
    difference = (model(changed).prediction - model(batch).prediction).abs()
    assert difference[3] > 1e-3
    assert difference[torch.arange(12) != 3].max() < 1e-5


def test_weight_decay_spares_biases_and_norms(batches):
    model, _ = model_and_batch("xlnet", batches)
    _, training = resolve("mag", "xlnet", {})
    decayed, spared = model.param_groups(training)
    names = {id(p): n for n, p in model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    kept = {names[id(p)] for p in spared["params"]}
    assert {"gate.norm.weight", "gate.audio.bias", "text.model.layer.0.rel_attn.layer_norm.weight"} <= kept
    assert "text.model.layer.0.rel_attn.r_w_bias" in kept
    assert "text.model.layer.0.rel_attn.q" not in kept


def test_has_no_vectors_form():
    with pytest.raises(UserError, match="has no text front-end 'glove'; it has bert, xlnet"):
        resolve("mag", "glove", {})
