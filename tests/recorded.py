"""Our models against what a reference implementation gave: see tests/peer, which records it."""

from __future__ import annotations

from pathlib import Path

import torch

GOLDEN = Path(__file__).parent / "golden"
DIMS = {"text": 6, "audio": 4, "vision": 3}
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
