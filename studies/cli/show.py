"""`bench show`: one cell, one run or one study, and where its numbers come from."""

from __future__ import annotations

import shlex
import sys

from hycon.errors import UserError, check_known
from studies.cli.options import choosing, command, measuring, mixing, modelling, picking
from studies.cli.output import print_json
from studies.cli.selection import table_of, view_of

SHAPES = "TABLE ROW [METRIC], a run's id, or a study's"


def add(commands) -> None:
    added = command(commands, "show", do_show, "show where a number comes from: a cell's runs, a run, or a study")
    added.add_argument("what", nargs="+", metavar="WHAT", help=f"{SHAPES}; the beginning of an id is enough")
    modelling(added, "a model of your own, whose rows the table has too")
    choosing(added, rows=False)
    picking(added)
    mixing(added)
    measuring(added)
    added.add_argument("--json", action="store_true", help="as JSON")
    added.epilog = "bench show table1 HyCon-BERT acc2; bench show 00e5b8dd"


def do_show(options) -> None:
    from studies.authors.table_file import is_table_file
    from studies.tables import TABLES
    from studies.trust.trace_text import text

    words = options.what
    if is_table_file(words[0]):
        found = _cell(options, words[0], words[1:])
    elif words[0].lower() in TABLES:
        found = _cell(options, words[0].lower(), words[1:])
    elif len(words) == 1:
        found = _run_or_study(options, words[0])
    else:
        check_known("table", words[0], TABLES)
        raise AssertionError("a table is known in small letters")
    if options.json:
        print_json(found)
    else:
        print(text(found, ascii_only=not _draws_blocks()))


def _cell(options, name: str, words: list[str]):
    from studies.lookup import results_root, table_spec
    from studies.store.run_store import RunStore
    from studies.trust.trace import column_of, trace_cell

    if not words:
        rows = [shlex.quote(row.name) for row in table_spec(name).rows]
        raise UserError(f"Name a row of {name} too, as in `bench show {name} {rows[-1]}`: {', '.join(rows)}.")
    if len(words) > 2:
        raise UserError(f"{' '.join(options.what)!r} has {len(words) + 1} parts; expected {SHAPES}.")
    options.table, options.rows = name, words[0]
    result = table_of(options)
    if result.corpus.synthetic:  # what is shown in place of the paper's corpus is also what is to be run
        options.profile = options.profile or "demo"
    elif result.corpus.name != result.table.corpus:
        options.corpus = result.corpus.name
    column = column_of(result.table, words[1]) if len(words) > 1 else None
    return trace_cell(result, RunStore(results_root(options.results)), column, again(options))


def _run_or_study(options, word: str):
    from studies.lookup import results_root
    from studies.store.run_store import RunStore
    from studies.store.study import Study
    from studies.trust.trace import find, trace_run, trace_study

    protocol = view_of(options).protocol
    store = RunStore(results_root(options.results))
    found = find(store, word)
    if isinstance(found, Study):
        return trace_study(found, store, protocol, again(options))
    return trace_run(found, store, again(options))


def again(options):
    """("verify", run id) -> the whole command, from here and with the options given; ("run", "") for the row shown."""
    from studies.lookup import results_root

    given = [("--results", str(results_root(options.results))), ("--data", options.data)]
    given += [("--encoder", encoder) for encoder in options.encoder]
    chosen = [("--rows", getattr(options, "rows", None)), ("--corpus", options.corpus), ("--profile", options.profile)]

    def whole(verb: str, run: str) -> str:
        pairs = [*chosen, *given] if verb == "run" else given
        parts = [f"{name} {shlex.quote(value)}" for name, value in pairs if value]
        return " ".join(["bench", verb, options.table if verb == "run" else run, *parts])

    return whole


def _draws_blocks() -> bool:
    """Whether the terminal's encoding has block characters."""
    try:
        "▁█▲".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
