"""A run is one training. `RunSpec` says completely what to train, `spec.id` is its hash; `RunRecord`: what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
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
    config: the model's Config, resolved.  training: hycon.train.Training, resolved.  seed: derived, see
    studies.search.seeds.
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
    energy_joules: float | None = None  # of the whole device while it trained, where it tells: studies.engines.energy
    weights_sha256: str | None = None
    predictions: dict[str, str] | None = None
    device: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    notes: list[str] = field(default_factory=list)  # stand-ins and synthetic data, for captions
    started: str | None = None
    attempts: int = 1
    failures: list[str] = field(default_factory=list)  # why the attempts before this one failed, the oldest first
    record_version: int = RECORD_VERSION

    @property
    def id(self) -> str:
        return self.spec.id

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> RunRecord:
        """Of parsed JSON. Raises ValueError, TypeError, KeyError or AttributeError where it is not as written here."""
        known = {f.name for f in dataclasses.fields(cls)}
        found = cls(**{k: v for k, v in raw.items() if k in known and k != "spec"}, spec=RunSpec.from_dict(raw["spec"]))
        for name, value in (*vars(found.spec).items(), *vars(found).items()):
            if name in _KINDS and not _KINDS[name](value):
                raise ValueError(f"its {name} is not of its kind")
        return found


def is_number(value: Any) -> bool:
    """None counts: what is undefined is stored as null."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_object(value: Any, of: Callable[[Any], bool] = lambda _: True) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and of(item) for key, item in value.items())


def _is_metric(value: Any) -> bool:
    """A number, or an emotion's numbers."""
    return is_number(value) or is_object(value, is_number)


def is_list(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(of, value))


_KINDS: dict[str, Callable[[Any], bool]] = {  # of the fields of RunSpec and RunRecord, for files that others wrote
    **dict.fromkeys(("model", "text", "corpus", "data", "device", "status"), _is_text),
    **dict.fromkeys(("version", "seed", "threads", "suite", "attempts"), _is_whole),
    **dict.fromkeys(("config", "training"), is_object),
    **dict.fromkeys(("encoder", "predictions"), lambda value: value is None or is_object(value, _is_text)),
    **dict.fromkeys(("reason", "weights_sha256", "commit", "started"), lambda value: value is None or _is_text(value)),
    **dict.fromkeys(("valid_loss", "parameters", "seconds", "seconds_per_epoch", "test_seconds"), is_number),
    **dict.fromkeys(("best_epoch", "peak_memory_mib"), is_number),
    "metrics": lambda value: is_object(value, lambda split: is_object(split, lambda own: is_object(own, _is_metric))),
    "curve": lambda value: is_list(value, lambda epoch: is_object(epoch, is_number)),
    "environment": lambda value: is_object(value, _is_text),
    "failures": lambda value: is_list(value, _is_text),
    "notes": lambda value: is_list(value, _is_text),
}


def canonical(value: Any) -> str:
    """JSON with one spelling per value: the text that gets hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
