"""A pull worker: takes runs from the queue of a store, whoever published them, until there is nothing left to take.

It runs anywhere that sees the store, and beside any number of others: leases decide who does what
(studies.store.leases), and each run has a process of its own (studies.engines.local). It checkpoints nothing. What it
has begun when it is stopped is free for others at once, and so is, after a lease's ttl, what it had begun when its
machine died.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from hycon.errors import UserError
from studies.engines import queue
from studies.engines.backlog import Backlog, Event, How, Summary, kind
from studies.engines.durations import Durations
from studies.engines.local import GRACE, run_local
from studies.engines.options import Cluster
from studies.engines.signals import Interrupt
from studies.engines.slots import Asked, workers_for
from studies.store.leases import TTL, heartbeat
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

EXECUTE = "studies.engines.one_run:execute"
POLL = 2.0  # seconds between looks at the queue: many workers share one file server; chosen here
STOP = GRACE + 1.0  # seconds before the time limit at which runs are stopped
FRESH = 0.9  # a worker with this share of its time left may start what it knows no duration of; chosen here
SLOWER, START = 1.1, 5.0  # a run may take this much longer than the longest alike, and as long to start; chosen here

End = Literal["idle", "time", "once"]


@dataclass(frozen=True)
class Limits:
    """When a worker ends. seconds: its time limit.  idle: so long with nothing to do.  once: after its first run."""

    seconds: float | None = None
    idle: float = 60.0  # chosen here: bridges the pause between a search and its winner's runs
    once: bool = False


@dataclass
class Pull:
    """A backlog that is filled from the queue.

    entries: those read and not ended.  running: run id -> seconds after `began` at which it started.  done, failed: by
    this worker.  refused: run id -> why it cannot do it.  time_limits: run id -> seconds that its driver allows.
    end: why there was no more to do.
    """

    backlog: Backlog
    limits: Limits
    execute: str
    data_root: str | None
    kinds: frozenset[str]
    notify: Callable[[Event], None]
    began: float = field(default_factory=time.monotonic)
    active: float = field(default_factory=time.monotonic)
    looked: float = -1e9
    taken: int = 0
    end: End = "idle"
    done: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str]] = field(default_factory=list)
    entries: dict[str, queue.Entry] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    time_limits: dict[str, float | None] = field(default_factory=dict)

    def more(self) -> bool:
        """Look for new entries, and say whether there is something to do or to wait for."""
        now = time.monotonic()
        if now - self.looked >= self.backlog.poll:
            self.looked = now
            self._look()
        if self.running:
            self.active = time.monotonic()
            return not self._last()
        if self._last():
            self.end = "once"
        elif self.backlog.pending and not any(self._fits(spec) for spec in self.backlog.pending):
            self.end = "time"
        else:
            return time.monotonic() - self.active < self.limits.idle
        return False

    def accept(self, spec: RunSpec) -> bool:
        return not self._last() and self._fits(spec) and queue.wanted(self.backlog.store, spec.id)

    def heard(self, event: Event) -> None:
        """Keep count, and take away from the queue what has ended."""
        run_id = event.spec.id
        self.active = time.monotonic()
        if event.kind == "start":
            self.taken += 1
            self.running[run_id] = self.active - self.began
        elif event.kind != "retry":
            self.running.pop(run_id, None)
            self.entries.pop(run_id, None)
            queue.withdraw_ended(self.backlog.store, run_id)
            if event.kind == "done":
                self.done.append(event.spec)
            elif event.kind == "failed":
                self.failed.append((event.spec, event.reason or ""))
        if event.kind != "elsewhere":
            self.notify(event)

    def cut(self) -> None:
        """Note as failed what had a whole worker's time and was not done in it; the rest is free for the next one."""
        limit = self.limits.seconds or 0.0
        for run_id, started in list(self.running.items()):
            spec = self.entries[run_id].spec
            if started <= (1 - FRESH) * limit and not self.backlog.store.has(run_id):
                reason = f"not done within the {limit:.0f} s of a worker: give workers more time"
                failed = self.backlog.store.put_failed(spec, reason, seconds=limit - started)
                self.backlog.fail(spec, failed.reason or "", limit - started, spec.device)

    def _last(self) -> bool:
        return self.limits.once and self.taken > 0

    def _look(self) -> None:
        store, backlog = self.backlog.store, self.backlog
        waiting = queue.waiting(store)
        for run_id in (self.entries.keys() | self.refused.keys()) - waiting - self.running.keys():
            self.refused.pop(run_id, None)
            gone = self.entries.pop(run_id, None)
            if gone is not None and backlog.durations.longest(gone.spec) is None:
                record = store.get(run_id)  # another worker's: the first of its kind
                if record is not None:
                    backlog.durations.learn(record)
        new = []
        for run_id in waiting - self.entries.keys() - self.refused.keys():
            entry = queue.read(store, run_id)
            if entry is None:
                continue
            if queue.ended(store, entry):
                queue.withdraw_ended(store, run_id)
            elif why := self._unserved(entry):
                self.refused[run_id] = why
            else:
                self.entries[run_id] = entry
                self.time_limits[run_id] = entry.time_limit
                new.append(run_id)
        if new:
            self.active = time.monotonic()
        left = [entry for run_id, entry in self.entries.items() if run_id not in self.running]
        backlog.before = {run_id: entry.attempts for run_id, entry in self.entries.items()}
        random.shuffle(left)  # of equally long runs each worker tries for another one
        backlog.pending[:] = [entry.spec for entry in left]

    def _unserved(self, entry: queue.Entry) -> str | None:
        if entry.execute != self.execute:
            return f"it is for {entry.execute}"
        if entry.spec.device not in self.kinds:
            return f"it is for {entry.spec.device}"
        if self.data_root is None:
            self.data_root = entry.data_root
        if self.execute != EXECUTE:
            return None
        return missing_corpus(entry.spec.corpus, entry.spec.data, self.data_root)

    def _fits(self, spec: RunSpec) -> bool:
        """Whether it will, as far as can be told, end within this worker's time."""
        if self.limits.seconds is None:
            return True
        left = self.limits.seconds - STOP - (time.monotonic() - self.began)
        bounds = [self.backlog.durations.longest(spec), self.time_limits.get(spec.id)]
        known = [bound * SLOWER + START for bound in bounds if bound is not None]
        return left > FRESH * self.limits.seconds - STOP or (bool(known) and left > min(known))


def work(
    store: RunStore,
    *,
    devices: Sequence[str] = ("cpu",),
    slots: Asked = 1,
    data_root: str | None = None,
    limits: Limits | None = None,
    execute: str = EXECUTE,
    preload: Sequence[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    poll: float = POLL,
    ttl: float = TTL,
) -> Pull:
    """Do runs from the queue, `slots` at a time on each device, until a limit is reached; what was done, and why ended.

    slots: or "auto", as many as fit.  data_root: folder of corpora; None: the one that the first entry names.
    preload: modules that all processes share, by default what the first entries need.
    To be called in the main thread. Raises UserError where the store cannot be written, KeyboardInterrupt after Ctrl-C
    or SIGTERM, within 2 s and with all runs stopped and leases released.
    """
    limits = limits or Limits()
    began = time.monotonic()
    store.leases.check()
    store.check_writable()
    backlog = Backlog(
        store, [], {}, Summary(), lambda event: None, ttl, poll=poll, durations=Durations(store.records())
    )
    pull = Pull(
        backlog, limits, execute, data_root, frozenset(map(kind, devices)), on_event or (lambda event: None),
        began=began,
    )  # fmt: skip
    backlog.notify, backlog.accept, backlog.more = pull.heard, pull.accept, pull.more
    alarm = _Alarm(None if limits.seconds is None else limits.seconds - STOP - (time.monotonic() - began))
    with Interrupt(raising=True), heartbeat(backlog.leases, ttl):
        try:
            with alarm.set():
                while pull.more() and not backlog.pending:
                    time.sleep(min(poll, limits.idle))
                if backlog.pending:
                    run_local(backlog, _how(pull, devices, slots, preload))
        except KeyboardInterrupt:
            if not alarm.rung:
                raise
            pull.end = "time"
            pull.cut()
    return pull


def _how(pull: Pull, devices: Sequence[str], slots: Asked, preload: Sequence[str] | None) -> How:
    if preload is None:
        from hycon.pretrained import modules

        kinds = {spec.text for spec in pull.backlog.pending if spec.encoder}
        preload = ("torch", "studies.engines.preload", *modules(kinds))
    workers = 1 if pull.limits.once else workers_for(None, slots, devices)
    return How(
        workers, tuple(devices), pull.execute, str(pull.data_root), tuple(preload), Cluster(),
        slots=slots, time_limits=pull.time_limits,
    )  # fmt: skip


@cache
def missing_corpus(name: str, data: str, root: str) -> str | None:
    """Why runs on this corpus cannot be done here, or None; without this, each of them would be noted as failed."""
    from hycon.data.manifest import read_manifest

    try:
        manifest = read_manifest(name, root)
    except UserError:
        return f"corpus {name!r} is not in {root}"
    return None if manifest.sha256 == data else f"corpus {name!r} in {root} holds other data"


class _Alarm:
    """Ends this process as SIGTERM would, after some seconds; `rung` tells it from a real one."""

    def __init__(self, seconds: float | None):
        self.seconds = seconds
        self.rung = False

    @contextmanager
    def set(self) -> Iterator[None]:
        if self.seconds is None:
            yield
            return
        timer = threading.Timer(max(0.0, self.seconds), self._ring)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _ring(self) -> None:
        self.rung = True
        os.kill(os.getpid(), signal.SIGTERM)
