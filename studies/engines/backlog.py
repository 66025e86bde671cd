"""The runs still to do, shared by every engine and by every `bench` on the same results folder.

The store is the meeting point. A run that is done is skipped, one that another live `bench` is busy with is waited for
and its record taken, everything else is claimed by a lease and started. A finished run is known by its record in the
store, never by what a worker returns, so an engine only has to start runs and to notice when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from studies.engines.durations import Durations, Kind, alike, longest_first
from studies.engines.options import Cluster
from studies.store.leases import TTL, Held
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore

POLL = 0.25  # seconds between looks at runs that another process is busy with


@dataclass(frozen=True)
class Event:
    """Something happened to a run.

    kind: start | done | failed | retry (its worker died, or ran out of memory beside others, and it is started again) |
    elsewhere (another process finished it: `record` where it is done, `reason` where it failed).
    seconds: from start to end.
    """

    kind: str
    spec: RunSpec
    seconds: float | None = None
    record: RunRecord | None = None
    reason: str | None = None
    device: str | None = None


@dataclass
class Summary:
    """What became of the specs. done: also those that another process finished meanwhile. skipped: done before."""

    done: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str]] = field(default_factory=list)
    skipped: list[RunSpec] = field(default_factory=list)


@dataclass(frozen=True)
class How:
    """Where and how each run is executed; the same for all of them.

    workers: the most runs at a time.  slots: the most on one device, or "auto"; None: workers, dealt out in turn.
    time_limit: seconds that a run may take from its start; None: as long as it likes.
    lowered: what lack of memory made of workers and slots; filled in (studies.engines.slots).
    time_limits: by run id, over time_limit: a pull worker's runs are those of several drivers.
    """

    workers: int
    devices: tuple[str, ...]
    execute: str
    data_root: str
    preload: tuple[str, ...]
    cluster: Cluster = field(default_factory=Cluster)
    time_limit: float | None = None
    slots: int | Literal["auto"] | None = None
    lowered: dict[str, int] = field(default_factory=dict)
    time_limits: Mapping[str, float | None] = field(default_factory=dict)


@dataclass
class Backlog:
    """The specs still to do, shared with other processes through the store. An engine claims, starts and settles.

    before: run id -> failed attempts when this command started; more of them mean that another process failed it now.
    leases: run id -> the lease held for it.
    poll: seconds between looks.  accept: whether a run may be started now.
    more: looks for more specs and says whether some are here or may still come; only pull workers find any.
    durations: of finished runs, for starting the longest first.  begun: kinds of which a run was started here.
    """

    store: RunStore
    pending: list[RunSpec]
    before: Mapping[str, int]
    summary: Summary
    notify: Callable[[Event], None]
    ttl: float = TTL
    leases: dict[str, Held] = field(default_factory=dict)
    poll: float = POLL
    accept: Callable[[RunSpec], bool] = lambda spec: True
    more: Callable[[], bool] | None = None
    durations: Durations = field(default_factory=Durations)
    begun: set[Kind] = field(default_factory=set)

    def open(self) -> bool:
        """Whether there is, or may still come, something to claim."""
        return self.more() if self.more else bool(self.pending)

    def claim(self, device: str, admitted: Callable[[RunSpec], bool] = lambda spec: True) -> RunSpec | None:
        """The next spec for `device` that nobody has done or is doing; its lease is held from here on.

        admitted: whether there is room for it.
        """
        for spec in self._candidates(device):
            if not admitted(spec) or not self.accept(spec):
                continue
            if not self._done_elsewhere(spec):
                lease = self.store.claim(spec.id, self.ttl)
                if lease is None:
                    continue
                self.leases[spec.id] = lease
                # Looked at again: it may have ended between the look and the claim.
                if not self._done_elsewhere(spec) and not self._failed_elsewhere(spec):
                    self.take(spec)
                    return spec
                self.release(spec)
            self.pending.remove(spec)
        return None

    def in_order(self) -> list[RunSpec]:
        """What is pending, in the order in which it is best started."""
        return longest_first(self.pending, self.durations, self.begun)

    def take(self, spec: RunSpec) -> None:
        self.pending.remove(spec)
        self.begun.add(alike(spec))

    def _candidates(self, device: str) -> list[RunSpec]:
        """What may be claimed for `device`. Of the runs that somebody has a lease on only one, another each time.

        To look at a lease takes half a dozen calls to the file system: were all of them looked at each time, a hundred
        workers at the end of a table would ask a file server for a hundred times as much as one.
        """
        leased = self.store.leased()
        mine = [spec for spec in self.pending if spec.device == kind(device)]
        held = [spec for spec in mine if spec.id in leased]
        for spec in held[:1]:
            self.pending.remove(spec)
            self.pending.append(spec)
        free = [spec for spec in mine if spec.id not in leased]
        return longest_first(free, self.durations, self.begun | {alike(spec) for spec in held}) + held[:1]

    def observe(self) -> None:
        """Strike off what others have brought to an end, for an engine whose runs are all done elsewhere."""
        known = set(self.store.ids())  # one look at the folder: what has none in it has not begun
        for spec in [spec for spec in self.pending if spec.id in known]:
            ended = self._done_elsewhere(spec)
            if not ended and self._has_failed(spec):
                lease = self.store.claim(spec.id, self.ttl)  # while another holds it, it is being tried once more
                if lease is not None:
                    ended = self._done_elsewhere(spec) or self._failed_elsewhere(spec)
                    lease.release()
            if ended:
                self.pending.remove(spec)

    def settle(self, spec: RunSpec, seconds: float, device: str) -> bool:
        """Report what the store holds of a run that was tried here. False: neither a record nor a new failure."""
        record = self.store.get(spec.id)
        if record is not None:
            self.durations.learn(record)
            self.summary.done.append(spec)
            self.notify(Event("done", spec, seconds, record, device=device))
        else:
            failure = self._has_failed(spec)
            if failure is None:
                return False
            self.fail(spec, failure.reason or "", seconds, device)
        self.release(spec)
        return True

    def fail(self, spec: RunSpec, reason: str, seconds: float, device: str) -> None:
        self.summary.failed.append((spec, reason))
        self.notify(Event("failed", spec, seconds, reason=reason, device=device))
        self.release(spec)

    def release(self, spec: RunSpec) -> None:
        lease = self.leases.pop(spec.id, None)
        if lease is not None:
            lease.release()

    def _done_elsewhere(self, spec: RunSpec) -> bool:
        record = self.store.get(spec.id)
        if record is None:
            return False
        self.durations.learn(record)
        self.summary.done.append(spec)
        self.notify(Event("elsewhere", spec, record.seconds, record))
        return True

    def _failed_elsewhere(self, spec: RunSpec) -> bool:
        failure = self._has_failed(spec)
        if failure is None:
            return False
        self.summary.failed.append((spec, failure.reason or ""))
        self.notify(Event("elsewhere", spec, failure.seconds, reason=failure.reason))
        return True

    def _has_failed(self, spec: RunSpec) -> RunRecord | None:
        """Its last failure, if that is newer than this command."""
        failure = self.store.failed(spec.id)
        return failure if failure and failure.attempts > self.before[spec.id] else None


def kind(device: str) -> str:
    """ "cuda" for "cuda:1"."""
    return device.partition(":")[0]
