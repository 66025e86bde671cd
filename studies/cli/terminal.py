"""What `bench` prints: as wide as the terminal, with control characters shown, not obeyed. A reader that has gone stops
no run."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from studies.document.text import WIDTH
from studies.document.words import escaped, visible

FEWEST_COLUMNS = 40  # of a terminal: nothing is drawn for a narrower one; chosen here


class Guarded:
    """A text stream for print and argparse. Whatever it is that cannot be written, the command goes on.

    stream: None where it was closed when this process started.  error: why nothing arrives any more.
    """

    def __init__(self, stream: TextIO | None):
        self.stream = stream
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        with self._noted():
            if self.stream is not None:
                self.stream.write(_encodable(visible(text), getattr(self.stream, "encoding", None) or "utf-8"))
        return len(text)

    def flush(self) -> None:
        with self._noted():
            if self.stream is not None:
                self.stream.flush()

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it was closed meanwhile
            self.error = self.error or error
            with contextlib.suppress(OSError, ValueError, AttributeError):
                assert self.stream is not None
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())  # for what is still in its buffer


@contextlib.contextmanager
def guarded() -> Iterator[tuple[Guarded, Guarded]]:
    """Standard output and error are Guarded until the block ends, when both are flushed."""
    for handle in (0, 1, 2):  # a file that is opened must not take the place of a closed one
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = Guarded(sys.stdout), Guarded(sys.stderr)
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def columns() -> int:
    """Characters of a line of standard output: the terminal's, else WIDTH."""
    return terminal_columns() or WIDTH


def terminal_columns() -> int | None:
    """$COLUMNS, else what the terminal has; None where standard output is none."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return max(int(given), FEWEST_COLUMNS)
    return max(shutil.get_terminal_size((WIDTH, 0)).columns, FEWEST_COLUMNS) if sys.stdout.isatty() else None


def _encodable(text: str, encoding: str) -> str:
    """With letters that the terminal does not have written as JSON writes them."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return "".join(c if c.encode(encoding, "ignore") else escaped(c) for c in text)
