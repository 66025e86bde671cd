"""A pull worker: takes runs from the queue of a store, whoever published them, until there is nothing left to take.

It runs anywhere that sees the store, and beside any number of others: leases decide who does what
(studies.store.leases), and runs are done in processes of their own (studies.engines.local). It stores no state of its
own. When it is stopped, what it has begun is free for others at once; when its machine dies, after a lease's ttl.
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
from studies.engines.backlog import Backlog, Event, Summary, kind
from studies.engines.history import History
from studies.engines.local import run_local
from studies.engines.options import EXECUTE, Asked, How, workers_for
from studies.engines.robustness import EXECUTE as ROBUST
from studies.engines.run import preload_for
from studies.engines.signals import Interrupt
from studies.engines.workers import GRACE
from studies.registry import MODELS, literal, own_files, source_of
from studies.store.leases import TTL, heartbeat
from studies.store.record import RunSpec
from studies.store.run_store import RunStore, checkpoint_epochs

POLL = 2.0  # seconds between looks at the queue: many workers share one file server; chosen here
STOP = GRACE + 1.0  # seconds before the time limit at which runs are stopped
FRESH = 0.9  # a worker with this share of its time left may start runs of unknown duration; chosen here
OURS = (EXECUTE, ROBUST)  # a worker for one does the runs for the other, too
SLOWER, START = 1.1, 5.0  # factor on the longest run of its kind, and seconds to start a run; chosen here

End = Literal["idle", "time", "once"]


@dataclass(frozen=True)
class Limits:
    """When a worker ends. seconds: its time limit.  idle: so long with nothing to do.  once: after its first run."""

    seconds: float | None = None
    idle: float = 60.0  # chosen here: bridges the pause between a search and its winner's runs
    once: bool = False


@dataclass
class Pull:
    """What a worker has taken from the queue and what it has done. Its Backlog claims from `pending`.

    entries: those read and not ended, by run id.  running: run id -> seconds after `began` at which it started.
    kept: run id -> epochs in its checkpoint when it started here.  brought_on: runs that were cut with a later one.
    done, failed: by this worker.  refused: run id -> why it cannot do it.  end: why there was no more to do.
    """

    store: RunStore
    limits: Limits
    execute: str
    data_root: str | None
    kinds: frozenset[str]
    history: History
    notify: Callable[[Event], None]
    poll: float = POLL
    began: float = field(default_factory=time.monotonic)
    active: float = field(default_factory=time.monotonic)
    looked: float = -1e9
    end: End = "idle"
    pending: list[RunSpec] = field(default_factory=list)
    done: list[RunSpec] = field(default_factory=list)
    failed: list[tuple[RunSpec, str]] = field(default_factory=list)
    entries: dict[str, queue.Entry] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    brought_on: list[str] = field(default_factory=list)

    def backlog(self, ttl: float = TTL) -> Backlog:
        """A backlog that is filled from the queue, and that tells this worker what happens."""
        return Backlog(
            self.store, self.pending, self.entries, Summary(), self.heard, ttl,
            poll=self.poll, accept=self.accept, more=self.more, history=self.history,
        )  # fmt: skip

    def more(self) -> bool:
        """Look for new entries, and say whether there is something to do or to wait for."""
        now = time.monotonic()
        if now - self.looked >= self.poll:
            self.looked = now
            self._look()
        if self.running:
            self.active = time.monotonic()
            return not self._last()
        if self._last():
            self.end = "once"
        elif self.pending and not any(map(self._fits, self.pending)):
            self.end = "time"
        else:
            return time.monotonic() - self.active < self.limits.idle
        return False

    def accept(self, spec: RunSpec) -> bool:
        return not self._last() and self._fits(spec) and queue.wanted(self.store, spec.id)

    def heard(self, event: Event) -> None:
        """Keep count, and take away from the queue what has ended."""
        run_id = event.spec.id
        self.active = time.monotonic()
        if event.kind == "start":
            self.kept[run_id] = checkpoint_epochs(self.store, run_id)
            self.running[run_id] = self.active - self.began
        elif event.kind != "retry":
            self.running.pop(run_id, None)
            self.entries.pop(run_id, None)
            queue.withdraw_ended(self.store, run_id)
            if event.kind == "done":
                self.done.append(event.spec)
            elif event.kind == "failed":
                self.failed.append((event.spec, event.reason or ""))
        if event.kind != "elsewhere":
            self.notify(event)

    def cut(self, backlog: Backlog) -> None:
        """Note as failed what had a whole worker's time and neither ended nor came to another checkpoint; the rest is
        free for the next one."""
        limit = self.limits.seconds or 0.0
        for run_id, started in list(self.running.items()):
            if started <= (1 - FRESH) * limit and not self.store.has(run_id):
                spec = self.entries[run_id].spec
                if checkpoint_epochs(self.store, run_id) > self.kept.get(run_id, 0):
                    self.brought_on.append(run_id)
                    continue
                reason = f"not done within the {limit:.0f} s of a worker: give workers more time"
                backlog.fail(spec, reason, limit - started, spec.device)

    def _last(self) -> bool:
        return self.limits.once and bool(self.running or self.done or self.failed)

    def _look(self) -> None:
        """Bring `entries` and `pending` up to date with the queue."""
        waiting = queue.waiting(self.store)
        for run_id in (self.entries.keys() | self.refused.keys()) - waiting - self.running.keys():
            self.refused.pop(run_id, None)
            gone = self.entries.pop(run_id, None)
            if gone is not None and self.history.longest(gone.spec) is None:
                record = self.store.get(run_id)  # another worker's: the first of its kind
                if record is not None:
                    self.history.learn(record)
        for run_id in waiting - self.entries.keys() - self.refused.keys():
            entry = queue.read(self.store, run_id)
            if entry is None:
                continue
            if queue.ended(self.store, entry):
                queue.withdraw_ended(self.store, run_id)
            elif why := self._unserved(entry):
                self.refused[run_id] = why
            else:
                self.entries[run_id] = entry
                self.data_root = self.data_root or entry.data_root
                self.active = time.monotonic()
        self.pending[:] = [entry.spec for run_id, entry in self.entries.items() if run_id not in self.running]
        random.shuffle(self.pending)  # of equally long runs each worker tries for another one

    def _unserved(self, entry: queue.Entry) -> str | None:
        """Why this worker cannot do the run; None: it can."""
        if entry.spec.suite != RunSpec.suite:  # it would fail here, and be done by others
            return f"it is of version {entry.spec.suite} of the suite, this code has {RunSpec.suite}"
        if entry.execute not in (OURS if self.execute in OURS else (self.execute,)):
            return f"it is for {entry.execute}"
        if entry.spec.device not in self.kinds:
            return f"it is for {entry.spec.device}"
        if self.execute not in OURS:
            return None
        spec = entry.spec
        missing = missing_corpus(spec.corpus, spec.data, self.data_root or entry.data_root) or missing_encoder(spec)
        return missing or missing_model(spec) or other_version(spec)

    def _fits(self, spec: RunSpec) -> bool:
        """Whether it will, as far as is known, end within this worker's time."""
        if self.limits.seconds is None:
            return True
        left = self.limits.seconds - STOP - (time.monotonic() - self.began)
        bounds = [self.history.longest(spec), self.entries[spec.id].time_limit]
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
    pull = Pull(
        store, limits, execute, data_root, frozenset(map(kind, devices)), History(store.records()),
        on_event or (lambda event: None), poll, began,
    )  # fmt: skip
    backlog, rung = pull.backlog(ttl), threading.Event()
    with Interrupt(raising=True), heartbeat(backlog.leases, ttl):
        try:
            with _alarm(None if limits.seconds is None else began + limits.seconds - STOP, rung):
                while pull.more() and not pull.pending:
                    time.sleep(min(poll, limits.idle))
                if pull.pending:
                    workers = 1 if limits.once else workers_for(None, slots, devices)
                    preload = preload_for(pull.pending) if preload is None else preload
                    how = How(
                        workers=workers, devices=tuple(devices), slots=slots, data_root=pull.data_root,
                        execute=execute, preload=preload, models=own_files(),
                    )  # fmt: skip
                    run_local(backlog, how)
        except KeyboardInterrupt:
            if not rung.is_set():
                raise
            pull.end = "time"
            pull.cut(backlog)
    return pull


@cache
def missing_corpus(name: str, data: str, root: str) -> str | None:
    """Why runs on this corpus cannot be done here, or None; without this, each of them would be noted as failed."""
    from hycon.data.checksums import check_corpus
    from hycon.data.manifest import read_manifest

    try:
        manifest = read_manifest(name, root)
    except UserError:
        return f"corpus {name!r} is not in {root}"
    if manifest.sha256 != data:
        return f"corpus {name!r} in {root} holds other data"
    try:
        check_corpus(name, root)  # once for all runs of this worker
    except UserError as error:
        return str(error)
    return None


def missing_encoder(spec: RunSpec) -> str | None:
    """Why runs with this run's encoder cannot be done here, or None. By its sha256; nothing is fetched."""
    if not spec.encoder:
        return None
    from hycon.pretrained import missing_because

    return missing_because(spec.text, spec.encoder)


def missing_model(spec: RunSpec) -> str | None:
    """Why runs of a model outside the repository cannot be done here, or None. By the content of its file; what a queue
    names is never executed."""
    if spec.source is None or source_of(spec.model) == spec.source:
        return None
    other = "another content" if source_of(spec.model) else "not here"
    return f"the file of model {spec.model} (sha256 {spec.source[:12]}) is {other}: give it with --model FILE"


def other_version(spec: RunSpec) -> str | None:
    """Why the suite's own model of a run is another one in this code, or None: the checkouts of driver and worker may
    differ, and each such run would be noted as failed."""
    if spec.source is not None:
        return None
    if spec.model not in MODELS:
        return f"this code has no model {spec.model}"
    version = _version(spec.model)
    same = version == spec.version
    return None if same else f"it is of version {spec.version} of {spec.model}, this code has {version}"


@cache  # parses a file, and a queue may have thousands of runs
def _version(model: str) -> int:
    return literal(model, "VERSION")


@contextmanager
def _alarm(moment: float | None, rung: threading.Event) -> Iterator[None]:
    """At a moment of time.monotonic, end this process as SIGTERM would; `rung` is set first, to tell the two apart."""

    def ring() -> None:
        rung.set()
        os.kill(os.getpid(), signal.SIGTERM)

    left = 0.0 if moment is None else min(max(0.0, moment - time.monotonic()), threading.TIMEOUT_MAX)
    timer = threading.Timer(left, ring)
    timer.daemon = True
    if moment is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
