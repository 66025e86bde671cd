"""What the options of a command select: models, rows, the run store, what of it is shown, and the filled table."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from hycon.busy import busy
from hycon.errors import UserError
from studies.cli.arguments import parse_encoders, parse_values
from studies.cli.options import TABLE_OF_MODELS

PLACES = ("encoder", "results", "data")  # options whose values a View does not hold as they were given


def known_models(options) -> list[str]:
    """The names of the models that --model gives. A file is read, and the model known from then on."""
    from studies.authors.rows import known_model

    return [known_model(name) for name in options.model]


def named_rows(options) -> list[str] | None:
    """The names and patterns of --rows; None where it is left out. Raises UserError for an empty one, as a variable of
    the shell that is not set makes it: that is not all rows."""
    if options.rows is None:
        return None
    if not options.rows.strip(", "):
        raise UserError("--rows names no row: leave it out for all rows of the table, or name some.")
    return options.rows.split(",")


def asked_rows(options):
    """(TableSpec, its rows that are asked for) of a command's TABLE, --rows and --model.

    Raises UserError where nothing names a table.
    """
    from studies.lookup import table_spec, with_own

    models = known_models(options) if "model" in options else []
    if options.table is None and not models:
        raise UserError("Name a TABLE, such as table1, the path of a table file, or a model with --model FILE.")
    table = table_spec(options.table or TABLE_OF_MODELS, getattr(options, "studies", None))
    return with_own(table, named_rows(options), models)


def store_of(options):
    """The RunStore that --results and --storage name. Raises UserError for what is no URL of a database."""
    from studies.lookup import results_root
    from studies.store.database import storage_of
    from studies.store.outputs import Labels
    from studies.store.run_store import RunStore

    return RunStore(results_root(options.results), storage=storage_of(options.storage), labels=Labels(options.data))


def view_of(options):
    """The View that a command's options name: --corpus, --data, --profile, --encoder, --protocol, --mixed."""
    from hycon.pretrained import short_name
    from studies.lookup import View

    return View(
        corpus=options.corpus,
        data=options.data,
        profile=options.profile,
        encoders={kind: short_name(name) for kind, name in parse_encoders(options.encoder).items()},
        protocol=getattr(options, "protocol", "paper"),
        mixed=getattr(options, "mixed", False),
        given=tuple(given_options(options)),
    )


def given_options(options, names: Sequence[str] = PLACES) -> list[str]:
    """Options as they were given: for commands that are printed."""
    found = []
    for name in names:
        value = getattr(options, name, None)
        values = value if isinstance(value, list) else [value]
        found += [word for one in values if one for word in (f"--{name}", str(one))]
    return found


def reading(options, tables):
    """(RunStore, View): the results folder that a command reads, and what it shows of it. What it holds in place of
    what was asked for is said on stderr. Raises UserError where there is no such folder, and as `view_for` does.

    tables: those that the command shows.
    """
    from studies.aggregate.beside import none_beside
    from studies.lookup import manifest_of, view_for
    from studies.search.plan import check_task

    store, view, said = view_for(
        options.results,
        tables,
        corpus=options.corpus,
        data=options.data,
        profile=options.profile,
        encoders=parse_encoders(options.encoder),
        protocol=getattr(options, "protocol", "paper"),
        mixed=getattr(options, "mixed", False),
        options=parse_values(options.set),
        epochs=options.epochs,
        patience=options.patience,
        studies=options.study,
        beside=getattr(options, "beside", None),
    )
    if options.corpus and len(tables) == 1:  # of several, those that fit are shown
        check_task(tables[0], manifest_of(options.corpus, options.data, *store.roots))
    for sentence in filter(None, (said, _unread(store), none_beside(store, view, tables))):
        print(f"bench: {sentence}.", file=sys.stderr)
    return store, dataclasses.replace(view, given=tuple(given_options(options)))


def _unread(store) -> str:
    """Where studies cannot be read: without this, their rows would just be "not run yet"."""
    from studies.document.words import count_of
    from studies.store.study import unread_studies

    if not (names := unread_studies(store)):
        return ""
    said = f"{count_of(len(names), 'study file')} cannot be read ({', '.join(names[:3])})"
    return f"{said}, what is in {'it' if len(names) == 1 else 'them'} is not shown: see `bench doctor`"


def table_of(options):
    """The TableResult that a command's TABLE and its choosing options name."""
    from studies.aggregate.table import table_result

    table, rows = asked_rows(options)
    store, view = reading(options, [table])
    with busy("reading results"):
        return table_result(table, store, view, rows=rows)
