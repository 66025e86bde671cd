"""TCM-LSTM against the equations evaluated utterance by utterance, step by step."""

import numpy as np
import pytest
import torch
from model_checks import rows_of, small_model, weights_of

from baselines.tcm_lstm import AuxiliaryLSTM

SMALL = {"d": 6, "blocks": 2, "squeeze": 2, "hidden": 5}
MODALITIES = ("text", "audio", "vision")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def causal(weight, bias, x, dilation):
    """weight: (out, in, k).  x: (T, in). Step t sees t, t - dilation, t - 2 dilation, ..."""
    k = weight.shape[2]
    out = np.tile(bias, (len(x), 1))
    for t in range(len(x)):
        for j in range(k):
            source = t - (k - 1 - j) * dilation
            if source >= 0:
                out[t] += weight[:, :, j] @ x[source]
    return out


def tcn(w, modality, x, blocks):
    x = x @ w[f"tcn.{modality}.enter.weight"].T + w[f"tcn.{modality}.enter.bias"]
    for b in range(blocks):
        p = f"tcn.{modality}.blocks.{b}"
        y = x
        for conv in ("conv1", "conv2"):
            y = np.maximum(causal(w[f"{p}.{conv}.weight"], w[f"{p}.{conv}.bias"], y, 2**b), 0)
        squeezed = np.maximum(w[f"{p}.down.weight"] @ y.mean(0) + w[f"{p}.down.bias"], 0)
        x = x + y * sigmoid(w[f"{p}.up.weight"] @ squeezed + w[f"{p}.up.bias"])
    return x


def auxiliary_lstm(w, which, language, auxiliary):
    names = ("language", "gate", "enhance", "recurrent", "bias")
    of_language, gate, enhance, recurrent, bias = (w[f"lstm.{n}"][which] for n in names)
    size = recurrent.shape[0]
    h = c = np.zeros(size)
    for l, m in zip(language, auxiliary, strict=True):
        x = l @ of_language + h @ recurrent + bias[0]
        x[:size] += m @ gate
        e, i, f, o = np.split(sigmoid(x[: 4 * size]), 4)
        c = f * c + i * np.tanh(x[4 * size :] + e * (m @ enhance))
        h = o * np.tanh(c)
    return h


def slow_prediction(w, rows, blocks):
    read = {m: tcn(w, m, rows[m], blocks) for m in MODALITIES}
    ends = [auxiliary_lstm(w, k, read["text"], read[m]) for k, m in enumerate(("audio", "vision"))]
    y = np.maximum(w["head.hidden.weight"] @ np.concatenate(ends) + w["head.hidden.bias"], 0)
    return (w["head.out.weight"] @ y + w["head.out.bias"])[0]


@pytest.mark.parametrize("blocks", [1, 3])
def test_against_the_equations(blocks, batches):
    split = batches("small", "glove")["train"]
    batch = split.take(torch.argsort(split.text.lengths)[torch.tensor([-1, 0, 20])])
    net = small_model("tcm_lstm", **{**SMALL, "blocks": blocks}).eval()
    w = weights_of(net)
    expected = [
        slow_prediction(w, {m: rows_of(getattr(batch, m), i).astype(float) for m in MODALITIES}, blocks)
        for i in range(3)
    ]
    with torch.no_grad():
        np.testing.assert_allclose(net(batch).prediction, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-4


def test_language_dominates(batches):
    """With the enhancement off, audio and vision change nothing: they act through the gate only."""
    batch = batches("small", "glove")["train"].slice(0, 6)
    net = small_model("tcm_lstm", **SMALL).eval()

    def effect_of_audio():
        for parameter in net.tcn["audio"].parameters():
            parameter.grad = None
        net(batch).prediction.sum().backward()
        return max(float(p.grad.abs().max()) for p in net.tcn["audio"].parameters())

    assert effect_of_audio() > 0
    torch.nn.init.zeros_(net.lstm.enhance)
    assert effect_of_audio() == 0


def test_recurrence_stays_float32_under_autocast():
    torch.manual_seed(0)
    lstm, sizes = AuxiliaryLSTM(4, 3), [3, 2, 2, 1]
    given, extra = torch.randn(2, 8, 15), torch.randn(2, 8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = lstm._run(given, extra, sizes)
        assert torch.equal(lstm._run(given.bfloat16(), extra, sizes), lstm._run(given.bfloat16().float(), extra, sizes))
    assert torch.equal(found, lstm._run(given, extra, sizes))
