"""`bench report`."""

from __future__ import annotations

from hycon.errors import UserError
from studies.cli.shared import check_format, choosing, command, known_models, modelling, view_of, write_output


def add(commands) -> None:
    added = command(commands, "report", do_report, "write one report: verdicts, tables, claims, figures, costs")
    modelling(added, "a model of your own, for a table of its rows")
    choosing(added, rows=False)
    added.add_argument("--format", default="html", metavar="FORMAT", help="html (default), md or latex")
    added.add_argument("--protocol", default="paper", metavar="NAME", help="metrics: paper, all, mult or mmsa")
    added.add_argument("--output", metavar="FILE", help="where to (default: report.html in the results folder)")


def do_report(options) -> None:
    from studies.lookup import results_root
    from studies.report.write import FORMATS, report
    from studies.store.run_store import RunStore

    check_format(options.format, FORMATS)
    known_models(options)
    root = results_root(options.results)
    if not root.is_dir():
        raise UserError(f"There is no results folder {root}: run a table first, or give --results.")
    text = report(RunStore(root), view_of(options), format=options.format)
    file = options.output or str(root / f"report.{FORMATS[options.format][0]}")
    write_output(text, file)
    print(file)
