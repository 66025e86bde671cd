"""Our training against MMSA's on the same files, hyper-parameters, batch size and threads: seconds and memory.

    python benchmarks/against_mmsa.py [--models tfn,mult] [--files mosi,unpadded] [--epochs 5] [--json]

Needs the extra `peer` (MMSA 2.2.1), or `--peer-python` of another environment that has it. Each measurement is a
process of its own, one after the other. An epoch is one pass of training and one of validation, as both loops have it;
its cost is CPU time (so that a busy machine matters less), the least over the epochs. Memory is the largest resident
set of the process, which includes what each imports and how it loads its data; our one-time import of the file is a
process of its own and reported apart. MMSA is driven through its own model, trainer and data loader with its own
defaults; `MMSA_run` itself cannot be used, because it insists on a GPU and has no option for the number of epochs.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
SEED = 1111  # MMSA's first default seed
KINDS = ("mosi", "unpadded")


@dataclass(frozen=True)
class Pair:
    """One model on both sides. options: MMSA's configuration -> ours; what all models share is in `shared`.

    faster: at least so many times, by kind of file; memory: at most this share of MMSA's. Stated, not enforced.
    """

    options: Callable[[dict[str, Any]], dict[str, Any]]
    faster: dict[str, float]
    memory: float


def shared(c: dict[str, Any]) -> dict[str, Any]:
    """Our options for what every trainer of MMSA has."""
    return {
        "lr": c["learning_rate"],
        "batch_size": c["batch_size"],
        "weight_decay": c.get("weight_decay", 0.0),
        "clip": c.get("grad_clip"),
    }


def subnets(c: dict[str, Any]) -> dict[str, Any]:
    """Of TFN and LMF. MMSA's hidden_dims are text, audio, vision."""
    text, audio, vision = c["hidden_dims"]
    return {"text_hidden": text, "audio_hidden": audio, "vision_hidden": vision}


def memories(c: dict[str, Any]) -> dict[str, Any]:
    """Of MFN and Graph-MFN. MMSA's hidden_dims are text, audio, vision; a network's "shapes" is its hidden layer."""
    text, audio, vision = c["hidden_dims"]
    sizes = {"text_hidden": text, "audio_hidden": audio, "vision_hidden": vision, "memory": c["memsize"]}
    for ours, theirs in NETWORKS.items():
        if theirs in c:
            sizes |= {f"{ours}_hidden": c[theirs]["shapes"], f"{ours}_dropout": c[theirs]["drop"]}
    return sizes


NETWORKS = {"retain": "gamma1Config", "update": "gamma2Config", "out": "outConfig"}


def crossmodal(c: dict[str, Any]) -> dict[str, Any]:
    """Of MulT. Its trainer also adds up the gradients of eight batches, which ours does not."""
    d, heads = c["dst_feature_dim_nheads"]
    same = {"text_dropout", "attn_dropout", "relu_dropout", "res_dropout", "embed_dropout"}
    renamed = {"layers": "nlevels", "out_dropout": "output_dropout", "future_mask": "attn_mask"}
    renamed |= {f"{m}_kernel": f"conv1d_kernel_size_{m[0]}" for m in ("audio", "vision")}
    renamed |= {f"attn_dropout_{m}": f"attn_dropout_{m[0]}" for m in ("audio", "vision")}
    given = {**{name: name for name in same}, **renamed, "text_kernel": "conv1d_kernel_size_l"}
    return {"d": d, "heads": heads, **{ours: c[theirs] for ours, theirs in given.items()}}


PART1 = {"faster": {"mosi": 2.5, "unpadded": 1.0}, "memory": 0.5}  # the targets of the first three models
PAIRS = {
    "ef_lstm": Pair(
        lambda c: {
            "hidden": c["hidden_dims"],
            "cell": c["hidden_dims"],
            "layers": c["num_layers"],
            "dropout": c["dropout"],
        },
        **PART1,
    ),
    "tfn": Pair(
        lambda c: {
            **subnets(c),
            "text_out": c["text_out"],
            "dropout": c["dropouts"][0],
            "fusion_hidden": c["post_fusion_dim"],
            "fusion_dropout": c["dropouts"][3],
        },
        **PART1,
    ),
    "lmf": Pair(
        lambda c: {
            **subnets(c),
            **{f"{m}_dropout": p for m, p in zip(("audio", "vision", "text"), c["dropouts"], strict=False)},
            "rank": c["rank"],
        },
        **PART1,
    ),
    "mfn": Pair(
        lambda c: {
            **memories(c),
            "attention_hidden": c["NN1Config"]["shapes"],
            "attention_dropout": c["NN1Config"]["drop"],
            "proposal_hidden": c["NN2Config"]["shapes"],
            "proposal_dropout": c["NN2Config"]["drop"],
        },
        {"mosi": 4.0, "unpadded": 1.3},
        1 / 3,
    ),
    "graph_mfn": Pair(
        lambda c: {
            **memories(c),
            "node": c["inner_node_dim"],
            "vertices": "hidden",
            "proposal_hidden": c["NNConfig"]["shapes"],
            "proposal_dropout": c["NNConfig"]["drop"],
        },
        {"mosi": 4.0, "unpadded": 1.8},
        1 / 3,
    ),
    "mult": Pair(crossmodal, {"mosi": 4.0, "unpadded": 2.0}, 1 / 3),
}


# ------------------------------------------------------------------------------------------- what a process does


def generate(job: dict[str, Any]) -> dict[str, Any]:
    from mmsa_file import write

    return {"lengths": write(Path(job["file"]), job["kind"])}


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Our import, once per file."""
    from hycon.data.importers import import_corpus

    before = time.process_time()
    import_corpus(job["corpus"], job["file"], format="mmsa", root=job["root"])
    return {"cpu_s": time.process_time() - before, "peak_mib": peak_mib()}


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """As `studies.engines.one_run` trains a run in a worker process of `bench`."""
    import torch

    from hycon.data import load
    from hycon.data.manifest import MODALITIES
    from hycon.data.prepare import prepare
    from hycon.host import keep_freed_memory
    from hycon.train import fit, seed_everything
    from studies.registry import model_module, resolve

    keep_freed_memory()
    torch.set_num_threads(job["threads"])
    name, given = job["model"], job["config"]
    options = {**shared(given), **PAIRS[name].options(given), "epochs": job["epochs"], "patience": job["epochs"]}
    config, training = resolve(name, "features", options)
    seed_everything(SEED)
    splits = prepare(load(job["corpus"], job["root"]), "features")
    dims = {m: getattr(splits["train"], m).rows.shape[1] for m in MODALITIES}
    model = model_module(name).Model(config, dims)
    marks = [time.process_time()]
    fitted = fit(
        model,
        splits["train"],
        splits["valid"],
        training,
        seed=SEED,
        on_epoch=lambda _: marks.append(time.process_time()),
    )
    losses = [epoch["valid_loss"] for epoch in fitted.curve]
    return measured(marks, losses, model, torch.__version__)


class Enough(Exception):
    """MMSA's training loops end by early stopping only; this ends them after the epochs asked for."""


class Marked:
    """A data loader that notes the CPU time whenever an epoch starts. The mark after the last epoch ends training."""

    def __init__(self, loader: Any, epochs: int):
        self.loader, self.epochs, self.marks = loader, epochs, []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        self.marks.append(time.process_time())
        if len(self.marks) > self.epochs:
            raise Enough
        return iter(self.loader)


def mmsa(job: dict[str, Any]) -> dict[str, Any]:
    """MMSA 2.2.1 as `MMSA.run._run` drives it, less what needs a GPU. Its progress bars go to stderr."""
    import torch
    from MMSA.config import get_config_regression
    from MMSA.data_loader import MMDataLoader
    from MMSA.models import AMIO
    from MMSA.trains import ATIO
    from MMSA.utils import setup_seed

    torch.set_num_threads(job["threads"])
    args = get_config_regression(job["model"], "mosi")
    config = json.loads(json.dumps(args))
    args.update(device="cpu", train_mode="regression", featurePath=job["file"], model_save_path=job["checkpoint"])
    args.update(custom_feature="", feature_T="", feature_A="", feature_V="", cur_seed=1, early_stop=job["epochs"] + 1)
    setup_seed(SEED)
    loaders = MMDataLoader(args, num_workers=0)
    model = AMIO(args)
    trainer = ATIO().getTrain(args)
    accept_verbose(sys.modules[type(trainer).__module__])
    losses: list[float] = []
    validate = trainer.do_test

    def do_test(*arguments: Any, **options: Any) -> dict[str, Any]:
        losses.append((result := validate(*arguments, **options))["Loss"])
        return result

    trainer.do_test = do_test
    loaders["train"] = Marked(loaders["train"], job["epochs"])
    with contextlib.suppress(Enough):
        trainer.do_train(model, loaders)
    return {**measured(loaders["train"].marks, losses, model, torch.__version__), "config": config}


def accept_verbose(trainer: Any) -> None:
    """MulT's trainer passes ReduceLROnPlateau an option that torch has dropped; without this it cannot start."""
    if hasattr(trainer, "ReduceLROnPlateau"):
        plateau = trainer.ReduceLROnPlateau
        trainer.ReduceLROnPlateau = lambda *a, verbose=None, **k: plateau(*a, **k)


def measured(marks: list[float], losses: list[float], model: Any, torch_version: str) -> dict[str, Any]:
    """marks: the process's CPU time when each epoch started, and when the last one ended."""
    seconds = [after - before for before, after in itertools.pairwise(marks)]
    return {
        "epoch_cpu_s": seconds,
        "best_cpu_s": min(seconds),
        "startup_cpu_s": marks[0],
        "peak_mib": peak_mib(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "valid_losses": [float(loss) for loss in losses],
        "torch": torch_version,
    }


def peak_mib() -> float:
    """Largest resident set of this process. VmHWM, where there is one: ru_maxrss of a child starts at its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


JOBS = {"generate": generate, "convert": convert, "ours": ours, "mmsa": mmsa}


# ------------------------------------------------------------------------------------------------ the comparison


def child(python: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a process of its own; its result is the last line that it prints."""
    threads = str(job["threads"])
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    command = [python, str(HERE), "--job", json.dumps(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=job["scratch"])
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise SystemExit(f"{job['do']} {job.get('model', '')} failed on {job['kind']} with {python}:\n{last}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(models: list[str], kinds: list[str], epochs: int, threads: int, peer: str) -> dict[str, Any]:
    """Everything measured, as plain data."""
    rows, files = [], {}
    with tempfile.TemporaryDirectory(prefix="against_mmsa.") as scratch:
        root, checkpoint = f"{scratch}/data", f"{scratch}/mmsa.pth"
        for kind in kinds:
            job = {
                "kind": kind,
                "corpus": f"timing_{kind}",
                "file": f"{scratch}/{kind}.pkl",
                "root": root,
                "checkpoint": checkpoint,
            }
            job |= {"threads": threads, "epochs": epochs, "scratch": scratch}
            files[kind] = child(sys.executable, {**job, "do": "generate"})
            files[kind]["import"] = child(sys.executable, {**job, "do": "convert"})
            for model in models:
                say(f"{model}, {kind}: MMSA")
                theirs = child(peer, {**job, "do": "mmsa", "model": model})
                say(f"{model}, {kind}: ours")
                mine = child(sys.executable, {**job, "do": "ours", "model": model, "config": theirs["config"]})
                rows.append(row(model, kind, mine, theirs))
            os.unlink(job["file"])
    return {"date": date.today().isoformat(), **machine(threads, epochs), "files": files, "rows": rows}


def row(model: str, kind: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    pair = PAIRS[model]
    return {
        "model": model,
        "file": kind,
        "ours": mine,
        "mmsa": theirs,
        "times_faster": theirs["best_cpu_s"] / mine["best_cpu_s"],
        "memory_share": mine["peak_mib"] / theirs["peak_mib"],
        "target_times_faster": pair.faster[kind],
        "target_memory_share": pair.memory,
    }


def machine(threads: int, epochs: int) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "threads": threads,
        "epochs": epochs,
    }


def markdown(result: dict[str, Any]) -> str:
    head = (
        "| model | file | ours, s/epoch | MMSA, s/epoch | times faster (target) | ours, MiB | MMSA, MiB "
        "| share of memory (target) | parameters, ours / MMSA |"
    )
    lines = [head, "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    for r in result["rows"]:
        mine, theirs = r["ours"], r["mmsa"]
        lines.append(
            f"| {r['model']} | {r['file']} | {mine['best_cpu_s']:.2f} | {theirs['best_cpu_s']:.2f} "
            f"| **{r['times_faster']:.2f}** (>= {r['target_times_faster']}) "
            f"| {mine['peak_mib']:,.0f} | {theirs['peak_mib']:,.0f} "
            f"| **{r['memory_share']:.2f}** (<= {r['target_memory_share']:.2f}) "
            f"| {mine['parameters']:,} / {theirs['parameters']:,} |"
        )
    lines += ["", "CPU seconds of one epoch (training and validation), least of the epochs; largest resident set."]
    for kind, file in result["files"].items():
        cost = f"{file['import']['cpu_s']:.1f} s, {file['import']['peak_mib']:,.0f} MiB"
        lines.append(f"File {kind}: {file['lengths']} steps; our import, once: {cost}.")
    torch = " / ".join(result["rows"][0][side]["torch"] for side in ("ours", "mmsa"))
    lines.append(
        f"{result['date']}, {result['cpu']}, {result['cores']} cores, load at the end {result['load'][0]}, "
        f"{result['threads']} thread(s), {result['epochs']} epochs, Python {result['python']}, MMSA 2.2.1, "
        f"torch {torch}."
    )
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def names(allowed: Any) -> Callable[[str], list[str]]:
    """An argparse type: comma-separated names out of `allowed`."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; expected some of {', '.join(allowed)}")
        return chosen

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names(PAIRS), default=list(PAIRS), help=f"some of {','.join(PAIRS)}")
    parser.add_argument("--files", type=names(KINDS), default=list(KINDS), help=f"some of {','.join(KINDS)}")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has MMSA; default: this one")
    parser.add_argument("--json", action="store_true", help="everything measured, as JSON")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)  # what a process of its own shall do
    options = parser.parse_args()
    if options.job:
        print(json.dumps(JOBS[options.job["do"]](options.job)))
        return
    result = compare(options.models, options.files, options.epochs, options.threads, options.peer_python)
    print(json.dumps(result, indent=1) if options.json else markdown(result))


if __name__ == "__main__":
    main()
