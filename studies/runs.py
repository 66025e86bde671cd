"""A run is one training. `RunSpec` says completely what to train, `spec.id` is its hash; `RunRecord`: what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

RECORD_VERSION = 1


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers, and nothing else.

    model, version: a name in studies.registry.MODELS and that module's VERSION.
    text: the front-end, glove | bert | xlnet | features.  encoder: {"name", "sha256"} of the pretrained text model
    behind bert/xlnet, None for vectors.  corpus, data: the corpus's name and the sha256 of its content.
    config: the model's Config, resolved.  training: hycon.train.Training, resolved.  seed: derived, see studies.seeds.
    device: "cpu" or "cuda" (the kind, not the number).  threads: intra-op threads; they change the rounding.
    """

    model: str
    version: int
    text: str
    corpus: str
    data: str
    config: dict[str, Any]
    training: dict[str, Any]
    seed: int
    encoder: dict[str, str] | None = None
    device: str = "cpu"
    threads: int = 1
    suite: int = 1  # bumped when the training loop or the data preparation moves every model's numbers

    @cached_property  # asked for thousands of times by whatever reads a whole results folder
    def id(self) -> str:
        return hashlib.sha256(canonical(dataclasses.asdict(self)).encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> RunSpec:
        return cls(**raw)


@dataclass(frozen=True)
class RunRecord:
    """What one run measured. Needs no other file to be understood.

    status: "done" | "failed".  metrics: split ("valid", "test") -> protocol -> metric -> fraction.
    valid_loss: the task loss over the whole validation split at `best_epoch`; the only number a search may rank by.
    curve: one {"epoch", "train_loss", "valid_loss"} an epoch, epochs from 1.
    predictions: {"file": "predictions.npz", "sha256": ...} with arrays {valid,test}_{prediction,label,id}.
    """

    spec: RunSpec
    status: str
    reason: str | None = None
    metrics: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    valid_loss: float | None = None
    best_epoch: int | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    parameters: int | None = None
    seconds: float | None = None
    seconds_per_epoch: float | None = None
    test_seconds: float | None = None  # forward pass over the test split
    peak_memory_mib: float | None = None
    energy_joules: float | None = None  # of the whole device while it trained, where it tells: studies.energy
    weights_sha256: str | None = None
    predictions: dict[str, str] | None = None
    device: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    notes: list[str] = field(default_factory=list)  # stand-ins and synthetic data, for captions
    started: str | None = None
    attempts: int = 1
    record_version: int = RECORD_VERSION

    @property
    def id(self) -> str:
        return self.spec.id

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> RunRecord:
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in raw.items() if k in known and k != "spec"}, spec=RunSpec.from_dict(raw["spec"]))


def canonical(value: Any) -> str:
    """JSON with one spelling per value: the text that gets hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
