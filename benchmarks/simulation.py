"""How long a table takes on many workers: an exact discrete-event simulation of its runs, with measured durations.

A row is a search and the seeded runs of its winner, which cannot begin before its trials have ended. A free worker
takes the next run at once; nothing else takes time (benchmarks/scaling.py measures what does). Every makespan that
comes from here is SIMULATED.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from studies.store.record import RunRecord
from studies.tables import TABLES

ORDERS = ("submission", "random", "learned", "kinds known", "all known")
TRIALS, SEEDS = 50, 5  # sec. 4.4(1)
MULT_TO_TFN = 13.23 / 5.04  # s/epoch, file mosi of benchmarks/against_mmsa.py, on an Intel Xeon on 2026-11-22
ENOUGH = 5  # measured runs below which a row's durations are not drawn from its own; chosen here


@dataclass(frozen=True)
class SimulatedRow:
    """kind: rows of one kind share what is known of their durations.  trials, seeds: seconds of each run."""

    name: str
    kind: str
    trials: tuple[float, ...]
    seeds: tuple[float, ...]


def work(rows: Iterable[SimulatedRow]) -> float:
    """Seconds of all runs, one after the other."""
    return sum(sum(row.trials) + sum(row.seeds) for row in rows)


def lower_bound(rows: Sequence[SimulatedRow], workers: int) -> float:
    """Seconds that no order can beat: an even share of the work, or the longest trial and seeded run of a row."""
    chains = (max(row.trials, default=0.0) + max(row.seeds, default=0.0) for row in rows)
    return max(work(rows) / workers, max(chains, default=0.0))


def makespan(rows: Sequence[SimulatedRow], workers: int, order: str, *, waves: bool = True, seed: int = 0) -> float:
    """Seconds until the last run has ended.

    order: "submission" (row after row), "random", "learned" (one run of each kind; then the kind first whose longest
    finished run is the longest: studies.engines.history.longest_first), "kinds known" (the same, with the longest
    run of every kind known beforehand), "all known" (longest first, every run's own duration known beforehand).
    waves: no seeded run begins before all rows' trials have ended, as in `bench run`; else only those of its own row.
    """
    ready = {i: list(row.trials) for i, row in enumerate(rows)}  # by row; the last of each is next
    unfinished = [len(row.trials) for row in rows]  # trials
    queue = _Queue(rows, order, seed)
    for runs in ready.values():
        queue.sort(runs)
    running: list[tuple[float, int, int, float]] = []  # end, tie-breaker, row, seconds
    now, started = 0.0, 0
    while True:
        while len(running) < workers and (row := queue.pick(ready)) is not None:
            seconds = ready[row].pop()
            queue.begun.add(rows[row].kind)
            heapq.heappush(running, (now + seconds, started, row, seconds))
            started += 1
        if not running:
            return now
        now, _, row, seconds = heapq.heappop(running)
        queue.learn(rows[row].kind, seconds)
        if unfinished[row]:
            unfinished[row] -= 1
            for open_now in _opened(row, unfinished, waves):
                ready[open_now] = list(rows[open_now].seeds)
                queue.sort(ready[open_now])


def _opened(row: int, unfinished: Sequence[int], waves: bool) -> Iterable[int]:
    """Rows whose seeded runs may begin now that a trial of `row` has ended."""
    if waves:
        return () if any(unfinished) else range(len(unfinished))
    return () if unfinished[row] else (row,)


class _Queue:
    """Which row's run is next. All orders but "all known" tell kinds apart, not the runs of one kind."""

    def __init__(self, rows: Sequence[SimulatedRow], order: str, seed: int):
        if order not in ORDERS:
            raise ValueError(f"order is {order!r}; expected one of {', '.join(ORDERS)}")
        self.order = order
        self.kinds = [row.kind for row in rows]
        self.random = random.Random(seed)
        self.begun: set[str] = set()
        self.longest: dict[str, float] = {}
        if order == "kinds known":
            for row in rows:
                self.learn(row.kind, max((*row.trials, *row.seeds)))

    def sort(self, runs: list[float]) -> None:
        if self.order == "all known":
            runs.sort()
        else:
            runs.reverse()

    def pick(self, ready: Mapping[int, Sequence[float]]) -> int | None:
        rows = [row for row, runs in ready.items() if runs]
        if not rows:
            return None
        if self.order == "submission":
            return rows[0]
        if self.order == "random":
            return self.random.choices(rows, [len(ready[row]) for row in rows])[0]
        if self.order == "all known":
            return max(rows, key=lambda row: ready[row][-1])
        return max(rows, key=lambda row: self._rank(self.kinds[row]))

    def _rank(self, kind: str) -> tuple[bool, float]:
        known = self.longest.get(kind)
        return (False, known) if known is not None else (kind not in self.begun, -1.0)

    def learn(self, kind: str, seconds: float) -> None:
        self.longest[kind] = max(seconds, self.longest.get(kind, 0.0))


# ------------------------------------------------------------------------------------------------- durations


def table1(
    records: Iterable[RunRecord], bert_times: float = 1.0, seed: int = 0
) -> tuple[list[SimulatedRow], dict[str, str]]:
    """Table 1's rows with durations drawn, with replacement, from measured runs; and for each row where from.

    bert_times: how much longer the rows with a pretrained encoder take than was measured with a smaller one.
    Raises ValueError where the records do not hold what the scaled rows are scaled from.
    """
    measured: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.seconds is not None:
            measured.setdefault((record.spec.model, record.spec.text), []).append(record.seconds)
    generator = random.Random(seed)
    rows, origins = [], {}
    for row in TABLES["table1"].rows:
        seconds, origin = _durations(measured, row.model, row.text, bert_times)
        drawn = generator.choices(seconds, k=TRIALS + SEEDS)
        rows.append(SimulatedRow(row.name, f"{row.model}-{row.text}", tuple(drawn[:TRIALS]), tuple(drawn[TRIALS:])))
        origins[row.name] = origin
    return rows, origins


def _durations(
    measured: Mapping[tuple[str, str], list[float]], model: str, text: str, bert_times: float
) -> tuple[list[float], str]:
    """Seconds of the runs that a row's are drawn from, scaled, and what they are."""
    own = measured.get((model, text), [])
    if text != "glove":
        found = _need(measured, "hycon", "bert")
        whose = f"its own {len(own)}" if (model, text) == ("hycon", "bert") else "HyCon-BERT's"
        return [bert_times * x for x in found], whose + (f" x {bert_times:g}" if bert_times != 1 else "")
    if len(own) >= ENOUGH:
        return own, f"its own {len(own)}"
    if model == "mult":
        return [MULT_TO_TFN * x for x in _need(measured, "tfn", text)], f"TFN's x {MULT_TO_TFN:.2f}, by s/epoch"
    shape = _need(measured, "mfn", text)
    if not own:
        return shape, "MFN's, for want of any"
    times = statistics.median(own) / statistics.median(shape)
    return [times * x for x in shape], f"MFN's x {times:.2f}, by the median of its own {len(own)}"


def _need(measured: Mapping[tuple[str, str], list[float]], model: str, text: str) -> list[float]:
    found = measured.get((model, text), [])
    if len(found) < ENOUGH:
        raise ValueError(f"{len(found)} finished runs of {model}-{text} are there; expected at least {ENOUGH}.")
    return found
