"""HFFN against the equations evaluated utterance by utterance, and its video context."""

import dataclasses

import numpy as np
import pytest
import torch
from model_checks import rows_of, small_model, weights_of

from baselines.hffn import SkipLSTM
from hycon.data.prepare import find_videos
from hycon.data.ragged import Ragged
from hycon.errors import UserError
from studies.authors.conformance import check_gradients_of

SMALL = {"context": 5, "d": 7, "size": 2, "stride": 2, "units": 3, "hidden": 6}
MODALITIES = ("text", "audio", "vision")


def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(w, prefix, sequence):
    h = c = np.zeros(w[f"{prefix}.weight_hh_l0"].shape[1])
    states = []
    for x in sequence:
        gates = w[f"{prefix}.weight_ih_l0"] @ x + w[f"{prefix}.bias_ih_l0"]
        i, f, g, o = np.split(gates + w[f"{prefix}.weight_hh_l0"] @ h + w[f"{prefix}.bias_hh_l0"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return states


def context(w, modality, video):
    """(n, d) of one video's utterance vectors."""
    prefix = f"context.{modality}"
    ahead, back = lstm(w, f"{prefix}.ahead", video), lstm(w, f"{prefix}.back", video[::-1])[::-1]
    both = np.concatenate([ahead, back], 1)
    return np.tanh(both @ w[f"{prefix}.linear.weight"].T + w[f"{prefix}.linear.bias"])


def skip(w, windows):
    """ABS-LSTM in one direction, one step after the other."""
    u = w["skip.recurrent"].shape[0]
    hs, cs, out = [np.zeros(u)] * 3, [np.zeros(u)] * 3, []

    def attended(past, weight, x):
        scores = np.exp([np.linalg.norm(np.tanh(np.concatenate([s, x]) @ weight)) for s in past])
        return np.maximum(sum(a * s for a, s in zip(scores / scores.sum(), past, strict=True)), 0)

    for x in windows:
        before = attended(hs, w["skip.attend_hidden"], x)
        i, f, m, o = np.split(hard_sigmoid(x @ w["skip.kernel"] + before @ w["skip.recurrent"]), 4)
        c = f * attended(cs, w["skip.attend_cell"], x) + i * m
        h = o * np.tanh(c)
        hs, cs = [h, *hs[:2]], [c, *cs[:2]]
        scale = hard_sigmoid(np.concatenate([h, x]) @ w["skip.gate"] + w["skip.gate_bias"]) @ w["skip.gate_score"]
        out.append(np.where(scale * h > 0, scale * h, np.exp(scale * h) - 1))
    return out


def slow_prediction(w, vectors, size, stride):
    """vectors: the three unimodal vectors (d,) of one utterance."""
    windows = []
    for start in range(0, len(vectors[0]), stride):
        if start and start - stride + size >= len(vectors[0]):
            break
        parts = [np.append(np.pad(v[start : start + size], (0, max(0, start + size - len(v)))), 1) for v in vectors]
        windows.append(np.einsum("i,j,k->ijk", *parts).reshape(-1))
    both = np.concatenate([skip(w, windows), skip(w, windows[::-1])[::-1]], 1)
    y = np.maximum(w["hidden.weight"] @ np.tanh(both).reshape(-1) + w["hidden.bias"], 0)
    return (w["predictor.weight"] @ y + w["predictor.bias"])[0]


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 3), (7, 1)])
def test_against_the_equations(size, stride, batches):
    split = batches("small", "glove")["train"]  # ids train0_0 ... train4_7: five videos of eight
    net = small_model("hffn", **{**SMALL, "size": size, "stride": stride}).eval()
    w = weights_of(net)
    video = {m: [rows_of(getattr(split, m), i).mean(0, dtype=float) for i in range(16, 24)] for m in MODALITIES}
    read = {m: context(w, m, video[m]) for m in MODALITIES}
    picked = [3, 0, 7]
    expected = [slow_prediction(w, [read[m][i] for m in MODALITIES], size, stride) for i in picked]
    with torch.no_grad():
        output = net(split.take(torch.tensor([19, 2, 16, 30, 23])))
    np.testing.assert_allclose(output.prediction[[0, 2, 4]], expected, atol=1e-5)
    for m in MODALITIES:
        np.testing.assert_allclose(output.representations[m][[0, 2, 4]], read[m][picked], atol=1e-5)


def changed_audio(split, i):
    """The split with one utterance's audio turned around, seen by the videos too."""
    rows = [torch.tensor(rows_of(split.audio, k)) for k in range(len(split))]
    rows[i] = -rows[i] + 1.0
    whole = dataclasses.replace(split, audio=Ragged.from_list(rows), videos=None)
    return dataclasses.replace(whole, videos=dataclasses.replace(split.videos, whole=whole))


def test_the_whole_video_is_read_and_nothing_beyond(batches):
    split = batches("small", "glove")["train"]
    net = small_model("hffn", **SMALL).eval()
    with torch.no_grad():
        before, after = net(split).prediction, net(changed_audio(split, 11)).prediction
        alone = torch.cat([net(split.slice(i, i + 1)).prediction for i in (8, 11, 15)])
    moved = (before != after).nonzero().flatten().tolist()
    assert moved == list(range(8, 16))  # utterance 11 is in the second video
    torch.testing.assert_close(alone, before[[8, 11, 15]], atol=1e-5, rtol=1e-5)  # though their neighbours are not in


def test_without_videos_each_utterance_stands_alone(batches):
    split = batches("small", "glove")["train"].slice(0, 9)
    net = small_model("hffn", **SMALL).eval()
    with torch.no_grad():
        lone = net(dataclasses.replace(split, videos=None)).prediction
        w = weights_of(net)
        vectors = [context(w, m, [rows_of(getattr(split, m), 4).mean(0, dtype=float)])[0] for m in MODALITIES]
    assert float(lone[4]) == pytest.approx(slow_prediction(w, vectors, 2, 2), abs=1e-5)
    assert not torch.allclose(lone, net(split).prediction)


def test_training_after_a_prediction(batches):
    """The means that a prediction computes first, in inference mode, are those that training reads."""
    split = dataclasses.replace(batches("small", "glove")["train"], videos=None)
    split = dataclasses.replace(split, videos=find_videos([f"v{i // 8}[{i}]" for i in range(40)], split))
    net = small_model("hffn", **SMALL)
    with torch.inference_mode():
        net.eval()(split)
    check_gradients_of(net, split.slice(0, 12))
    means = split.videos.whole.means
    assert means is split.slice(0, 12).videos.whole.means  # once for the split
    assert not any(x.is_inference() for x in means.values())


def test_recurrence_stays_float32_under_autocast():
    x = torch.randn(3, 6, 8)
    torch.manual_seed(0)
    skip = SkipLSTM(8, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = skip._run(x)
    assert torch.equal(found, skip._run(x))


def test_what_cannot_be():
    with pytest.raises(UserError, match="no text front-end 'bert'"):
        small_model("hffn", text="bert")
    with pytest.raises(UserError, match="expected 1 to d"):
        small_model("hffn", d=4, size=5)
