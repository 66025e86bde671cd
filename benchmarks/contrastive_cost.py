"""What the hybrid contrastive loss costs next to the training step that it is part of.

    python benchmarks/contrastive_cost.py [--steps 3] [--devices cpu,cuda] [--threads 1] [--json]

Step: bert-base-uncased's architecture with random weights (speed needs no trained ones), 48 utterances of 17 word
pieces, the mean of CMU-MOSI, without a padded position: forward, backward and a fused Adam step, dropout on. Loss:
`hybrid_loss` forward and backward at d = 50 for K = 48 (the same batch) and K = 512, HyCon and HyCon-v2. A ratio is
the loss's median over the median step at K = 48; the target is 2 % there. Kernels are counted as operations that
launch one, forward and backward, views and allocations left out. Not a statement about accuracy.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from hycon.losses import HybridConfig, HybridOutput, hybrid_loss

BATCH, TOKENS, WIDTH = 48, 17, 50  # batch: lineage; tokens: mean of MOSI; width: sec. 4.4(3)
SAMPLES = (48, 512)
LOSSES = {"HyCon": HybridConfig(), "HyCon-v2": HybridConfig(beta=0.2)}
TARGET = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="timed BERT steps (default 5, after one to warm up)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    default = "cpu,cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--devices", default=default, help=f"comma-separated (here: {default})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = [measure(torch.device(name), options.steps) for name in options.devices.split(",")]
    report = {"setting": setting(options.threads), "steps": options.steps, "results": results}
    print(json.dumps(report, indent=2) if options.json else markdown(report))


def measure(device: torch.device, steps: int) -> dict:
    """Seconds of one BERT step and of each loss on `device`: medians, with the fastest and slowest."""
    load = os.getloadavg()[0]
    step = timed(bert_step(device), steps, device)
    rows = []
    for samples in SAMPLES:
        for name, config in LOSSES.items():
            run = loss_step(samples, config, device)
            seconds = timed(run, 10 * steps, device)
            kernels = count_kernels(run)
            rows.append({"loss": name, "K": samples, **seconds, "ratio": seconds["median"] / step["median"], **kernels})
    return {"device": device_name(device), "load_before": round(load, 1), "bert_step": step, "losses": rows}


def bert_step(device: torch.device) -> Callable[[], object]:
    torch.manual_seed(0)
    config = transformers.BertConfig()  # the defaults are bert-base-uncased
    model = transformers.BertModel(config, add_pooling_layer=False).to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-5, fused=True)
    tokens = torch.randint(1000, config.vocab_size, (BATCH, TOKENS), device=device)
    label = torch.randn(BATCH, device=device)

    def step() -> None:
        optimiser.zero_grad()
        prediction = model(tokens).last_hidden_state[:, -1].mean(-1)
        torch.nn.functional.l1_loss(prediction, label).backward()
        optimiser.step()

    return step


def loss_step(samples: int, config: HybridConfig, device: torch.device) -> Callable[[], HybridOutput]:
    generator = torch.Generator().manual_seed(0)
    x = {
        modality: torch.randn(samples, WIDTH, generator=generator).to(device).requires_grad_()
        for modality in ("text", "audio", "vision")
    }
    classes = torch.randint(0, 2, (samples,), generator=generator).to(device)

    def step() -> HybridOutput:
        for representation in x.values():
            representation.grad = None
        out = hybrid_loss(x, classes, config)
        out.total.backward()
        return out

    return step


def timed(step: Callable[[], object], repeats: int, device: torch.device) -> dict[str, float]:
    """Seconds of `step` over `repeats` runs after one to warm up, the device waited for around each."""
    seconds = []
    for _ in range(repeats + 1):
        synchronise(device)
        start = time.perf_counter()
        step()
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    seconds = seconds[1:]
    return {"median": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds)}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Kernels(TorchDispatchMode):
    """Counts dispatched operations that do work on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returns = func._schema.returns
        view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        if not view and not any(word in str(func) for word in ("empty", "_unsafe_view", "scalar_tensor")):
            self.count += 1
        return func(*args, **(kwargs or {}))


def count_kernels(step: Callable[[], object]) -> dict[str, int]:
    with Kernels() as kernels:
        step()
    return {"kernels": kernels.count}


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def setting(threads: int) -> dict[str, object]:
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} logical CPUs",
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def markdown(report: dict) -> str:
    where = ", ".join(f"{key} {value}" for key, value in report["setting"].items())
    lines = [
        f"Hybrid loss, forward and backward, d = {WIDTH}, next to a BERT-base training step (batch {BATCH} x {TOKENS}"
        f" word pieces, fused Adam, float32). {where}. Medians (fastest to slowest).",
        "",
        "| device | work | K | ms | of a BERT step | kernels |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for result in report["results"]:
        device = f"{result['device']} (load {result['load_before']})"
        lines.append(f"| {device} | BERT-base step | {BATCH} | {milliseconds(result['bert_step'])} | 100 % | |")
        for row in result["losses"]:
            ratio = f"{100 * row['ratio']:.2f} %"
            if row["K"] == BATCH:
                ratio += " (target 2 %)" if row["ratio"] <= TARGET else " (ABOVE the target of 2 %)"
            lines.append(f"| | {row['loss']} loss | {row['K']} | {milliseconds(row)} | {ratio} | {row['kernels']} |")
    return "\n".join(lines)


def milliseconds(seconds: dict[str, float]) -> str:
    median, fastest, slowest = (1000 * seconds[key] for key in ("median", "fastest", "slowest"))
    return f"{median:.1f} ({fastest:.1f} to {slowest:.1f})"


if __name__ == "__main__":
    main()
