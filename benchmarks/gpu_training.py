"""What gpu_first measures with: made-up batches, networks with random weights, and single measurements of a training.

Data: of CMU-MOSI's size, 1284 and 229 utterances, 17 word pieces on average (4 to 50), audio 74, vision 47, GloVe 300.
Text encoders: bert-base-uncased's and xlnet-base-cased's architectures (speed needs no trained weights).

Model FLOPs of a training pass, with BERT or XLNet: 6 x tokens x matrix weights of its layers + 12 x layers x width x
(sum of squared lengths); what is not the encoder is not counted, nor XLNet's relative positions. On word vectors: the
matrix products of one training step, counted on the CPU. A validation pass counts a third. Tokens are real ones, so
padding lowers the utilisation.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmsa_file import lengths
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hycon import encoders, pretrained, train
from hycon.data.batching import Batch, Layout, form_of
from hycon.data.ragged import Ragged
from hycon.data.videos import find_videos
from hycon.output import task_loss
from studies.registry import build_model, model_module, resolve

PIECES = 1.24  # word pieces a word: with [CLS] and [SEP], 17 a sentence on average, as in MOSI
CHECKED = 3  # batches of the epoch that is tried first, to see how long a whole one would take
PEAKS = {  # dense TFLOP/s by NVIDIA's data sheets; fp32 is without TF32, which training switches off
    "NVIDIA H200": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "NVIDIA H100 80GB HBM3": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "NVIDIA H100 PCIe": {"bf16": 756.0, "tf32": 378.0, "fp32": 51.0},
    "NVIDIA A100-SXM4-80GB": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
    "NVIDIA A100-SXM4-40GB": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
}


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


@dataclass(frozen=True)
class Variant:
    """padded: with torch's own optimiser, and BERT by eager attention, as the field's code trains."""

    name: str
    padded: bool = False
    precision: str = "fp32"
    tf32: bool = False


VARIANTS = (
    Variant("eager, padded, fp32", padded=True),
    Variant("fp32"),
    Variant("tf32", tf32=True),
    Variant("bf16", precision="bf16"),
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
        if unaligned and modality != "text":  # the longest first: every batch of the first ones has one
            own = torch.randint(nominal[modality] // 4, nominal[modality] + 1, (count,), generator=generator)
            own[0] = nominal[modality]
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
    return replace(whole, videos=find_videos([f"video{i // 4}_{i % 4}" for i in range(count)], whole))


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


# ------------------------------------------------------------------------------------------------- the field's way


class Padded(encoders.PretrainedText):
    """The encoder over all nominal positions of every sentence, in one piece, as the field's code does it."""

    nominal = 50

    def _size(self, text: Ragged) -> int:
        return len(text)

    def _encode(self, words, queries, extra):
        embedded = words.padded()
        count, length = embedded.shape[:2]
        embedded = nn.functional.pad(embedded, (0, 0, 0, self.nominal - length))  # no [PAD]s: they would cost as much
        step = torch.arange(self.nominal, device=embedded.device).expand(count, self.nominal)
        own = words.device_lengths()[:, None]
        real = step < own
        given = {"inputs_embeds": embedded, "attention_mask": real.long()}
        if self.kind == "xlnet":
            hidden = self.model(**given, token_type_ids=2 * (step == own - 1).long(), use_mems=False).last_hidden_state
        else:
            hidden = self.model(**given, position_ids=step).last_hidden_state
        queried = hidden.gather(1, extra[:, :, None].expand(-1, -1, hidden.shape[2]))
        return hidden[:, :length] * real[:, :length, None], queried


def pad_encoder(net: nn.Module, nominal: int) -> None:
    """Change the text encoder's computation in place, where there is one."""
    text = encoder_of(net)
    if text is None:
        return
    text.__class__ = Padded
    text.nominal = nominal
    if text.kind == "bert":  # transformers has eager attention only for XLNet
        text.model.set_attn_implementation("eager")


def encoder_of(net: nn.Module) -> encoders.PretrainedText | None:
    return next((module for module in net.modules() if isinstance(module, encoders.PretrainedText)), None)


class DefaultOptimizer:
    """Stands in for hycon.optim.Optimizer: what torch.optim makes of a rule by default."""

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


# ------------------------------------------------------------------------------------------------- measuring


def measure(model: str, text: str, variant: Variant, size: Size, device: str) -> Iterator[dict]:
    """A training with `variant`: first how long it takes; then, on a GPU, its kernel launches and host waits, in a
    second dict, so that a profiler that fails takes no time with it."""
    training = training_of(model, text, size, precision=variant.precision)
    filled = variant.padded and form_of(text) == "vectors"
    splits = {s: made_up(text, size, getattr(size, s), filled=filled).to(device) for s in ("train", "valid")}
    train.seed_everything(0, device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant.tf32
    net = network(model, text, size)
    if variant.padded:
        pad_encoder(net, size.lengths["text"])
    net.to(device)
    plain = mock.patch.object(train, "Optimizer", DefaultOptimizer) if variant.padded else contextlib.nullcontext()
    with plain:
        timed = epoch_seconds(net, splits, training, size.seconds, device)
        work = flops(model, text, size, net, training)
        timed["tflop_per_second"] = work / timed["seconds_per_epoch"] / 1e12
        peak = peak_of(device, "tf32" if variant.tf32 else variant.precision)
        timed["mfu"] = timed["tflop_per_second"] / peak if peak else None
        yield timed
        if torch.device(device).type == "cuda":
            yield {"host_waits_per_step": host_waits(net, splits["train"], training)}
            yield launches(net, splits["train"], training, device)


def epoch_seconds(net: nn.Module, splits: dict[str, Batch], training: train.Training, budget: float, device: str):
    """Median seconds of a training and a validation pass, the first not counted. Where a few epochs would take longer
    than `budget` seconds, of a share of the batches, scaled."""
    batches = -(-len(splits["train"]) // training.batch_size)
    (tried,) = _epochs(net, splits, training, min(1.0, CHECKED / batches), 1, device)
    expected = tried * batches / min(CHECKED, batches)
    counted = max(2, min(3, int(budget / expected) - 1))
    share = min(1.0, max(budget / expected / (1 + counted), min(2, batches) / batches))
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = [spent / share for spent in _epochs(net, splits, training, share, counted, device)]
    row = {"seconds_per_epoch": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}
    row |= {"share": round(share, 3), "batches": batches, "batch_size": training.batch_size}
    if torch.device(device).type == "cuda":
        row["reserved_mib"] = torch.cuda.max_memory_reserved(device) / 2**20
        row["allocated_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return row


def _epochs(net: nn.Module, splits: dict[str, Batch], training: train.Training, share: float, count: int, device: str):
    """Seconds of `count` epochs of a share of both splits, after one that is not counted."""
    parts = {name: split.slice(0, max(1, round(len(split) * share))) for name, split in splits.items()}
    marks: list[float] = []

    def mark(_: dict) -> None:
        synchronise(device)
        marks.append(time.perf_counter())

    more = replace(training, epochs=1 + count, patience=1 + count)
    train.fit(net, parts["train"], parts["valid"], more, seed=0, on_epoch=mark)
    return [after - before for before, after in pairwise(marks)]


def flops(model: str, text: str, size: Size, net: nn.Module, training: train.Training) -> float:
    """Model FLOPs of an epoch of real steps; see the top."""
    text_encoder = encoder_of(net)
    if text_encoder is None:
        return _flops_of_one(model, text, size.demo, training.batch_size) * (size.train + size.valid / 3)
    encoder = text_encoder.model
    layers = encoder.layer if text_encoder.kind == "xlnet" else encoder.encoder.layer
    if text_encoder.kind == "xlnet":  # its projections are (width, heads, width of a head)
        weights = sum(getattr(layer.rel_attn, name).numel() for layer in layers for name in "qkvo")
        weights += sum(p.numel() for layer in layers for p in layer.ff.parameters() if p.dim() == 2)
    else:
        weights = sum(p.numel() for layer in layers for p in layer.parameters() if p.dim() == 2)
    total = 0.0
    for split, share in (("train", 1.0), ("valid", 1 / 3)):
        steps = made_up(text, size, getattr(size, split)).text.lengths.double()
        attention = 12 * len(layers) * encoder.config.hidden_size * float((steps**2).sum())
        total += share * (6 * weights * float(steps.sum()) + attention)
    return total


@functools.cache
def _flops_of_one(model: str, text: str, demo: bool, count: int) -> float:
    """Of a training step's share of one utterance, counted in a step of `count` on the CPU."""
    size = QUICK if demo else FULL
    few = made_up(text, size, size.train).slice(0, count)
    with torch.random.fork_rng(devices=[]):
        net = network(model, text, size).train()
        # what our LSTMs multiply in place is unknown to the counter
        own = {torch.ops.aten.addmm_: _product, torch.ops.aten.baddbmm_: _product}
        with FlopCounterMode(display=False, custom_mapping=own) as counter:
            loss_of(net, few).backward()
    return counter.get_total_flops() / len(few)


def _product(_: Any, a: Sequence[int], b: Sequence[int], **__: Any) -> int:
    return 2 * math.prod(a) * b[-1]


def host_waits(net: nn.Module, split: Batch, training: train.Training) -> float:
    """How often a training step makes the host wait for the GPU; what an epoch does once is not counted."""
    found = []
    for steps in (2, 4):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                few_steps(net, split, training, steps)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        # not just "synchronizing": switching the mode on warns about itself, once a process
        found.append(sum("called a synchronizing CUDA operation" in str(warning.message) for warning in warned))
    return (found[1] - found[0]) / 2


def launches(net: nn.Module, split: Batch, training: train.Training, device: str) -> dict[str, float | None]:
    """Kernels of a training step, and the calls that launch them. A second step's: the first also makes the
    optimiser's state."""
    found = [_profiled(net, split, training, steps, device) for steps in (1, 3)]
    if not found[0][0]:
        return {"kernels_per_step": None, "launches_per_step": None}
    kernels, calls = ((after - before) / 2 for before, after in zip(*found, strict=True))
    return {"kernels_per_step": kernels, "launches_per_step": calls}


def _profiled(net: nn.Module, split: Batch, training: train.Training, steps: int, device: str) -> tuple[int, int]:
    """(kernels that ran, calls that launched one)"""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:  # its runtime's calls are among them
        few_steps(net, split, training, steps)
        synchronise(device)
    kernels = calls = 0
    for event in profiler.events() or ():
        if event.device_type == DeviceType.CUDA:
            kernels += not (event.name.startswith(("Memcpy", "Memset")) or getattr(event, "is_user_annotation", False))
        else:
            calls += event.name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch"))
    return kernels, calls


def few_steps(net: nn.Module, split: Batch, training: train.Training, steps: int) -> None:
    few = split.slice(0, steps * training.batch_size)
    train.fit(net, few, split.slice(0, 1), replace(training, epochs=1), seed=0)


def loss_of(net: Any, batch: Batch) -> torch.Tensor:
    output = net(batch)
    return net.loss(output, batch) if hasattr(net, "loss") else task_loss(output.prediction, batch.label)


def synchronise(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(device: str, precision: str) -> float | None:
    """Dense TFLOP/s of the data sheet; None for what is not in PEAKS."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    return PEAKS.get(name, {}).get(precision)
