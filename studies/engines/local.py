"""The local engine: a process per run, so that nothing leaks from one into the next and a crash takes only its own run.

Workers are forked from a server that has imported torch already, which starts a run in about 20 ms instead of 2 s.
A run whose worker is killed is tried once more. One that ran out of memory beside others is tried again beside fewer
(studies.engines.slots). One that is over its time limit is killed and counts as failed, since it would hang again.
Workers end with their driver, whatever ends it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

from hycon import encoder_files
from hycon.data import checksums
from hycon.errors import UserError
from hycon.host import source_root
from studies.engines.backlog import Backlog, Event, kind
from studies.engines.child import DEVICE_FULL, ENVIRONMENT, HOST_FULL, UNWRITABLE, child_main
from studies.engines.executors import WITHOUT_PROCESSES
from studies.engines.options import How
from studies.engines.signals import Interrupt, sigint_ignored
from studies.engines.slots import Slots, slots_for
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

GRACE = 1.0  # seconds between SIGTERM and SIGKILL; Ctrl-C must be over within 2 s
STRAGGLING = 5.0  # seconds from the first SIGTERM of a job to the last; chosen here
ORPHANED = 255  # the exit code that multiprocessing gives workers whose fork server has ended
LONGEST_WAIT = 86400.0  # seconds: the system counts them in milliseconds, of which it takes 25 days
DYING = 0.5  # seconds that the system may take over its death; chosen here
KNOWN = (checksums.KEPT, encoder_files.KEPT)  # what this process has read, so that no run reads it again
DEATHS = 2  # a worker that is killed is tried once more, the second death is a failure


@dataclass
class _Child:
    """A run's process. complaint: sends one sentence where memory ran out or the store could not be written.

    limit: seconds; overdue: it was killed for having passed it.  deaths: how often the run's process has died.
    """

    process: multiprocessing.process.BaseProcess
    complaint: Connection
    spec: RunSpec
    device: str
    started: float
    limit: float | None
    deaths: int
    overdue: bool = False


def run_local(backlog: Backlog, how: How) -> None:
    """The engine "local". Raises KeyboardInterrupt, and UserError where the store cannot be written."""
    context = multiprocessing.get_context("forkserver")
    slots = slots_for(how, backlog.history, backlog.summary.lowered)
    children: dict[int, _Child] = {}  # by sentinel
    again: list[_Child] = []  # have ended, and are to be started once more as soon as there is room

    with Interrupt() as interrupt:
        try:
            _start_forkserver(context, how)
            while not interrupt.caught:
                for spec, device, deaths in _fill(backlog, slots, again):
                    with interrupt.raised():  # the first start waits until the fork server has imported torch
                        started = _spawn(context, backlog, how, spec, device, deaths)
                    children[started.process.sentinel] = started
                more = backlog.open()
                if not more and not children:
                    break
                poll = backlog.poll if more and slots.free() else None
                for sentinel in wait([*children, interrupt.reader], _patience(children.values(), poll)):
                    if interrupt.caught:  # workers may have got the signal too: that is no failure of theirs
                        break
                    child = children.pop(sentinel, None) if isinstance(sentinel, int) else None
                    if child is not None and _stopped_with_us(child, interrupt):
                        break
                    if child is not None and not _end(backlog, child, slots):
                        again.append(child)
                _kill_overdue(children.values())
        except KeyboardInterrupt:
            _kill_forkserver()
            raise
        finally:
            _stop(children.values())
    if interrupt.caught:
        raise KeyboardInterrupt


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
            child.process.kill()


def _start_forkserver(context, how: How) -> None:
    """Start the process that workers are forked from, with single-threaded libraries already imported."""
    from multiprocessing import forkserver

    context.set_forkserver_preload([*(how.preload or ()), "studies.engines.child", how.execute.partition(":")[0]])
    environment = _environment()
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with sigint_ignored():  # inherited: Ctrl-C must not reach a worker before its first line
            forkserver.ensure_running()
    except OSError as error:  # its socket is in TMPDIR
        raise UserError(
            f"Workers cannot be started ({error.strerror or error}): set TMPDIR to a short path that can be written, "
            "such as /tmp."
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _environment() -> dict[str, str]:
    """Of the fork server. Python would look for modules in its working directory first: in a clone, workers would run
    the clone's source and this process the installed package."""
    return ENVIRONMENT if source_root() == Path.cwd() else {**ENVIRONMENT, "PYTHONSAFEPATH": "1"}


def _forkserver_pid() -> int | None:
    from multiprocessing import forkserver

    return getattr(forkserver._forkserver, "_forkserver_pid", None)  # type: ignore[attr-defined]


def _kill_forkserver() -> None:
    """It may go on importing for seconds, and whoever reads our output through a pipe would wait for it as well."""
    pid = _forkserver_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and left for the next start to notice


def _forkserver_ended_by() -> int | None:
    """The signal that has ended the fork server, whose pipes close a moment before it is dead; None where it lives."""
    pid = _forkserver_pid()
    deadline = time.monotonic() + DYING
    with contextlib.suppress(ChildProcessError):
        while pid is not None and time.monotonic() < deadline:
            end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if end is not None:
                return end.si_status if end.si_code == os.CLD_KILLED else None
            time.sleep(0.01)
    return None


def _spawn(context, backlog: Backlog, how: How, spec: RunSpec, device: str, deaths: int) -> _Child:
    receiver, sender = context.Pipe(duplex=False)
    known = {name: os.environ[name] for name in KNOWN if name in os.environ}
    models = tuple(file for file in how.models if file.name == spec.model)
    execute, keep_weights = backlog.ways.get(spec.id, (how.execute, how.keep_weights))
    where = (execute, str(how.data_root), device, sender, known, models, keep_weights)
    arguments = (spec, RunStore(backlog.store.root), *where)
    process = context.Process(target=child_main, args=arguments, name=f"run {spec.id}", daemon=True)
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise UserError(
            f"Workers cannot be started ({type(error).__name__} {error}): try --executor {WITHOUT_PROCESSES}."
        ) from error
    sender.close()
    limit = backlog.time_limits.get(spec.id, how.time_limit)
    return _Child(process, receiver, spec, device, time.monotonic(), limit, deaths)


def _stopped_with_us(child: _Child, interrupt: Interrupt) -> bool:
    """Slurm sends SIGTERM to every process of a job, one after the other: ours may be still on its way, also where the
    fork server has got it before its workers."""
    child.process.join()
    code = child.process.exitcode
    terminated = code == -signal.SIGTERM or (code == ORPHANED and _forkserver_ended_by() == signal.SIGTERM)
    return terminated and bool(wait([interrupt.reader], STRAGGLING))


def _end(backlog: Backlog, child: _Child, slots: Slots) -> bool:
    """Settle a run whose process has ended. False: it died and is to be started once more; its lease is kept."""
    spec, device, seconds = child.spec, child.device, time.monotonic() - child.started
    code, complaint = _ended(child)
    if code == UNWRITABLE and complaint:
        raise UserError(complaint)
    if (code == 0 or backlog.store.has(spec.id)) and backlog.settle(spec, seconds, device):
        slots.leave(spec)
        return True
    reason, again = _death(child, code, complaint, slots)
    slots.leave(spec)
    backlog.fail(spec, reason, seconds, device, again)
    return not again


def _ended(child: _Child) -> tuple[int | None, str]:
    """The exit code of a process that has ended, and its complaint."""
    child.process.join()
    code = child.process.exitcode
    child.process.close()  # also ends the worker, should it have outlived a killed fork server
    with child.complaint as complaint, contextlib.suppress(EOFError):
        return code, complaint.recv() if complaint.poll() else ""
    return code, ""


def _death(child: _Child, code: int | None, complaint: str, slots: Slots) -> tuple[str, bool]:
    """Why a process ended without a result, and whether its run is started once more."""
    if child.overdue:
        return f"stopped: over the time limit of {child.limit:g} s", False
    if code in (HOST_FULL, DEVICE_FULL) and complaint:
        lowered = slots.lower(child.spec, host=code == HOST_FULL)
        return f"{complaint}; {lowered or 'nothing ran beside it'}", lowered is not None
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


def _stop(children: Iterable[_Child]) -> None:
    """End workers that are still running: politely, then not. Takes at most GRACE and a moment."""
    running = list(children)
    for child in running:
        child.process.terminate()
    deadline = time.monotonic() + GRACE
    for child in running:
        child.process.join(max(0.0, deadline - time.monotonic()))
    for child in running:
        if child.process.is_alive():
            child.process.kill()
            child.process.join(0.3)
        child.complaint.close()
