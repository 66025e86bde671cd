"""Stands in for studies.engines.one_run where only what happens around a training matters: real specs, made-up numbers.

What a run measures follows from its spec alone. How the n-th execution (from 1) below `data_root` misbehaves is said by
the JSON file `faults` there: {"sleep": 0.02, "3": "hang", "5": "kill", ...}. Executions are counted in `executed`.
"""

import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np

from hycon.errors import NonFiniteLoss
from hycon.metrics import all_protocols
from studies.store.record import RunRecord, RunSpec

LABEL = np.linspace(-3, 3, 2000, dtype=np.float32)  # predictions of 30 kB: long enough to be killed in


def execute(
    spec: RunSpec, *, data_root: str, device: str = "cpu", on_epoch=None, folder=None
) -> tuple[RunRecord, dict[str, np.ndarray]]:
    faults = json.loads((Path(data_root) / "faults").read_text())
    with open(Path(data_root) / "executed", "a") as handle:
        line = f"{spec.id} {os.getpid():10}\n"
        handle.write(line)
        handle.flush()
        number = handle.tell() // len(line)
    time.sleep(faults.get("sleep", 0.0))
    _misbehave(faults.get(str(number), ""))
    rng = np.random.default_rng(int(spec.id, 16))  # another one for each configuration
    prediction = (LABEL + rng.normal(0, 0.5, LABEL.shape)).astype(np.float32)
    measured = all_protocols(prediction, LABEL)
    loss = float(np.abs(prediction - LABEL).mean())
    record = RunRecord(
        spec, "done", metrics={"valid": measured, "test": measured}, valid_loss=loss, best_epoch=1, seconds=1.0,
        seconds_per_epoch=1.0, parameters=10, weights_sha256=f"{spec.seed:064x}", device=device,
        curve=[{"epoch": 1, "train_loss": loss, "valid_loss": loss}],
    )  # fmt: skip
    ids = np.array([f"u{i}" for i in range(len(LABEL))])
    arrays = {f"{s}_{k}": v for s in ("valid", "test") for k, v in (("prediction", prediction), ("label", LABEL))}
    return record, {**arrays, "valid_id": ids, "test_id": ids}


def _misbehave(how: str) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif how == "raise":
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    elif how == "nan":
        raise NonFiniteLoss(2, 5)
    elif how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (2**30, resource.RLIM_INFINITY))
        np.ones(2**30)
