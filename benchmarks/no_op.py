"""Stands in for training in benchmarks/scaling.py: runs that do nothing, so that only the engine's own time is left."""

from __future__ import annotations

import numpy as np

from studies.store.record import RunRecord, RunSpec

EXECUTE = "no_op:execute"
CORPUS = "nothing"


def specs(count: int, kinds: int = 1) -> list[RunSpec]:
    """`count` runs of `kinds` kinds, one after the other."""
    return [
        RunSpec(f"none{i * kinds // count}", 1, "glove", CORPUS, "0" * 64, {"number": i}, {}, seed=i)
        for i in range(count)
    ]


def execute(
    spec: RunSpec, *, data_root: str, device: str = "cpu", on_epoch=None
) -> tuple[RunRecord, dict[str, np.ndarray]]:
    """A record at once, with predictions for a few made-up utterances."""
    record = RunRecord(
        spec, "done", metrics={"valid": {"paper": {"mae": 1.0}}}, valid_loss=1.0, seconds=0.0, device=device
    )
    return record, {"valid_prediction": np.zeros(3, np.float32), "valid_id": np.array(["a", "b", "c"])}
