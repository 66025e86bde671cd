"""`bench run` and `bench ablate`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from hycon.errors import UserError, check_known
from studies.cli.arguments import parse_encoders, parse_values
from studies.cli.closing import closing, edges, forecast_text
from studies.cli.listing import do_list
from studies.cli.options import captioning, choosing, command, mixing, modelling, naming, storing
from studies.cli.output import layout
from studies.cli.selection import asked_rows, store_of
from studies.cli.terminal import columns
from studies.cli.training import checkpointing, gpus_shared, keep_checkpoints, placing, sharing_gpus
from studies.engines.executors import DEFAULT, engine_of, names

MOST = 10_000  # trials, or seeds; chosen here: more than anybody trains, and all are planned before the first is run


def add(commands) -> None:
    add_run(commands)
    add_ablate(commands)


def add_run(commands) -> None:
    added = command(commands, "run", do_run, "run a table: search on validation, then seeded runs of each winner")
    naming(added)
    modelling(added)
    choosing(added)
    running(added)
    mixing(added)
    captioning(added)
    added.add_argument(
        "--format", default="text", metavar="FORMAT", help="of the table printed at the end (default: text)"
    )
    added.set_defaults(check=check_run)


def add_ablate(commands) -> None:
    added = command(
        commands, "ablate", do_ablate, "run a model without a part of it, and compare it with the intact one"
    )
    added.add_argument("--remove", metavar="PART", action="append", default=[], help="see --list; may be given again")
    added.add_argument("--list", action="store_true", help="list the parts that models name, and run nothing")
    added.set_defaults(what="ablations")  # for --list
    added.add_argument("--json", action="store_true", help="with --list: as JSON")
    added.add_argument("--model", metavar="NAME", help="the model, or its file (default: hycon; --list: all)")
    added.add_argument("--text", default="bert", metavar="NAME", help="its text front-end (default: bert)")
    choosing(added, rows=False, campaign=False, corpus="mosi")  # whose --set has another meaning
    running(added)
    mixing(added)
    captioning(added)
    added.add_argument(
        "--format", default="text", metavar="FORMAT", help="of the table printed at the end (default: text)"
    )


def running(added: argparse.ArgumentParser) -> None:
    """Options of `bench run` and `bench ablate`: what to run, and how."""
    storing(added)
    added.add_argument("--trials", type=int, metavar="N", help="random draws a search tries (paper: 50)")
    added.add_argument("--seeds", type=int, metavar="N", help="seeded runs of the winner (paper: 5)")
    added.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="most epochs of a run (profile paper: 50 with BERT or XLNet, else 100)",
    )
    added.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="epochs without a better validation loss that end a run (profile paper: 20)",
    )
    added.add_argument(
        "--own-search", action="store_true", help="search each variant by itself (default: its intact row's winner)"
    )
    added.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="fix an option of the model or its training: lr=1e-5",
    )
    added.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="runs at a time, a process each (default: one a device, or what --slots allow)",
    )
    added.add_argument(
        "--slots", metavar="N", help="most runs at a time on one device; auto: as many as its memory holds"
    )
    placing(added)
    clusters = names(lambda engine: engine.takes_cluster)
    added.add_argument(
        "--executor", default=DEFAULT, metavar="NAME", help=f"{names(last='or')} (default: {DEFAULT}, this machine)"
    )
    added.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster (default: start one here)")
    added.add_argument("--cluster", metavar="FILE", help=f"with {clusters}: TOML file of what workers get")
    added.add_argument(
        "--cluster-set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key of that file, in place of its value: partition=gpu, time=120",
    )
    added.add_argument(
        "--time-limit", type=float, metavar="SECONDS", help="stop a run that takes longer; it counts as failed"
    )
    sharing_gpus(added)
    checkpointing(added)
    added.add_argument(
        "--keep-weights",
        action="store_true",
        help="keep the weights of the seeded runs (`bench train` makes them later)",
    )
    added.add_argument("--dry-run", action="store_true", help="print the runs and their estimated time, run nothing")
    added.add_argument("--log", metavar="KIND", help="tensorboard: learning curves, to watch while runs train")
    added.add_argument("--quiet", action="store_true", help="print no progress and no remarks; failures all the same")


def do_run(options) -> int:
    from studies.aggregate.render import render

    table, rows = _searched(options)
    return _run(
        options,
        table,
        rows,
        parse_values(options.set),
        lambda result, _: render(result, options.format, **layout(options)),
    )


def check_run(options) -> None:
    """Raises UserError for what `do_run` would refuse. Of several tables, each is asked before the first is run."""
    from studies.search.check import check_table
    from studies.search.run import timed_alone

    table, rows = _searched(options)
    dry = argparse.Namespace(**{**vars(options), "dry_run": True})
    check_table(rows, _setting(dry, table, rows, parse_values(options.set)), timed_alone(rows, how_of(options)))


def _searched(options):
    """(TableSpec, the rows that are asked for). Raises UserError for --trials where nothing is searched."""
    table, rows = asked_rows(options)
    options.table = options.table or table.name
    if options.trials is not None and all(row.measured for row in rows):
        raise UserError(f"--trials is for searches; {table.name} is measured with fixed settings, without a search.")
    return table, rows


def do_ablate(options) -> int:
    from studies.authors.rows import known_model

    model = options.model and known_model(options.model)
    if options.list:
        options.model = model
        do_list(options)
        return 0
    from studies.aggregate.ablation import ablation_table, differences, render_ablation
    from studies.lookup import manifest_of

    task = manifest_of(options.corpus, options.data).task if options.corpus else "sentiment"
    table = ablation_table(model or "hycon", options.text, options.remove, parse_values(options.set), task)

    def show(result, store) -> str:
        return render_ablation(result, differences(result, store), options.format, **layout(options))

    return _run(options, table, list(table.rows), {}, show)


def _run(options, table, rows, fixed: dict[str, Any], show: Callable[[Any, Any], str]) -> int:
    """Run the rows, and print what `show` makes of the filled table and the store.

    fixed: options of the model or its training.
    """
    from studies.aggregate.table import table_result
    from studies.engines.machine import unlike_gpus
    from studies.engines.options import gpus_amiss
    from studies.engines.progress import Progress
    from studies.lookup import View
    from studies.search.run import forecast, run_table, timed_alone
    from studies.store.curve import read_curve
    from studies.store.run_store import LOG

    how, store = timed_alone(rows, how_of(options)), store_of(options)
    if store.storage and not options.dry_run:
        store.storage.check()
    setting = _setting(options, table, rows, fixed)
    if engine_of(how.executor).takes_cluster and (amiss := gpus_amiss(how)):
        print(f"bench: {amiss}", file=sys.stderr)
    if not options.mixed and not engine_of(how.executor).remote and (kinds := unlike_gpus(how.devices)):
        raise UserError(
            f"{kinds}: runs of one row on GPUs of several kinds are not averaged. Give each command GPUs of one kind "
            "and --rows of its own (they share the results folder), or --mixed."
        )
    if options.dry_run:
        _print_forecast(forecast(rows, setting, store, how, table.robust), setting, store, how)
        return 0
    for sentence in () if options.quiet else padded_encoders(setting.encoders):
        print(f"bench: {sentence}", file=sys.stderr)
    begun = time.monotonic()
    progress = Progress(
        records=store.records(),
        workers=how.workers,
        quiet=options.quiet,
        epoch=lambda run_id: len(read_curve(store, run_id)),
    )
    with gpus_shared(options, how), _log(options.log, store, rows), progress:
        outcome = run_table(rows, setting, store, how, progress, table.robust)
    view = View(setting.manifest.name, options.data, mixed=options.mixed)  # of these studies and no others
    result = table_result(table, store, view, rows=rows, studies=outcome.studies)
    print(show(result, store).rstrip("\n"))
    sys.stdout.flush()
    for spec, reason in outcome.failed:
        log = store.folder(spec.id) / LOG
        more = f" (traceback: {log})" if log.is_file() else ""
        print(f"bench: run {spec.id} ({spec.model}-{spec.text}) failed: {reason}{more}", file=sys.stderr)
    if how.keep_weights:
        tell_weights(store, [record.id for row in result.rows for record in row.records])
    if not options.quiet:
        for sentence in () if setting.profile.demo else edges(outcome.studies):
            print(f"bench: {sentence}", file=sys.stderr)
        print("\n" + closing(outcome, options, store.root, time.monotonic() - begun, columns()), file=sys.stderr)
    return 1 if outcome.failed else 0


def _setting(options, table, rows, fixed: dict[str, Any]):
    """What the command fixes for all rows. Raises UserError for options that are wrong, or contradict each other."""
    from studies.aggregate.render import FORMATS
    from studies.engines.tensorboard import check_log
    from studies.lookup import profile_of
    from studies.search.plan import setting_for

    check_known("format", options.format, FORMATS)
    check_log(options.log)
    for name in ("epochs", "patience"):
        if getattr(options, name) is not None and name in parse_values(options.set):
            raise UserError(f"--{name} and --set {name}= both set the {name}: give one of them.")
    for name in ("trials", "seeds"):
        if (getattr(options, name) or 0) > MOST:
            raise UserError(f"--{name} is {getattr(options, name)}; expected at most {MOST:,}.")
    profile = profile_of(
        options.profile or "paper",
        trials=options.trials,
        seeds=options.seeds,
        epochs=options.epochs,
        patience=options.patience,
    )
    return setting_for(
        table,
        rows,
        profile,
        corpus=options.corpus,
        data=options.data,
        encoders=parse_encoders(options.encoder),
        device=options.devices.split(",")[0],
        options=fixed,
        own_search=options.own_search,
        dry=store_of(options) if options.dry_run else None,
    )


def _print_forecast(forecasts, setting, store, how) -> None:
    """What a dry run says: the runs and their time, and what the executor would ask others for."""
    from studies.engines.executors import engine_of

    print(forecast_text(forecasts, setting, how.workers, columns()))
    if asked := engine_of(how.executor).previewed(store, how):
        print(f"\n{asked}")


def _log(kind: str | None, store, rows):
    """In a `with` block: --log."""
    from studies.engines.tensorboard import Follower
    from studies.search.plan import row_of

    known = [*rows, *(row.intact for row in rows if row.intact)]

    def name(spec) -> str | None:
        row = row_of(spec, known)
        return row.name if row else None

    return Follower(store, name) if kind else nullcontext()


def tell_weights(store, runs) -> None:
    """Say on stderr how many of these runs have no weights in the results folder."""
    from hycon.saved import WEIGHTS

    lacking = sum(not (store.folder(run) / WEIGHTS).is_file() for run in runs)
    if lacking:
        said = f"{lacking} of {len(runs)} seeded runs have no weights here, done before or by another worker"
        print(f"bench: {said}: `bench train RUN` makes them again.", file=sys.stderr)


def padded_encoders(encoders) -> list[str]:
    """A sentence for each text encoder that is read with padding."""
    from hycon.pretrained import read_with_padding

    found = {encoder["name"]: read_with_padding(kind, encoder) for kind, encoder in encoders.items()}
    return [
        f"the text encoder {name} is of type {model_type}, which is read with padding: the same numbers, more slowly."
        for name, model_type in found.items()
        if model_type
    ]


def how_of(options):
    """How runs are executed, as the options say. Raises UserError for what the executor does not take."""
    from studies.engines.options import How, checkpoint_every, parse_slots, read_cluster, workers_for

    keep_checkpoints(options)
    engine = engine_of(options.executor)
    devices, slots = options.devices.split(","), parse_slots(options.slots)
    over = parse_values(options.cluster_set)
    if options.address:
        over["address"] = options.address
    if (over or options.cluster) and not engine.takes_cluster:
        able = names(lambda other: other.takes_cluster)
        raise UserError(f"--cluster, --cluster-set and --address are for {able}, not for {engine.name}.")
    return How(
        executor=engine.name,
        workers=workers_for(options.workers, *((None, devices[:1]) if engine.remote else (slots, devices))),
        devices=tuple(devices),
        slots=slots,
        time_limit=options.time_limit,
        cluster=read_cluster(options.cluster, over),
        data_root=options.data,
        checkpoint_every=checkpoint_every(),
        keep_weights=options.keep_weights,
    )
