"""Which runs may be on a device at the same time: as many as were asked for, or as fit by the memory that runs alike
have used (--slots auto). What runs out of memory beside others lowers the number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hycon.errors import UserError
from studies.engines.backlog import How
from studies.engines.durations import Kind, alike
from studies.engines.machine import free_memory, processors
from studies.store.record import RunRecord, RunSpec

SHARE = 0.9  # of a device's free memory that runs may be expected to use; chosen here
MARGIN = 1.2  # a run may need this much more than the largest alike: another draw may be wider; chosen here
CONTEXT = 600.0  # MiB of a GPU that each process takes beside its tensors: CUDA's context, kernels; chosen here

Asked = int | Literal["auto"]


class Peaks:
    """The most memory that runs took, by what makes them alike."""

    def __init__(self, records: Iterable[RunRecord] = ()):
        self._mib: dict[Kind, float] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: RunRecord | None) -> None:
        if record is not None and record.status == "done" and record.peak_memory_mib:
            key = alike(record.spec)
            self._mib[key] = max(record.peak_memory_mib, self._mib.get(key, 0.0))

    def need(self, spec: RunSpec) -> float | None:
        """MiB that a run should be given; None where none like it has been measured."""
        largest = self._mib.get(alike(spec))
        if largest is None:
            return None
        return MARGIN * largest + (CONTEXT if spec.device != "cpu" else 0.0)


def fit(specs: Sequence[RunSpec], memory: float, peaks: Peaks) -> bool:
    """Whether these runs may be together on a device with `memory` MiB. One alone always may; what nothing is known
    of, and a fine-tuned text encoder on a GPU, has the device for itself."""
    if len(specs) < 2:
        return True
    if any(spec.encoder and spec.device != "cpu" for spec in specs):
        return False
    needs = [peaks.need(spec) for spec in specs]
    known = [need for need in needs if need is not None]
    return len(known) == len(needs) and sum(known) <= SHARE * memory


@dataclass
class _Running:
    """beside: the most other runs that its device had while it ran.  others: the most that all devices had."""

    spec: RunSpec
    device: str
    beside: int = 0
    others: int = 0


@dataclass
class Slots:
    """What runs where, and what may be added.

    workers: the most runs at a time.  limits: device -> the most on it, in the order in which devices are preferred.
    memory: device -> MiB for runs, where it decides.  lowered: what lack of memory made of the two, for whoever makes
    the next Slots: device -> the most on it, "" -> workers.
    """

    workers: int
    limits: dict[str, int]
    memory: Mapping[str, float] | None = None
    peaks: Peaks = field(default_factory=Peaks)
    lowered: dict[str, int] = field(default_factory=dict)
    running: dict[str, _Running] = field(default_factory=dict)  # by run id

    def __post_init__(self) -> None:
        self.workers = min(self.workers, self.lowered.get("", self.workers))
        self.limits = {device: min(limit, self.lowered.get(device, limit)) for device, limit in self.limits.items()}

    def free(self) -> list[str]:
        """Devices that may take one more run as far as numbers go, the least busy first."""
        busy = Counter(run.device for run in self.running.values())
        if len(self.running) >= self.workers:
            return []
        return sorted((d for d, limit in self.limits.items() if busy[d] < limit), key=lambda device: busy[device])

    def admits(self, spec: RunSpec, device: str) -> bool:
        """Whether `spec` may start on `device`, which is free."""
        if self.memory is None:
            return True
        others = [run.spec for run in self.running.values() if run.device == device]
        return fit([spec, *others], self.memory[device], self.peaks)

    def enter(self, spec: RunSpec, device: str) -> None:
        self.running[spec.id] = _Running(spec, device)
        busy = Counter(run.device for run in self.running.values())
        for run in self.running.values():
            run.others = max(run.others, len(self.running) - 1)
            run.beside = max(run.beside, busy[run.device] - 1)

    def leave(self, spec: RunSpec) -> None:
        del self.running[spec.id]

    def lower(self, spec: RunSpec, *, host: bool) -> str | None:
        """After a running `spec` ran out of memory: what is lowered, in words, or None where it had nobody beside it.

        host: of the machine's memory, which all runs share; else of its device's. One fewer than there were may run
        from here on.
        """
        run = self.running[spec.id]
        shared = run.others if host else run.beside
        if not shared:
            return None
        if host:
            self.workers = now = min(self.workers, shared)
        else:
            self.limits[run.device] = now = min(self.limits[run.device], shared)
        self.lowered["" if host else run.device] = now
        where = "" if host else f" on {run.device}"
        return f"{shared} other{'s' * (shared > 1)} ran beside it, from here on at most {now} at a time{where}"


def slots_for(how: How, records: Iterable[RunRecord] = ()) -> Slots:
    """The slots that a command asked for. records: finished runs, read only with --slots auto.

    Raises UserError where a device's memory cannot be read.
    """
    memory = None
    if how.slots is None:  # dealt out in turn
        limits = dict(Counter(how.devices[i % len(how.devices)] for i in range(how.workers)))
    elif how.slots == "auto":
        limits = dict.fromkeys(how.devices, how.workers)
        memory = {device: free_memory(device) for device in limits}
    else:
        limits = {device: how.slots * count for device, count in Counter(how.devices).items()}
    return Slots(how.workers, limits, memory, Peaks(records if memory else ()), how.lowered)


def parse_slots(text: str | int | None) -> Asked | None:
    """--slots. Raises UserError for what is neither a number of at least 1 nor auto."""
    if text is None or text == "auto":
        return text  # type: ignore[return-value]
    try:
        slots = int(text)
    except ValueError:
        slots = 0
    if slots < 1:
        raise UserError(f"--slots is {text}; expected a number of at least 1, or auto.")
    return slots


def workers_for(workers: int | None, slots: Asked | None, devices: Sequence[str]) -> int:
    """--workers, or where it is not given: what the slots hold; with auto, as many as there are processors."""
    if workers is not None or slots is None:
        return 1 if workers is None else workers
    return max(1, processors()) if slots == "auto" else slots * len(devices)
