"""One line on a terminal that says what is taking long, and how far it is: nothing where it is quick, or no terminal.

with busy("importing mosei"):
    for video in counted(videos, "video"):
        ...
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any, TextIO, TypeVar

PATIENCE = 2.0  # seconds of silence; chosen here
REFRESH = 0.25  # seconds between looks; chosen here
CLEAR = "\r\x1b[K"  # the line that the cursor is on

T = TypeVar("T")
_details: list[str] = []  # of the innermost `busy`: how far it is; empty outside of one


@contextlib.contextmanager
def busy(what: str, stream: TextIO | None = None) -> Iterator[None]:
    """While the block runs, say so on `stream` (default: standard error), with the time and what `at` said last.

    Inside another `busy`, nothing is added.
    """
    stream = stream or sys.stderr
    if _details or not stream.isatty():
        yield
        return
    _details.append("")
    done = threading.Event()
    shown = threading.Thread(target=_show, args=(what, getattr(stream, "stream", stream), done), daemon=True)
    shown.start()  # the stream that is inside: the outer one shows control characters, and does not obey them
    try:
        yield
    finally:
        done.set()
        shown.join()
        _details.clear()


def at(detail: str) -> None:
    """Say how far it is: "video 3 of 98"."""
    if _details:
        _details[0] = detail


def counted(items: Collection[T], what: str) -> Iterator[T]:
    """The items, one after the other, each said as "video 3 of 98"."""
    for number, item in enumerate(items, start=1):
        at(f"{what} {number:,} of {len(items):,}")
        yield item


def _show(what: str, stream: Any, done: threading.Event) -> None:
    begun = time.monotonic()
    if done.wait(PATIENCE):
        return
    with contextlib.suppress(OSError, ValueError):  # whoever reads may be gone: the work goes on
        while True:
            detail = f": {_details[0]}" if _details and _details[0] else ""
            line = f"{what}{detail}, {time.monotonic() - begun:.0f} s"
            stream.write(CLEAR + line[: shutil.get_terminal_size().columns - 1])
            stream.flush()
            if done.wait(REFRESH):
                stream.write(CLEAR)
                stream.flush()
                return
