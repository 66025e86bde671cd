"""What finished runs took: how long others of their kind will take, how much memory, and which to start next."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from studies.store.record import RunRecord, RunSpec

Kind = tuple[str, str, str, str | None, str]  # model, text front-end, corpus, encoder, device


@dataclass
class _Past:
    """Of one kind. seconds: of all its runs together."""

    runs: int = 0
    seconds: float = 0.0
    longest: float | None = None
    peak: float | None = None


@dataclass(frozen=True)
class Estimate:
    """seconds: of the runs of measured kinds, one after the other.  unknown: how many are of other kinds."""

    seconds: float
    unknown: int


class History:
    """What finished runs took, by kind."""

    def __init__(self, records: Iterable[RunRecord] = ()):
        self._past: dict[Kind, _Past] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: RunRecord) -> None:
        if record.status != "done":
            return
        past = self._past.setdefault(kind_of(record.spec), _Past())
        if record.seconds is not None:
            past.runs += 1
            past.seconds += record.seconds
            past.longest = max(record.seconds, past.longest or 0.0)
        if record.peak_memory_mib:
            past.peak = max(record.peak_memory_mib, past.peak or 0.0)

    def mean(self, spec: RunSpec) -> float | None:
        """Seconds of the runs of its kind, on average; None where there is none."""
        past = self._of(spec)
        return past.seconds / past.runs if past.runs else None

    def longest(self, spec: RunSpec) -> float | None:
        """Seconds of the longest run of its kind."""
        return self._of(spec).longest

    def peak(self, spec: RunSpec) -> float | None:
        """MiB: the largest peak of memory of its kind."""
        return self._of(spec).peak

    def estimate(self, specs: Iterable[RunSpec]) -> Estimate:
        """Total time of `specs`, each as long as the mean of its kind."""
        known = [self.mean(spec) for spec in specs]
        return Estimate(sum(x for x in known if x is not None), known.count(None))

    def _of(self, spec: RunSpec) -> _Past:
        return self._past.get(kind_of(spec)) or _Past()


def kind_of(spec: RunSpec) -> Kind:
    """A run's kind: runs of one kind are expected to take the same time and memory."""
    return spec.model, spec.text, spec.corpus, (spec.encoder or {}).get("name"), spec.device


def longest_first(specs: Iterable[RunSpec], history: History, begun: Collection[Kind] = ()) -> list[RunSpec]:
    """The order in which to start runs so that many workers end together: the longest expected first.

    Of a kind that has not been measured, one run goes first; the others come last, until that one has ended.
    begun: kinds that are being tried already.  Equal ones stay in the order given.
    """
    tried = set(begun)
    ranked: list[tuple[int, float, int, RunSpec]] = []
    for place, spec in enumerate(specs):
        longest = history.longest(spec)
        if longest is not None:
            ranked.append((1, -longest, place, spec))
        elif kind_of(spec) not in tried:
            tried.add(kind_of(spec))
            ranked.append((0, 0.0, place, spec))
        else:
            ranked.append((2, 0.0, place, spec))
    return [spec for *_, spec in sorted(ranked, key=lambda entry: entry[:3])]


def duration(seconds: float) -> str:
    """'48 s', '3 min 05 s', '2 h 10 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
