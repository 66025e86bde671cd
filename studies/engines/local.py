"""The local engine: runs in processes of their own, so that a crash takes only its own run.

On a CPU, and where one run is done at a time, each run has a new process. On GPUs that do several, a worker does one
after another, since a new process would make a CUDA context and load kernels anew; what a run has set is put back
(studies.engines.fresh), and a run that was not expected to fail takes its worker with it.

A run whose worker is killed is tried once more. One that ran out of memory beside others is tried again beside fewer
(studies.engines.slots). One that is over its time limit is killed and counts as failed, since it would hang again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait

from hycon.errors import UserError
from studies.engines import mps
from studies.engines.backlog import Backlog, Event, kind
from studies.engines.child import DEVICE_FULL, HOST_FULL, UNWRITABLE, Job
from studies.engines.options import How
from studies.engines.signals import Interrupt
from studies.engines.slots import Slots, slots_for
from studies.engines.workers import Worker, forkserver_ended_by, kill_forkserver, spawn, start_forkserver, stop
from studies.store.record import RunSpec

KEEPING = frozenset({"cuda"})  # kinds of device whose workers do one run after another
STRAGGLING = 5.0  # seconds from the first SIGTERM of a job to the last; chosen here
ORPHANED = 255  # the exit code that multiprocessing gives workers whose fork server has ended
LONGEST_WAIT = 86400.0  # seconds: the system counts them in milliseconds, of which it takes 25 days
DEATHS = 2  # a worker that is killed is tried once more, the second death is a failure


@dataclass(eq=False)
class _Child:
    """A run and the worker that does it.

    limit: seconds; overdue: it was killed for having passed it.  deaths: how often the run's process has died.
    over: the worker has told that the run has ended.  complaint: why memory ran out or the store could not be written.
    silent: nothing more will be told.
    """

    worker: Worker
    spec: RunSpec
    started: float
    limit: float | None
    deaths: int
    overdue: bool = False
    over: bool = False
    silent: bool = False
    complaint: str = ""

    def signs(self) -> list[Connection | int]:
        """What to wait for."""
        ended = self.worker.process.sentinel
        return [ended] if self.silent else [ended, self.worker.pipe]


def run_local(backlog: Backlog, how: How) -> None:
    """The engine "local". Raises KeyboardInterrupt, and UserError where the store cannot be written."""
    children: list[_Child] = []
    idle: list[Worker] = []
    dismissed: list[Worker] = []
    again: list[_Child] = []  # have ended, and are to be started once more as soon as there is room

    with Interrupt() as interrupt:
        try:
            start_forkserver(how)
            with interrupt.raised():  # a GPU is asked for its memory by a process of the fork server
                slots = slots_for(how, backlog.history, backlog.summary.lowered)
            while not interrupt.caught:
                for spec, device, deaths in _fill(backlog, slots, again):
                    worker = _taken(idle, device)
                    if worker is None:
                        with interrupt.raised():  # the first start waits until the fork server has imported torch
                            worker = spawn(backlog.store, how, device)
                    children.append(_begin(backlog, how, worker, spec, deaths))
                dismissed = _ending(dismissed + _dismiss(idle))
                more = backlog.open()
                if not more and not children:
                    break
                poll = backlog.poll if more and slots.free() else None
                signs = [sign for child in children for sign in child.signs()]
                ready = set(wait([*signs, interrupt.reader], _patience(children, poll)))
                if interrupt.caught:  # workers may have got the signal too: that is no failure of theirs
                    break
                for child in [child for child in children if _ended(child, ready, backlog)]:
                    children.remove(child)
                    if not child.over and _stopped_with_us(child, interrupt):
                        break
                    if not _end(backlog, child, slots):
                        again.append(child)
                    if child.over:
                        (dismissed if child.overdue else idle).append(child.worker)
                _kill_overdue(children)
        except KeyboardInterrupt:
            kill_forkserver()
            raise
        finally:
            stop([*(child.worker for child in children), *idle], dismissed)
    if interrupt.caught:
        raise KeyboardInterrupt


def _taken(idle: list[Worker], device: str) -> Worker | None:
    """A worker that has done a run on this device and is alive."""
    for worker in [worker for worker in idle if worker.device == device]:
        idle.remove(worker)
        if worker.alive():
            return worker
        worker.close()
    return None


def _dismiss(idle: list[Worker]) -> list[Worker]:
    """End workers that have nothing to do now: their memory on the GPU is no run's budget."""
    dismissed = idle[:]
    idle.clear()
    for worker in dismissed:
        worker.pipe.close()
    return dismissed


def _ending(dismissed: Iterable[Worker]) -> list[Worker]:
    """The workers that have not ended yet. Lets go of the others: a command of days dismisses thousands."""
    ending = []
    for worker in dismissed:
        if worker.alive():
            ending.append(worker)
        else:
            worker.close()
    return ending


def _begin(backlog: Backlog, how: How, worker: Worker, spec: RunSpec, deaths: int) -> _Child:
    models = tuple(file for file in how.models if file.name == spec.model)
    alone = how.workers == 1  # with the time that a new process takes in it, as in all records of runs one at a time
    last = alone or bool(models) or kind(worker.device) not in KEEPING
    asked = backlog.entries[spec.id]
    with contextlib.suppress(OSError):  # it has died, which will be noticed
        worker.pipe.send(Job(spec, worker.device, dict(os.environ), models, last, asked.execute, asked.keep_weights))
    return _Child(worker, spec, time.monotonic(), asked.time_limit, deaths)


def _fill(backlog: Backlog, slots: Slots, again: list[_Child]) -> Iterator[tuple[RunSpec, str, int]]:
    """What to start on which free slot, as far as there is something, and how often it has died before."""
    exhausted: set[str] = set()
    while free := [device for device in slots.free() if not exhausted & {device, kind(device)}]:
        device = free[0]
        begun = _begun(slots, again, device)
        spec = begun.spec if begun else backlog.claim(device, partial(slots.admits, device=device))
        if spec is None:  # where memory decides, another device of this kind may have room
            exhausted.add(kind(device) if slots.memory is None else device)
            continue
        slots.enter(spec, device)
        if begun is None:
            backlog.notify(Event("start", spec, device=device))
        yield spec, device, begun.deaths if begun else 0


def _begun(slots: Slots, again: list[_Child], device: str) -> _Child | None:
    """What was begun before goes first, so that no stream of smaller runs keeps it waiting."""
    for child in again:
        if child.spec.device == kind(device) and slots.admits(child.spec, device):
            again.remove(child)
            return child
    return None


def _patience(children: Iterable[_Child], poll: float | None) -> float | None:
    """Seconds to wait for something to happen: `poll`, or until the first run is over its limit."""
    now = time.monotonic()
    left = [c.started + c.limit - now for c in children if c.limit is not None and not c.overdue]
    return max(0.0, min([*left, LONGEST_WAIT] if poll is None else [*left, poll])) if left else poll


def _kill_overdue(children: Iterable[_Child]) -> None:
    """Not politely: whatever hangs may not listen, and what a run has not stored yet is lost either way."""
    for child in children:
        if child.limit is not None and not child.overdue and time.monotonic() - child.started >= child.limit:
            child.overdue = True
            if child.worker.device != "cpu":
                mps.end_client(child.worker.process.pid or 0)
            child.worker.process.kill()


def _ended(child: _Child, ready: Collection[object], backlog: Backlog) -> bool:
    """Whether its run has ended, now that these signs were given. Takes what its worker tells."""
    if not any(sign in ready for sign in child.signs()):
        return False
    pipe = child.worker.pipe
    while not child.silent and not child.over and pipe.poll():
        try:
            told = pipe.recv()
        except (EOFError, OSError):
            child.silent = True
            continue
        if told is None:
            child.over = True
        elif isinstance(told, str):
            child.complaint, child.silent = told, True
        else:
            backlog.history.learn_peak(child.spec, told)
    return child.over or child.worker.process.sentinel in ready


def _stopped_with_us(child: _Child, interrupt: Interrupt) -> bool:
    """Slurm sends SIGTERM to every process of a job, one after the other: ours may be still on its way, also where the
    fork server has got it before its workers."""
    child.worker.process.join()
    code = child.worker.process.exitcode
    terminated = code == -signal.SIGTERM or (code == ORPHANED and forkserver_ended_by() == signal.SIGTERM)
    return terminated and bool(wait([interrupt.reader], STRAGGLING))


def _end(backlog: Backlog, child: _Child, slots: Slots) -> bool:
    """Settle a run that has ended. False: its process died and it is to be started once more; its lease is kept."""
    spec, device, seconds = child.spec, child.worker.device, time.monotonic() - child.started
    code = 0 if child.over else child.worker.close()
    if code == UNWRITABLE and child.complaint:
        raise UserError(child.complaint)
    if (code == 0 or backlog.store.has(spec.id)) and backlog.settle(spec, seconds, device):
        slots.leave(spec)
        return True
    reason, again = _death(child, code, slots)
    slots.leave(spec)
    backlog.fail(spec, reason, seconds, device, again)
    return not again


def _death(child: _Child, code: int | None, slots: Slots) -> tuple[str, bool]:
    """Why a process ended without a result, and whether its run is started once more."""
    if child.overdue:
        return f"stopped: over the time limit of {child.limit:g} s", False
    if code in (HOST_FULL, DEVICE_FULL) and child.complaint:
        lowered = slots.lower(child.spec, host=code == HOST_FULL)
        return f"{child.complaint}; {lowered or 'nothing ran beside it'}", lowered is not None
    child.deaths += 1
    again = child.deaths < DEATHS
    lowered = None
    if code == -signal.SIGKILL:  # which is how the kernel frees memory
        lowered = slots.lower(child.spec, host=True)
    return f"{_cause(code)}; {lowered}" if lowered and again else _cause(code), again


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return f"its process ended with exit code {code} and without a record"
    number = -code
    if number == signal.SIGKILL:
        return f"killed by signal {number} (out of memory?)"
    name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
    return f"killed by signal {number} ({name})"
