"""Ctrl-C and SIGTERM, noted so that workers are stopped and leases released before anything ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupt:
    """While active, Ctrl-C and SIGTERM are noted in `caught`, and wake up a `wait` on `reader`.

    raising: also raise KeyboardInterrupt, for code that does not look. Signals can be handled in the main thread
    only; in any other this does nothing.
    """

    def __init__(self, raising: bool = False):
        self.raising = raising
        self.caught = False

    def __enter__(self) -> Interrupt:
        self.reader, self._writer = multiprocessing.Pipe(duplex=False)
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and `&` in scripts, ignore Ctrl-C
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.reader.close()
        self._writer.close()

    def _handle(self, number: int, frame: object) -> None:
        if not self.caught:
            self.caught = True
            self._writer.send(number)
        if self.raising:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """Raise in this block, which may wait for long in one place."""
        self.raising = True
        try:
            if self.caught:
                raise KeyboardInterrupt
            yield
        finally:
            self.raising = False


@contextlib.contextmanager
def sigint_ignored() -> Iterator[None]:
    """Processes started in this block ignore Ctrl-C from birth."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
