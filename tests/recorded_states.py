"""MMIM, ALMT and TETFN against what MMSA gave for given token states: see tests/peer, which records it in float64."""

from __future__ import annotations

import torch


class GivenStates(torch.nn.Module):
    """Stands for a text encoder: the token states (B, T, D) that a reference was given."""

    def __init__(self, states: torch.Tensor):
        super().__init__()
        self.given, self.width = states, states.shape[-1]

    def states(self, text) -> torch.Tensor:
        return self.given


def batch_of_states(recorded: dict[str, torch.Tensor], lengths: dict[str, list[int]]):
    """audio and vision (B, T, d) of `recorded` at their lengths, its labels, and tokens that nothing reads."""
    from hycon.data.batch import Batch, Layout
    from hycon.data.ragged import Ragged

    rows = {
        m: Ragged.from_list([x[:n] for x, n in zip(recorded[m], lengths[m], strict=True)]) for m in ("audio", "vision")
    }
    text = Ragged.from_list([torch.ones(n, dtype=torch.long) for n in lengths["text"]])
    layout = Layout({m: max(n) for m, n in lengths.items()}, tokens=True)
    return Batch(text, rows["audio"], rows["vision"], recorded["label"], layout)


def compare_gradients(net, loss: torch.Tensor, recorded: dict[str, torch.Tensor], states: torch.Tensor) -> None:
    """Every parameter's gradient of the loss, and that of the token states, to 1e-6 of what was recorded."""
    names, weights = zip(*net.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, [*weights, states])
    for name, gradient in zip([*names, "states"], found, strict=True):
        expected = recorded[f"gradient.{name}"]
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def compare_mmim(recorded: dict[str, torch.Tensor], **options) -> None:
    """Predictions; both stages' losses as the one loss; the gradients of each stage where its optimiser takes them."""
    from baselines.mmim import Config, Model

    states = recorded["states"].clone().requires_grad_()
    net = Model(Config(**options), {"audio": 4, "vision": 3}, GivenStates(states)).double().eval()
    weights = {k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")}
    for m in ("audio", "vision"):  # 6 of positive label, then 5 of negative label
        rows = recorded[f"recent.{m}"]
        entropy = net.entropy[m]
        entropy.recent[: len(rows)] = rows
        entropy.recent_label[: len(rows)] = torch.tensor([1.0] * 6 + [-1.0] * 5)
    missing, unexpected = net.load_state_dict(weights, strict=False)
    assert {name.rpartition(".")[2] for name in missing} == {"recent", "recent_label"}
    assert not unexpected
    lengths = recorded["lengths"].tolist()
    batch = batch_of_states(recorded, dict.fromkeys(("text", "audio", "vision"), lengths))
    output = net(batch)
    torch.testing.assert_close(output.prediction, recorded["prediction"], atol=1e-9, rtol=0)
    entropy = sum(net.entropy[m](output.parts[m], batch.label) for m in ("vision", "audio"))
    torch.testing.assert_close(entropy, recorded["entropy"], atol=1e-9, rtol=0)
    loss = net.loss(output, batch)
    torch.testing.assert_close(loss, recorded["main"] + recorded["lld"], atol=1e-6, rtol=0)
    compare_gradients(net, loss, recorded, states)


def compare_almt(recorded: dict[str, torch.Tensor], **options) -> None:
    """Utterances that fill all steps: predictions, and gradients of their squared error."""
    from baselines.almt import Config, Model
    from hycon.output import task_loss

    states = recorded["states"].clone().requires_grad_()
    net = Model(Config(**options), {"audio": 4, "vision": 3}, GivenStates(states)).double().eval()
    net.load_state_dict({k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")})
    count, steps = states.shape[:2]
    batch = batch_of_states(recorded, dict.fromkeys(("text", "audio", "vision"), [steps] * count))
    prediction = net(batch).prediction
    torch.testing.assert_close(prediction, recorded["prediction"], atol=1e-9, rtol=0)
    compare_gradients(net, task_loss(prediction, batch.label, "mse"), recorded, states)


def compare_tetfn(recorded: dict[str, torch.Tensor], **options) -> None:
    """Utterances that fill all steps, with given unimodal labels: four predictions, the loss, its gradients."""
    from dataclasses import replace

    from baselines.tetfn import TASKS, Config, Model

    states = recorded["states"].clone().requires_grad_()
    net = Model(Config(**options, same_length=False), {"audio": 4, "vision": 3}, GivenStates(states)).double().eval()
    count = len(states)
    net.load_state_dict(
        {k.removeprefix("weight."): v for k, v in recorded.items() if k.startswith("weight.")}, strict=False
    )
    steps = {"text": states.shape[1], "audio": recorded["audio"].shape[1], "vision": recorded["vision"].shape[1]}
    batch = batch_of_states(recorded, {m: [n] * count for m, n in steps.items()})
    batch = replace(batch, index=torch.arange(count))
    net.prepare_training(batch)
    for s in TASKS:
        net.memory.write(f"label_{s}", batch.index, recorded[f"label.{s}"])
    output = net(batch)
    for s in TASKS:
        found = output.parts[f"prediction_{s}"]
        torch.testing.assert_close(found, recorded[f"prediction.{s}"], atol=1e-6, rtol=0)
    loss = net.loss(output, batch)
    torch.testing.assert_close(loss, recorded["loss"], atol=1e-6, rtol=0)
    compare_gradients(net, loss, recorded, states)
