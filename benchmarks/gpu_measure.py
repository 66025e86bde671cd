"""Measurements of one training, for gpu_first: seconds, FLOPs, memory, kernel launches, host waits.

Model FLOPs of a training pass, with BERT or XLNet: 6 x tokens x matrix weights of its layers + 12 x layers x width x
(sum of squared lengths); what is not the encoder is not counted, nor XLNet's relative positions. On word vectors: the
matrix products of one training step, counted on the CPU. A validation pass counts a third. Tokens are real ones, so
padding lowers the utilisation.
"""

from __future__ import annotations

import contextlib
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

import torch
from gpu_training import (
    FULL,
    QUICK,
    DefaultOptimizer,
    Size,
    encoder_of,
    few_steps,
    loss_of,
    made_up,
    network,
    pad_encoder,
    precision_on,
    training_of,
)
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, supported_activities
from torch.utils.flop_counter import FlopCounterMode

from hycon import train
from hycon.data.batch import Batch, form_of
from hycon.precision import PRECISIONS

CHECKED = 3  # batches of the epoch that is tried first, to see how long a whole one would take
PEAKS = {  # dense TFLOP/s by NVIDIA's data sheets; fp32 is without TF32, which training switches off
    "NVIDIA H200": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "NVIDIA H100 80GB HBM3": {"bf16": 989.4, "tf32": 494.7, "fp32": 66.9},
    "NVIDIA H100 PCIe": {"bf16": 756.0, "tf32": 378.0, "fp32": 51.0},
    "NVIDIA A100-SXM4-80GB": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
    "NVIDIA A100-SXM4-40GB": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
}


@dataclass(frozen=True)
class Variant:
    """padded: with torch's own optimiser, and BERT by eager attention, as the field's code trains."""

    name: str
    padded: bool = False
    precision: str = "fp32"


VARIANTS = (Variant("eager, padded, fp32", padded=True), *(Variant(name, precision=name) for name in PRECISIONS))


def measure(model: str, text: str, variant: Variant, size: Size, device: str) -> Iterator[dict]:
    """A training with `variant`: first how long it takes; then, on a GPU, its host waits and its kernel launches, each
    in a dict of its own, so that a profiler that fails takes nothing with it."""
    training = training_of(model, text, size, precision=precision_on(device, variant.precision))
    filled = variant.padded and form_of(text) == "vectors"
    splits = {s: made_up(text, size, getattr(size, s), filled=filled).to(device) for s in ("train", "valid")}
    train.seed_everything(0, device)
    net = network(model, text, size)
    if variant.padded:
        torch.set_deterministic_debug_mode("default")  # as the field's code leaves it
        pad_encoder(net, size.lengths["text"])
    net.to(device)
    plain = mock.patch.object(train, "Optimizer", DefaultOptimizer) if variant.padded else contextlib.nullcontext()
    with plain:
        timed = epoch_seconds(net, splits, training, size.seconds, device)
        work = flops(model, text, size, net, training)
        timed["tflop_per_second"] = work / timed["seconds_per_epoch"] / 1e12
        peak = peak_of(device, variant.precision)
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
    if ProfilerActivity.CUDA not in supported_activities():  # no CUPTI
        return {"kernels_per_step": None, "launches_per_step": None}
    found = [_profiled(net, split, training, steps, device) for steps in (1, 2)]
    kernels, calls = (after - before for before, after in zip(*found, strict=True))
    return {"kernels_per_step": kernels or None, "launches_per_step": calls or None}  # a step without any is not seen


def _profiled(net: nn.Module, split: Batch, training: train.Training, steps: int, device: str) -> tuple[int, int]:
    """(kernels that ran, calls that launched one)"""
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


def synchronise(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(device: str, precision: str) -> float | None:
    """Dense TFLOP/s of the data sheet; None for what is not in PEAKS."""
    name = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else ""
    return PEAKS.get(name, {}).get(precision)
