"""Engines that run a list of specs. One contract: `run(specs, store, ...) -> Summary`, whatever the engine.

An engine is a function (backlog, how): it claims specs from the backlog, has each executed by studies.engines.child,
and settles it when it has ended. What all engines share (skipping, leases, other processes) is in
studies.engines.backlog.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence

from hycon.data.manifest import data_root as folder_of_corpora
from hycon.errors import UserError, check_known
from studies.engines.backlog import POLL, Backlog, Event, How, Summary, kind
from studies.engines.child import OutOfMemory, attempt
from studies.engines.durations import Durations
from studies.engines.local import run_local
from studies.engines.options import Cluster
from studies.engines.queue import entries_of, published
from studies.engines.signals import Interrupt
from studies.engines.slots import Asked
from studies.store.leases import TTL, heartbeat
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

__all__ = ["ENGINES", "Event", "Summary", "run"]


def run(
    specs: Iterable[RunSpec],
    store: RunStore,
    *,
    executor: str = "local",
    workers: int = 1,
    devices: Sequence[str] = ("cpu",),
    execute: str = "studies.engines.one_run:execute",
    data_root: str | os.PathLike[str] | None = None,
    on_event: Callable[[Event], None] | None = None,
    preload: Sequence[str] = ("torch",),
    time_limit: float | None = None,
    ttl: float = TTL,
    cluster: Cluster | None = None,
    slots: Asked | None = None,
    lowered: dict[str, int] | None = None,
) -> Summary:
    """Bring every spec to an end, done or failed, and say which. Re-issuing it does what is missing or failed.

    executor: "local" (a process per run, `workers` at a time, devices in turn), "inline" (in this process), "ray" (a
    task per run, `workers` at a time) or "slurm" (`workers` jobs that take runs); `cluster` is for the last two.
    execute: dotted path of execute(spec, *, data_root, device) -> (RunRecord, arrays).
    preload: modules imported once for all workers.
    time_limit: seconds after which a run is stopped and counts as failed; not with "inline".
    ttl: seconds after which a silent lease may be taken over.
    slots: the most runs at a time on one device, or "auto": as fit by the memory that runs alike took. None: no such
    limit beside `workers`. With "local" and, for each worker, "slurm".
    lowered: empty at a command's first call; carries what lack of memory made of `slots` and `workers` to the next one.
    A failed run never stops the others. Raises UserError for wrong arguments and where results cannot be written,
    KeyboardInterrupt after Ctrl-C or SIGTERM, within 2 s and with all workers stopped and leases released.
    """
    check_known("executor", executor, ENGINES)
    cluster = cluster or Cluster()
    if slots is not None:
        cluster = dataclasses.replace(cluster, slots=slots)
    how = How(
        workers,
        tuple(devices),
        execute,
        str(folder_of_corpora(data_root).absolute()),
        tuple(preload),
        cluster,
        time_limit,
        slots,
        {} if lowered is None else lowered,
    )
    unique = list({spec.id: spec for spec in specs}.values())
    _check(executor, how, unique)
    summary = Summary(skipped=[spec for spec in unique if store.has(spec.id)])
    skipped = {spec.id for spec in summary.skipped}
    pending = [spec for spec in unique if spec.id not in skipped]
    if not pending:
        return summary
    store.check_writable()
    store.leases.check()
    before = {spec.id: _attempts(store, spec) for spec in pending}
    backlog = Backlog(store, pending, before, summary, on_event or (lambda event: None), ttl)
    backlog.durations = Durations(store.records() if len(pending) > 1 else ())
    entries = entries_of(pending, before, how)
    with heartbeat(backlog.leases, ttl), published(store, entries):
        ENGINES[executor](backlog, how)
    return summary


def _check(executor: str, how: How, specs: Sequence[RunSpec]) -> None:
    if how.workers < 1:
        raise UserError(f"{how.workers} workers were asked for: at least 1 is needed.")
    if how.time_limit is not None and not 0 < how.time_limit < math.inf:
        raise UserError(f"The time limit of a run is {how.time_limit}; expected a number of seconds above 0.")
    if how.time_limit is not None and executor == "inline":
        raise UserError("A time limit needs a process per run, which can be stopped: use it with --executor local.")
    if how.slots is not None and executor not in ("local", "slurm"):
        why = "lower what each run gets (gpus, memory)" if executor == "ray" else "it does one run at a time"
        raise UserError(f"--slots is for the executors local and slurm, not for {executor}: {why}.")
    if not how.devices:
        raise UserError("No device was given: name at least one, such as cpu or cuda:0.")
    for wanted in {spec.device for spec in specs}:
        if wanted not in {kind(device) for device in how.devices}:
            raise UserError(f"The runs are for {wanted}, but the devices given are {', '.join(how.devices)}.")
    module = how.execute.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UserError(f"There is no module {module!r} to execute runs with.")


def _attempts(store: RunStore, spec: RunSpec) -> int:
    failure = store.failed(spec.id)
    return failure.attempts if failure else 0


def _inline(backlog: Backlog, how: How) -> None:
    """One run after the other in this process: for debugging and for notebooks."""
    with Interrupt(raising=True):
        while backlog.pending:
            claims = ((device, backlog.claim(device)) for device in how.devices)
            device, spec = next((claim for claim in claims if claim[1] is not None), ("", None))
            if spec is None:
                time.sleep(POLL if backlog.pending else 0)
                continue
            started = time.monotonic()
            backlog.notify(Event("start", spec, device=device))
            try:
                attempt(spec, backlog.store, how.execute, how.data_root, device)
            except OutOfMemory as error:
                backlog.store.put_failed(spec, str(error), seconds=time.monotonic() - started, device=device)
            backlog.settle(spec, time.monotonic() - started, device)


def _ray(backlog: Backlog, how: How) -> None:
    from studies.engines.ray import run_ray

    run_ray(backlog, how)


def _slurm(backlog: Backlog, how: How) -> None:
    from studies.engines.slurm import run_slurm

    run_slurm(backlog, how)


ENGINES: dict[str, Callable[[Backlog, How], None]] = {
    "inline": _inline,
    "local": run_local,
    "ray": _ray,
    "slurm": _slurm,
}
