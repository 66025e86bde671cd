"""A run is one training. `RunSpec` says completely what to train, `spec.id` is its hash; `RunRecord`: what came out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from hycon.data.conditions import CONDITIONS, DRAWS
from hycon.errors import UserError

RECORD_VERSION = 1
# In `environment`, of runs with BERT on a CPU: "rows", in bf16 "rows with joint attention"; before 2026-11-27 padded,
# and on that day some in bf16 "rows".
ENCODER_LAYERS = "encoder layers"
# What a finished run's record must hold, and what a second record of the same run is compared in.
RESULT = ("metrics", "valid_loss", "best_epoch", "curve", "parameters", "weights_sha256", "predictions")

if TYPE_CHECKING:  # what code computes with
    Metrics = dict[str, dict[str, dict[str, float]]]
    Curve = list[dict[str, float]]
    Whole = int
else:  # what files may hold: null where a number is undefined, and the numbers of each emotion in place of one
    # A whole number beyond these is no measurement, and cannot be made a float.
    Whole = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
    Number = Whole | float | None
    Metrics = dict[str, dict[str, dict[str, Number | dict[str, Number]]]]
    Curve = list[dict[str, Number]]


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers, and nothing else.

    model, version: a name in studies.registry.MODELS and that module's VERSION.
    text: the front-end, glove | bert | xlnet | features.  encoder: {"name", "sha256"} of the pretrained text model
    behind bert/xlnet, None for vectors.  corpus, data: the corpus's name and the sha256 of its content.
    config: the model's Config, resolved.  training: hycon.train.Training, resolved.  seed: derived, see
    studies.search.seeds.
    device: "cpu" or "cuda" (the kind, not the number).  threads: intra-op threads; they change the rounding.
    source: of a model outside the repository, the sha256 of its file; None for the suite's own.
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
    suite: int = 2  # bumped when the training loop or the data preparation moves every model's numbers
    source: str | None = None

    @cached_property  # a whole results folder asks for thousands
    def id(self) -> str:
        values = without_source({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        return hashlib.sha256(canonical(values).encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, raw: Any) -> RunSpec:
        """Of parsed JSON. Raises ValueError where a field is missing or has another type than here."""
        return msgspec.convert(raw, cls)


@dataclass(frozen=True)
class RunRecord:
    """What one run measured. Needs no other file to be understood.

    status: "done" | "failed".  metrics: split ("valid", "test") -> protocol -> metric -> fraction.
    valid_loss: the task loss over the whole validation split at `best_epoch`; the only number a search may rank by.
    curve: one {"epoch", "train_loss", "valid_loss"} an epoch, epochs from 1.
    predictions: {"file": "predictions.npz", "sha256": ...} with arrays {valid,test}_{prediction,label,id}.
    robustness: condition (hycon.data.conditions) -> protocol -> metric -> fraction, of the test split; empty where it
    was not measured.  robustness_draws: by which draws.
    """

    spec: RunSpec
    status: str
    reason: str | None = None
    metrics: Metrics = field(default_factory=dict)
    valid_loss: float | None = None
    best_epoch: Whole | None = None
    curve: Curve = field(default_factory=list)
    parameters: Whole | None = None
    seconds: float | None = None
    seconds_per_epoch: float | None = None
    test_seconds: float | None = None  # forward pass over the test split
    peak_memory_mib: float | None = None
    energy_joules: float | None = None  # of the whole device meanwhile, if it has a counter: studies.engines.energy
    weights_sha256: str | None = None
    predictions: dict[str, str] | None = None
    device: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    code: dict[str, str] | None = None  # file -> hash of the code (hycon.source); None in runs from before
    notes: list[str] = field(default_factory=list)  # stand-ins and synthetic data, for captions
    started: str | None = None
    attempts: Whole = 1
    failures: list[str] = field(default_factory=list)  # why the attempts before this one failed, the oldest first
    resumed: list[Whole] = field(default_factory=list)  # epochs after which it went on from a checkpoint
    robustness: Metrics = field(default_factory=dict)
    robustness_draws: Whole | None = None
    record_version: int = RECORD_VERSION

    @property
    def robust(self) -> bool:
        """Whether its robustness was measured, by today's draws and under all of today's conditions."""
        return self.robustness_draws == DRAWS and all(c.name in self.robustness for c in CONDITIONS)

    @property
    def id(self) -> str:
        return self.spec.id

    def predictions_are(self, content: bytes) -> bool:
        """Whether a file has the sha256 of this run's predictions."""
        return hashlib.sha256(content).hexdigest() == (self.predictions or {}).get("sha256")

    def to_dict(self) -> dict[str, Any]:
        raw = dataclasses.asdict(self)
        if not self.robustness:  # as before there were such measurements
            del raw["robustness"], raw["robustness_draws"]
        return {"id": self.id, **raw, "spec": without_source(raw["spec"])}

    def to_json(self) -> bytes:
        text = json.dumps(_finite(self.to_dict()), indent=1, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode("utf-8", "replace")  # a name of a file that is no UTF-8 may be in a reason

    @classmethod
    def from_json(cls, content: bytes, run_id: str, status: str, name: str = "The record") -> RunRecord:
        """The record of run `run_id` from its file, which `name` names in messages.

        Raises ValueError where the content is damaged or another run's, and UserError where a newer suite wrote it.
        """
        raw = read_object(content, name, RECORD_VERSION, "record_version")
        lacking = [name for name in RESULT if status == "done" and name not in raw]
        if lacking:  # as after a flipped bit in its name
            raise ValueError(f"it has no {lacking[0]}")
        record = msgspec.convert(raw, cls)
        if not raw.get("id") == run_id == record.id or record.status != status:
            raise ValueError("it is not the record of this run")
        return record


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined metric (a correlation with a constant) is stored as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Damage:
    """Why a run counts as not done although a file of it is there. reason: part of a sentence, without full stop."""

    run: str
    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is damaged ({self.reason}): the run counts as not done."


def object_of(content: bytes) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError where it is damaged."""
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error


def read_object(content: bytes, name: str, newest: int, version: str = "version") -> dict[str, Any]:
    """`object_of` a file whose format has versions: `version` is the key, `newest` the last version known here.

    Raises UserError, which begins with `name`, where a newer version of the suite wrote it.
    """
    raw = object_of(content)
    found = raw.get(version, 0)
    if isinstance(found, int) and found > newest:
        raise UserError(
            f"{name} was written by a newer version of this suite (its format has version {found}, this suite reads "
            f"up to {newest}): upgrade, or use another results folder."
        )
    return raw


def without_source(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of a RunSpec or a Study: those of the suite's own models are as before there were others."""
    return {key: value for key, value in raw.items() if key != "source" or value is not None}


def canonical(value: Any) -> str:
    """JSON with one spelling per value: the text that gets hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
