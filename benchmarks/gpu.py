"""Seconds per epoch and model FLOP utilisation of the BERT rows of Table 1, and what they make of its 1,210 runs.

    python benchmarks/gpu.py [--device cuda] [--models hycon,mag] [--batches N] [--layers N] [--together 1] [--json]

Data: made up, of CMU-MOSI's size: 1284 and 229 utterances, 17 word pieces on average (4 to 50), audio 74, vision 47.
Text encoder: bert-base-uncased's architecture with random weights (speed needs no trained ones). An epoch is what
`hycon.train.fit` calls one, a training and a validation pass; the first is not counted. With --batches, the epoch of N
batches is measured and scaled to the whole; with --layers, BERT has fewer layers: both only to try the script.

The baseline is the eager, padded, fp32 training that the field's code does. Each variant adds to the one before:
unpadded with scaled_dot_product_attention, fused Adam (so far: `bench run`), bf16 autocast (option
`precision=bf16`), torch.compile of BERT's layers. CUDA graphs need fixed shapes, hence all 50 positions: a variant of
its own, on a GPU only. --together N: N processes of the last-but-one at a time, for several small runs on a GPU.

Model FLOPs of a training pass: 6 x tokens x matrix weights of BERT + 12 x layers x width x (sum of squared lengths),
of a validation pass a third; tokens are real ones, so padding lowers the utilisation. What is not BERT is not counted.
On a CPU, s/epoch is CPU time of one thread, torch.compile is left out unless --variants names it (it compiles for
minutes), and whatever only a GPU has is "not measured". Not a statement about accuracy.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mmsa_file import SIZES, lengths
from torch import nn

from hycon import encoders, train
from hycon.data.batch import Batch, Layout
from hycon.data.ragged import Ragged
from studies.engines.child import ENVIRONMENT
from studies.registry import build_model, resolve
from studies.tables import TABLES

DIMS = {"text": 768, "audio": 74, "vision": 47}  # CMU-MOSI: BERT, COVAREP, Facet
NOMINAL = 50  # what the reference code pads to
PIECES = 1.24  # word pieces a word: with [CLS] and [SEP], 17 a sentence on average, as in MOSI
TRIALS, SEEDS = 50, 5  # sec. 4.4
EPOCHS = 20  # a run until early stopping; assumed, not measured
GOAL = 3.0  # hours of one H200 for all runs of Table 1
PEAKS = {  # dense TFLOP/s by NVIDIA's data sheets; fp32 without TF32, which training switches off
    "NVIDIA H200": {"bf16": 989.4, "fp32": 66.9},
    "NVIDIA H100 80GB HBM3": {"bf16": 989.4, "fp32": 66.9},
    "NVIDIA A100-SXM4-80GB": {"bf16": 312.0, "fp32": 19.5},
}


@dataclass(frozen=True)
class Variant:
    name: str
    padded: bool = False
    fused: bool = True
    precision: str = "fp32"
    compiled: str | None = None  # mode of torch.compile


OURS = "+ fused Adam (bench run)"
VARIANTS = (
    Variant("eager, padded, fp32", padded=True, fused=False),
    Variant("unpadded, SDPA, fp32", fused=False),
    Variant(OURS),
    Variant("+ bf16", precision="bf16"),
    Variant("+ torch.compile", precision="bf16", compiled="default"),
    Variant("padded, bf16, CUDA graphs", padded=True, precision="bf16", compiled="reduce-overhead"),
)
SHARED = "+ bf16"  # the variant of --together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda:0")
    parser.add_argument("--models", help="default: on a GPU all of Table 1 with BERT, on a CPU hycon")
    parser.add_argument("--variants", help="names or parts of names, comma-separated (default: all)")
    parser.add_argument("--batches", type=int, help="batches an epoch (default: all)")
    parser.add_argument("--layers", type=int, default=12, help="of BERT (12)")
    parser.add_argument("--epochs", type=int, default=3, help="counted epochs (3; after one that is not)")
    parser.add_argument("--together", type=int, default=1, help=f"also N processes at once, of variant {SHARED!r} (1)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    parser.add_argument("--meet", help=argparse.SUPPRESS)  # a folder: begin to count when so many files are in it
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    torch.set_num_threads(1)  # as in each run of `bench run`
    rows = [row.model for row in TABLES["table1"].rows if row.text == "bert"]
    models = options.models.split(",") if options.models else rows if options.device != "cpu" else ["hycon"]
    results = [row for model in dict.fromkeys(models) for row in measure(model, options)]
    report = {"setting": setting(options), "results": results, "table1": projection(results, options)}
    print(json.dumps(report, indent=2) if options.json else markdown(report))


# ------------------------------------------------------------------------------------------------- measuring


def measure(model: str, options: argparse.Namespace) -> list[dict]:
    """One row a variant; what a variant cannot do here is said in `failed`."""
    rows: list[dict] = []
    for variant in VARIANTS:
        named = options.variants and any(part in variant.name for part in options.variants.split(","))
        if not named and (options.variants or (options.device == "cpu" and variant.compiled)):
            continue
        row = {"model": model, "variant": variant.name, "precision": variant.precision, "load": os.getloadavg()[0]}
        print(f"{model}: {variant.name}", file=sys.stderr, flush=True)
        try:
            row |= one(model, variant, options)
        except Exception as error:  # a compiler that is not there, a GPU that is too small: the others go on
            row["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
        rows.append(row)
    if options.together > 1 and options.meet is None:
        rows.append(together(model, options))
    return rows


def one(model: str, variant: Variant, options: argparse.Namespace) -> dict:
    """Train with `variant`, alone: the median s/epoch, FLOPs, utilisation, peak memory, host waits."""
    device = torch.device(options.device)
    _, training = resolve(model, "bert", {"precision": variant.precision})
    counted = options.epochs
    training = replace(training, epochs=1 + counted, patience=1 + counted)
    splits, share = data(training.batch_size, options.batches, device)
    train.seed_everything(0, device)
    network = build_model(model, text="bert", dims=DIMS)
    prepare(network, variant, options.layers)
    network.to(device)
    clock = time.process_time if device.type == "cpu" and options.meet is None else time.perf_counter
    marks: list[float] = []

    def mark(_: dict) -> None:
        synchronise(device)
        if not marks:
            meet(options)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
        marks.append(clock())

    with optimizers(variant.fused):
        train.fit(network, splits["train"], splits["valid"], training, seed=0, on_epoch=mark)
    seconds = [after - before for before, after in pairwise(marks)]
    spent = statistics.median(seconds)
    flops = work(network, splits["train"]) + work(network, splits["valid"]) / 3
    peak = peak_of(device, variant.precision)
    return {
        "seconds_per_epoch": spent / share,
        "fastest": min(seconds) / share,
        "slowest": max(seconds) / share,
        "tflop_per_epoch": flops / share / 1e12,
        "tflop_per_second": flops / spent / 1e12,
        "mfu": flops / spent / 1e12 / peak if peak else None,
        "peak_mib": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        "host_waits_per_step": waits_per_step(network, splits["train"], training) if device.type == "cuda" else None,
    }


def data(batch: int, batches: int | None, device: torch.device) -> tuple[dict[str, Batch], float]:
    """Splits on `device`, and what share of an epoch they are. Every sub-word has a row of audio and vision."""
    import numpy as np

    rng, generator = np.random.default_rng(2022), torch.Generator().manual_seed(2022)
    share = 1.0 if batches is None else min(1.0, batches * batch / SIZES["train"])
    splits = {}
    for split in ("train", "valid"):
        count = round(SIZES[split] * share)
        words = torch.from_numpy(lengths("mosi", SIZES[split], rng))[:count]
        steps = (words * PIECES).round().long().clamp(max=NOMINAL - 2) + 2
        total = int(steps.sum())
        starts = steps.cumsum(0) - steps
        ids = torch.randint(1000, 30000, (total,), generator=generator)
        rows = {m: torch.randn(total, DIMS[m], generator=generator) for m in ("audio", "vision")}
        layout = Layout(dict.fromkeys(DIMS, NOMINAL), tokens=True)
        label = torch.randn(count, generator=generator).clamp(-3, 3)
        sequences = {m: Ragged(value, starts, steps) for m, value in rows.items()}
        splits[split] = Batch(Ragged(ids, starts, steps), **sequences, label=label, layout=layout).to(device)
    return splits, share


class Padded(encoders.PretrainedText):
    """The encoder over all nominal positions of every sentence, in one piece, as the field's code does it."""

    def _size(self, text: Ragged) -> int:
        return len(text)

    def _encode(self, words, queries, extra):
        embedded = words.padded()
        count, length = embedded.shape[:2]
        embedded = nn.functional.pad(embedded, (0, 0, 0, NOMINAL - length))  # no [PAD]s: they would cost as much
        step = torch.arange(NOMINAL, device=embedded.device).expand(count, NOMINAL)
        real = step < words.device_lengths()[:, None]
        hidden = self.model(inputs_embeds=embedded, attention_mask=real.long(), position_ids=step).last_hidden_state
        queried = hidden.gather(1, extra[:, :, None].expand(-1, -1, hidden.shape[2]))
        return hidden[:, :length] * real[:, :length, None], queried


def prepare(network: nn.Module, variant: Variant, layers: int) -> None:
    """Change BERT's depth and computation in place."""
    text = encoder_of(network)
    text.model.encoder.layer = text.model.encoder.layer[:layers]
    if variant.padded:
        text.__class__ = Padded
        if variant.compiled is None:
            text.model.set_attn_implementation("eager")
    for layer in text.model.encoder.layer if variant.compiled else ():
        plain_dropout(layer)
        layer.compile(mode=variant.compiled, dynamic=not variant.padded)


def plain_dropout(module: nn.Module) -> None:
    """Put torch's own dropout back: ours reads random integers as others, which torch.compile gets wrong on a CPU."""
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout):
            setattr(module, name, nn.Dropout(child.p))
        else:
            plain_dropout(child)


def encoder_of(network: nn.Module) -> encoders.PretrainedText:
    return next(module for module in network.modules() if isinstance(module, encoders.PretrainedText))


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


def optimizers(fused: bool) -> contextlib.AbstractContextManager:
    """Within it, Adam is fused or is what torch.optim makes of it by default."""
    return contextlib.nullcontext() if fused else mock.patch.object(train, "Optimizer", DefaultOptimizer)


def work(network: nn.Module, split: Batch) -> float:
    """Model FLOPs of a training pass over `split`; see the top."""
    model = encoder_of(network).model
    steps = split.text.lengths.double()
    weights = sum(p.numel() for p in model.encoder.parameters() if p.dim() == 2)
    attention = 12 * len(model.encoder.layer) * model.config.hidden_size * float((steps**2).sum())
    return 6 * weights * float(steps.sum()) + attention


def waits_per_step(network: nn.Module, split: Batch, training: train.Training) -> float:
    """How often a training step makes the host wait for the GPU; what an epoch does once is not counted."""
    short, long = (host_waits(network, split, training, steps) for steps in (2, 4))
    return (long - short) / 2


def host_waits(network: nn.Module, split: Batch, training: train.Training, steps: int) -> int:
    few = split.slice(0, steps * training.batch_size)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train.fit(network, few, split.slice(0, 1), replace(training, epochs=1), seed=0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in found)


def together(model: str, options: argparse.Namespace) -> dict:
    """Several processes at once, counting from the same moment; seconds_per_epoch is time over epochs of all."""
    command = [sys.executable, __file__, "--models", model, "--variants", SHARED, "--json", "--device", options.device]
    command += ["--layers", str(options.layers), "--epochs", str(options.epochs), "--together", str(options.together)]
    command += ["--batches", str(options.batches)] if options.batches else []
    row = {"model": model, "variant": f"{SHARED}, {options.together} processes", "precision": "bf16"}
    row["load"] = os.getloadavg()[0]
    print(f"{model}: {row['variant']}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        started = [subprocess.Popen([*command, "--meet", folder], **pipes) for _ in range(options.together)]
        answers = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        return row | {"failed": "a process ended with an error"}
    found = [json.loads(answer)["results"][0] for answer in answers]
    if failed := next((one["failed"] for one in found if "failed" in one), None):
        return row | {"failed": failed}
    spent = statistics.mean(one["seconds_per_epoch"] for one in found) / options.together
    rate = sum(one["tflop_per_second"] for one in found)
    peak = peak_of(torch.device(options.device), "bf16")
    return row | {"seconds_per_epoch": spent, "tflop_per_second": rate, "mfu": rate / peak if peak else None}


def meet(options: argparse.Namespace) -> None:
    """Wait until the other processes of --together are here."""
    if options.meet is None:
        return
    Path(options.meet, str(os.getpid())).touch()
    deadline = time.monotonic() + 600
    while len(os.listdir(options.meet)) < options.together:
        if time.monotonic() > deadline:
            raise TimeoutError("the other processes did not come")
        time.sleep(0.01)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_of(device: torch.device, precision: str) -> float | None:
    """Dense TFLOP/s of the data sheet; None for what is not in PEAKS."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return PEAKS.get(name, {}).get(precision)


# ------------------------------------------------------------------------------------------------- reporting


def projection(results: list[dict], options: argparse.Namespace) -> dict:
    """Hours of all runs of Table 1 on this device, each row as long as its model with BERT, or as the slowest one."""
    rows = TABLES["table1"].rows
    runs = (TRIALS + SEEDS) * len(rows)
    whole = options.batches is None and options.layers == 12 and options.device != "cpu"
    best: dict[str, float] = {}
    for row in results:
        if "seconds_per_epoch" in row:
            best[row["model"]] = min(row["seconds_per_epoch"], best.get(row["model"], float("inf")))
    if not whole or not best:
        return {"runs": runs, "epochs": EPOCHS, "hours": None}
    epoch = [best[row.model] if row.text == "bert" and row.model in best else max(best.values()) for row in rows]
    return {"runs": runs, "epochs": EPOCHS, "hours": (TRIALS + SEEDS) * EPOCHS * sum(epoch) / 3600}


def setting(options: argparse.Namespace) -> dict[str, object]:
    import transformers

    device = torch.device(options.device)
    return {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU {platform.machine()}, 1 thread",
        "logical CPUs": os.cpu_count(),
        "batches": options.batches or "all",
        "layers": options.layers,
        "epochs": options.epochs,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def markdown(report: dict) -> str:
    lines = [
        ", ".join(f"{key} {value}" for key, value in report["setting"].items()) + ". Medians (fastest to slowest).",
        "",
        "| model | variant | s/epoch | times faster | TFLOP/s | MFU | MiB | host waits a step | load |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    first: dict[str, float] = {}
    for row in report["results"]:
        if "failed" in row:
            lines.append(f"| {row['model']} | {row['variant']} | failed: {row['failed']} | | | | | | |")
            continue
        spent = row["seconds_per_epoch"]
        base = first.setdefault(row["model"], spent)
        spread = f" ({row['fastest']:.3g} to {row['slowest']:.3g})" if "fastest" in row else ""
        mfu, memory, waits = row["mfu"], row.get("peak_mib"), row.get("host_waits_per_step")
        said = ["not measured" if mfu is None else f"{100 * mfu:.1f} %"]
        said += ["not measured" if value is None else f"{value:,.0f}" for value in (memory, waits)]
        lines.append(
            f"| {row['model']} | {row['variant']} | {spent:.3g}{spread} | {base / spent:.2f} | "
            f"{row['tflop_per_second']:.3g} | {' | '.join(said)} | {row['load']:.1f} |"
        )
    table1 = report["table1"]
    hours = "not measured" if table1["hours"] is None else f"{table1['hours']:.1f} h (goal: {GOAL:g} h on one H200)"
    lines += ["", f"Table 1, {table1['runs']:,} runs of {table1['epochs']} epochs (assumed) on this device: {hours}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
