"""MulT's encoder against a slow oracle written from its equations; what padding means to it; positional encodings."""

import math

import pytest
import torch
import torch.nn.functional as F

from hycon.data.ragged import Ragged
from hycon.encoders import READOUTS, init_like_authors
from hycon.transformer import EncoderLayer, SequenceEncoder, positional_encoding

D, HEADS, WIDTH, T = 6, 2, 4, 9
LENGTHS = [1, 9, 4, 8, 2]
NO_DROPOUT = dict.fromkeys(("attn", "relu", "res", "embed"), 0.0)


def make(readout="last", mask_padding=False, layers=2, dropouts=NO_DROPOUT):
    torch.manual_seed(0)
    encoder = SequenceEncoder(
        WIDTH, D, layers=layers, heads=HEADS, dropouts=dropouts, readout=readout, mask_padding=mask_padding
    ).double()
    for parameter in encoder.parameters():  # biases and norms too, so that a forgotten one shows
        torch.nn.init.normal_(parameter, std=0.4)
    return encoder


def sequences(lengths=LENGTHS):
    generator = torch.Generator().manual_seed(1)
    return Ragged.from_list([torch.randn(n, WIDTH, generator=generator).double() for n in lengths])


# ---------------------------------------------------------------------------------------------------- the oracle


def sinusoid(position, d):
    half = d // 2
    angles = [position / 10000 ** (i / (half - 1)) for i in range(half)]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)


def attention(layer, query, keys, allowed):
    """One query (d,) over keys (T, d), head by head; `allowed`: the steps that may be attended to."""
    wq, wk, wv = layer.in_proj_weight.chunk(3)
    bq, bk, bv = layer.in_proj_bias.chunk(3)
    size = D // HEADS
    heads = []
    for h in range(HEADS):
        own = slice(h * size, (h + 1) * size)
        q = (wq @ query + bq)[own] * size**-0.5
        k = torch.stack([(wk @ keys[t] + bk)[own] for t in allowed])
        v = torch.stack([(wv @ keys[t] + bv)[own] for t in allowed])
        heads.append(torch.softmax(k @ q, 0) @ v)
    return layer.out_proj(torch.cat(heads))


def oracle(encoder, rows, side="right", nominal=T):
    """(nominal, d): all steps of one sequence after the last layer and the final norm."""
    n = len(rows)
    start = nominal - n if side == "left" else 0
    padded = torch.zeros(nominal + 2, WIDTH, dtype=torch.float64)  # and one step of the convolution's own padding
    padded[1 + start : 1 + start + n] = rows
    kernel = encoder.conv.weight  # (d, width, 3)
    x = torch.stack([sum(kernel[:, :, k] @ padded[t + k] for k in range(3)) for t in range(nominal)])
    x = torch.stack(
        [math.sqrt(D) * x[t] + (sinusoid(t + 1, D) if x[t, 0] != 0 else torch.zeros(D)) for t in range(nominal)]
    )
    allowed = range(start, start + n) if encoder.mask_padding else range(nominal)
    for layer in encoder.layers:
        normed = layer.norm1(x)
        x = x + torch.stack([attention(layer, normed[t], normed, allowed) for t in range(nominal)])
        x = x + layer.fc2(F.relu(layer.fc1(layer.norm2(x))))
    return encoder.norm(x)


def expected_readout(states, n, readout, side):
    start = len(states) - n if side == "left" else 0
    if readout == "last":
        return states[-1]
    if readout == "mean":
        return states[start : start + n].mean(0)
    if readout == "cls" and side == "right":
        return states[0]
    return states[start + n - 1]  # last_real; XLNet's [CLS]


# ---------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mask_padding", [False, True])
@pytest.mark.parametrize("readout", READOUTS)
def test_equals_the_oracle(readout, mask_padding, side):
    encoder, data = make(readout, mask_padding), sequences()
    with torch.no_grad():
        found = encoder(data, T, side)
        for i, n in enumerate(LENGTHS):
            rows = data.rows[data.starts[i] : data.starts[i] + n]
            expected = expected_readout(oracle(encoder, rows, side), n, readout, side)
            torch.testing.assert_close(found[i], expected, atol=1e-7, rtol=1e-6)


def test_layer_at_one_step_is_the_whole_layer_at_that_step():
    torch.manual_seed(0)
    layer = EncoderLayer(D, HEADS, 0.0, 0.0, 0.0).double()
    x = torch.randn(5, T, D, dtype=torch.float64)
    mask = (torch.arange(T) < torch.tensor(LENGTHS)[:, None])[:, None, None]
    step = torch.tensor([0, 8, 3, 7, 1])
    for allowed in (None, mask):
        whole = layer(x, allowed)[torch.arange(5), step]
        torch.testing.assert_close(layer(x, allowed, step)[:, 0], whole)


def test_training_without_dropout_is_evaluation():
    """The written-out attention of the training path and torch's kernel agree, masked or not."""
    data = sequences()
    for mask_padding in (False, True):
        encoder = make("mean", mask_padding, dropouts={**NO_DROPOUT, "attn": 1e-9})
        torch.testing.assert_close(encoder.train()(data, T, "right"), encoder.eval()(data, T, "right"))


def test_dropout_is_unbiased_and_for_training_only():
    encoder, data = make(dropouts=dict.fromkeys(NO_DROPOUT, 0.3)), sequences()
    with torch.no_grad():
        assert not torch.equal(encoder.train()(data, T, "right"), encoder(data, T, "right"))
        assert torch.equal(encoder.eval()(data, T, "right"), encoder(data, T, "right"))


def test_padding_takes_part_unless_masked():
    data = sequences()
    with torch.no_grad():
        for readout in ("last_real", "mean", "cls"):
            masked = make(readout, True)
            torch.testing.assert_close(masked(data, T, "right"), masked(data, T + 5, "right"))
            unmasked = make(readout, False)
            apart = (unmasked(data, T, "right") - unmasked(data, T + 5, "right")).abs().amax(1)
            assert (apart > 1e-3).all()


def test_a_sequence_longer_than_nominal_is_cropped():
    data = sequences([9, 12])
    for readout in READOUTS:
        encoder = make(readout)
        with torch.no_grad():
            torch.testing.assert_close(encoder(data, 7, "right"), encoder(data.crop(7), 7, "right"))


def test_a_step_whose_first_channel_is_zero_gets_no_position():
    """The padding, and by the reference code's test also a real step that happens to be 0 there."""
    encoder = make("mean", layers=1)
    with torch.no_grad():
        encoder.conv.weight[0] = 0.0  # channel 0 is 0 everywhere: order cannot matter beyond the convolution
        encoder.conv.weight[:, :, [0, 2]] = 0.0
        rows = torch.randn(6, WIDTH, dtype=torch.float64)
        one = encoder(Ragged.from_list([rows]), 6, "right")
        other = encoder(Ragged.from_list([rows.flip(0)]), 6, "right")
        torch.testing.assert_close(one, other)
        encoder.conv.weight[0, :, 1] = 1.0
        one = encoder(Ragged.from_list([rows]), 6, "right")
        assert not torch.allclose(one, encoder(Ragged.from_list([rows.flip(0)]), 6, "right"))


def test_positional_encoding_values():
    encoding = positional_encoding(3, 4, torch.device("cpu"))
    for t in range(3):  # positions count from 1; 0 is the padding's
        p = t + 1
        expected = [math.sin(p), math.sin(p / 10000), math.cos(p), math.cos(p / 10000)]
        torch.testing.assert_close(encoding[t], torch.tensor(expected))
    odd = positional_encoding(2, 5, torch.device("cpu"))
    assert odd.shape == (2, 5)
    assert not odd[:, 4].any()
    assert torch.equal(odd[:, :4], positional_encoding(2, 4, torch.device("cpu")))


def test_initialisation_like_the_authors():
    torch.manual_seed(0)
    encoder = SequenceEncoder(WIDTH, 64, layers=1, heads=4, dropouts=NO_DROPOUT, readout="last", mask_padding=False)
    before = encoder.conv.weight.clone(), encoder.layers[0].in_proj_weight.clone()
    init_like_authors(encoder)
    layer = encoder.layers[0]
    for linear in (layer.fc1, layer.fc2, layer.out_proj):
        assert not linear.bias.any()
        assert abs(float(linear.weight.detach().std()) - 0.02) < 0.002
    assert torch.equal(encoder.conv.weight, before[0])
    assert torch.equal(layer.in_proj_weight, before[1])
    assert abs(float(layer.in_proj_weight.detach().std()) - math.sqrt(2 / (64 + 192))) < 0.005  # Xavier
