"""The engine "ray": each run is a task of Ray Core with its share of CPUs and GPUs, on whatever node has them.

A task is a local engine for one run: it takes the lease, beats for it, and has the run done in a process of its own,
forked from a server that stays with Ray's worker. The outcome comes back through the store only. When a node dies, Ray
starts its tasks elsewhere; they wait until the dead node's leases expire. When the driver dies, Ray stops its tasks,
and the command is issued again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hycon.data.checksums import check_corpus
from hycon.errors import UserError, install
from studies.engines.backlog import Backlog, Event, Summary
from studies.engines.local import run_local
from studies.engines.options import CHECKPOINT_EVERY, How
from studies.engines.queue import entries_of
from studies.engines.signals import Interrupt
from studies.engines.workers import GRACE
from studies.store.database import Storage
from studies.store.leases import heartbeat
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

RETRIES = 3  # times that Ray starts a task anew after its node or its worker died; chosen here
POLL = 0.5  # seconds between looks for Ctrl-C while tasks run
LOOK = 0.2  # seconds between a task's looks for its own cancellation


def run_ray(backlog: Backlog, how: How) -> None:
    """The engine "ray", up to `how.workers` tasks at a time. Raises KeyboardInterrupt with the tasks stopped, and
    UserError where there is no Ray, no such cluster, or the store cannot be written."""
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what happens to its nodes; stdout is for the table
        _run(backlog, how)


def _run(backlog: Backlog, how: How) -> None:
    ray, started = _connect(how.cluster.address)
    memory = how.cluster.memory
    task = ray.remote(run_one).options(
        num_cpus=how.cluster.cpus,
        num_gpus=how.cluster.gpus,
        memory=None if memory is None else int(memory * 1e9),
        max_retries=RETRIES,
        retry_exceptions=False,
    )
    tasks: dict[Any, tuple[RunSpec, float]] = {}
    try:
        with Interrupt() as interrupt:
            while not interrupt.caught:
                backlog.observe()
                while backlog.pending and len(tasks) < how.workers:
                    spec = backlog.in_order()[0]
                    backlog.take(spec)
                    backlog.notify(Event("start", spec, device="ray"))
                    arguments = (str(backlog.store.root), backlog.entries[spec.id].attempts, how, backlog.ttl)
                    reference = task.remote(spec, *arguments, backlog.store.storage)
                    tasks[reference] = (spec, time.monotonic())
                if not tasks:
                    return
                for reference in ray.wait(list(tasks), num_returns=1, timeout=POLL)[0]:
                    _end(ray, backlog, reference, *tasks.pop(reference))
        raise KeyboardInterrupt
    finally:
        _cancel(ray, list(tasks))
        if started:
            ray.shutdown()


def run_one(spec: RunSpec, root: str, attempts: int, how: How, ttl: float, storage: Storage | None = None) -> None:
    """What a task does, in a worker of Ray's. Ray sets CUDA_VISIBLE_DEVICES, so the GPU is always the first one."""
    os.environ[CHECKPOINT_EVERY] = str(how.checkpoint_every)
    device = "cuda:0" if spec.device == "cuda" else spec.device
    store = RunStore(Path(root), storage=storage)
    entries = {entry.spec.id: entry for entry in entries_of([spec], {spec.id: attempts}, how)}
    backlog = Backlog(store, [spec], entries, Summary(), lambda event: None, ttl)
    with contextlib.suppress(UserError):  # the run says what is wrong; here once for all runs of this process
        check_corpus(spec.corpus, how.data_root)
    with heartbeat(backlog.leases, ttl), _cancellable():
        run_local(backlog, dataclasses.replace(how, workers=1, devices=(device,)))


@contextlib.contextmanager
def _cancellable() -> Iterator[None]:
    """Ray cancels a task by noting a SIGINT that it does not send: a wait sees it only when something wakes it up."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    timer = signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def _cancel(ray: Any, tasks: list[Any]) -> None:
    """As Ctrl-C would, so that leases are released and no failure is noted; by force what has not ended then."""
    if tasks:
        for reference in tasks:
            ray.cancel(reference, force=False)
        for reference in ray.wait(tasks, num_returns=len(tasks), timeout=GRACE + 1.0)[1]:
            ray.cancel(reference, force=True)


def _end(ray: Any, backlog: Backlog, reference: Any, spec: RunSpec, started: float) -> None:
    reason = "its task ended without a record"
    try:
        ray.get(reference)
    except UserError:
        raise
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    seconds = time.monotonic() - started
    if not backlog.settle(spec, seconds, "ray"):
        backlog.fail(spec, reason, seconds, "ray")


def _connect(address: str | None) -> tuple[Any, bool]:
    """Ray, connected, and whether that was done here. Without an address: $RAY_ADDRESS, else a cluster of its own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no network access unless asked for
    # Without "local", Ray would take the cluster that it last saw on this machine, also where that is long dead.
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    if where != "local":
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # 20 by default, of 40 s each where nobody answers
    try:
        import ray
    except ImportError as error:
        raise UserError(f"The executor ray needs Ray: {install('ray')}.") from error
    if ray.is_initialized():
        return ray, False
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise UserError(f"Ray cannot be used ({where}): {str(error).strip().splitlines()[0]}") from error
    return ray, True
