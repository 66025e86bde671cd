"""Checkpoints of one training, from which another process goes on with the same bits.

    <folder>/checkpoint.json                what the tensors belong to, their file, its sha256, and the epochs so far
    <folder>/checkpoint-<epoch>.safetensors weights, best weights, the optimiser's state, every generator's state

Written at the end of an epoch, once `every` seconds have passed since the last one. The JSON file is written last and
names the tensors, so a process that is killed in between leaves the one before. Nothing in the files is run; what does
not fit the run to the letter is not used, and the reason is printed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from hycon.files import sha256_file, temporary, write_atomic
from hycon.kernels.optim import Optimizer

FORMAT = 1
STATE = "checkpoint.json"
TENSORS = "checkpoint-*.safetensors"
KEPT = ("epoch", "best_epoch", "best_loss", "seconds", "epochs")  # of Progress, in the JSON file
LARGEST = 64 * 2**20  # bytes of the JSON file; chosen here: a curve of a thousand epochs takes 100 kB
Print = Callable[[str], Any]


@dataclass
class Progress:
    """How far a training is. best: the weights of `best_epoch`.  seconds: of training so far, over all processes.
    epochs: what there is to tell of each."""

    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    seconds: float = 0.0
    epochs: list[dict[str, int | float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Checkpoints:
    """Where a run keeps its checkpoint, how often, and who may go on from it.

    every: seconds; 0: after each epoch.  identity: what must be the same for the same bits: run, device, versions.
    resumed: epochs after which this process went on from a checkpoint, filled in by `load`.
    """

    folder: Path
    every: float
    identity: Mapping[str, Any]
    say: Print = print
    resumed: list[int] = field(default_factory=list)
    _written: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        return time.monotonic() - self._written >= self.every

    def save(self, progress: Progress, model: nn.Module, optimizer: Optimizer, order: torch.Generator) -> None:
        """Where it cannot be written, say so, and keep the one before. Whatever happens, training goes on."""
        self._written = time.monotonic()
        path = self.folder / TENSORS.replace("*", str(progress.epoch))
        try:
            if self.folder.is_symlink():
                raise OSError(errno.ELOOP, "its folder is a link")
            _write_tensors(path, _tensors(progress, model, optimizer, order))
            state = {
                "format": FORMAT,
                "identity": dict(self.identity),
                "tensors": path.name,
                "sha256": sha256_file(path),
                **{name: getattr(progress, name) for name in KEPT},
                "resumed": self.resumed,
            }
            write_atomic(self.folder / STATE, json.dumps(state).encode())
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink()
            self.say(f"No checkpoint after epoch {progress.epoch}: {error.strerror or error}.")
            return
        for other in self.folder.glob(TENSORS):
            if other != path:
                with contextlib.suppress(OSError):
                    other.unlink()

    def load(self, model: nn.Module, optimizer: Optimizer, order: torch.Generator) -> Progress:
        """Bring model, optimiser and generators to where the checkpoint is, and say so; else leave all as it is."""
        try:
            state = _read_state(self.folder / STATE)
            if state is None:
                return Progress()
            if differing := _differing(state.get("identity"), self.identity):
                raise ValueError(f"it was made with another {differing}")
            progress, resumed = _progress(state), msgspec.convert(state["resumed"], list[int])
            path = self.folder / str(state["tensors"])
            if path.parent != self.folder or self.folder.is_symlink():
                raise ValueError("its file names tensors elsewhere")
            if not path.match(TENSORS) or path.is_symlink() or not path.is_file():
                raise ValueError("its tensors are not there")
            if sha256_file(path) != state["sha256"]:
                raise ValueError("its tensors do not have their sha256")
            _restore(_read_tensors(path), progress, model, optimizer, order)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.say(f"The checkpoint in {self.folder} is not used ({_reason(error)}): training begins again.")
            return Progress()
        self.resumed = [*resumed, progress.epoch]
        self.say(f"Going on after epoch {progress.epoch}, from a checkpoint.")
        return progress


# ------------------------------------------------------------------------------------------------- tensors


def _tensors(progress: Progress, model: nn.Module, optimizer: Optimizer, order: torch.Generator) -> dict[str, Tensor]:
    """All that a step depends on, by name. The best weights are left out where they are the present ones."""
    weights = model.state_dict()
    found = {f"weights.{name}": value for name, value in weights.items()}
    if progress.best_epoch != progress.epoch:
        found |= {f"best.{name}": value for name, value in progress.best.items()}
    found |= {f"optimizer.{name}": value for name, value in optimizer.state().items()}
    found |= {f"generator.{name}": value for name, value in _generators(model, order).items()}
    return found


def _generators(model: nn.Module, order: torch.Generator) -> dict[str, Tensor]:
    """Of the order of batches, of the CPU and of the model's device."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    found = {"order": order.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def _restore(
    found: dict[str, Tensor], progress: Progress, model: nn.Module, optimizer: Optimizer, order: torch.Generator
) -> None:
    """Raises ValueError, before anything is changed, where a tensor is missing or of another shape."""
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimizer": {}, "generator": {}}
    for name, value in found.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ValueError(f"it holds {part}")
        parts[part][rest] = value
    own = model.state_dict()
    best = parts["weights"] if progress.best_epoch == progress.epoch else parts["best"]
    for loaded in (parts["weights"], best):
        _check_alike(loaded, own)
    _check_alike(parts["generator"], _generators(model, order))
    for name, value in parts["generator"].items():
        try:  # one of its kind takes the state
            torch.Generator("cuda" if name == "cuda" else "cpu").set_state(value)
        except RuntimeError as error:
            raise ValueError(f"its generator {name}: {error}") from error
    optimizer.check_state(parts["optimizer"])
    progress.best = {name: value.to(own[name].device, copy=True) for name, value in best.items()}
    model.load_state_dict(parts["weights"])
    optimizer.load_state(parts["optimizer"])
    order.set_state(parts["generator"]["order"])
    torch.set_rng_state(parts["generator"]["cpu"])
    if "cuda" in parts["generator"]:
        torch.cuda.set_rng_state(parts["generator"]["cuda"], next(model.parameters()).device)


def _check_alike(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    if found.keys() != own.keys():
        raise ValueError(f"it does not have the tensors of this model, such as {min(found.keys() ^ own.keys())}")
    for name, value in own.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise ValueError(f"its {name} is of another shape or type")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file that is there whole or not at all. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temp = temporary(path)
    seen: set[int] = set()
    ready = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        ready[name] = value.clone() if value.data_ptr() in seen else value  # the format refuses shared memory
        seen.add(value.data_ptr())
    try:
        save_file(ready, temp)
        with open(temp, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temp, path)
    except SafetensorError as error:  # a full disk, too
        raise OSError(0, str(error)) from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


# ------------------------------------------------------------------------------------------------- the JSON file


def _read_state(path: Path) -> dict[str, Any] | None:
    """None where there is none. Raises OSError and ValueError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as opened:
        content = opened.read(LARGEST + 1)
    state = json.loads(content) if len(content) <= LARGEST else None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError("its file is not of this suite's format")
    return state


def _progress(state: Mapping[str, Any]) -> Progress:
    try:
        found = msgspec.convert({name: state[name] for name in KEPT}, Progress)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    if not 0 < found.best_epoch <= found.epoch == len(found.epochs):
        raise ValueError("its epochs do not fit together")
    for number, epoch in enumerate(found.epochs, start=1):
        if epoch.get("epoch") != number or not {"train_loss", "valid_loss"} <= epoch.keys():
            raise ValueError("its epochs do not fit together")
    return found


def _differing(found: Any, wanted: Mapping[str, Any]) -> str:
    """What of the identity is another one; "" where nothing is."""
    found = found if isinstance(found, dict) else {}
    wanted = json.loads(json.dumps(dict(wanted)))
    return next((key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)), "")


def _reason(error: Exception) -> str:
    said = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
    return said.rstrip(".").replace("\n", " ")
