"""Whether every option that a search draws has an effect: one that nothing reads wastes trials, and often is a bug."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from hycon.data.batch import Batch, form_of
from hycon.train import Training, fit
from studies.authors.conformance import build, expect, loss_of, shown
from studies.registry import model_module, resolve, search_space

# of the optimiser: seen in the weights after two steps
STEPPING = ("lr", "head_lr", "audio_lr", "vision_lr", "factor_lr", "weight_decay")
TAKEN = ("batch_size", "clip")  # to have an effect: the training loop is tested for them

Splits = Callable[[str], Mapping[str, Batch]]  # scale -> the splits of a small corpus, so scaled


class Outcome:
    """What options lead to, of one row and one small batch: loss and gradients, or the weights after two steps. The
    seeds are the same throughout, and weights as large as after training, since a fresh model may not show a part."""

    def __init__(self, model: str, text: str, config: Mapping[str, Any], splits: Splits, emotions: int = 0):
        self.model, self.text, self.config = model, text, config
        self.splits, self.emotions = splits, emotions
        self.of_training = {field.name for field in dataclasses.fields(Training)}

    def __call__(self, stepping: bool = False, **changes: Any) -> Any:
        overrides = {**self.config, **changes}
        training = resolve(self.model, self.text, overrides)[1]
        count = 24 if self.config.get("beta") else 12  # enough to select two pairs
        split = self.splits(training.scale)["train"].slice(0, count)
        own = {name: v for name, v in overrides.items() if name not in self.of_training}
        net = build(self.model, self.text, split, emotions=self.emotions, **own).train()
        for parameter in net.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        if not stepping:
            shown(net, split)
        torch.manual_seed(1)
        if stepping:
            fit(net, split, split.slice(0, 1), dataclasses.replace(training, batch_size=count // 2, epochs=1), seed=0)
            return digest(net.parameters())
        loss = loss_of(net, split)
        loss.backward()
        return float(loss.detach()), digest(p.grad for p in net.parameters() if p.grad is not None)


def digest(tensors: Iterable[Tensor]) -> str:
    return hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in tensors)).hexdigest()


def check_effects(
    model: str, text: str, splits: Splits, config: Mapping[str, Any] | None = None, emotions: int = 0
) -> None:
    """Every option of the search changes loss, gradients or steps. config: what makes the row."""
    config = config or {}
    outcome = Outcome(model, text, config, splits, emotions)
    settings = {k: v for x in resolve(model, text, config) for k, v in dataclasses.asdict(x).items()}
    sizes = getattr(model_module(model), "DEMO", {}).get(form_of(text), {})
    settings |= {k: v for k, v in sizes.items() if k not in config}
    plain, stepped = outcome(), outcome(stepping=True)
    idle = []
    for option, values in search_space(model, text, config).items():
        another = next((value for value in reversed(values) if value != settings[option]), None)
        if another is None or option in TAKEN:
            continue
        stepping = option in STEPPING
        if outcome(stepping, **{option: another}) == (stepped if stepping else plain):
            idle.append(option)
    expect(
        not idle,
        f"searching {', '.join(idle)} changes nothing with text={text}",
        "let the model read it, take it out of SEARCH_SPACE, or name it in without_effect(config, form)",
    )
