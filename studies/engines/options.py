"""What a command asks of an executor: workers, devices, slots and time limits, and what a cluster gives each worker."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from hycon.errors import UserError, check_known
from hycon.files import read_toml
from hycon.model_file import ModelFile
from studies.engines.executors import DEFAULT
from studies.engines.machine import processors

EXECUTE = "studies.engines.one_run:execute"
CHECKPOINT_EVERY = "BENCH_CHECKPOINT_EVERY"  # the processes of runs inherit it
TEN_MINUTES = 600.0

Asked = int | Literal["auto"]  # slots
Amount = Annotated[float, msgspec.Meta(gt=0)]


@dataclass(frozen=True)
class Cluster:
    """What workers get on a cluster. Keys that Slurm has and this class has not go into the table [sbatch].

    With Slurm, each worker is a job with `cpus`, `gpus` and `memory` (GB), for `time` minutes. It does `slots` runs at
    a time on each device, or ("auto") as many as fit. With Ray, each run is a task with `cpus` and `gpus`, which may
    be fractions, and `memory`.

    python: the command that starts Python in a job, such as "apptainer exec --nv suite.sif python3"; this Python by
    default.  setup: shell lines before it.  sbatch: further options of sbatch, {"reservation": "night"}.
    address: of a running Ray cluster; None starts one on this machine.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: Annotated[int, msgspec.Meta(gt=0)] = 60  # minutes; chosen here: short jobs start soon, the longest runs fit
    cpus: Amount = 1
    gpus: Annotated[float, msgspec.Meta(ge=0)] = 0
    memory: Amount | None = None  # GB
    slots: Asked = 1
    python: str | None = None
    setup: list[str] = field(default_factory=list)
    sbatch: dict[str, Any] = field(default_factory=dict)
    address: str | None = None


@dataclass(frozen=True)
class How:
    """How runs are executed; the same for all runs of a command.

    executor: a name in studies.engines.executors.ENGINES.
    workers: the most runs at a time; with Slurm the most jobs.  devices: "cpu", or "cuda:0", "cuda:1" and so on.
    slots: the most runs at a time on one device, or "auto": as many as fit into its memory. None: `workers` are dealt
    out to the devices in turn.
    time_limit: seconds after which a run is stopped and counts as failed; None: no limit.
    data_root: folder of corpora; None: the default one.
    execute: "module:function" of execute(spec, *, data_root, device, on_epoch, folder) -> (RunRecord, arrays),
    and weights with keep_weights.
    preload: modules that are imported once for the processes of all runs; None: what the runs need.
    checkpoint_every: seconds, for the workers of a cluster, which do not inherit this process's environment.
    keep_weights: whether each run leaves its weights in its folder.
    models: outside the repository, for processes that did not read their files; filled in by studies.engines.run.
    """

    executor: str = DEFAULT
    workers: int = 1
    devices: tuple[str, ...] = ("cpu",)
    slots: Asked | None = None
    time_limit: float | None = None
    cluster: Cluster = field(default_factory=Cluster)
    data_root: str | os.PathLike[str] | None = None
    execute: str = EXECUTE
    preload: Sequence[str] | None = None
    models: tuple[ModelFile, ...] = ()
    keep_weights: bool = False
    checkpoint_every: float = TEN_MINUTES


def checkpoint_every() -> float:
    """Seconds of training after which a run keeps a checkpoint, as $BENCH_CHECKPOINT_EVERY says. Raises UserError."""
    text = os.environ.get(CHECKPOINT_EVERY, str(TEN_MINUTES))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise UserError(f"--checkpoint-every (or ${CHECKPOINT_EVERY}) is {text}; expected seconds, at least 0.")
    return seconds


def parse_slots(text: str | int | None, name: str = "--slots") -> Asked | None:
    """Raises UserError for what is neither a number of at least 1 nor "auto"."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        slots = int(text)
    except ValueError:
        slots = 0
    if slots < 1:
        raise UserError(f"{name} is {text}; expected a number of at least 1, or auto.")
    return slots


def workers_for(workers: int | None, slots: Asked | None, devices: Sequence[str]) -> int:
    """--workers. Where it is not given: one a device, as many as the slots hold, or with "auto" as many as there are
    processors."""
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; expected at least 1.")
    if workers is not None:
        return workers
    return processors() if slots == "auto" else (slots or 1) * len(set(devices))


UNITS = {"time": "; time is in minutes", "memory": "; memory is in GB"}
KINDS = {"int": "a whole number", "float": "a number", "str": "a text", "array": "a list", "object": "a table"}


def read_cluster(file: str | None = None, given: Mapping[str, Any] | None = None) -> Cluster:
    """The keys of a TOML file, and over them the given ones. Raises UserError for an unknown key or a wrong value."""
    raw = read_toml(Path(file), f"{file} (--cluster)") if file is not None else {}
    found: dict[str, Any] = {}
    for where, values in ((f"{file}: ", raw), ("--cluster-set ", given or {})):
        found |= {key: _checked(where, key, value) for key, value in values.items()}
    return dataclasses.replace(Cluster(), **found)


def gpus_amiss(how: How) -> str:
    """A sentence where workers of a cluster would hold GPUs that no run uses, or runs want GPUs that nobody asks for;
    else an empty one."""
    wanted = any(device.startswith("cuda") for device in how.devices)
    asked = how.cluster.gpus > 0 or any(word in key for key in how.cluster.sbatch for word in ("gpu", "gres", "tres"))
    if asked and not wanted:
        return "workers ask for a GPU, but the runs are for cpu and would leave it idle: add --devices cuda."
    if wanted and not asked:
        return (
            "the runs are for GPUs, but no worker asks for one: add --cluster-set gpus=1, unless each gets one anyway."
        )
    return ""


def _checked(where: str, key: str, value: Any) -> Any:
    kinds = get_type_hints(Cluster, include_extras=True)
    check_known("key", key, kinds, f" in {where.rstrip(': ')}")
    if key == "slots":
        return parse_slots(str(value), f"{where}slots")
    try:
        return msgspec.convert(value, kinds[key])
    except msgspec.ValidationError as error:
        said = re.sub(r"\w+", lambda word: KINDS.get(word[0], word[0]), str(error).lower().replace("`", ""))
        raise UserError(f"{where}{key} is {value!r}; {said}{UNITS.get(key, '')}.") from error
