"""`bench`: parse, call, print. A module for each family of commands; what they do is in the other rooms.

Nothing here imports torch. A new command: `add(commands)` in a module of its own, and its name in FAMILIES.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import os
import sys
from collections.abc import Sequence

from hycon.errors import UserError
from hycon.offline import go_offline, offline
from studies.cli import author, campaign, claims, data, figure, listing, model, report, run, show, table, trust, worker
from studies.cli.arguments import Parser, Version
from studies.cli.terminal import guarded

# In the order of the help.
FAMILIES = (listing, data, campaign, run, worker, table, show, figure, claims, report, model, trust, author)

DESCRIPTION = """Reproduce HyCon (Mai et al., IEEE TAFFC 2022): run a table, judge a claim, check a number.

  bench run table1 --profile demo             everything on a synthetic corpus, in minutes, on a laptop
  bench data import mosi FILE                 a real corpus, from one of six formats of the field
  bench run table1 --workers 8                the paper's protocol: 50 trials, then 5 seeds a row
  bench init; bench run campaign.toml         the options of a run in one file
  bench table table1 --format latex           what the results folder has so far
  bench ablate --remove iemcl                 HyCon without a part, beside the intact model
  bench show table1 HyCon-BERT acc2           where a number comes from: its study and its runs
  bench claims; bench report                  the paper's claims, and everything in one page
  bench train table1 HyCon-BERT --output DIR  the model of a row, for `bench predict DIR MY_UTTERANCES`
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 some runs failed, 2 a mistake of the caller's, 130 interrupted.

    Where nobody reads what is printed any more, the command goes on, and its exit code tells what it did.
    """
    atexit.register(gc.freeze)  # else Python looks through all of PyTorch for garbage as it ends, which takes a second
    with guarded() as (out, err):
        code = _main(arguments)
        out.flush()
        if out.error is not None and not isinstance(out.error, BrokenPipeError):
            print(f"bench: what was to be printed is lost ({getattr(out.error, 'strerror', out.error)}).", file=err)
            return code or 2
        return code


def _main(arguments: Sequence[str] | None) -> int:
    """Its exit code, or that of what stopped it."""
    try:
        return _carry_out(arguments)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("bench: that needs more memory than there is; what was finished is kept.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; finished runs are kept, the same command goes on from here.", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print("bench: a path is longer than this system allows: give shorter ones.", file=sys.stderr)
        return 2


def _carry_out(arguments: Sequence[str] | None) -> int:
    """The worst exit code of the tables that a campaign names; of any other command, its own."""
    check_here()
    root = parser()
    asked = campaign.expand(root, arguments, root.parse_args(arguments))
    several = len(asked) > 1
    check_empty(asked[0])
    if getattr(asked[0], "offline", False) or offline():
        go_offline()  # before anything imports Transformers
    if several and hasattr(asked[0], "check"):
        for options in asked:  # no mistake is found after hours
            options.check(options)
    codes = []
    for options in asked:
        if several:
            print(f"bench: {options.table}", file=sys.stderr)
        codes.append(options.command(options) or 0)
    return max(codes)


def check_here() -> None:
    """Raises UserError where the working directory has been deleted, so that no relative path leads anywhere."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("The working directory is gone: change into another one.") from error


def check_empty(options: argparse.Namespace) -> None:
    """Raises UserError for an empty value, as a variable of the shell that is not set gives: it is no default."""
    for name in ("table", "corpus", "profile", "results", "data", "output"):
        if getattr(options, name, None) == "":
            raise UserError(f"{'TABLE' if name == 'table' else f'--{name}'} is empty: leave it out, or give a value.")


def parser() -> Parser:
    root = Parser(prog="bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = root.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for family in FAMILIES:
        family.add(commands)
    return root
