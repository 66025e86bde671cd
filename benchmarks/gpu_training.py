"""What the steps of gpu_first train: made-up batches, and networks with random weights.

Data: of CMU-MOSI's size, 1284 and 229 utterances, 17 word pieces on average (4 to 50), audio 74, vision 47, GloVe 300.
Text encoders: bert-base-uncased's and xlnet-base-cased's architectures (speed needs no trained weights).
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmsa_file import lengths
from torch import nn

from hycon import encoders, pretrained, train
from hycon.data.batch import Batch, Layout, form_of
from hycon.data.prepare import find_videos
from hycon.data.ragged import Ragged
from hycon.output import task_loss
from studies.registry import build_model, model_module, resolve

PIECES = 1.24  # word pieces a word: with [CLS] and [SEP], 17 a sentence on average, as in MOSI


@dataclass(frozen=True)
class Size:
    """demo: the demo encoder and the models' demo sizes.  batch: None is the row's own.  seconds: a measured epoch's
    share of all epochs is made so small that a measurement takes about so long."""

    train: int
    valid: int
    dims: dict[str, int]
    lengths: dict[str, int]
    unaligned: dict[str, int]
    demo: bool = False
    batch: int | None = None
    seconds: float = 3.0


FULL = Size(
    train=1284,
    valid=229,
    dims={"glove": 300, "features": 300, "audio": 74, "vision": 47},  # CMU-MOSI: GloVe, COVAREP, Facet
    lengths=dict.fromkeys(("text", "audio", "vision"), 50),  # what the reference code pads to
    unaligned={"text": 50, "audio": 375, "vision": 500},  # MulT's unaligned files
)
QUICK = Size(
    train=24,
    valid=8,
    dims={"glove": 24, "features": 9, "audio": 8, "vision": 6},
    lengths=dict.fromkeys(("text", "audio", "vision"), 16),
    unaligned={"text": 16, "audio": 24, "vision": 32},
    demo=True,
    batch=8,
    seconds=0.2,
)


# ------------------------------------------------------------------------------------------------- made up


def made_up(
    text: str,
    size: Size,
    count: int,
    *,
    filled: bool = False,
    unaligned: bool = False,
    emotions: int = 0,
    seed: int = 2022,
) -> Batch:
    """`count` utterances on the CPU. filled: every sequence has all its nominal steps.  unaligned: each modality has
    lengths of its own.  emotions: labels (N, emotions) of 0 and 1."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    nominal = size.unaligned if unaligned else size.lengths
    tokens = form_of(text) == "tokens"
    words = torch.from_numpy(lengths("mosi", count, rng))
    if tokens:
        steps = (words * PIECES).round().long().clamp(max=nominal["text"] - 2) + 2
    else:
        steps = words.clamp(max=nominal["text"])
    if filled:
        steps = torch.full_like(steps, nominal["text"])
    sequences = {}
    for modality in ("text", "audio", "vision"):
        own = steps
        if unaligned and modality != "text":
            own = torch.randint(nominal[modality] // 4, nominal[modality] + 1, (count,), generator=generator)
            own[::8] = nominal[modality]  # some of full length in every batch
        total, starts = int(own.sum()), own.cumsum(0) - own
        if modality == "text" and tokens:
            most = len(pretrained.demo_vocabulary()) if size.demo else 30000
            rows = torch.randint(min(1000, most // 2), most, (total,), generator=generator)
        else:
            rows = torch.randn(total, size.dims[text if modality == "text" else modality], generator=generator)
        sequences[modality] = Ragged(rows, starts, own)
    label = torch.randn(count, generator=generator).clamp(-3, 3)
    if emotions:
        label = torch.randint(0, 2, (count, emotions), generator=generator)
    layout = Layout(dict(nominal), "left" if text == "xlnet" else "right", tokens=tokens, aligned=not unaligned)
    whole = Batch(**sequences, label=label, layout=layout)
    videos = find_videos([f"video{i // 4}_{i % 4}" for i in range(count)], whole)
    return replace(whole, videos=videos, index=torch.arange(count))


@functools.cache
def _encoder(kind: str, demo: bool, pooler: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # what a row draws must not depend on whether another made the encoder
        torch.manual_seed(0)
        return pretrained.load_model(kind, {"name": pretrained.DEMO, "sha256": ""} if demo else None, pooler)


def network(model: str, text: str, size: Size, *, emotions: int = 0, **config: Any) -> nn.Module:
    """A model on the CPU. Its text encoder is a copy of one that is made once a process: seconds saved in each row."""
    dims = {m: size.dims[m] for m in ("audio", "vision")}
    demo = getattr(model_module(model), "DEMO", {}).get(form_of(text), {}) if size.demo else {}
    if form_of(text) == "vectors":
        return build_model(
            model, text=text, dims={"text": size.dims[text], **dims}, emotions=emotions, **demo, **config
        )
    pooler = getattr(model_module(model), "NEEDS_POOLER", False)
    made = copy.deepcopy(_encoder(text, size.demo, pooler))
    dims["text"] = made.config.hidden_size
    with mock.patch.object(pretrained, "load_model", lambda *_: made):
        return build_model(model, text=text, dims=dims, emotions=emotions, **demo, **config)


def training_of(model: str, text: str, size: Size, **changes: Any) -> train.Training:
    own = resolve(model, text, {})[1]
    return replace(own, **({"batch_size": size.batch} if size.batch else {}), **changes)


def precision_on(device: str, wanted: str) -> str:
    """fp32 in place of tf32 on a CPU, which has none: there the scripts are only tried."""
    return "fp32" if wanted == "tf32" and torch.device(device).type == "cpu" else wanted


def encoder_of(net: nn.Module) -> encoders.PretrainedText | None:
    return next((module for module in net.modules() if isinstance(module, encoders.PretrainedText)), None)


def loss_of(net: Any, batch: Batch) -> torch.Tensor:
    output = net(batch)
    return net.loss(output, batch) if hasattr(net, "loss") else task_loss(output.prediction, batch.label)


def few_steps(net: nn.Module, split: Batch, training: train.Training, steps: int) -> None:
    few = split.slice(0, steps * training.batch_size)
    train.fit(net, few, split.slice(0, 1), replace(training, epochs=1), seed=0)


# ------------------------------------------------------------------------------------------------- the field's way


class Padded(encoders.PretrainedText):
    """The encoder over all nominal positions of every sentence, in one piece, as the field's code does it."""

    nominal = 50
    by_rows = False

    def _size(self, text: Ragged) -> int:
        return len(text)

    def _encode(self, inputs, lengths, extra):
        embedded = inputs[:, : inputs.shape[1] - extra.shape[1]]
        count, length = embedded.shape[:2]
        embedded = nn.functional.pad(embedded, (0, 0, 0, self.nominal - length))  # no [PAD]s: they would cost as much
        step = torch.arange(self.nominal, device=embedded.device).expand(count, self.nominal)
        own = lengths[:, None]
        real = step < own
        given = {"inputs_embeds": embedded, "attention_mask": real.long()}
        if self.kind == "xlnet":
            hidden = self.model(**given, token_type_ids=2 * (step == own - 1).long(), use_mems=False).last_hidden_state
        else:
            hidden = self.model(**given, position_ids=step).last_hidden_state
        last = hidden[
            :, self.nominal - extra.shape[1] :
        ]  # the read-out `last`, every model's default, reads two or none
        return hidden[:, :length] * real[:, :length, None], last


def pad_encoder(net: nn.Module, nominal: int) -> None:
    """Change the text encoder's computation in place, where there is one."""
    text = encoder_of(net)
    if text is None:
        return
    text.__class__ = Padded
    text.nominal = nominal
    if text.kind == "bert":  # transformers has eager attention only for XLNet
        text.model.set_attn_implementation("eager")


class DefaultOptimizer:
    """Stands in for hycon.kernels.optim.Optimizer: what torch.optim makes of a rule by default."""

    def __init__(self, rule: str, groups: list[dict[str, Any]], *, lr: float, weight_decay: float):
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[rule]
        self.inner = kind(groups, lr=lr, weight_decay=weight_decay)
        self.rates = [group["lr"] for group in self.inner.param_groups]

    def zero_grad(self) -> None:
        self.inner.zero_grad()

    def step(self, factor: float = 1.0) -> None:
        for group, rate in zip(self.inner.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.inner.step()
