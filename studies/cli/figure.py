"""`bench figure`."""

from __future__ import annotations

from pathlib import Path

from hycon.errors import UserError, check_known
from studies.cli.options import choosing, command, measuring, picking
from studies.cli.output import format_by_name, print_grid, print_json, write_file
from studies.cli.selection import named_rows, reading


def add(commands) -> None:
    added = command(commands, "figure", do_figure, "draw a figure from the results at hand")
    added.add_argument("figure", nargs="?", metavar="NAME", help="fig4, curves, dots or robustness")
    added.add_argument("--list", action="store_true", help="list the figures and draw nothing")
    added.add_argument("--table", metavar="TABLE", help="whose runs (default: the figure's own, see --list)")
    choosing(added)
    picking(added)
    added.add_argument("--format", metavar="FORMAT", help="svg (default), png or pdf; or by the ending of --output")
    added.add_argument(
        "--output", metavar="FILE", help="default: figures/NAME-TABLE-CORPUS.FORMAT in the results folder"
    )
    measuring(added)
    added.add_argument(
        "--seed-index",
        default="median",
        metavar="N",
        help="seeded run that fig4 shows: 1 and so on, all, or median (default; of the silhouette)",
    )
    added.add_argument("--json", action="store_true", help="print file, caption and numbers as JSON")


def do_figure(options) -> None:
    from studies.figures import FIGURES, figure
    from studies.lookup import table_spec

    if options.list:
        return list_figures(options.json)
    if options.figure is None:
        raise UserError(f"Which figure? Give one of {', '.join(FIGURES)}.")
    check_known("figure", options.figure, FIGURES)
    store, view = reading(options, [table_spec(options.table or FIGURES[options.figure].table)])
    drawn = figure(
        options.figure,
        store,
        view,
        format=format_of(options),
        table=options.table,
        rows=named_rows(options),
        runs=options.seed_index,
    )
    file = Path(options.output or store.root / "figures" / f"{drawn.stem}.{drawn.format}")
    write_file(file, drawn.content, folder=not options.output)
    if options.json:
        said = {key: getattr(drawn, key) for key in ("name", "title", "table", "corpus", "caption", "alt", "numbers")}
        print_json({"file": str(file), **said})
    else:
        print(f"{file}\n\n{drawn.caption}\n")
        print_grid([{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in one.items()} for one in drawn.numbers])


def list_figures(as_json: bool) -> None:
    from studies.figures import FIGURES

    items = [{"name": spec.name, "title": spec.title, "table": spec.table} for spec in FIGURES.values()]
    if as_json:
        print_json(items)
    else:
        print("\n".join(f"{item['name']:10} {item['title']} (by default of {item['table']})" for item in items))


def format_of(options) -> str:
    """What was asked for, else what the ending of the output file names, else svg."""
    from studies.figures import FORMATS

    return options.format or format_by_name(options.output, FORMATS, FORMATS[0])
