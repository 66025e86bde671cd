"""Pages of which a part is made by a command: what stands between two marks is replaced, all else stays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hycon.errors import UserError
from hycon.files import write_atomic

END = "<!-- end -->"


def begin(command: str) -> str:
    """The line above the part that `python -m studies.report.<command>` makes."""
    return f"<!-- generated: python -m studies.report.{command} -->"


def split(page: str, command: str) -> tuple[str, str, str]:
    """What stands before, between and after the marks. Raises UserError where a page does not have them once each."""
    mark = begin(command)
    if page.count(mark) != 1 or page.count(END) != 1 or page.index(mark) > page.index(END):
        raise UserError(f"The page has no place for what is generated: expected the lines {mark} and {END}, once each.")
    before, rest = page.split(mark)
    inside, after = rest.split(END)
    return before, inside.strip(), after


def main(arguments: Sequence[str], command: str, generated: Callable[[], str]) -> int:
    """Print what is generated, or put it into the page that `arguments` name. The exit code: 2 for a mistake."""
    if not arguments:
        print(generated())
        return 0
    path = Path(arguments[0])
    try:
        before, _, after = split(path.read_text(encoding="utf-8"), command)
        write_atomic(path, f"{before}{begin(command)}\n\n{generated()}\n\n{END}{after}".encode())
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0
