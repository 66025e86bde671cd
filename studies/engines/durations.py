"""How long runs take, known from finished runs of the same kind, and which run to start next because of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from studies.store.record import RunRecord, RunSpec

Kind = tuple[str, str, str, str | None, str]  # model, text front-end, corpus, encoder, device


class Durations:
    """How long finished runs took, by kind."""

    def __init__(self, records: Iterable[RunRecord] = ()):
        self._past: dict[Kind, tuple[int, float, float]] = {}  # runs, their seconds, the longest of them
        for record in records:
            self.learn(record)

    def learn(self, record: RunRecord) -> None:
        if record.status == "done" and record.seconds is not None:
            runs, seconds, longest = self._past.get(kind_of(record.spec), (0, 0.0, -math.inf))
            self._past[kind_of(record.spec)] = runs + 1, seconds + record.seconds, max(longest, record.seconds)

    def mean(self, spec: RunSpec) -> float | None:
        """Seconds of the runs of its kind, on average; None where there is none."""
        past = self._past.get(kind_of(spec))
        return past[1] / past[0] if past else None

    def longest(self, spec: RunSpec) -> float | None:
        past = self._past.get(kind_of(spec))
        return past[2] if past else None


def kind_of(spec: RunSpec) -> Kind:
    """A run's kind: runs of one kind are expected to take the same time and memory."""
    return spec.model, spec.text, spec.corpus, (spec.encoder or {}).get("name"), spec.device


def longest_first(specs: Iterable[RunSpec], durations: Durations, begun: Collection[Kind] = ()) -> list[RunSpec]:
    """The order in which to start runs so that many workers end together: the longest expected first.

    Of a kind that has not been measured, one run goes first; the others come last, until that one has ended.
    begun: kinds that are being tried already.  Equal ones stay in the order given.
    """
    tried = set(begun)
    ranked: list[tuple[int, float, int, RunSpec]] = []
    for place, spec in enumerate(specs):
        longest = durations.longest(spec)
        if longest is not None:
            ranked.append((1, -longest, place, spec))
        elif kind_of(spec) not in tried:
            tried.add(kind_of(spec))
            ranked.append((0, 0.0, place, spec))
        else:
            ranked.append((2, 0.0, place, spec))
    return [spec for *_, spec in sorted(ranked, key=lambda entry: entry[:3])]


@dataclass(frozen=True)
class Estimate:
    """seconds: of the runs of measured kinds, one after the other.  unknown: how many are of other kinds."""

    seconds: float
    unknown: int


def estimate(specs: Iterable[RunSpec], records: Iterable[RunRecord]) -> Estimate:
    """Total time of `specs`, each as long as the mean of the finished runs of its kind."""
    measured = Durations(records)
    known = [measured.mean(spec) for spec in specs]
    return Estimate(sum(x for x in known if x is not None), known.count(None))


def duration(seconds: float) -> str:
    """'48 s', '3 min 05 s', '2 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
