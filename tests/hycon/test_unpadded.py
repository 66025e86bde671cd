"""Encoding without padding is the padded computation: BERT, XLNet and the read-outs, against transformers itself."""

import pytest
import torch
import torch.nn.functional as F

from hycon import text_rows
from hycon.data.ragged import Ragged
from hycon.encoders import READOUTS, TextProjection
from hycon.pretrained import identify, load_model
from hycon.text import CHUNK, PretrainedText

T = 24


def sentences(kind):
    """Lengths from the shortest possible to the full nominal length."""
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 24, 7, 23, 22, 4, 12, 9, 15, 3, 18]
    return Ragged.from_list([torch.randint(5, 100, (n,), generator=generator) for n in lengths], pad=0)


def made(kind):
    torch.manual_seed(0)
    return PretrainedText(load_model(kind, identify(kind, "demo")), kind).eval()


@pytest.fixture
def joint(monkeypatch):
    """BERT's attention as in bf16, in float32."""
    monkeypatch.setattr(text_rows, "_apart", text_rows._joint)


@pytest.fixture(params=["bert", "bert, joint", "xlnet"])
def encoder(request):
    kind, _, attention = request.param.partition(", ")
    if attention:
        request.getfixturevalue(attention)
    return made(kind)


def padded_states(encoder, text):
    """The reference: every sentence padded to T and encoded whole, as the authors' code does."""
    side = "left" if encoder.kind == "xlnet" else "right"
    ids = text.padded(T, side)
    real = torch.arange(T) < text.lengths[:, None]
    if side == "left":
        real = real.flip(1)
        segments = torch.where(real, 0, 3)
        segments[:, -1] = 2
        kwargs = {"token_type_ids": segments, "use_mems": False}
    else:
        kwargs = {}
    return encoder.model(input_ids=ids, attention_mask=real.long(), **kwargs).last_hidden_state, real


@pytest.mark.parametrize("readout", READOUTS)
def test_projection_equals_padded_computation(encoder, readout):
    text = sentences(encoder.kind)
    projection = TextProjection(encoder, 10, readout).eval()
    with torch.no_grad():
        states, real = padded_states(encoder, text)
        if encoder.kind == "xlnet":
            states = states * real[:, :, None]  # "mean" sees zeros left of the sentence, by definition
        full = F.conv1d(states.transpose(1, 2), projection.conv.weight, padding=1).transpose(1, 2)  # (B, T, 10)
        last = text.lengths - 1
        if encoder.kind == "xlnet":
            expected = (full * real[:, :, None]).sum(1) / text.lengths[:, None] if readout == "mean" else full[:, -1]
        elif readout == "last":
            expected = full[:, T - 1]
        elif readout == "last_real":
            expected = full[torch.arange(len(text)), last]
        elif readout == "cls":
            expected = full[:, 0]
        else:
            expected = (full * real[:, :, None]).sum(1) / text.lengths[:, None]
        torch.testing.assert_close(projection(text, T), expected, atol=2e-6, rtol=1e-5)


def test_states_are_the_padded_ones_where_real_and_zero_elsewhere(encoder):
    text = sentences(encoder.kind)
    with torch.no_grad():
        states, real = padded_states(encoder, text)
        ours = encoder.states(text)
        for i, n in enumerate(text.lengths.tolist()):
            expected = states[i][real[i]]
            torch.testing.assert_close(ours[i, :n], expected, atol=2e-6, rtol=1e-5)
            assert not ours[i, n:].any()


def test_chunks_do_not_change_values(encoder, monkeypatch):
    text = sentences(encoder.kind)
    with torch.no_grad():
        many = encoder.windows(text, "last", T)
        monkeypatch.setitem(CHUNK, "cpu", 64)
        torch.testing.assert_close(encoder.windows(text, "last", T), many, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", [None, "joint"])
def test_gradients_equal_those_of_the_padded_computation(request, attention):
    if attention:
        request.getfixturevalue(attention)
    encoder, text = made("bert"), sentences("bert")
    weights = [p for p in encoder.parameters() if p.requires_grad]
    states, _ = padded_states(encoder, text)
    expected = torch.autograd.grad(states[:, T - 2 :].square().sum(), weights, allow_unused=True)
    ours = torch.autograd.grad(encoder.windows(text, "last", T)[:, :2].square().sum(), weights, allow_unused=True)
    for a, b in zip(expected, ours, strict=True):
        if a is not None:
            torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)


def test_attention_is_joint_under_autocast_alone(monkeypatch):
    encoder, text = made("bert"), sentences("bert")
    called = []
    for name in ("_apart", "_joint"):
        own = getattr(text_rows, name)
        monkeypatch.setattr(text_rows, name, lambda *x, name=name, own=own: called.append(name) or own(*x))
    with torch.no_grad():
        exact = encoder.windows(text, "last", T)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder.windows(text, "last", T)
    assert called == ["_apart", "_joint"]
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("pooler", [False, True])  # MAG reads it
def test_bert_attends_by_scaled_dot_product_attention(pooler):
    model = load_model("bert", identify("bert", "demo"), pooler)
    assert model.config._attn_implementation == "sdpa"


def test_what_hides_padding_from_xlnet_is_gone_afterwards(monkeypatch):
    """A mask that stayed would be the next batch's, too."""
    xlnet = PretrainedText(load_model("xlnet", identify("xlnet", "demo")), "xlnet").eval()
    layers = xlnet.model.layer
    text = sentences("xlnet")
    with torch.no_grad():
        xlnet.states(text)
        assert [len(layer._forward_pre_hooks) for layer in layers] == [0] * len(layers)
        monkeypatch.setattr(layers[-1].ff, "forward", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            xlnet.states(text)
    assert [len(layer._forward_pre_hooks) for layer in layers] == [0] * len(layers)
