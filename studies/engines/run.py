"""Run a list of specs. One contract, whatever the executor: `run(specs, store, ...) -> Summary`.

What all executors share (skipping what is done, leases, other processes) is in studies.engines.backlog; what each one
can do, in studies.engines.executors.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hycon.data.manifest import data_root as folder_of_corpora
from hycon.errors import UserError
from hycon.precision import check_trainable
from studies.engines.backlog import Backlog, Event, Summary, kind
from studies.engines.executors import Engine, engine_of, names
from studies.engines.history import History
from studies.engines.machine import check_devices
from studies.engines.options import How
from studies.engines.queue import entries_of, published
from studies.registry import MODELS, own_files
from studies.store.leases import TTL, heartbeat
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

__all__ = ["Event", "How", "Summary", "check", "run"]


def run(
    specs: Iterable[RunSpec],
    store: RunStore,
    how: How | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
    lowered: Mapping[str, int] | None = None,
    ttl: float = TTL,
    **options: Any,
) -> Summary:
    """Bring every spec to an end, done or failed, and say which. Issued again, it does what is missing or failed.

    how, options: how runs are executed; the options are fields of How that replace its own.
    lowered: of the Summary of the same command's runs so far, so that what ran out of memory does so once.
    ttl: seconds after which a silent lease may be taken over.
    A failed run never stops the others. Raises UserError for wrong arguments and where results cannot be written,
    KeyboardInterrupt after Ctrl-C or SIGTERM, within 2 s and with all workers stopped and leases released.
    """
    unique = list({spec.id: spec for spec in specs}.values())
    how = dataclasses.replace(how or How(), **options)
    engine = check(how)
    _check_specs(how, unique)
    summary = Summary(skipped=[spec for spec in unique if store.has(spec.id)], lowered=dict(lowered or {}))
    skipped = {spec.id for spec in summary.skipped}
    pending = [spec for spec in unique if spec.id not in skipped]
    if not pending:
        return summary
    store.check_writable()
    store.leases.check()
    how = dataclasses.replace(
        how,
        devices=tuple(how.devices),
        cluster=dataclasses.replace(how.cluster, slots=how.slots or how.cluster.slots),
        data_root=str(folder_of_corpora(how.data_root).absolute()),
        preload=preload_for(pending) if how.preload is None else tuple(how.preload),
        models=own_files(),
    )
    failures = {spec.id: store.failed(spec.id) for spec in pending}
    before = {run_id: failure.attempts if failure else 0 for run_id, failure in failures.items()}
    entries = {entry.spec.id: entry for entry in entries_of(pending, before, how)}
    known = History(store.records() if len(pending) > 1 else ())
    backlog = Backlog(store, pending, entries, summary, on_event or (lambda event: None), ttl, history=known)
    with heartbeat(backlog.leases, ttl), published(store, entries.values()):
        engine.function()(backlog, how)
    return summary


def check(how: How, here: bool = False) -> Engine:
    """The executor. Raises UserError where there is none of that name, or it cannot do what is asked.

    here: the devices must exist as well, unless they are another machine's.
    """
    engine = engine_of(how.executor)
    if how.workers < 1:
        raise UserError(f"{how.workers} workers were asked for: at least 1 is needed.")
    if how.time_limit is not None and not 0 < how.time_limit < math.inf:
        raise UserError(f"The time limit of a run is {how.time_limit}; expected a number of seconds above 0.")
    if how.time_limit is not None and not engine.takes_time_limit:
        able = names(lambda other: other.takes_time_limit, "or")
        raise UserError(f"A time limit needs a process per run, which can be stopped: use it with --executor {able}.")
    if how.slots is not None and engine.no_slots:
        able = names(lambda other: not other.no_slots)
        raise UserError(f"--slots is for the executors {able}, not for {engine.name}: {engine.no_slots}.")
    if not how.devices:
        raise UserError("No device was given: name at least one, such as cpu or cuda:0.")
    if here:
        check_devices(how.devices, here=not engine.remote)
    return engine


def _check_specs(how: How, specs: Sequence[RunSpec]) -> None:
    for wanted in {spec.device for spec in specs}:
        if wanted not in {kind(device) for device in how.devices}:
            raise UserError(f"The runs are for {wanted}, but the devices given are {', '.join(how.devices)}.")
    for spec in specs:
        check_trainable(spec.training.get("precision", "fp32"), spec.device)
    module = how.execute.partition(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise UserError(f"There is no module {module!r} to execute runs with.")


def preload_for(specs: Iterable[RunSpec]) -> tuple[str, ...]:
    """What the processes of runs import: once for all of them, since it takes seconds."""
    from hycon.pretrained import modules

    every = ("torch", "safetensors", "hycon.metrics", "studies.engines.one_run")
    encoders = modules({spec.text for spec in specs if spec.encoder})
    return (*every, *(entry.module for entry in MODELS.values() if not entry.file), *encoders)
