"""`bench list`."""

from __future__ import annotations

from typing import Any

from studies.cli.shared import command, print_json


def add(commands) -> None:
    added = command(commands, "list", do_list, "list what there is: models, corpora, tables, ablations, claims or runs")
    kinds = ("models", "corpora", "tables", "ablations", "claims", "runs")
    added.add_argument("what", nargs="?", default="models", choices=kinds, metavar="WHAT", help=", ".join(kinds))
    added.add_argument("--json", action="store_true", help="as JSON")


def do_list(options) -> None:
    from studies.cli.inventory import columns, inventory

    items = inventory(options.what, data=options.data, results=options.results)
    if options.json:
        print_json(items)
    elif not items:
        print(f"no {options.what} yet")
    else:
        from tabulate import tabulate

        heads = columns(items)
        rows = [[_plain(item.get(head)) for head in heads] for item in items]
        print(tabulate(rows, headers=heads, disable_numparse=True))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)
