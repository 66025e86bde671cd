"""What finished runs took: how long others of their kind will take, how much memory, and which to start next."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from studies.store.record import RunRecord, RunSpec

Kind = tuple[str, str, str, str | None, str, str]  # model, text front-end, corpus, encoder, device, precision
Limits = tuple[int | None, int | None]  # most epochs, patience


@dataclass
class _Pace:
    """Of some runs together."""

    runs: int = 0
    epochs: int = 0
    seconds: float = 0.0

    def learn(self, epochs: int, seconds: float) -> None:
        self.runs, self.epochs, self.seconds = self.runs + 1, self.epochs + epochs, self.seconds + seconds


@dataclass
class _Past:
    """Of one kind. stopped: by what limited them, since early stopping ends most runs before their last epoch."""

    all: _Pace = field(default_factory=_Pace)
    stopped: dict[Limits, _Pace] = field(default_factory=dict)
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
        self._every = _Pace()
        for record in records:
            self.learn(record)

    def learn(self, record: RunRecord) -> None:
        if record.status != "done":
            return
        past = self._past.setdefault(kind_of(record.spec), _Past())
        if record.seconds is not None:
            pace = past.stopped.setdefault(limits_of(record.spec), _Pace())
            for one in (past.all, pace, self._every):
                one.learn(len(record.curve), record.seconds)
            past.longest = max(record.seconds, past.longest or 0.0)
        if record.peak_memory_mib:
            self.learn_peak(record.spec, record.peak_memory_mib)

    def learn_peak(self, spec: RunSpec, mib: float) -> None:
        """What a run took that has finished, or takes after its first epoch."""
        past = self._past.setdefault(kind_of(spec), _Past())
        past.peak = max(mib, past.peak or 0.0)

    def expected(self, spec: RunSpec) -> float | None:
        """Seconds: the mean of the runs of its kind with the same most epochs and patience. Where there is none, as
        long an epoch as in its kind's others, times its most epochs; None where nothing of its kind has run."""
        past = self._of(spec)
        alike, most = past.stopped.get(limits_of(spec)), limits_of(spec)[0]
        if alike:
            return alike.seconds / alike.runs
        if past.all.epochs and most:
            return most * past.all.seconds / past.all.epochs
        return past.all.seconds / past.all.runs if past.all.runs else None

    def guess(self, spec: RunSpec) -> float | None:
        """As `expected`; of a kind that has not run, as if it were any run: better than nothing while others train."""
        known, every, most = self.expected(spec), self._every, limits_of(spec)[0]
        if known is not None or not every.runs:
            return known
        if every.epochs and most:
            return most * every.seconds / every.epochs
        return every.seconds / every.runs

    def longest(self, spec: RunSpec) -> float | None:
        """Seconds of the longest run of its kind."""
        return self._of(spec).longest

    def peak(self, spec: RunSpec) -> float | None:
        """MiB: the largest peak of memory of its kind."""
        return self._of(spec).peak

    def peak_of_front_end(self, spec: RunSpec) -> float | None:
        """MiB: the largest peak of runs that differ from it in the model only, as far as kinds go."""
        found = [past.peak for kind, past in self._past.items() if kind[1:] == kind_of(spec)[1:] and past.peak]
        return max(found, default=None)

    def estimate(self, specs: Iterable[RunSpec]) -> Estimate:
        """Total time of `specs`, each as long as `expected`."""
        known = [self.expected(spec) for spec in specs]
        return Estimate(sum(x for x in known if x is not None), known.count(None))

    def _of(self, spec: RunSpec) -> _Past:
        return self._past.get(kind_of(spec)) or _Past()


def kind_of(spec: RunSpec) -> Kind:
    """A run's kind: runs of one kind are expected to take the same time and memory."""
    precision = spec.training.get("precision", "fp32")  # of all runs before there was a choice
    return spec.model, spec.text, spec.corpus, (spec.encoder or {}).get("name"), spec.device, precision


def limits_of(spec: RunSpec) -> Limits:
    return spec.training.get("epochs"), spec.training.get("patience")


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
