"""`bench data`: import, download, check, list, synthesize."""

from __future__ import annotations

import shlex
from typing import Any

from hycon.busy import busy
from studies.cli.arguments import Parser
from studies.cli.listing import do_list
from studies.cli.options import command
from studies.cli.output import print_json


def add(commands) -> None:
    data = commands.add_parser("data", help="import, download, check, list and make corpora")
    actions = data.add_subparsers(metavar="ACTION", required=True, parser_class=Parser)
    added = command(actions, "import", do_import, "convert a file or folder of any known format, once")
    added.add_argument("name", help="the corpus's name from then on: mosi, mosei, iemocap, or one of your own")
    added.add_argument("file", help="a pickle, or a folder (MISA, .csd, plain table)")
    added.add_argument(
        "--format", default="auto", metavar="FORMAT", help="auto (default), mag, misa, mult, mmsa, csd or plain"
    )
    added.add_argument(
        "--text-vectors", metavar="FILE", help="GloVe text file (.txt, .gz or .zip), for the rows with word vectors"
    )
    added.add_argument(
        "--label-range",
        type=float,
        metavar="N",
        help="1 where labels lie in [-1, 1], else 3 (default: 3, but 1 for files of CH-SIMS)",
    )
    added.add_argument(
        "--note",
        action="append",
        default=[],
        metavar="TEXT",
        help="a remark for every caption; no number gets a verdict then",
    )
    added = command(actions, "download", do_download, "fetch CMU-MOSI or CMU-MOSEI from the CMU server; resumes")
    added.add_argument("name", help="mosi or mosei")
    added = command(actions, "check", do_check, "set a corpus beside what the paper says of it")
    added.add_argument("name", help="an imported corpus, see `bench data list`")
    added.add_argument("--json", action="store_true", help="as JSON")
    added = command(actions, "list", do_list, "list the corpora")
    added.set_defaults(what="corpora")
    added.add_argument("--json", action="store_true", help="as JSON")
    added = command(actions, "synthesize", do_synthesize, "make the demo corpus")
    added.add_argument("name", nargs="?", default="synthetic", help="its name (default: synthetic)")


def do_import(options) -> None:
    from hycon.data.importers import import_corpus
    from hycon.data.importers.check import check, render

    with busy(f"importing {options.name}"):
        import_corpus(
            options.name,
            options.file,
            format=options.format,
            root=options.data,
            text_vectors=options.text_vectors,
            notes=options.note,
            label_range=options.label_range,
        )
        report = check(options.name, options.data)
    print(render(report))
    print(next_step(report, options.data))


def next_step(report: dict[str, Any], data: str | None) -> str:
    """Where an imported corpus is, and what to do with it."""
    from hycon.data import load
    from hycon.data.manifest import corpus_folder
    from studies.search.check import served_rows

    name, place = report["name"], corpus_folder(report["name"], data)
    table = _table_for(report)
    served = served_rows(table, load(name, data))
    if not served and table.task == "emotion":
        return f"It is in {place}. The rows of {table.name} read word vectors: import it with --text-vectors FILE, too."
    if not served:
        return f"It is in {place}. It serves no row of {table.name}."
    there = f" --data {shlex.quote(data)}" if data else ""
    command = f"bench run {table.name} --corpus {name}{there}"
    some = f" --rows {shlex.quote(','.join(served))}" if len(served) < len(table.rows) else ""
    quick = next((row for row in served if row.startswith("HyCon")), served[0])
    return (
        f"It is in {place}. Next, a quick try, and what the paper's search and seeds would run:\n"
        f"  {command} --rows {quick} --profile demo\n"
        f"  {command}{some} --dry-run"
    )


def _table_for(report: dict[str, Any]):
    """The paper's table on the corpus that this one is named after; else its first for such labels."""
    from studies.tables import TABLES

    paper = (report["paper"] or {}).get("corpus")
    fitting = [table for table in TABLES.values() if table.task == report["task"]]
    return next((table for table in fitting if table.corpus == paper), fitting[0])


def do_download(options) -> None:
    from hycon.data.importers.download import download

    print(download(options.name, options.data))


def do_check(options) -> None:
    from hycon.data.importers.check import check, render

    with busy(f"checking {options.name}"):
        report = check(options.name, options.data)
    if options.json:
        print_json(report)
    else:
        print(render(report))


def do_synthesize(options) -> None:
    from hycon.data.importers.check import check, render
    from hycon.data.importers.synthetic import synthesize

    synthesize(options.name, options.data)
    print(render(check(options.name, options.data)))
