"""How many runs may share a device.

`--slots N` is a fixed limit. `--slots auto` packs by memory: each run is budgeted MARGIN times the largest peak
measured for the same model, text front-end, corpus, encoder, device type and precision, and runs share a device while
the sum stays under SHARE of its free memory. What a run takes after its first epoch is known to its driver, so that the
first one of a kind is alone for an epoch. After an out-of-memory error beside other runs, one fewer run is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from studies.document.words import count_of
from studies.engines.history import History
from studies.engines.machine import free_memory
from studies.engines.options import How
from studies.store.record import RunSpec

SHARE = 0.9  # of a device's free memory that runs may be expected to use; chosen here
MARGIN = 1.2  # another draw may need more than the largest one measured; chosen here
CONTEXT = 600.0  # MiB of a GPU that each process takes beside its tensors: CUDA's context, kernels; chosen here
# Times the largest peak of the runs on a GPU that differ in the model only, for a model that has not been measured. Of
# Table 1's rows on one front-end the largest reserves 1.4 times as much as the smallest (results/gpu/nvidia-h200.md).
GUESS = 2.0


def budget(spec: RunSpec, history: History) -> float | None:
    """MiB; None where it is not known: on a CPU its kind must have been measured, on a GPU its front-end."""
    gpu = spec.device != "cpu"
    largest, alike = history.peak(spec), history.peak_of_front_end(spec) if gpu else None
    if largest is None and alike is not None:
        largest = GUESS * alike
    if largest is None:
        return None
    return MARGIN * largest + (CONTEXT if gpu else 0.0)


def fit(specs: Sequence[RunSpec], memory: float, history: History) -> bool:
    """Whether these runs may share a device with `memory` MiB. One run alone always may; one of which nothing is known
    has the device for itself."""
    if len(specs) < 2:
        return True
    budgets = [budget(spec, history) for spec in specs]
    known = [mib for mib in budgets if mib is not None]
    return len(known) == len(budgets) and sum(known) <= SHARE * memory


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
    memory: device -> MiB for runs, where memory decides.  history: of finished runs.
    lowered: what lack of memory made of the two: device -> the most on it, "" -> workers.
    """

    workers: int
    limits: dict[str, int]
    memory: Mapping[str, float] | None = None
    history: History = field(default_factory=History)
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
        return fit([spec, *others], self.memory[device], self.history)

    def enter(self, spec: RunSpec, device: str) -> None:
        self.running[spec.id] = _Running(spec, device)
        busy = Counter(run.device for run in self.running.values())
        for run in self.running.values():
            run.others = max(run.others, len(self.running) - 1)
            run.beside = max(run.beside, busy[run.device] - 1)

    def leave(self, spec: RunSpec) -> None:
        del self.running[spec.id]

    def lower(self, spec: RunSpec, *, host: bool) -> str | None:
        """After `spec` ran out of memory, allow one run fewer than there were. Says so in words; None: it ran alone.

        host: out of the machine's memory, which all runs share; else out of its device's.
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
        return f"{count_of(shared, 'other')} ran beside it, from here on at most {now} at a time{where}"


def slots_for(how: How, history: History, lowered: dict[str, int]) -> Slots:
    """The slots that a command asked for.

    lowered: from earlier runs of the same command; updated when memory runs out.
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
    return Slots(how.workers, limits, memory, history, lowered)
