"""What families of commands share: options, checks, output, and reading a table."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hycon.busy import busy
from hycon.errors import UserError
from studies.cli.arguments import parse_encoders, parse_values
from studies.cli.terminal import columns, terminal_columns

ENDINGS = {  # of a file -> its format
    **{".txt": "text", ".md": "md", ".tex": "latex", ".csv": "csv", ".html": "html", ".json": "json"},
    **{".svg": "svg", ".png": "png", ".pdf": "pdf"},
}
TABLE_OF_MODELS = "table1"  # whose rows and columns a model is shown with where no TABLE is named


def command(commands, name: str, function: Callable[[Any], int | None], text: str) -> argparse.ArgumentParser:
    """A command with the options that all have. `text` is its help; `function` takes the parsed options."""
    added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    added.set_defaults(command=function, parser=added)
    added.add_argument("--results", metavar="DIR", help="results folder (default: $BENCH_RESULTS or ./results)")
    added.add_argument("--data", metavar="DIR", help="folder of corpora (default: $BENCH_DATA or ./data)")
    added.add_argument("--offline", action="store_true", help="use no network (also: BENCH_OFFLINE=1)")
    return added


def naming(added: argparse.ArgumentParser, default: str | None = None) -> None:
    """The argument TABLE, and how many searches each row has. default: the table where TABLE is left out."""
    said = "table1 to table8 or another of `bench list tables`; or the file of a table or of a campaign (FILE.toml)"
    also = f" (default: {default})" if default else f"; with --model: {TABLE_OF_MODELS} if left out"
    added.add_argument("table", nargs="?", default=default, metavar="TABLE", help=said + also)
    added.add_argument("--studies", type=int, metavar="N", help="for table tuning: searches per row (default: 3)")


def modelling(
    added: argparse.ArgumentParser, help: str = "a model of your own: its rows, beside those of --rows"
) -> None:
    """The option that makes models outside the repository known."""
    added.add_argument("--model", metavar="FILE", action="append", default=[], help=help)


def known_models(options) -> list[str]:
    """The names of the models that --model gives. A file is read, and the model known from then on."""
    from studies.authors.rows import known_model

    return [known_model(name) for name in options.model]


def choosing(
    added: argparse.ArgumentParser, rows: bool = True, campaign: bool = True, corpus: str = "the table's"
) -> None:
    """Options of every command that picks results or runs. campaign: whether a campaign file may set them.
    corpus: the one that is taken by default, in words."""
    if campaign:
        added.add_argument("--campaign", metavar="FILE", help="take options from a campaign file (see `bench init`)")
    added.add_argument("--corpus", metavar="NAME", help=f"corpus (default: {corpus}, or the profile's)")
    added.add_argument(
        "--profile", metavar="NAME", help="paper (default), decisive (the paper's search, ten seeds) or demo"
    )
    if rows:
        added.add_argument("--rows", metavar="A,B", help="rows by the paper's names or by patterns: TFN-BERT,'HyCon*'")
    added.add_argument(
        "--encoder",
        metavar="KIND=NAME",
        action="append",
        default=[],
        help="pretrained model of the BERT or XLNet rows: a Hugging Face name or a local folder (bert=roberta-base)",
    )


def captioning(added: argparse.ArgumentParser) -> None:
    """The option of every command that prints a table of results as text."""
    added.add_argument(
        "--notes", action="store_true", help="print the whole caption of a text table, not its short form"
    )


def picking(added: argparse.ArgumentParser) -> None:
    """Options of every reading command: which of several studies fills a row."""
    added.add_argument(
        "--study", metavar="ID", action="append", default=[], help="show this study (see `bench list studies`)"
    )
    added.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="only studies run with this option"
    )
    added.add_argument("--epochs", type=int, metavar="N", help="only studies run with --epochs N")
    added.add_argument("--patience", type=int, metavar="N", help="only studies run with --patience N")


def beside(
    added: argparse.ArgumentParser, help: str = "take rows that are not run here from this results folder"
) -> None:
    """The option of commands that set published records of others beside one's own."""
    added.add_argument("--with", dest="beside", metavar="FOLDER", help=help)


def measuring(parser) -> None:
    parser.add_argument(
        "--protocol",
        default="paper",
        metavar="NAME",
        help="how metrics are counted (docs/protocol.md): paper (default), all, mult, mmsa, has0 or non0; of labels in "
        "[-1, 1]: paper, sims, sims_non0, has0 or non0",
    )


def mixing(added: argparse.ArgumentParser) -> None:
    """The option of every command that averages runs."""
    added.add_argument(
        "--mixed", action="store_true", help="average also runs of different data, versions or environments"
    )


def storing(added: argparse.ArgumentParser) -> None:
    """The option of every command that takes or shows leases."""
    added.add_argument(
        "--storage",
        metavar="URL",
        help="a database for Optuna's studies and for who does which run: postgresql://USER@HOST/DATABASE (default: "
        "$BENCH_STORAGE, else files)",
    )


def checkpointing(added: argparse.ArgumentParser) -> None:
    """The option of every command that trains."""
    added.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        help="least time between checkpoints of a run; one that was cut goes on from the last, with the same bits "
        "(default: $BENCH_CHECKPOINT_EVERY or 600; 0: after each epoch; inf: none)",
    )


def keep_checkpoints(options) -> None:
    """Hand --checkpoint-every to the processes that train. Raises UserError for what is no number of seconds."""
    from studies.engines.options import CHECKPOINT_EVERY, checkpoint_every

    if options.checkpoint_every is not None:
        os.environ[CHECKPOINT_EVERY] = options.checkpoint_every
    checkpoint_every()


def placing(added: argparse.ArgumentParser) -> None:
    """The option of every command that does runs on several devices."""
    added.add_argument("--devices", default="cpu", metavar="LIST", help="cpu (default), or NVIDIA GPUs: cuda:0,cuda:1")


def sharing_gpus(added: argparse.ArgumentParser) -> None:
    """The option of every command that does runs on GPUs."""
    added.add_argument(
        "--mps",
        choices=("auto", "no"),
        default="auto",
        help="NVIDIA's Multi-Process Service, for runs that share a GPU of this machine: auto (default: where it is "
        "installed) or no",
    )


@contextlib.contextmanager
def gpus_shared(options, how) -> Iterator[None]:
    """In a `with` block: --mps, for runs that this machine does as `how` says."""
    from studies.engines.executors import DEFAULT
    from studies.engines.mps import sharing

    devices = how.devices if how.executor == DEFAULT else ()
    with sharing(devices, how.slots, how.workers, options.mps) as why:
        if why and not options.quiet:
            print(f"bench: without MPS, which lets runs share a GPU better: {why}", file=sys.stderr)
        yield


def store_of(options):
    """The RunStore that --results and --storage name. Raises UserError for what is no URL of a database."""
    from studies.lookup import results_root
    from studies.store.database import storage_of
    from studies.store.outputs import Labels
    from studies.store.run_store import RunStore

    return RunStore(results_root(options.results), storage=storage_of(options.storage), labels=Labels(options.data))


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_grid(items: Sequence[Mapping[str, Any]]) -> None:
    """Flat dicts, a line each, under the keys that any of them has; a paragraph each where a terminal is too narrow."""
    from studies.document.blocks import headings
    from studies.document.text import listing

    def plain(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return "" if value is None else str(round(value, 4) if isinstance(value, float) else value)

    heads = list(dict.fromkeys(key for item in items for key in item))
    rows = [[plain(item.get(head)) for head in heads] for item in items]
    print(listing(headings(*heads), rows, terminal_columns()))


def layout(options) -> dict[str, Any]:
    """How a table of results is laid out as text: to fit the terminal, or a file's usual width."""
    from studies.document.text import WIDTH

    width = WIDTH if getattr(options, "output", None) else columns()
    return {"width": width, "notes": getattr(options, "notes", False)}


def format_by_name(file: str | None, formats: Collection[str], otherwise: str) -> str:
    """The one of `formats` that a file's ending names; `otherwise` without a file or an ending.

    Raises UserError for any other ending: a file is never of another kind than its name says.
    """
    ending = Path(file or "").suffix.lower()
    found = ENDINGS.get(ending, "") if ending else otherwise
    if found not in formats:
        known = ", ".join(end for end, format in ENDINGS.items() if format in formats)
        raise UserError(f"{file} ends in {ending}; expected one of {known}, or give --format.")
    return found


def write_output(text: str, file: str | None) -> None:
    """To `file`, whole or not at all, or to the terminal."""
    if file is None:
        print(text.rstrip("\n"))
    else:
        write_file(Path(file), (text.rstrip("\n") + "\n").encode())


def write_file(file: Path, content: bytes, *, folder: bool = False) -> None:
    """Whole or not at all. folder: make its folder first. Raises UserError where it cannot be written."""
    from hycon.files import write_atomic

    try:
        if folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror or error}.") from error


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


PLACES = ("encoder", "results", "data")  # options whose values a View does not hold as they were given


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


def table_of(options):
    """The TableResult that a command's TABLE and its choosing options name."""
    from studies.aggregate.table import table_result

    table, rows = asked_rows(options)
    store, view = reading(options, [table])
    with busy("reading results"):
        return table_result(table, store, view, rows=rows)
