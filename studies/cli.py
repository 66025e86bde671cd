"""`bench`: parse, call, print. What the commands do is in studies.commands; nothing here imports torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hycon.errors import UserError, nearest
from studies.arguments import Parser, Version, parse_encoders, parse_values

DESCRIPTION = """Reproduce HyCon (Mai et al., IEEE TAFFC 2022): run a table, read a table, look after corpora.

  bench run table1 --profile demo             everything on a synthetic corpus, in minutes, on a laptop
  bench data import mosi FILE                 a real corpus, from any format the field uses
  bench run table1 --workers 8                the paper's protocol: 50 trials, then 5 seeds a row
  bench table table1 --format latex           what the results folder has so far
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 some runs failed, 2 a mistake of the caller's, 130 interrupted."""
    try:
        options = parser().parse_args(arguments)
        return options.command(options) or 0
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; finished runs are kept, the same command goes on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# ------------------------------------------------------------------------------------------------- parsing


def parser() -> argparse.ArgumentParser:
    root = Parser(prog="bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = root.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    _add_list(commands)
    _add_data(commands)
    _add_run(commands)
    _add_ablate(commands)
    _add_table(commands)
    _add_status(commands)
    return root


def _command(commands, name: str, function: Callable[[Any], int | None], text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(command=function)
    command.add_argument("--results", metavar="DIR", help="results folder (default: $BENCH_RESULTS or ./results)")
    command.add_argument("--data", metavar="DIR", help="folder of corpora (default: $BENCH_DATA or ./data)")
    return command


def _choosing(command: argparse.ArgumentParser, rows: bool = True) -> None:
    """Options of every command that picks results or runs."""
    command.add_argument("--corpus", metavar="NAME", help="corpus (default: the table's, or the profile's)")
    command.add_argument("--profile", metavar="NAME", help="paper (default) or demo")
    if rows:
        command.add_argument("--rows", metavar="A,B", help="rows by the paper's names, e.g. TFN-BERT,HyCon-BERT")
    command.add_argument(
        "--encoder",
        metavar="KIND=NAME",
        action="append",
        default=[],
        help="pretrained model behind bert or xlnet: a Hugging Face name or a local folder",
    )


def _running(command: argparse.ArgumentParser) -> None:
    command.add_argument("--trials", type=int, metavar="N", help="random draws a search tries (paper: 50)")
    command.add_argument("--seeds", type=int, metavar="N", help="seeded runs of the winner (paper: 5)")
    command.add_argument("--epochs", type=int, metavar="N", help="most epochs a run may take (default: the model's)")
    command.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="fix an option of the model or its training"
    )
    command.add_argument("--workers", type=int, default=1, metavar="N", help="runs at a time, a process each")
    command.add_argument("--devices", default="cpu", metavar="LIST", help="cpu, or cuda:0,cuda:1 ...")
    command.add_argument("--executor", default="local", metavar="NAME", help="local (default) or inline")
    command.add_argument("--dry-run", action="store_true", help="print the runs and their estimated time, run nothing")
    command.add_argument("--quiet", action="store_true", help="no progress")


def _add_list(commands) -> None:
    command = _command(commands, "list", do_list, "list what there is: models, corpora, tables, ablations or runs")
    kinds = ("models", "corpora", "tables", "ablations", "runs")
    command.add_argument("what", nargs="?", default="models", choices=kinds, metavar="WHAT", help=", ".join(kinds))
    command.add_argument("--json", action="store_true", help="as JSON")


def _add_run(commands) -> None:
    command = _command(commands, "run", do_run, "run a table: search on validation, then seeded runs of each winner")
    command.add_argument("table", metavar="TABLE", help="table1 to table8")
    _choosing(command)
    _running(command)
    command.add_argument("--format", default="text", metavar="FORMAT", help="of the table printed at the end")


def _add_ablate(commands) -> None:
    command = _command(commands, "ablate", do_ablate, "run HyCon without a part of it, beside the intact model")
    command.add_argument("--remove", metavar="PART", action="append", default=[], help="see `bench list ablations`")
    command.add_argument("--model", default="hycon", metavar="NAME", help="the model (default: hycon)")
    command.add_argument("--text", default="bert", metavar="NAME", help="its text front-end (default: bert)")
    _choosing(command, rows=False)
    _running(command)
    command.add_argument("--format", default="text", metavar="FORMAT", help="of the table printed at the end")


def _add_table(commands) -> None:
    command = _command(commands, "table", do_table, "print a table from the results at hand")
    command.add_argument("table", metavar="TABLE", help="table1 to table8")
    _choosing(command)
    command.add_argument("--format", default="text", metavar="FORMAT", help="text, md, latex, csv, html or json")
    command.add_argument("--protocol", default="paper", metavar="NAME", help="metrics: paper, all, mult or mmsa")
    command.add_argument("--output", metavar="FILE", help="write there instead of printing")


def _add_status(commands) -> None:
    command = _command(commands, "status", do_status, "say how far a table is, row by row")
    command.add_argument("table", nargs="?", default="table1", metavar="TABLE", help="default: table1")
    _choosing(command)
    command.add_argument("--json", action="store_true", help="as JSON")


def _add_data(commands) -> None:
    data = commands.add_parser("data", help="import, download, check, list and make corpora")
    actions = data.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)
    command = _command(actions, "import", do_import, "convert a file or folder of any known format, once")
    command.add_argument("name", help="the corpus's name from then on: mosi, mosei, iemocap, or one of your own")
    command.add_argument("file", help="a pickle, or a folder (MISA, .csd, plain table)")
    command.add_argument("--format", default="auto", metavar="FORMAT", help="auto, mag, misa, mult, mmsa, csd or plain")
    command.add_argument("--text-vectors", metavar="FILE", help="GloVe text file (plain, .gz or .zip), for `glove`")
    command.add_argument("--note", action="append", default=[], metavar="TEXT", help="said in every caption")
    command = _command(actions, "download", do_download, "fetch CMU-MOSI or CMU-MOSEI from the CMU server; resumes")
    command.add_argument("name", help="mosi or mosei")
    command = _command(actions, "check", do_check, "set a corpus beside what the paper says of it")
    command.add_argument("name", help="an imported corpus, see `bench data list`")
    command.add_argument("--json", action="store_true", help="as JSON")
    command = _command(actions, "list", do_list, "list the corpora")
    command.set_defaults(what="corpora")
    command.add_argument("--json", action="store_true", help="as JSON")
    command = _command(actions, "synthesize", do_synthesize, "make the demo corpus")
    command.add_argument("name", nargs="?", default="synthetic", help="its name (default: synthetic)")


# ------------------------------------------------------------------------------------------------- commands


def do_list(options) -> None:
    from studies.inventory import columns, inventory

    items = inventory(options.what, data=options.data, results=options.results)
    if options.json:
        print(json.dumps(items, indent=1, ensure_ascii=False))
    elif not items:
        print(f"no {options.what} yet")
    else:
        from tabulate import tabulate

        heads = columns(items)
        rows = [[_plain(item.get(head)) for head in heads] for item in items]
        print(tabulate(rows, headers=heads, disable_numparse=True))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)


def do_run(options) -> int:
    from studies import commands

    table = commands.table_spec(options.table)
    rows = commands.pick_rows(table, options.rows.split(",") if options.rows else None)
    return _run(options, table, rows)


def do_ablate(options) -> int:
    from studies import commands
    from studies.ablations import ablation_table

    task = commands.task_of(options.corpus, options.data)
    table = ablation_table(options.model, options.text, options.remove, parse_values(options.set), task)
    options.set = []
    return _run(options, table, list(table.rows))


def _run(options, table, rows) -> int:
    from studies import commands
    from studies.progress import Progress
    from studies.render import FORMATS, render
    from studies.store import RunStore

    if options.format not in FORMATS:
        raise UserError(f"Unknown format {options.format!r}; nearest: {nearest(options.format, FORMATS)}.")
    profile = commands.profile_of(
        options.profile or "paper", trials=options.trials, seeds=options.seeds, epochs=options.epochs
    )
    if options.workers < 1:
        raise UserError(f"--workers is {options.workers}; expected at least 1.")
    devices = options.devices.split(",")
    setting = commands.setting_for(
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
    store = RunStore(commands.results_root(options.results))
    if options.dry_run:
        commands.check_machines(store, options.executor, options.workers, devices)
        commands.check_rows(rows, setting, options.data)
        return _dry_run(rows, setting, store, options.workers)
    records = list(store.records())
    studies, failed = commands.run_table(
        rows,
        setting,
        store,
        data=options.data,
        executor=options.executor,
        workers=options.workers,
        devices=devices,
        progress=lambda specs: Progress(specs, records, workers=options.workers, quiet=options.quiet),
    )
    result = commands.table_result(
        table,
        store,
        corpus=setting.manifest.name,
        data=options.data,
        profile=profile.name,
        encoders={kind: encoder["name"] for kind, encoder in setting.encoders.items()},
        rows=rows,
        studies=studies,
    )
    print(render(result, options.format).rstrip("\n"))
    for spec, reason in failed:
        print(f"bench: run {spec.id} ({spec.model}-{spec.text}) failed: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _dry_run(rows, setting, store, workers: int) -> int:
    from tabulate import tabulate

    from studies import commands
    from studies.progress import duration

    forecasts = commands.forecast(rows, setting, store)
    lines = [[f.row, f.trials, f.seeds, f.text] for f in forecasts]
    print(
        tabulate(lines, headers=["row", "trials to do", "seeded runs to do", "estimated time"], disable_numparse=True)
    )
    runs, seconds = sum(f.trials + f.seeds for f in forecasts), sum(f.seconds for f in forecasts)
    unknown = sum(f.unknown for f in forecasts)
    many = "worker" if workers == 1 else "workers"
    wall = duration(seconds / workers)
    print(f"{runs} runs: {seconds / 3600:.2f} {setting.device}-hours, {wall} on {workers} {many}")
    if unknown:
        print(f"{unknown} of them have no measured like yet and are not counted")
    return 0


def do_table(options) -> None:
    from studies import commands
    from studies.render import FORMATS, render
    from studies.store import RunStore

    if options.format not in FORMATS:
        raise UserError(f"Unknown format {options.format!r}; nearest: {nearest(options.format, FORMATS)}.")
    text = render(_table(options, commands, RunStore), options.format)
    if options.output:
        from pathlib import Path

        from studies.store import write_atomic

        try:
            write_atomic(Path(options.output), (text.rstrip("\n") + "\n").encode())
        except OSError as error:
            raise UserError(f"Cannot write {options.output}: {error.strerror or error}.") from error
    else:
        print(text.rstrip("\n"))


def _table(options, commands, run_store):
    from hycon.pretrained import short_name

    table = commands.table_spec(options.table)
    rows = commands.pick_rows(table, options.rows.split(",")) if options.rows else None
    if options.profile:
        commands.profile_of(options.profile)
    return commands.table_result(
        table,
        run_store(commands.results_root(options.results)),
        corpus=options.corpus,
        data=options.data,
        profile=options.profile,
        encoders={kind: short_name(name) for kind, name in parse_encoders(options.encoder).items()},
        rows=rows,
        protocol=getattr(options, "protocol", "paper"),
    )


def do_status(options) -> None:
    from studies import commands
    from studies.store import RunStore

    result = _table(options, commands, RunStore)
    items = [{"row": r.row.name, "status": r.status, "n": r.n, "reason": r.reason} for r in result.rows]
    if options.json:
        print(json.dumps(items, indent=1, ensure_ascii=False))
    else:
        for item in items:
            print(f"{item['row']:18} {item['status']:9} n={item['n']}  {item['reason']}")


def do_import(options) -> None:
    from hycon.data.check import check, render
    from hycon.data.importers import import_corpus

    import_corpus(
        options.name,
        options.file,
        format=options.format,
        root=options.data,
        text_vectors=options.text_vectors,
        notes=options.note,
    )
    print(render(check(options.name, options.data)))


def do_download(options) -> None:
    from hycon.data.download import download

    print(download(options.name, options.data))


def do_check(options) -> None:
    from hycon.data.check import check, render

    report = check(options.name, options.data)
    print(json.dumps(report, indent=1, ensure_ascii=False) if options.json else render(report))


def do_synthesize(options) -> None:
    from hycon.data.check import check, render
    from hycon.data.synthetic import synthesize

    synthesize(options.name, options.data)
    print(render(check(options.name, options.data)))


if __name__ == "__main__":
    sys.exit(main())
