"""Stands in for studies.engines.one_run in the executors' tests: what a run does is written in its config.

Every execution appends "<run id> <pid>" to the file `executed` in data_root, so that tests can count them.
"""

import gc
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from hycon.errors import NonFiniteLoss, UserError
from studies.engines import child
from studies.store.record import RunRecord, RunSpec


def spec(number: int = 0, **config) -> RunSpec:
    return RunSpec("fake", 1, "glove", "toy", "0" * 64, {"number": number, **config}, {}, seed=number)


def executed(data_root) -> list[str]:
    """Ids in the order of their execution."""
    return [line.split()[0] for line in _lines(data_root)]


def pids(data_root) -> list[int]:
    return [int(line.split()[1]) for line in _lines(data_root)]


def _lines(data_root) -> list[str]:
    path = Path(data_root) / "executed"
    return path.read_text().splitlines() if path.exists() else []


class Litter:
    def __init__(self, notes: Path):
        self.itself, self.notes = self, notes

    def __del__(self):
        print("late", flush=True)
        print("late", file=sys.stderr, flush=True)
        with open(self.notes, "a") as handle:
            handle.write(f"{os.getpid()}\n")


class OutOfMemoryError(RuntimeError):
    """As torch.OutOfMemoryError is, of a GPU."""


def execute(
    spec: RunSpec, *, data_root: str, device: str = "cpu", on_epoch=None, folder=None
) -> tuple[RunRecord, dict[str, np.ndarray]]:
    """fits: with more runs than that on the device, there is no memory for this one.

    unsettles: changes what another run tells that `asks` for a variable.
    litters: leaves what only a collection of garbage frees, which prints then, and notes its process in `collected`.
    epoch_at: seconds after which an epoch has ended, with `takes` MiB.
    """
    here = Path(data_root) / f"running-{device}-{os.getpid()}"
    here.touch()
    try:
        return _execute(spec, data_root, device, on_epoch)
    finally:
        here.unlink()


def _execute(spec: RunSpec, data_root: str, device: str, on_epoch=None) -> tuple[RunRecord, dict[str, np.ndarray]]:
    config = spec.config
    with open(Path(data_root) / "executed", "a") as handle:
        handle.write(f"{spec.id} {os.getpid()}\n")
    deadline = time.monotonic() + config.get("sleep", 0.0)
    if config.get("asks"):
        print(os.environ.get(config["asks"]), random.random(), np.random.random())
    if config.get("unsettles"):
        os.environ["UNSETTLED"] = "yes"
        random.seed(1)
        np.random.seed(1)
    if "epoch_at" in config:
        time.sleep(config["epoch_at"])
        child.peak = lambda device: config["takes"]
        on_epoch({"epoch": 1})
        on_epoch({"epoch": 2})
    if config.get("litters"):
        gc.disable()
        Litter(Path(data_root) / "collected")
    while time.monotonic() < deadline:
        time.sleep(0.01)
        if len(list(Path(data_root).glob(f"running-{device}-*"))) > config.get("fits", 99):
            raise MemoryError("Unable to allocate 8 GiB") if device == "cpu" else OutOfMemoryError("Tried to allocate")
    times = executed(data_root).count(spec.id)
    if config.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while times <= config.get("hangs", 0):
        time.sleep(1)
    if times <= config.get("killed", 0):
        os.kill(os.getpid(), config.get("signal", signal.SIGKILL))
    if times <= config.get("vanishes", 0):
        os._exit(config.get("code", 0))
    if times <= config.get("diverges", 0):
        raise NonFiniteLoss(3, 17)
    if times <= config.get("breaks", 0):
        print("about to break", file=sys.stderr)
        raise KeyError("weights")
    if times <= config.get("refuses", 0):
        raise UserError("No corpus 'toy' here.")
    if config.get("exits"):
        sys.exit("bye")
    if config.get("foreign"):
        return RunRecord(RunSpec("other", 1, "glove", "toy", "0", {}, {}, seed=0), "done"), {}
    if config.get("says"):
        print(config["says"])
    loss = 1.0 / (1 + spec.seed)
    record = RunRecord(
        spec, "done", metrics={"valid": {"paper": {"mae": loss}}}, valid_loss=loss, seconds=0.5, device=device,
        peak_memory_mib=config.get("mib"),
    )  # fmt: skip
    return record, {"valid_prediction": np.full(3, loss, np.float32), "valid_id": np.array(["a", "b", "c"])}
