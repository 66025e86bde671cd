"""`bench table` and `bench status`."""

from __future__ import annotations

import sys
from collections import Counter

from hycon.errors import UserError, check_known
from studies.cli.options import (
    beside,
    captioning,
    choosing,
    command,
    measuring,
    mixing,
    modelling,
    naming,
    picking,
    storing,
)
from studies.cli.output import format_by_name, layout, print_grid, print_json, write_output
from studies.cli.selection import asked_rows, reading, table_of


def add(commands) -> None:
    add_table(commands)
    add_status(commands)


def add_table(commands) -> None:
    added = command(commands, "table", do_table, "print a table from the results at hand")
    naming(added)
    modelling(added)
    choosing(added)
    picking(added)
    mixing(added)
    beside(added)
    captioning(added)
    said = "text (default), md, latex, csv, html or json; or by the ending of --output (.md, .tex ...)"
    added.add_argument("--format", metavar="FORMAT", help=said)
    measuring(added)
    added.add_argument("--output", metavar="FILE", help="write there instead of printing")


def add_status(commands) -> None:
    added = command(commands, "status", do_status, "say how far a table is: trials, seeds, failures, what is running")
    naming(added, default="table1")
    modelling(added)
    choosing(added)
    picking(added)
    mixing(added)
    storing(added)
    added.add_argument("--json", action="store_true", help="as JSON")


def do_table(options) -> None:
    from studies.aggregate.render import FORMATS, render

    format = options.format or format_by_name(options.output, FORMATS, "text")
    check_known("format", format, FORMATS)
    write_output(render(table_of(options), format, **layout(options)), options.output)


def do_status(options) -> None:
    from studies.aggregate.caption import changed_since
    from studies.aggregate.inventory import progress, progress_lines
    from studies.aggregate.table import table_result
    from studies.cli.terminal import columns
    from studies.document.text import wrapped
    from studies.document.words import count_of

    table, rows = asked_rows(options)
    store, view = reading(options, [table])
    items = progress(table, store, view, running(options, store), rows)
    changed = {r.row.name: r.changed_code for r in table_result(table, store, view, rows=rows).rows if r.n}
    if options.json:
        print_json([{**item, "changed_code": changed.get(item["row"], [])} for item in items])
        return
    print(f"{table.name} on corpus {view.corpus_of(table)}\n")
    print_grid(progress_lines(items))
    status = Counter(item["status"] for item in items)
    failed, busy = (sum(item[key] for item in items) for key in ("failed", "running"))
    states = ", ".join(f"{count} {name}" for name, count in status.items())
    print(f"\n{count_of(len(items), 'row')}: {states}; {count_of(failed, 'failed run')}, {busy} running")
    for sentence in changed_since(changed):
        print(wrapped(sentence, columns()))


def running(options, store) -> set[str]:
    """Ids of the runs that live processes are busy with; where their leases cannot be read, that is said on stderr."""
    from studies.store.database import storage_of
    from studies.store.run_store import RunStore

    try:
        return RunStore(store.root, storage=storage_of(options.storage)).leases.survey()[0]
    except UserError as error:
        print(f"bench: what is running is not known: {error}", file=sys.stderr)
        return set()
