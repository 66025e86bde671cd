"""What a cluster's workers get, and where they are: options of the executors slurm and ray, from a TOML file and from
the command line. Keys are this suite's; everything else that sbatch takes goes into the table [sbatch]."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hycon.errors import UserError, nearest


@dataclass(frozen=True)
class Cluster:
    """slurm: each worker is a job with `cpus`, `gpus` and `memory` (GB), for `time` minutes, doing `slots` runs at a
    time on each device, or ("auto") as many as fit. ray: each run is a task with `cpus` and `gpus`, which may be
    fractions, and `memory`.

    python: the command that starts Python in a job, such as "apptainer exec --nv suite.sif python3"; this Python by
    default.  setup: shell lines before it.  sbatch: further options of sbatch, {"reservation": "night"}.
    address: of a running Ray cluster; none starts one on this machine.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: int = 60  # minutes; chosen here: short jobs start soon, and the longest runs of the paper's tables fit
    cpus: float = 1
    gpus: float = 0
    memory: float | None = None  # GB
    slots: int | Literal["auto"] = 1
    python: str | None = None
    setup: list[str] = field(default_factory=list)
    sbatch: dict[str, Any] = field(default_factory=dict)
    address: str | None = None


KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("partition", "account", "qos", "python", "address"), (str,)),
    "time": (int,),
    "slots": (int, str),
    **dict.fromkeys(("cpus", "gpus", "memory"), (int, float)),
    "setup": (list,),
    "sbatch": (dict,),
}


def read_cluster(file: str | None = None, given: Mapping[str, Any] | None = None) -> Cluster:
    """The file's keys, and over them the given ones. Raises UserError for what is no key or no value of it."""
    raw: dict[str, Any] = {}
    if file is not None:
        try:
            raw = tomllib.loads(Path(file).read_text())
        except OSError as error:
            raise UserError(f"Cannot read {file} (--cluster): {error.strerror or error}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{file} (--cluster) is no TOML file: {error}.") from error
    for where, values in ((file or "", raw), ("--cluster-set", given or {})):
        for key, value in values.items():
            _check(where, key, value)
    return dataclasses.replace(Cluster(), **{**raw, **(given or {})})


def _check(where: str, key: str, value: Any) -> None:
    if key not in KINDS:
        raise UserError(f"{where}: there is no key {key!r}; nearest: {nearest(key, KINDS)}.")
    kinds = KINDS[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UserError(f"{where}: {key} is {value!r}; expected {' or '.join(k.__name__ for k in kinds)}.")
    if key == "slots" and isinstance(value, str) and value != "auto":
        raise UserError(f"{where}: slots is {value!r}; expected a number, or auto.")
    if isinstance(value, int | float) and (value < 0 or (value == 0 and key != "gpus")):
        raise UserError(f"{where}: {key} is {value}; expected more than 0.")
