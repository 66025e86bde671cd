"""The runs still to do, shared by every engine and by every `bench` on the same results folder.

The store is the meeting point. A run that is done is skipped, one that another live `bench` is busy with is waited for
and its record taken, everything else is claimed by a lease and started. A finished run is known by its record in the
store, never by what a worker returns, so an engine only has to start runs and to notice when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from studies.engines.history import History, Kind, kind_of, longest_first
from studies.engines.queue import Entry
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
    """What became of the specs.

    done: also those that another process finished meanwhile.  failed: with their reasons.  skipped: done before.
    lowered: what lack of memory made of the numbers of runs at a time; see studies.engines.slots.
    """

    done: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str]] = field(default_factory=list)
    skipped: list[RunSpec] = field(default_factory=list)
    lowered: dict[str, int] = field(default_factory=dict)


@dataclass
class Backlog:
    """The specs still to do, shared with other processes through the store. An engine claims, starts and settles.

    entries: run id -> what its driver asks; more failed attempts than it names mean that another process failed it now.
    ttl: seconds after which a silent lease may be taken over.  leases: run id -> the lease held for it.
    poll: seconds between looks.  accept: whether a run may be started now.
    more: looks for more specs and says whether some are here or may still come; only pull workers find any.
    history: of finished runs, for starting the longest first.  begun: kinds of which a run was started here.
    """

    store: RunStore
    pending: list[RunSpec]
    entries: Mapping[str, Entry]
    summary: Summary
    notify: Callable[[Event], None]
    ttl: float = TTL
    poll: float = POLL
    accept: Callable[[RunSpec], bool] = lambda spec: True
    more: Callable[[], bool] | None = None
    history: History = field(default_factory=History)
    leases: dict[str, Held] = field(default_factory=dict)
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
                if not self._ended_elsewhere(spec):  # between the look and the claim
                    self.take(spec)
                    return spec
                self.release(spec)
            self.pending.remove(spec)
        return None

    def in_order(self) -> list[RunSpec]:
        """What is pending, in the order in which it is best started."""
        return longest_first(self.pending, self.history, self.begun)

    def take(self, spec: RunSpec) -> None:
        self.pending.remove(spec)
        self.begun.add(kind_of(spec))

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
        return longest_first(free, self.history, self.begun | {kind_of(spec) for spec in held}) + held[:1]

    def observe(self) -> None:
        """Strike off what others have ended, for an engine whose runs are all done elsewhere."""
        known = set(self.store.ids())  # one look at the folder: what has none in it has not begun
        for spec in [spec for spec in self.pending if spec.id in known]:
            ended = self._done_elsewhere(spec)
            if not ended and self._outcome(spec):  # it failed; while another holds its lease, it is tried once more
                lease = self.store.claim(spec.id, self.ttl)
                if lease is not None:
                    ended = self._ended_elsewhere(spec)
                    lease.release()
            if ended:
                self.pending.remove(spec)

    def settle(self, spec: RunSpec, seconds: float, device: str) -> bool:
        """Report what the store holds of a run that was tried here. False: neither a record nor a new failure."""
        outcome = self._outcome(spec)
        if outcome is None:
            return False
        self._report("done" if outcome.status == "done" else "failed", outcome, seconds, device)
        self.release(spec)
        return True

    def fail(self, spec: RunSpec, reason: str, seconds: float, device: str, again: bool = False) -> None:
        """Store and report a failed attempt. again: the run is started once more; its lease is kept."""
        failure = self.store.put_failed(spec, reason, seconds=seconds, device=device)
        if again:
            self.notify(Event("retry", spec, seconds, reason=reason, device=device))
        else:
            self._report("failed", failure, seconds, device)
            self.release(spec)

    def release(self, spec: RunSpec) -> None:
        lease = self.leases.pop(spec.id, None)
        if lease is not None:
            lease.release()

    def _done_elsewhere(self, spec: RunSpec) -> bool:
        """Whether another process has finished it, which is reported. Reads one file: this is asked most often."""
        record = self.store.get(spec.id)
        if record is not None:
            self._report("elsewhere", record, record.seconds)
        return record is not None

    def _ended_elsewhere(self, spec: RunSpec) -> bool:
        """The same, of a run whose lease is held here, so that a failure is its end as well."""
        outcome = self._outcome(spec)
        if outcome is not None:
            self._report("elsewhere", outcome, outcome.seconds)
        return outcome is not None

    def _outcome(self, spec: RunSpec) -> RunRecord | None:
        """Its record, or its last failure if that is newer than this command."""
        found = self.store.get(spec.id) or self.store.failed(spec.id)
        return found if found and (found.status == "done" or found.attempts > self.entries[spec.id].attempts) else None

    def _report(self, kind: str, outcome: RunRecord, seconds: float | None, device: str | None = None) -> None:
        spec = outcome.spec
        if outcome.status == "done":
            self.history.learn(outcome)
            self.summary.done.append(spec)
            self.notify(Event(kind, spec, seconds, outcome, device=device))
        else:
            self.summary.failed.append((spec, outcome.reason or ""))
            self.notify(Event(kind, spec, seconds, reason=outcome.reason, device=device))


def kind(device: str) -> str:
    """ "cuda" for "cuda:1"."""
    return device.partition(":")[0]
