"""The local engine: a process per run, so that nothing leaks from one into the next and a crash takes only its own run.

Workers are forked from a server that has imported torch already, which starts a run in about 20 ms instead of 2 s.
A worker that is killed is tried once more; one that is over the time limit is killed and its run is a failure, since it
would hang again. Workers end with their driver, whatever ends it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from hycon.errors import UserError
from studies.backlog import Backlog, Event, How, kind
from studies.interrupts import Interrupt, sigint_ignored
from studies.runs import RunSpec
from studies.store import RunStore
from studies.worker import ENVIRONMENT, child_main

GRACE = 1.0  # seconds between SIGTERM and SIGKILL; Ctrl-C must be over within 2 s
DEATHS = 2  # a worker that is killed is tried once more, the second death is a failure


@dataclass
class _Child:
    process: multiprocessing.process.BaseProcess
    complaint: Connection  # one sentence, where the store could not be written
    spec: RunSpec
    device: str
    started: float
    deaths: int = 0
    limit: float | None = None  # seconds
    overdue: bool = False


def run_local(backlog: Backlog, how: How) -> None:
    """The engine "local". Raises KeyboardInterrupt, and UserError where the store cannot be written."""
    context = multiprocessing.get_context("forkserver")
    free = [how.devices[i % len(how.devices)] for i in range(how.workers)]
    children: dict[int, _Child] = {}  # by sentinel
    interrupted = False

    def start(spec: RunSpec, device: str, deaths: int = 0) -> None:
        with interrupt.raised():  # the first start waits until the fork server has imported torch
            child = _spawn(context, backlog.store, how, spec, device)
        child.deaths = deaths
        children[child.process.sentinel] = child

    with Interrupt() as interrupt:
        try:
            _start_forkserver(context, how)
            while not interrupt.caught:
                for spec, device in _fill(backlog, free):
                    backlog.notify(Event("start", spec, device=device))
                    start(spec, device)
                more = backlog.open()
                if not more and not children:
                    break
                poll = backlog.poll if more and free else None
                for sentinel in wait([*children, interrupt.reader], _patience(children.values(), poll)):
                    if interrupt.caught:  # workers may have got the signal too: that is no failure of theirs
                        break
                    child = children.pop(sentinel, None) if isinstance(sentinel, int) else None
                    if child is not None and _stopped_with_us(child, interrupt):
                        break
                    if child is not None and _end(backlog, child):
                        free.append(child.device)
                    elif child is not None:
                        start(child.spec, child.device, child.deaths + 1)
                _kill_overdue(children.values())
        except KeyboardInterrupt:
            interrupted = True
            _kill_forkserver()
        finally:
            _stop(children.values())
    if interrupted or interrupt.caught:
        raise KeyboardInterrupt


def _fill(backlog: Backlog, free: list[str]) -> Iterator[tuple[RunSpec, str]]:
    """Claim a run for each free slot as far as there are any; the slot is free no longer."""
    exhausted: set[str] = set()
    for device in list(free):
        spec = None if kind(device) in exhausted else backlog.claim(device)
        if spec is None:
            exhausted.add(kind(device))
        else:
            free.remove(device)
            yield spec, device


def _patience(children: Iterable[_Child], poll: float | None) -> float | None:
    """Seconds to wait for something to happen: `poll`, or until the first run is over its limit."""
    now = time.monotonic()
    left = [c.started + c.limit - now for c in children if c.limit is not None and not c.overdue]
    return max(0.0, min(left if poll is None else [*left, poll])) if left else poll


def _kill_overdue(children: Iterable[_Child]) -> None:
    """Not politely: whatever hangs may not listen, and what a run has not stored yet is lost either way."""
    for child in children:
        if child.limit is not None and not child.overdue and time.monotonic() - child.started >= child.limit:
            child.overdue = True
            child.process.kill()


def _start_forkserver(context, how: How) -> None:
    """Start the process that workers are forked from, with single-threaded libraries already imported."""
    from multiprocessing import forkserver

    context.set_forkserver_preload([*how.preload, "studies.worker", how.execute.partition(":")[0]])
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        with sigint_ignored():  # inherited: Ctrl-C must not reach a worker before its first line
            forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _kill_forkserver() -> None:
    """It may go on importing for seconds, and whoever reads our output through a pipe would wait for it as well."""
    from multiprocessing import forkserver

    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)  # type: ignore[attr-defined]
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and left for the next start to notice


def _spawn(context, store: RunStore, how: How, spec: RunSpec, device: str) -> _Child:
    receiver, sender = context.Pipe(duplex=False)
    arguments = (spec, RunStore(store.root), how.execute, how.data_root, device, sender)
    process = context.Process(target=child_main, args=arguments, name=f"run {spec.id}", daemon=True)
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise UserError(
            f"Workers cannot be started ({type(error).__name__} {error}): try --executor inline."
        ) from error
    sender.close()
    return _Child(process, receiver, spec, device, time.monotonic(), limit=how.time_limit)


def _stopped_with_us(child: _Child, interrupt: Interrupt) -> bool:
    """Slurm sends SIGTERM to every process of a job, one after the other: ours may be still on its way."""
    child.process.join()
    return child.process.exitcode == -signal.SIGTERM and bool(wait([interrupt.reader], GRACE))


def _end(backlog: Backlog, child: _Child) -> bool:
    """Settle a run whose process has ended. False: it died and is to be started once more; its lease is kept."""
    spec, device, seconds = child.spec, child.device, time.monotonic() - child.started
    child.process.join()
    code = child.process.exitcode
    child.process.close()  # also ends the worker, should it have outlived a killed fork server
    with child.complaint as complaint, contextlib.suppress(EOFError):
        if code != 0 and complaint.poll():
            raise UserError(complaint.recv())
    if (code == 0 or backlog.store.has(spec.id)) and backlog.settle(spec, seconds, device):
        return True
    reason = f"stopped: over the time limit of {child.limit:g} s" if child.overdue else _cause(code)
    backlog.store.put_failed(spec, reason, seconds=seconds, device=device)
    if child.deaths + 1 < DEATHS and not child.overdue:
        backlog.notify(Event("retry", spec, seconds, reason=reason, device=device))
        return False
    backlog.fail(spec, reason, seconds, device)
    return True


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
