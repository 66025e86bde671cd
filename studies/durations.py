"""How long runs take, known from finished ones that were alike, and which run to start next because of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from studies.runs import RunRecord, RunSpec

Kind = tuple[str, str, str, str | None, str]


class Durations:
    """How long runs took, by what makes them alike."""

    def __init__(self, records: Iterable[RunRecord] = ()):
        self._past: dict[Kind, tuple[int, float, float]] = {}  # runs, their seconds, the longest of them
        for record in records:
            self.learn(record)

    def learn(self, record: RunRecord) -> None:
        if record.status == "done" and record.seconds is not None:
            runs, seconds, longest = self._past.get(alike(record.spec), (0, 0.0, -math.inf))
            self._past[alike(record.spec)] = runs + 1, seconds + record.seconds, max(longest, record.seconds)

    def mean(self, spec: RunSpec) -> float | None:
        """Seconds of the runs like it, on average; None where there is none."""
        past = self._past.get(alike(spec))
        return past[1] / past[0] if past else None

    def longest(self, spec: RunSpec) -> float | None:
        past = self._past.get(alike(spec))
        return past[2] if past else None


def alike(spec: RunSpec) -> Kind:
    """Runs with this in common are expected to take as long as one another, and as much memory."""
    return spec.model, spec.text, spec.corpus, (spec.encoder or {}).get("name"), spec.device


def longest_first(specs: Iterable[RunSpec], durations: Durations, begun: Collection[Kind] = ()) -> list[RunSpec]:
    """The order in which to start runs so that many workers end together: the longest expected first.

    What nothing is known of is tried first, one run of each kind; its others come last, until that one has ended.
    begun: kinds that are being tried already.  Equal ones stay in the order given.
    """
    tried = set(begun)
    ranked: list[tuple[int, float, int, RunSpec]] = []
    for place, spec in enumerate(specs):
        longest = durations.longest(spec)
        if longest is not None:
            ranked.append((1, -longest, place, spec))
        elif alike(spec) not in tried:
            tried.add(alike(spec))
            ranked.append((0, 0.0, place, spec))
        else:
            ranked.append((2, 0.0, place, spec))
    return [spec for *_, spec in sorted(ranked, key=lambda entry: entry[:3])]
