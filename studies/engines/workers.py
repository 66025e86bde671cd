"""Worker processes, as their driver sees them: forked from a server that has imported torch already, which takes about
20 ms instead of 2 s, and ended with their driver, whatever ends it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from hycon.errors import UserError
from hycon.host import source_root
from studies.engines.child import ENVIRONMENT, UNSET, worker_main
from studies.engines.executors import WITHOUT_PROCESSES
from studies.engines.fresh import environment_set
from studies.engines.options import How
from studies.engines.signals import sigint_ignored
from studies.store.run_store import RunStore

GRACE = 1.0  # seconds between SIGTERM and SIGKILL; Ctrl-C must be over within 2 s
DYING = 0.5  # seconds that the system may take over its death; chosen here


@dataclass(eq=False)
class Worker:
    """A process that does runs on `device`. pipe: takes a Job; says what studies.engines.child.worker_main tells."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    device: str

    def alive(self) -> bool:
        return self.process.is_alive()

    def close(self) -> int | None:
        """Of a process that has ended, its exit code. Ends it, should it have outlived a killed fork server."""
        self.process.join()
        code = self.process.exitcode
        self.process.close()
        self.pipe.close()
        return code


def start_forkserver(how: How) -> None:
    """Start the process that workers are forked from, with single-threaded libraries already imported."""
    from multiprocessing import forkserver

    preload = [*(how.preload or ()), "studies.engines.child", how.execute.partition(":")[0]]
    multiprocessing.get_context("forkserver").set_forkserver_preload(preload)
    try:
        # Both are inherited: Ctrl-C must not reach a worker before its first line.
        with environment_set(_environment()), sigint_ignored():
            forkserver.ensure_running()
    except OSError as error:  # its socket is in TMPDIR
        raise UserError(
            f"Workers cannot be started ({error.strerror or error}): set TMPDIR to a short path that can be written, "
            "such as /tmp."
        ) from error


def _environment() -> Mapping[str, str | None]:
    """Of the fork server. Python would look for modules in its working directory first: in a clone, workers would run
    the clone's source and this process the installed package."""
    safe = {} if source_root() == Path.cwd() else {"PYTHONSAFEPATH": "1"}
    return {**dict.fromkeys(UNSET), **ENVIRONMENT, **safe}


def _forkserver_pid() -> int | None:
    from multiprocessing import forkserver

    return getattr(forkserver._forkserver, "_forkserver_pid", None)  # type: ignore[attr-defined]


def kill_forkserver() -> None:
    """It may go on importing for seconds, and whoever reads our output through a pipe would wait for it as well."""
    pid = _forkserver_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and left for the next start to notice


def forkserver_ended_by() -> int | None:
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


def spawn(store: RunStore, how: How, device: str) -> Worker:
    """The first one waits until the fork server has imported what it is to. Raises UserError where none can start."""
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe()
    arguments = (there, RunStore(store.root), str(how.data_root))
    process = context.Process(target=worker_main, args=arguments, name=f"worker {device}", daemon=True)
    try:
        process.start()
    except (EOFError, OSError) as error:
        raise UserError(
            f"Workers cannot be started ({type(error).__name__} {error}): try --executor {WITHOUT_PROCESSES}."
        ) from error
    there.close()
    return Worker(process, here, device)


def stop(running: Iterable[Worker], dismissed: Iterable[Worker]) -> None:
    """End all workers: politely, then not. Takes at most GRACE and a moment.

    dismissed: are about to end by themselves.
    """
    running, dismissed = list(running), list(dismissed)
    for worker in running:
        worker.process.terminate()
    deadline = time.monotonic() + GRACE
    for worker in running + dismissed:
        worker.process.join(max(0.0, deadline - time.monotonic()))
    for worker in running + dismissed:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join(0.3)
        worker.pipe.close()
