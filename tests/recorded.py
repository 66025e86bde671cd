"""Our models against what a reference implementation gave: see tests/peer, which records it."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch

GOLDEN = Path(__file__).parent / "golden"
DIMS = {"text": 6, "audio": 4, "vision": 3}
MAG_BETA = 0.4
MAG_BERT = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 16,
    "max_position_embeddings": 8,
}
CUT = (3, 5, 2)  # what `shorter` leaves of three utterances


def shorter(network, x: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """alone (3,): what a reference predicts for each utterance of x (3, T, d) cut short, by itself; lengths (3,).

    By itself: in a batch of two of it, since some references lose a batch of one.
    """
    alone = [network(*(v[[i, i], :n] for v in x.values()))["M"][:1, 0] for i, n in enumerate(CUT)]
    return {"alone": torch.cat(alone), "lengths": torch.tensor(CUT)}


def compare(recorded: dict[str, torch.Tensor], model: str, **overrides) -> None:
    """With weight.* our model gives, for input.* (B, T, d), the recorded prediction and gradient.* of its sum; and for
    the utterances cut to lengths (B,), in one batch, what was recorded of each alone."""
    from hycon.data.batch import Batch, Layout
    from hycon.data.ragged import Ragged
    from studies.registry import build_model

    net = build_model(model, text="features", dims=DIMS, **overrides).eval()
    net.load_state_dict({k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")})
    inputs = {m: Ragged.from_list(list(recorded[f"input.{m}"])) for m in DIMS}
    count, length = recorded["input.text"].shape[:2]
    layout = Layout(dict.fromkeys(DIMS, length))
    prediction = net(Batch(**inputs, label=torch.zeros(count), layout=layout)).prediction
    torch.testing.assert_close(prediction, recorded["prediction"], atol=1e-5, rtol=0)
    named = {k: p for k, p in net.named_parameters() if p.requires_grad}
    for name, found in zip(named, torch.autograd.grad(prediction.sum(), list(named.values())), strict=True):
        expected = recorded[f"gradient.{name}"]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
    if "lengths" in recorded:
        ends = recorded["lengths"].tolist()
        cut = {m: Ragged.from_list([x[:n] for x, n in zip(recorded[f"input.{m}"], ends, strict=True)]) for m in DIMS}
        prediction = net(Batch(**cut, label=torch.zeros(count), layout=layout)).prediction
        torch.testing.assert_close(prediction, recorded["alone"], atol=1e-5, rtol=0)


def compare_mag(recorded: dict[str, torch.Tensor]) -> None:
    """MAG-BERT over a tiny BERT (MAG_BERT), whose reference pads and masks: predictions, gradients of their sum."""
    from transformers import BertConfig, BertModel

    from baselines.mag import NEEDS_POOLER, Config, Model
    from hycon.data.batch import Batch, Layout
    from hycon.data.ragged import Ragged
    from hycon.text import PretrainedText

    text = PretrainedText(BertModel(BertConfig(**MAG_BERT), add_pooling_layer=NEEDS_POOLER), "bert")
    net = Model(Config(beta_shift=MAG_BETA), {"text": 12, "audio": 4, "vision": 3}, text).eval()
    net.load_state_dict({k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")})
    lengths = recorded["lengths"].tolist()
    rows = {
        m: Ragged.from_list([x[:n] for x, n in zip(recorded[m], lengths, strict=True)])
        for m in ("ids", "audio", "vision")
    }
    layout = Layout(dict.fromkeys(("text", "audio", "vision"), 8), tokens=True)
    batch = Batch(rows["ids"], rows["audio"], rows["vision"], torch.zeros(len(lengths)), layout)
    prediction = net(batch).prediction
    torch.testing.assert_close(prediction, recorded["prediction"], atol=1e-5, rtol=0)
    names, weights = zip(*net.named_parameters(), strict=True)
    gradients = torch.autograd.grad(prediction.sum(), weights)
    for name, found in zip(names, gradients, strict=True):
        expected = recorded[f"gradient.{name}"]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


def compare_mult_shorter(recorded: dict[str, torch.Tensor], **options) -> None:
    """Utterances cut to lengths.*: by default each is encoded as if alone; with attend_padding, padded with zeros."""
    from hycon.data.batch import Batch, Layout
    from hycon.data.ragged import Ragged
    from studies.registry import build_model

    weights = {k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")}
    lengths = {m: recorded[f"lengths.{m}"] for m in DIMS}
    inputs = {
        m: Ragged.from_list([x[:n] for x, n in zip(recorded[f"input.{m}"], lengths[m].tolist(), strict=True)])
        for m in DIMS
    }
    layout = Layout({m: recorded[f"input.{m}"].shape[1] for m in DIMS})
    batch = Batch(**inputs, label=torch.zeros(3), layout=layout)
    for attend_padding, expected in ((False, recorded["alone"]), (True, recorded["padded"])):
        net = build_model("mult", text="features", dims=DIMS, attend_padding=attend_padding, **options).eval()
        net.load_state_dict(weights)
        torch.testing.assert_close(net(batch).prediction, expected, atol=1e-5, rtol=0)
    assert (recorded["alone"] - recorded["padded"]).abs().min() > 1e-3


def _tokens(recorded: dict[str, torch.Tensor]):
    """The recorded utterances as a Batch in float64, each as the one of its place in the train split."""
    from hycon.data.batch import Batch, Layout
    from hycon.data.ragged import Ragged

    lengths = recorded["lengths"].tolist()
    ids, audio, vision = (
        Ragged.from_list([x[:n] for x, n in zip(recorded[m], lengths, strict=True)]) for m in ("ids", "audio", "vision")
    )
    layout = Layout(dict.fromkeys(DIMS, recorded["ids"].shape[1]), tokens=True)
    return Batch(ids, audio, vision, recorded["label"], layout, index=torch.arange(len(lengths)))


def _over_tiny_bert(model: str, recorded: dict[str, torch.Tensor], options: dict):
    """One of our models over a BERT of MAG_BERT's size, in float64, with the recorded weights."""
    from transformers import BertConfig, BertModel

    from hycon.text import PretrainedText
    from studies.registry import model_module

    module = model_module(model)
    text = PretrainedText(BertModel(BertConfig(**MAG_BERT), add_pooling_layer=False), "bert")
    net = module.Model(module.Config(**options), {"text": 12, "audio": 4, "vision": 3}, text).double().eval()
    weights = {k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")}
    assert set(weights) == {name for name, _ in net.named_parameters()}
    net.load_state_dict(weights, strict=False)  # what a model keeps by utterance is not among them
    return net


def _compare_gradients(net, loss: torch.Tensor, recorded: dict[str, torch.Tensor], dead: bool = False) -> None:
    """dead: a parameter whose gradient is zero is let pass."""
    names, weights = zip(*net.named_parameters(), strict=True)
    for name, found in zip(names, torch.autograd.grad(loss, weights), strict=True):
        expected = recorded[f"gradient.{name}"]
        assert dead or expected.any(), name
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def compare_misa(recorded: dict[str, torch.Tensor]) -> None:
    """Predictions, and MISA's whole loss with its gradients; the task loss is in float32."""
    from peer.test_against_mmsa_beyond import MISA

    net, batch = _over_tiny_bert("misa", recorded, MISA), _tokens(recorded)
    output = net(batch)
    torch.testing.assert_close(output.prediction, recorded["prediction"], atol=1e-9, rtol=0)
    loss = net.loss(output, batch, "mse")
    torch.testing.assert_close(loss, recorded["loss"], atol=1e-6, rtol=0)
    _compare_gradients(net, loss, recorded)


def compare_self_mm(recorded: dict[str, torch.Tensor], dead: bool = False) -> None:
    """Three epochs of three batches: the last batch's loss and gradients, and the unimodal labels at the end.

    What Self-MM computes in float32 is in float64 here: a label's denominator can be near 0, which makes
    rounding large.
    dead: the tiny network may have units that no utterance moves.
    """
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        _compare_self_mm(recorded, dead)


def _compare_self_mm(recorded: dict[str, torch.Tensor], dead: bool) -> None:
    from peer.test_against_mmsa_beyond import GROWTH, SELF_MM

    net, split = _over_tiny_bert("self_mm", recorded, SELF_MM), _tokens(recorded)
    count = len(split) // 3
    net.prepare_training(split)
    with torch.no_grad():
        for p in net.parameters():  # recorded in the last epoch
            p.div_(GROWTH**2)
    for epoch in range(3):
        for start in range(0, len(split), count):
            batch = split.slice(start, start + count)
            output = net(batch)
            net.training = True  # of itself only: labels move, and dropout stays out
            loss = net.loss(output, batch)
            net.training = False
        if epoch < 2:
            with torch.no_grad():
                for p in net.parameters():
                    p.mul_(GROWTH)
    torch.testing.assert_close(output.prediction, recorded["prediction"], atol=1e-9, rtol=0)
    torch.testing.assert_close(loss, recorded["loss"], atol=1e-9, rtol=0)
    _compare_gradients(net, loss, recorded, dead)
    for m in DIMS:
        found = net.memory[f"label_{m}"]
        torch.testing.assert_close(found, recorded[f"label_{m}"], atol=1e-9, rtol=0)
        assert (found - split.label).abs().max() > 0.1
