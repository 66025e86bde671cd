"""A training step of the BERT rows on a CPU, against the same step as the field's code does it: eager, padded to 50.

    python benchmarks/bert_on_cpu.py [--models hycon,mag] [--steps 3] [--threads 1] [--quick] [--json]

BERT of bert-base's size with random weights (speed needs no trained ones), made-up sentences of CMU-MOSI's lengths,
each row's own batch size and optimiser, dropout on. The variants take turns on the same batches, so that whatever else
the machine does meets all of them. A cost is CPU time, and a ratio the median over the steps. bf16 is measured where
the processor multiplies it. Needs 6 GB of memory.
--quick does it in small, to see that it works; its numbers say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gpu_measure import VARIANTS, Variant
from gpu_training import FULL, QUICK, DefaultOptimizer, Size, encoder_of, made_up, network, pad_encoder, training_of
from torch import nn

from hycon import train
from hycon.host import keep_freed_memory

TARGETS = {"fp32": 2.5, "bf16": 5.0}  # times faster than the eager padded step
MULTIPLIES = {"avx512_bf16", "amx_bf16"}  # /proc/cpuinfo's flags of processors with products in bf16


def variants() -> list[Variant]:
    """The padded one first."""
    known = [v for v in VARIANTS if v.padded or v.name in TARGETS]
    return [v for v in known if v.precision != "bf16" or MULTIPLIES & set(cpuinfo("flags").split())]


def cpuinfo(key: str) -> str:
    """The first processor's, "" where there is no such file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


@contextlib.contextmanager
def as_in(variant: Variant, net: nn.Module, nominal: int) -> Iterator[None]:
    """The field's code pads, asks for no deterministic kernels, and uses torch's own optimiser."""
    if not variant.padded:
        torch.set_deterministic_debug_mode("error")
        yield
        return
    torch.set_deterministic_debug_mode("default")
    text: Any = encoder_of(net)
    own, attention = text.__class__, text.model.config._attn_implementation
    pad_encoder(net, nominal)
    try:
        with mock.patch.object(train, "Optimizer", DefaultOptimizer):
            yield
    finally:
        text.__class__ = own
        text.model.set_attn_implementation(attention)


def measure(model: str, size: Size, steps: int) -> dict[str, Any]:
    """CPU seconds of each step, by variant; the first step of each is not counted."""
    split, chosen = made_up("bert", size, size.train), variants()
    train.seed_everything(0)
    net = network(model, "bert", size)
    if prepare := getattr(net, "prepare_training", None):
        prepare(split)
    optimizers: dict[bool, Any] = {}
    seconds: dict[str, list[float]] = {v.name: [] for v in chosen}
    for step in range(1 + steps):
        for variant in chosen:
            training = training_of(model, "bert", size, precision=variant.precision)
            batch = split.slice(step * training.batch_size, (step + 1) * training.batch_size)
            with as_in(variant, net, size.lengths["text"]):
                if variant.padded not in optimizers:
                    optimizers[variant.padded] = train._optimizer(net, training)
                before = time.process_time()
                train._train_epoch(net, batch, training, optimizers[variant.padded], iter([1.0]), 1)
            seconds[variant.name].append(time.process_time() - before)
            counted = f"step {step}" if step else "not counted"
            print(f"{model}, {variant.name}, {counted}: {seconds[variant.name][-1]:.2f} s", file=sys.stderr)
    padded, *others = (v.name for v in chosen)
    faster = {
        name: statistics.median(a / b for a, b in zip(seconds[padded][1:], seconds[name][1:], strict=True))
        for name in others
    }
    return {"model": model, "seconds": {name: own[1:] for name, own in seconds.items()}, "times_faster": faster}


def markdown(result: dict[str, Any]) -> str:
    lines = ["| model | step | CPU seconds, median (least to most) | times faster (target) |", "|---|---|--:|--:|"]
    for row in result["rows"]:
        for name, own in row["seconds"].items():
            spread = f"{statistics.median(own):.2f} ({min(own):.2f} to {max(own):.2f})"
            faster = f"**{row['times_faster'][name]:.2f}** (>= {TARGETS[name]})" if name in TARGETS else ""
            lines.append(f"| {row['model']} | {name} | {spread} | {faster} |")
    about = {key: value for key, value in result.items() if key != "rows"}
    return "\n".join([*lines, "", ", ".join(f"{key} {value}" for key, value in about.items())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="hycon,mag", help="default hycon,mag")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each variant (default 3, after one)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="in small, to see that it works")
    parser.add_argument("--json", action="store_true", help="everything measured, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    rows = [measure(model, QUICK if options.quick else FULL, options.steps) for model in options.models.split(",")]
    result = {
        "rows": rows,
        "date": date.today().isoformat(),
        "processor": f"{cpuinfo('model name') or platform.machine()} ({os.cpu_count()} cores)",
        "threads": options.threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown",
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=1) if options.json else markdown(result))


if __name__ == "__main__":
    main()
