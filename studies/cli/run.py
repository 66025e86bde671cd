"""`bench run` and `bench ablate`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from hycon.errors import UserError
from studies.cli.arguments import parse_encoders, parse_values
from studies.cli.listing import do_list
from studies.cli.shared import check_format, choosing, cluster_of, command, mixing, naming, running, store_of


def add(commands) -> None:
    add_run(commands)
    add_ablate(commands)


def add_run(commands) -> None:
    added = command(commands, "run", do_run, "run a table: search on validation, then seeded runs of each winner")
    naming(added)
    choosing(added)
    running(added)
    mixing(added)
    added.add_argument("--format", default="text", metavar="FORMAT", help="of the table printed at the end")


def add_ablate(commands) -> None:
    added = command(
        commands, "ablate", do_ablate, "run a model without a part of it, and compare it with the intact one"
    )
    added.add_argument("--remove", metavar="PART", action="append", default=[], help="see --list; may be given again")
    added.add_argument("--list", action="store_true", help="list the parts that models name, and run nothing")
    added.add_argument("--json", action="store_true", help="with --list: as JSON")
    added.add_argument("--model", default="hycon", metavar="NAME", help="the model (default: hycon)")
    added.add_argument("--text", default="bert", metavar="NAME", help="its text front-end (default: bert)")
    choosing(added, rows=False)
    running(added)
    mixing(added)
    added.add_argument("--format", default="text", metavar="FORMAT", help="of the table printed at the end")


def do_run(options) -> int:
    from studies.aggregate.render import render
    from studies.lookup import pick_rows, table_spec

    table = table_spec(options.table, options.studies)
    rows = pick_rows(table, options.rows.split(",") if options.rows else None)

    return _run(options, table, rows, lambda result, _: render(result, options.format))


def do_ablate(options) -> int:
    if options.list:
        do_list(argparse.Namespace(**{**vars(options), "what": "ablations"}))
        return 0
    from studies.aggregate.ablation import ablation_table, differences, render_ablation
    from studies.lookup import manifest_of

    task = manifest_of(options.corpus, options.data).task if options.corpus else "sentiment"
    table = ablation_table(options.model, options.text, options.remove, parse_values(options.set), task)
    options.set = []

    def show(result, store) -> str:
        return render_ablation(result, differences(result, store), options.format)

    return _run(options, table, list(table.rows), show)


def _run(options, table, rows, show: Callable[[Any, Any], str]) -> int:
    """Run the rows and print what `show` makes of the filled table and the store."""
    from studies.aggregate.render import FORMATS
    from studies.aggregate.table import table_result
    from studies.engines.progress import Progress
    from studies.engines.slots import parse_slots, workers_for
    from studies.lookup import View, profile_of
    from studies.search.run import check_machines, check_rows, run_table, setting_for

    check_format(options.format, FORMATS)
    profile = profile_of(options.profile or "paper", trials=options.trials, seeds=options.seeds, epochs=options.epochs)
    devices, cluster, slots = options.devices.split(","), cluster_of(options), parse_slots(options.slots)
    workers = workers_for(options.workers, slots if options.executor == "local" else None, devices)
    if workers < 1:
        raise UserError(f"--workers is {workers}; expected at least 1.")
    store = store_of(options)
    if store.storage and not options.dry_run:
        store.storage.check()
    setting = setting_for(
        table,
        rows,
        profile,
        corpus=options.corpus,
        data=options.data,
        encoders=parse_encoders(options.encoder),
        device=devices[0],
        options=parse_values(options.set),
        keep=not options.dry_run,
    )
    if options.dry_run:
        check_machines(store, options.executor, workers, devices, options.time_limit, slots)
        check_rows(rows, setting, options.data)
        return _dry_run(rows, setting, store, workers)
    records = list(store.records())
    studies, failed = run_table(
        rows,
        setting,
        store,
        data=options.data,
        executor=options.executor,
        workers=workers,
        slots=slots,
        devices=devices,
        time_limit=options.time_limit,
        progress=lambda specs: Progress(specs, records, workers=workers, quiet=options.quiet),
        cluster=cluster,
    )
    encoders = {kind: encoder["name"] for kind, encoder in setting.encoders.items()}
    view = View(setting.manifest.name, options.data, profile.name, encoders, mixed=options.mixed)
    result = table_result(table, store, view, rows=rows, studies=studies)
    print(show(result, store).rstrip("\n"))
    for spec, reason in failed:
        print(f"bench: run {spec.id} ({spec.model}-{spec.text}) failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _dry_run(rows, setting, store, workers: int) -> int:
    from studies.document.blocks import headings
    from studies.document.text import table
    from studies.engines.durations import duration
    from studies.search.run import forecast

    forecasts = forecast(rows, setting, store)
    lines = [[f.row, str(f.trials), str(f.seeds), f.text] for f in forecasts]
    print(table(headings("row", "trials to do", "seeded runs to do", "estimated time"), lines))
    runs, seconds = sum(f.trials + f.seeds for f in forecasts), sum(f.seconds for f in forecasts)
    unknown = sum(f.unknown for f in forecasts)
    many = "worker" if workers == 1 else "workers"
    wall = duration(seconds / workers)
    print(f"{runs} runs: {seconds / 3600:.2f} {setting.device}-hours, {wall} on {workers} {many}")
    if unknown:
        print(f"{unknown} of them have no measured like yet and are not counted")
    return 0
