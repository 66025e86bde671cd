"""QMF against density matrices built one by one in complex numpy, and its constraints."""

import numpy as np
import pytest
import torch
from model_checks import rows_of, small_model, weights_of

from baselines.qmf import Measurement, mixtures, word_states
from hycon.errors import UserError
from studies.authors.conformance import check_batch_of_one_of, check_gradients_of, check_own_prediction_of

SMALL = {"width": 3, "text_hidden": 6, "measurements": 5, "hidden": 7}


def with_phases(net, std=0.8):
    """Phases start at zero, where a mistake in them would not show."""
    torch.nn.init.normal_(net.phases.table.weight, std=std)
    torch.nn.init.normal_(net.modality_weights)
    return net.eval()


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def text_amplitudes(w, words):
    h = c = np.zeros(w["text_amplitudes.lstm.weight_hh_l0"].shape[1])
    out = []
    for x in words:
        gates = w["text_amplitudes.lstm.weight_ih_l0"] @ x + w["text_amplitudes.lstm.bias_ih_l0"]
        gates = gates + w["text_amplitudes.lstm.weight_hh_l0"] @ h + w["text_amplitudes.lstm.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(w["text_amplitudes.linear.weight"] @ h + w["text_amplitudes.linear.bias"])
    return out


def amplitudes(w, modality, x):
    for layer in range(3):
        prefix = f"amplitudes.{modality}.layers.{layer}"
        x = relu(w[f"{prefix}.weight"] @ x + w[f"{prefix}.bias"])
    return x


def slow_prediction(w, words, audio, vision, grams, projectors):
    """One utterance, by the definitions: states, density matrices, expectation values."""
    share = np.exp(w["modality_weights"]) / np.exp(w["modality_weights"]).sum()
    states, weight = [], []
    for word, text, a, v in zip(words, text_amplitudes(w, words), audio, vision, strict=True):
        parts = [text, amplitudes(w, "audio", a), amplitudes(w, "vision", v)]
        angles = (w["phases.table.weight"] @ word).reshape(3, -1)
        norms = [np.linalg.norm(r) for r in parts]
        unit = [r / max(n, 1e-6) * np.exp(1j * t) for r, n, t in zip(parts, norms, angles, strict=True)]
        states.append(np.einsum("i,j,k->ijk", *unit).reshape(-1))
        weight.append(share @ norms)
    probabilities = []
    for n in grams:
        for centre in range(len(states)):
            window = range(max(0, centre - (n - 1) // 2), min(centre + n // 2 + 1, len(states)))
            p = np.exp([weight[t] for t in window])
            rho = sum(pt * np.outer(states[t], states[t].conj()) for pt, t in zip(p / p.sum(), window, strict=True))
            probabilities.append([np.trace(np.outer(v, v.conj()) @ rho).real for v in projectors])
    y = np.max(probabilities, 0)
    for layer in range(3):
        y = w[f"layers.{layer}.weight"] @ y + w[f"layers.{layer}.bias"]
        y = relu(y) if layer < 2 else y
    return y[0]


@pytest.mark.parametrize(
    ("grams", "projectors"), [("2,3", "unit"), ("3", "unit"), ("1,4", "unit"), ("1,2,3", "orthonormal")]
)
def test_against_density_matrices(grams, projectors, batches):
    split = batches("small", "glove")["train"]
    batch = split.take(torch.argsort(split.text.lengths)[torch.tensor([0, 20, -1])])
    net = with_phases(small_model("qmf", grams=grams, projectors=projectors, **SMALL))
    w = weights_of(net)
    vectors = w["measurement.kernel"][..., 0] + 1j * w["measurement.kernel"][..., 1]
    if projectors == "unit":
        vectors = vectors / np.sqrt((np.abs(vectors) ** 2).sum(1, keepdims=True))
    else:
        vectors = np.linalg.qr(vectors.T)[0].T  # each row's phase is free: a projector does not have one
    sizes = [int(n) for n in grams.split(",")]
    expected = [
        slow_prediction(
            w, *(rows_of(getattr(batch, m), i).astype(float) for m in ("text", "audio", "vision")), sizes, vectors
        )
        for i in range(3)
    ]
    with torch.no_grad():
        np.testing.assert_allclose(net(batch).prediction, expected, atol=1e-5)
    assert np.ptp(expected) > 1e-4


def test_states_are_unit_vectors():
    amplitude, phase = torch.randn(7, 3, 4), torch.randn(7, 3, 4)
    states, lengths = word_states(amplitude, phase)
    torch.testing.assert_close(torch.linalg.vector_norm(states, dim=1), torch.ones(7))
    torch.testing.assert_close(lengths, amplitude.norm(dim=2))
    doubled, _ = word_states(2 * amplitude, phase + 2 * torch.pi)
    torch.testing.assert_close(doubled, states, atol=1e-5, rtol=1e-5)


def test_a_word_without_amplitude_is_finite():
    amplitude = torch.zeros(2, 3, 4, requires_grad=True)
    states, lengths = word_states(amplitude, torch.zeros(2, 3, 4))
    (states.abs().square().sum() + lengths.sum()).backward()
    assert not states.any()
    assert torch.isfinite(amplitude.grad).all()


def test_a_complete_measurement_sums_to_one():
    """27 orthonormal projectors on C^27: the mixtures have trace one, also where a window is cut short."""
    measurement = Measurement(27, 27, "orthonormal")
    states, _ = word_states(torch.randn(10, 3, 3), torch.randn(10, 3, 3))
    probability = measurement(states).unflatten(0, (2, 5))
    real = torch.tensor([[True] * 5, [True, True, False, False, False]])
    for n in (1, 2, 4, 7):
        measured = mixtures(probability * real[:, :, None], torch.randn(2, 5), real, n)
        torch.testing.assert_close(measured.sum(2)[real], torch.ones(7), atol=1e-5, rtol=1e-5)


def test_windows_are_centred():
    """With equal weights a window's mixture is the mean of its words; (n - 1) // 2 words before, n // 2 after."""
    probability = torch.eye(4)[None]
    weight, real = torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)
    for n, expected in (
        (1, [[0], [1], [2], [3]]),
        (2, [[0, 1], [1, 2], [2, 3], [3]]),
        (3, [[0, 1], [0, 1, 2], [1, 2, 3], [2, 3]]),
        (4, [[0, 1, 2], [0, 1, 2, 3], [1, 2, 3], [2, 3]]),
    ):
        rows = torch.stack([probability[0, words].mean(0) for words in expected])
        torch.testing.assert_close(mixtures(probability, weight, real, n)[0], rows)


@pytest.mark.parametrize("kind", ["unit", "orthonormal"])
@pytest.mark.parametrize("optimizer", [torch.optim.RMSprop, torch.optim.Adam])
def test_projectors_stay_projectors(kind, optimizer, batches):
    batch = batches("small", "glove")["train"].slice(0, 8)
    net = small_model("qmf", projectors=kind, **SMALL)
    steps = optimizer(net.parameters(), lr=0.05)
    before = net.measurement.vectors().detach()
    for _ in range(4):
        steps.zero_grad()
        (net(batch).prediction - batch.label).abs().mean().backward()
        steps.step()
    vectors = net.measurement.vectors().detach()
    gram = vectors @ vectors.conj().mT
    assert not torch.allclose(vectors, before, atol=1e-2)
    torch.testing.assert_close(gram.diagonal().real, torch.ones(5))
    if kind == "orthonormal":
        torch.testing.assert_close(gram, torch.eye(5, dtype=gram.dtype), atol=1e-5, rtol=0.0)


def test_phases_learn(batches):
    """They start at zero and would stay there if the projectors were real."""
    batch = batches("small", "glove")["train"].slice(0, 8)
    net = small_model("qmf", **SMALL)
    assert not net.phases.table.weight.any()
    check_gradients_of(net, batch)


def test_conformance(batches):
    split = batches("small", "glove")["train"]
    check_own_prediction_of(with_phases(small_model("qmf", **SMALL)), split)
    check_batch_of_one_of(small_model("qmf", **SMALL), split)


def test_what_cannot_be():
    with pytest.raises(UserError, match="sizes of window"):
        small_model("qmf", grams="2;3")
    with pytest.raises(UserError, match="sizes of window"):
        small_model("qmf", grams="0,1")
    with pytest.raises(UserError, match="unit or orthonormal"):
        small_model("qmf", projectors="diagonal")
    with pytest.raises(UserError, match="dimension 27"):
        small_model("qmf", width=3, measurements=30, projectors="orthonormal")
