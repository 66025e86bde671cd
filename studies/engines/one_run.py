"""Carry out one RunSpec: load the corpus, build and fit the model, measure it. Knows nothing of stores or tables."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hycon.errors import UserError
from hycon.host import source_root
from hycon.source import Code, digest, files
from studies.engines.determinism import warnings_noted
from studies.engines.energy import counters, joules
from studies.engines.memory import forget_peak, peak
from studies.engines.options import checkpoint_every
from studies.registry import source_file
from studies.store.record import ENCODER_LAYERS, RunRecord, RunSpec

if TYPE_CHECKING:
    from torch import nn

    from hycon.checkpoint import Checkpoints
    from hycon.data import Corpus
    from hycon.data.batch import Batch
    from hycon.data.manifest import Manifest

DRIVER = Path("/proc/driver/nvidia/version")
LOADED = time.time()  # when the process that runs are forked from reads its code
UNSURE = "changed since it was loaded"  # in place of a file's hash
WIDEST = 512  # chosen here: multimodal representations up to this width are kept for Fig. 4


def execute(
    spec: RunSpec,
    *,
    data_root: str | None,
    device: str = "cpu",
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    folder: Path | None = None,
    more: Callable[..., dict[str, Any]] | None = None,
    weights: Path | None = None,
) -> tuple[RunRecord, dict[str, np.ndarray]]:
    """Train and measure `spec` on `device`. Returns its record, and the arrays of predictions.npz.

    on_epoch: as for `hycon.train.fit`.  folder: the run's own, where a long run keeps its checkpoint; None: nowhere.
    more: what else to measure, once all else is: (spec, trained model, batches, corpus) -> fields of the record.
    weights: a file for the trained weights; None: they are not kept.
    Raises UserError (corpus, encoder or configuration cannot serve) and NonFiniteLoss.
    """
    import torch

    from hycon.data import load
    from hycon.saved import save_weights
    from hycon.train import Training, fit, seed_everything

    started = datetime.now(UTC).isoformat(timespec="seconds")
    code = code_of(spec.model)
    torch.set_num_threads(spec.threads)
    forget_peak(device)
    corpus = load(spec.corpus, data_root)
    _check_identity(spec, corpus)
    training = Training(**spec.training)
    batches = batches_of(spec, corpus, device)
    seed_everything(spec.seed, device)
    model = model_of(spec, corpus, batches["train"]).to(device)
    checkpoints = checkpoints_in(folder, spec, device, code) if folder else None
    with warnings_noted(device) as warned:
        before = counters(device)
        train, valid = batches["train"], batches["valid"]
        fitted = fit(model, train, valid, training, seed=spec.seed, on_epoch=on_epoch, checkpoints=checkpoints)
        used = joules(before, counters(device))
        metrics, arrays, test_seconds = _measure(model, batches, corpus, training.precision)
    if weights:
        save_weights(model.state_dict(), weights)
    record = RunRecord(
        spec=spec,
        status="done",
        metrics=metrics,
        valid_loss=fitted.valid_loss,
        best_epoch=fitted.best_epoch,
        curve=fitted.curve,
        parameters=sum(p.numel() for p in model.parameters()),
        seconds=fitted.seconds,
        seconds_per_epoch=fitted.seconds / len(fitted.curve),
        test_seconds=test_seconds,
        peak_memory_mib=peak(device),
        energy_joules=used,
        weights_sha256=weights_sha256(model),
        device=device_name(device),
        environment={**environment(device), **_encoder_layers(model, device, training.precision)},
        commit=commit(),
        code=code,
        notes=[*corpus.manifest.notes, *warned],
        started=started,
        resumed=checkpoints.resumed if checkpoints else [],
    )
    return dataclasses.replace(record, **more(spec, model, batches, corpus)) if more else record, arrays


def _encoder_layers(model: nn.Module, device: str, precision: str) -> dict[str, str]:
    """By which computation a CPU has encoded sentences: as with another version of a library, dropout draws otherwise.

    Nothing on a GPU, without a pretrained encoder, and in records before 2026-11-27: padded.
    """
    from hycon.text import PretrainedText

    rows = device == "cpu" and any(isinstance(part, PretrainedText) and part.by_rows for part in model.modules())
    if not rows:
        return {}
    return {ENCODER_LAYERS: "rows with joint attention" if precision == "bf16" else "rows"}


def batches_of(spec: RunSpec, corpus: Corpus, device: str) -> dict[str, Batch]:
    """The splits as the run's model reads them. Raises UserError where the corpus cannot serve it."""
    from hycon.data.prepare import prepare
    from hycon.pretrained import load_tokenizer
    from studies.registry import unserved_because

    tokenizer = load_tokenizer(spec.text, spec.encoder) if spec.encoder else None
    how = {"scale": spec.training["scale"], "permuted": spec.training.get("permuted", "")}
    batches = prepare(corpus, spec.text, tokenizer=tokenizer, device=device, **how)
    if reason := unserved_because(spec.model, spec.text, corpus, spec.encoder):
        raise UserError(f"Corpus {spec.corpus!r} {reason}.")
    return batches


def model_of(spec: RunSpec, corpus: Corpus, train: Batch) -> nn.Module:
    """The run's model, with weights by PyTorch's present seed."""
    from hycon.pretrained import hidden_size
    from studies.registry import build_model

    width = hidden_size(spec.text, spec.encoder) if spec.encoder else train.text.rows.shape[1]
    dims = {"text": width, **{m: getattr(train, m).rows.shape[1] for m in ("audio", "vision")}}
    emotions = len(corpus.manifest.emotions or ())
    return build_model(spec.model, text=spec.text, dims=dims, encoder=spec.encoder, emotions=emotions, **spec.config)


def checkpoints_in(folder: Path, spec: RunSpec, device: str, code: dict[str, str]) -> Checkpoints:
    """Where `spec` keeps its checkpoint, and on what machines and code it can go on from it with the same bits."""
    from hycon.checkpoint import Checkpoints

    same: dict[str, Any] = {"run": spec.id, "device": device_name(device), **environment(device), "code": code}
    if UNSURE in code.values():  # what another process is unsure of may be other code
        same["loaded"] = LOADED
    return Checkpoints(folder, checkpoint_every(), same, functools.partial(print, flush=True))


def _check_identity(spec: RunSpec, corpus: Corpus) -> None:
    from studies.registry import model_module, other_source

    if reason := other_source(spec.model, spec.source):
        raise UserError(f"Run {spec.id} cannot be done: {reason}.")
    version = model_module(spec.model).VERSION
    if corpus.manifest.sha256 != spec.data:
        raise UserError(f"Corpus {spec.corpus!r} is not the one this run was planned with: its data has changed.")
    if version != spec.version:
        raise UserError(f"Run {spec.id} is of version {spec.version} of {spec.model}; this code has {version}.")


def code_of(model: str) -> dict[str, str]:
    """File -> hash of the code that runs in this process, as hycon.source counts it.

    A run is forked from a process that read the code when its command began. A file that was edited since is marked
    UNSURE, which is no hash of any file: what ran is not what stands there. Of a ModelFile the content is what ran.
    """
    forked = multiprocessing.parent_process() is not None
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())} if forked else set()

    def unsure(code: Code) -> bool:
        return isinstance(code, Path) and str(code) in loaded and _changed(code.stat()) > LOADED

    return {name: UNSURE if unsure(code) else digest(code) for name, code in files(source_file(model)).items()}


def _changed(file: os.stat_result) -> float:
    """The time of change as well, which nobody sets: `rsync -a` brings a file with the time of its last edit."""
    return max(file.st_mtime, file.st_ctime)


def _measure(
    model: nn.Module, batches: dict[str, Batch], corpus: Corpus, precision: str
) -> tuple[dict[str, Any], dict[str, np.ndarray], float]:
    """Metrics and arrays of validation and test, and the seconds that predicting the test split took."""
    from hycon.train import evaluate

    metrics: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for split in ("valid", "test"):
        begun = time.perf_counter()
        kept = WIDEST if split == "test" else 0
        output, multimodal = evaluate(model, batches[split], precision, widest=kept)
        prediction = output.cpu().numpy()
        seconds = time.perf_counter() - begun
        label = batches[split].label.cpu().numpy()
        metrics[split] = metrics_of(prediction, label, corpus.manifest)
        arrays[f"{split}_prediction"] = prediction
        arrays[f"{split}_label"] = label
        arrays[f"{split}_id"] = np.array(corpus.splits[split].ids)
        if multimodal is not None:
            arrays[f"{split}_multimodal"] = multimodal.cpu().numpy()
    return metrics, arrays, seconds


def metrics_of(prediction: np.ndarray, label: np.ndarray, manifest: Manifest) -> dict[str, Any]:
    """In every protocol, or of each emotion and of the majority's answers."""
    from hycon.metrics import all_protocols, emotion_metrics, majority_metrics

    if emotions := manifest.emotions:
        return {"emotions": emotion_metrics(prediction, label, emotions), "majority": majority_metrics(label, emotions)}
    return all_protocols(prediction, label, manifest.label_bound)


def weights_sha256(model: nn.Module) -> str:
    from hycon.saved import weights_digest

    return weights_digest(model.state_dict())


def device_name(device: str) -> str:
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.machine()}, {_cpu_model()})"


@lru_cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


@lru_cache
def environment(device: str = "cpu") -> dict[str, str]:
    """Versions that can move a number, beside the device, and the instructions that PyTorch's CPU kernels use.

    torch: with its build, which the package's version leaves out for some.  Of runs on a GPU also the versions of CUDA,
    of cuDNN and of the driver, as far as they are told.
    """
    import torch

    versions = {name: metadata.version(name) for name in ("transformers", "numpy", "tokenizers")}
    found = {"python": platform.python_version(), "platform": sys.platform, "torch": str(torch.__version__), **versions}
    found["instructions"] = torch.backends.cpu.get_cpu_capability()
    if torch.device(device).type == "cuda":
        told = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _driver()}
        found |= {name: str(version) for name, version in told.items() if version}
    return found


def _driver() -> str | None:
    """The version of NVIDIA's driver, as its kernel module writes it; None where there is none."""
    try:
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", DRIVER.read_text())
    except OSError:
        return None
    return found and found[0]


@lru_cache
def commit() -> str | None:
    """The git commit of this code, with '+' where the working tree differs; None outside a checkout."""
    root = source_root()
    if not (root / ".git").exists():
        return None
    git = ["git", "--no-optional-locks", "-C", os.fspath(root)]  # a run that is killed leaves no lock in the checkout
    asked = ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
    try:
        head, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for words in asked
        )
        return f"{head}+" if changed else head
    except (OSError, subprocess.SubprocessError):
        return None
