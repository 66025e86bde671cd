"""`bench report`."""

from __future__ import annotations

from dataclasses import replace

from hycon.busy import busy
from hycon.errors import check_known
from studies.cli.options import choosing, command, measuring, modelling, picking
from studies.cli.output import format_by_name, write_output
from studies.cli.selection import known_models, reading


def add(commands) -> None:
    added = command(commands, "report", do_report, "write one report: verdicts, tables, claims, figures, costs")
    modelling(added, "a model of your own, for a table of its rows")
    choosing(added, rows=False)
    picking(added)
    added.add_argument("--format", metavar="FORMAT", help="html (default), md or latex; or by the ending of --output")
    measuring(added)
    added.add_argument("--output", metavar="FILE", help="where to (default: report.html in the results folder)")


def do_report(options) -> None:
    from studies.report.write import FORMATS, report
    from studies.tables import TABLES

    format = options.format or format_by_name(options.output, FORMATS, "html")
    check_known("format", format, FORMATS)
    known_models(options)
    store, view = reading(options, TABLES.values())
    view = replace(view, given=())  # read elsewhere: its commands name no folder of this machine
    with busy("writing the report"):
        text = report(store, view, format=format)
    file = options.output or str(store.root / f"report.{FORMATS[format][0]}")
    write_output(text, file)
    print(file)
