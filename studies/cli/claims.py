"""`bench claims`."""

from __future__ import annotations

from hycon.busy import busy
from hycon.errors import UserError, check_known
from studies.cli.options import beside, choosing, command, measuring, picking
from studies.cli.output import format_by_name, layout, write_output
from studies.cli.selection import reading

FORMATS = ("text", "md", "html", "latex", "json")  # of studies.claims.render, which --help need not import


def add(commands) -> None:
    added = command(commands, "claims", do_claims, "judge the paper's claims by the runs at hand, or by its own tables")
    choosing(added, rows=False)
    picking(added)
    beside(added)
    added.add_argument(
        "--claims", default="paper", metavar="WHOSE", help="paper (default), or beyond: our questions on table beyond"
    )
    added.add_argument("--paper", action="store_true", help="judge by the paper's printed numbers, not by runs")
    added.add_argument("--id", metavar="A,B", help="only these claims, with every comparison (see `bench list claims`)")
    added.add_argument("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: text, or by --output)")
    added.add_argument("--json", action="store_true", help="the same as --format json")
    measuring(added)
    added.add_argument("--output", metavar="FILE", help="write there instead of printing")


def do_claims(options) -> None:
    from studies.claims import against_paper, claims_file, evaluate, load_claims, pick
    from studies.claims.file import CLAIMS
    from studies.claims.kept import before
    from studies.claims.render import render_claims
    from studies.tables import TABLES

    format = _format(options)
    ids = [name.strip() for name in options.id.split(",")] if options.id else None
    check_known("set of claims", options.claims, CLAIMS)
    family = load_claims(claims_file(options.claims))
    chosen = pick(family, ids) if ids else family
    if options.paper:
        _check_paper(options)
        found = against_paper(chosen)
    else:
        store, view = reading(options, TABLES.values())
        with busy("judging claims"):
            found = evaluate(store, view, claims=chosen if ids else None, family=family)
            found = before(found, store, view, options.claims)
    width = layout(options)["width"]
    write_output(render_claims(found, format, detailed=bool(ids), width=width), options.output)


def _format(options) -> str:
    if options.json and options.format not in (None, "json"):
        raise UserError(f"Both --json and --format {options.format}: give one of them.")
    format = "json" if options.json else options.format or format_by_name(options.output, FORMATS, "text")
    check_known("format", format, FORMATS)
    return format


def _check_paper(options) -> None:
    """--paper reads no runs: an option that picks runs would silently do nothing."""
    picks = ("beside", "corpus", "profile", "encoder", "study", "set", "epochs", "patience")
    given = [name for name in picks if getattr(options, name)]
    given += ["protocol"] if options.protocol != "paper" else []
    if options.claims != "paper":
        raise UserError(f"--paper judges by the paper's printed numbers, without rows of --claims {options.claims}.")
    if given:
        option = "with" if given[0] == "beside" else given[0]
        raise UserError(f"--paper judges by printed numbers, --{option} picks runs: leave one of them out.")
