"""What is running, how much is done, and about how long it will take: a live display on a terminal, else a line now and
then.

Times come from finished runs (studies.engines.history): while some of a table's runs have ended, those of kinds that
have not are expected to take as long an epoch as any. "About", since early stopping ends most runs before their last.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from studies.document.words import count_of, visible
from studies.engines.backlog import Event
from studies.engines.history import History, duration
from studies.store.record import RunRecord, RunSpec

EVERY = 30.0  # seconds between lines where there is no terminal; chosen here
LEAST = 0.05  # of a run's expected time: what is left of one that has taken longer than that; chosen here
SHOWN = 8  # running runs that the live display has a line for; chosen here


def label(spec: RunSpec) -> str:
    return f"{spec.model}-{spec.text} {spec.corpus} {spec.id[:8]}"


def line(event: Event, name: str = "") -> str:
    """What happened to a run, in one line. name: what the run is called there, in place of its label."""
    what = f"{event.kind:<9} {name or label(event.spec)}"
    if event.kind == "start":
        return f"{what} on {event.device}"
    took = "" if event.seconds is None else f" in {duration(event.seconds)}"
    if event.record is None:
        return f"{what}{took}: {visible(event.reason or '')}"
    loss = event.record.valid_loss
    return f"{what}{took}" + ("" if loss is None else f", validation loss {loss:.4f}")


@dataclass(frozen=True)
class _Running:
    spec: RunSpec
    started: float
    device: str


class Progress:
    """Give it as `on_event` to studies.engines.run.run, inside a `with` block; `expect` says what is to do.

    records: finished runs, for times.  workers: how many run at once.  epoch: how many epochs a run has behind it.
    A live display where `stream` is a terminal, else lines; `quiet` prints nothing.
    """

    def __init__(
        self,
        specs: Iterable[RunSpec] = (),
        records: Iterable[RunRecord] = (),
        *,
        workers: int = 1,
        quiet: bool = False,
        stream: TextIO | None = None,
        epoch: Callable[[str], int] = lambda run_id: 0,
    ):
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.workers = workers
        self.epoch = epoch
        self.done = 0
        self.failed = 0
        self.running: dict[str, _Running] = {}
        self._history = History(records)
        self._took, self._trained = 0.0, 0.0  # seconds of the runs done here, with and without what is around training
        self._said: float | None = None  # when the last line was printed
        self._live: Any = None
        self.expect(specs)

    def expect(self, specs: Iterable[RunSpec], names: Mapping[str, str] | None = None, doing: str = "") -> None:
        """What is still to do from here on, in place of what was expected before.

        names: run id -> what the run is called.  doing: "search", say.
        """
        self.left = {spec.id: spec for spec in specs}
        self.names = dict(names or {})
        self.doing = doing
        self.total = self.done + len(self.left)

    def __enter__(self) -> Progress:
        if not self.quiet and self.stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=getattr(self.stream, "stream", self.stream))  # past what shows control characters
            self._live = Live(get_renderable=self._display, console=console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        spec = event.spec
        if event.kind in ("start", "retry"):
            self.running[spec.id] = _Running(spec, time.monotonic(), event.device or "")
        else:
            self.running.pop(spec.id, None)
            self.done += self.left.pop(spec.id, None) is not None
            self.failed += event.record is None
        if event.record is not None:
            self._history.learn(event.record)
            self._took += event.seconds or 0.0
            self._trained += event.record.seconds or 0.0
        self._say(event)

    def _say(self, event: Event) -> None:
        failure = event.kind != "start" and event.record is None
        if self.quiet or (self._live is not None and not failure):
            return
        now = time.monotonic()
        if not failure and (event.kind == "start" or (self._said is not None and now < self._said + EVERY)):
            return
        said = f"{line(event, self._name(spec=event.spec))} [{self.counts()}]"
        if self._live is not None:
            self._live.console.print(said, markup=False, highlight=False)
        else:
            self._said = now
            print(said, file=self.stream, flush=True)

    def eta_seconds(self) -> float | None:
        """About the time until all is done; None while no run has finished that could say."""
        remaining, now = [], time.monotonic()
        around = max(1.0, self._took / self._trained) if self._trained else 1.0
        for run_id, spec in list(self.left.items()):
            guess = self._history.guess(spec)
            if guess is None:
                return None
            elapsed = now - self.running[run_id].started if run_id in self.running else 0.0
            remaining.append(max(LEAST * guess, around * guess - elapsed))
        if not remaining:
            return 0.0
        return max(sum(remaining) / self.workers, max(remaining))

    def counts(self) -> str:
        """ "31 of 88 runs, 2 failed, about 3 min 00 s left"."""
        if not self.total:
            return "looking at what is done already"
        parts = [f"{self.done} of {count_of(self.total, 'run')}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        eta = self.eta_seconds()
        if self.left:
            parts.append(f"about {duration(eta)} left" if eta is not None else "time left unknown")
        return ", ".join(parts)

    def _name(self, spec: RunSpec) -> str:
        return self.names.get(spec.id) or label(spec)

    def _display(self) -> Any:
        """A line for each running run, and below them the bar. Names give way where the terminal is narrow."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        runs = Table.grid(padding=(0, 2), expand=True)
        runs.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for _ in range(3):
            runs.add_column(no_wrap=True, justify="right")
        running, now = list(self.running.values()), time.monotonic()
        for run in running[:SHOWN]:
            took = duration(now - run.started)
            runs.add_row(Text(self._name(run.spec)), self._epoch(run.spec), Text(run.device), Text(took))
        if len(running) > SHOWN:
            runs.add_row(Text(f"and {len(running) - SHOWN} more"))
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        bar.add_row(Text(self.doing), ProgressBar(max(self.total, 1), self.done), Text(self.counts(), style="bold"))
        whole = Table.grid(expand=True)
        whole.add_row(runs)
        whole.add_row(bar)
        return whole

    def _epoch(self, spec: RunSpec) -> Any:
        from rich.text import Text

        most, epoch = spec.training.get("epochs"), self.epoch(spec.id)
        if not epoch:
            return Text("starting")
        return Text(f"epoch {epoch}/{most}" if most else f"epoch {epoch}")
