"""`bench worker`."""

from __future__ import annotations

import math
import sys

from hycon.errors import UserError
from studies.cli.options import command, modelling, storing
from studies.cli.selection import known_models, store_of
from studies.cli.training import checkpointing, gpus_shared, keep_checkpoints, placing, sharing_gpus


def add(commands) -> None:
    added = command(
        commands, "worker", do_worker, "do runs that a `bench run` on the same results folder still has to do"
    )
    placing(added)
    added.add_argument(
        "--slots",
        default="1",
        metavar="N",
        help="runs at a time on each device (default: 1); auto: as many as its memory holds",
    )
    added.add_argument(
        "--time",
        type=float,
        metavar="SECONDS",
        help="end within this time, and start no run that would take longer (default: no limit)",
    )
    added.add_argument(
        "--idle",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="end after this time with nothing to do (default: 60)",
    )
    modelling(added, "a model outside the repository whose runs may be done here")
    added.add_argument("--once", action="store_true", help="end after one run")
    sharing_gpus(added)
    checkpointing(added)
    storing(added)
    added.add_argument("--quiet", action="store_true", help="no line for each run")


def do_worker(options) -> int:
    import os

    from studies.engines.machine import check_devices
    from studies.engines.options import How, parse_slots, workers_for
    from studies.engines.progress import line
    from studies.engines.queue_worker import Limits, work

    slots = parse_slots(options.slots)
    keep_checkpoints(options)
    if options.time is not None and not 0 < options.time < math.inf:
        raise UserError(f"--time is {options.time:g}; expected seconds, more than 0.")
    if not options.idle >= 0:
        raise UserError(f"--idle is {options.idle:g}; expected seconds, 0 or more.")
    store = store_of(options)
    if not store.root.is_dir():
        raise UserError(f"{store.root} is not there: give the results folder of a `bench run` with --results.")
    known_models(options)
    devices = options.devices.split(",")
    check_devices(devices)
    workers = 1 if options.once else workers_for(None, slots or 1, devices)
    with gpus_shared(options, How(workers=workers, devices=tuple(devices), slots=slots)):
        pull = work(
            store,
            devices=devices,
            slots=slots or 1,
            data_root=options.data or os.environ.get("BENCH_DATA"),
            limits=Limits(options.time, options.idle, options.once),
            on_event=None if options.quiet else lambda event: print(line(event), file=sys.stderr, flush=True),
        )
    print(ending(pull))
    return 1 if pull.failed else 0


def ending(pull) -> str:
    """How the work ended, in a line or more."""
    why = {"idle": "nothing left to take", "time": "no time left", "once": "--once"}[pull.end]
    failed = f", {len(pull.failed)} failed" if pull.failed else ""
    lines = [f"{len(pull.done)} runs done{failed}; {why}, {len(pull.entries)} in the queue"]
    for reason in sorted(set(pull.refused.values())):
        count = sum(other == reason for other in pull.refused.values())
        lines.append(f"{count} not taken: {reason}")
    return "\n".join(lines)
