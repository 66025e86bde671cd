"""`bench table` and `bench status`."""

from __future__ import annotations

from studies.cli.shared import (
    check_format,
    choosing,
    command,
    mixing,
    modelling,
    naming,
    print_json,
    table_of,
    write_output,
)


def add(commands) -> None:
    add_table(commands)
    add_status(commands)


def add_table(commands) -> None:
    added = command(commands, "table", do_table, "print a table from the results at hand")
    naming(added)
    modelling(added)
    choosing(added)
    mixing(added)
    added.add_argument("--format", default="text", metavar="FORMAT", help="text, md, latex, csv, html or json")
    added.add_argument("--protocol", default="paper", metavar="NAME", help="metrics: paper, all, mult or mmsa")
    added.add_argument("--output", metavar="FILE", help="write there instead of printing")


def add_status(commands) -> None:
    added = command(commands, "status", do_status, "say how far a table is, row by row")
    naming(added, default="table1")
    modelling(added)
    choosing(added)
    mixing(added)
    added.add_argument("--json", action="store_true", help="as JSON")


def do_table(options) -> None:
    from studies.aggregate.render import FORMATS, render

    check_format(options.format, FORMATS)
    write_output(render(table_of(options), options.format), options.output)


def do_status(options) -> None:
    result = table_of(options)
    items = [{"row": r.row.name, "status": r.status, "n": r.n, "reason": r.reason} for r in result.rows]
    if options.json:
        print_json(items)
    else:
        width = max(18, *(len(item["row"]) for item in items))
        for item in items:
            print(f"{item['row']:{width}} {item['status']:9} n={item['n']}  {item['reason']}")
