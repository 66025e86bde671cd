"""What is running, how much is done, and how long it will take: a live display on a terminal, else a line per event.

Times come from the store: a run is expected to take the mean of the finished runs of its kind. Where there is none, the
time is unknown, never guessed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from studies.document.words import visible
from studies.engines.backlog import Event
from studies.engines.history import History, duration
from studies.store.record import RunRecord, RunSpec


def label(spec: RunSpec) -> str:
    return f"{spec.model}-{spec.text} {spec.corpus} {spec.id[:8]}"


def line(event: Event) -> str:
    """What happened to a run, in one line."""
    what = f"{event.kind:<9} {label(event.spec)}"
    if event.kind == "start":
        return f"{what} on {event.device}"
    took = "" if event.seconds is None else f" in {duration(event.seconds)}"
    if event.record is None:
        return f"{what}{took}: {visible(event.reason or '')}"
    loss = event.record.valid_loss
    return f"{what}{took}" + ("" if loss is None else f", validation loss {loss:.4f}")


class Progress:
    """Give it as `on_event` to studies.engines.run.run, inside a `with` block.

    specs: what is still to do.  records: finished runs, for times.  workers: how many run at once.
    A live display where `stream` is a terminal, else one line per event; `quiet` prints nothing.
    """

    def __init__(
        self,
        specs: Iterable[RunSpec],
        records: Iterable[RunRecord] = (),
        *,
        workers: int = 1,
        quiet: bool = False,
        stream: TextIO | None = None,
    ):
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.workers = workers
        self.left = {spec.id: spec for spec in specs}
        self.total = len(self.left)
        self.failed = 0
        self.best: tuple[float, RunSpec] | None = None  # lowest validation loss so far
        self.running: dict[str, tuple[RunSpec, float, str]] = {}  # id -> spec, start, device
        self._history = History(records)
        self._live: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=getattr(self.stream, "stream", self.stream))  # past what shows control characters
            self._live = Live(get_renderable=self._table, console=console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        spec = event.spec
        if event.kind in ("start", "retry"):
            self.running[spec.id] = (spec, time.monotonic(), event.device or "")
        else:
            self.running.pop(spec.id, None)
            self.left.pop(spec.id, None)
            self.failed += event.record is None
        if event.record is not None:
            self._learn(event.record)
        if self.quiet:
            return
        if self._live is None:
            print(self._line(event), file=self.stream, flush=True)
        elif event.record is None and event.kind != "start":
            self._live.console.print(self._line(event), markup=False, highlight=False)

    def eta_seconds(self) -> float | None:
        """Time until all is done; None while a run is left of a kind that has not been measured."""
        remaining, now = [], time.monotonic()
        for run_id, spec in list(self.left.items()):
            mean = self._history.mean(spec)
            if mean is None:
                return None
            elapsed = now - self.running[run_id][1] if run_id in self.running else 0.0
            remaining.append(max(0.0, mean - elapsed))
        if not remaining:
            return 0.0
        return max(sum(remaining) / self.workers, max(remaining))

    def _learn(self, record: RunRecord) -> None:
        self._history.learn(record)
        loss = record.valid_loss
        if loss is not None and math.isfinite(loss) and (self.best is None or loss < self.best[0]):
            self.best = (loss, record.spec)

    def _counts(self) -> str:
        done = self.total - len(self.left)
        parts = [f"{done}/{self.total}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        eta = self.eta_seconds()
        if self.left:
            parts.append(f"about {duration(eta)} left" if eta is not None else "time left unknown")
        if self.best is not None:
            parts.append(f"best validation loss {self.best[0]:.4f} ({label(self.best[1])})")
        return ", ".join(parts)

    def _line(self, event: Event) -> str:
        return line(event) if event.kind == "start" else f"{line(event)} [{self._counts()}]"

    def _table(self) -> Any:
        """The live display: a line per running run, and the counts."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for spec, started, device in list(self.running.values()):
            table.add_row(Text(label(spec)), Text(device), Text(duration(now - started), justify="right"))
        outer = Table.grid()
        outer.add_row(table)
        outer.add_row(Text(self._counts(), style="bold"))
        return outer
