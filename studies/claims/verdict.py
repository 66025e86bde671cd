"""A claim's verdict from its parts, for runs and for printed numbers; docs/claims.md has the same rules.

A part is one comparison. A claim that says "every" is supported when all its parts are, contradicted as soon as one is.
"Most" is asked of each row that the claim is about, on each of its tables: supported where more than half of the row's
parts are, contradicted where at least half are contradicted; the claim holds when it does for every row and table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from studies.claims.kinds import METRICS, Claim, Contest
from studies.statistics.comparison import LEVEL

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NO_VERDICT, NOT_RUN = "no verdict", "not run"  # what was run says nothing of the paper; nothing was run
DECIDED = (SUPPORTED, CONTRADICTED)
JUDGED = (*DECIDED, UNDECIDED)  # runs tell something
RUN_VERDICTS = (*JUDGED, NO_VERDICT, NOT_RUN)
CONSISTENT, CANNOT = "consistent", "cannot be read off"
PAPER_VERDICTS = (CONSISTENT, CONTRADICTED, CANNOT)


@dataclass(frozen=True)
class Part:
    """One comparison of a claim, judged.

    table, corpus: where it was made.  row_b: "" where a row is set against a number.  metric, test, value, within: as
    in studies.claims.kinds.Contest.  a, b: the means of all runs of the rows, or the printed numbers.  difference: of
    a and b, by the pairs alone where runs are paired by seed.  low, high: its 95 % interval.  All five are in the
    printed unit.  p: of the permutation test.  p_interval: of the interval.
    p_adjusted: the larger of them after Benjamini-Hochberg over the table's family.  n_a, n_b: runs compared.
    paired: by seed.  seeds_alone: without predictions, so that the interval leaves out the choice of utterances.
    reason: why not run, or why undecided whatever the numbers.  more_runs: whether more of our runs could decide it.
    """

    contest: Contest
    corpus: str
    verdict: str
    a: float | None = None
    b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    n_a: int = 0
    n_b: int = 0
    underpowered: bool = False
    seeds_needed: int | None = None
    reason: str = ""
    p_interval: float | None = None
    more_runs: bool = True
    paired: bool = False
    seeds_alone: bool = False

    @property
    def table(self) -> str:
        return self.contest.table

    @property
    def row_a(self) -> str:
        return self.contest.a.row

    @property
    def row_b(self) -> str:
        return self.contest.b.row if self.contest.b else ""

    @property
    def metric(self) -> str:
        return self.contest.metric

    @property
    def gain(self) -> float:
        """The difference, counted upwards where a is the better one."""
        return (self.difference or 0.0) * orientation(self.metric)


@dataclass(frozen=True)
class ClaimResult:
    """verdict: one of RUN_VERDICTS, or of PAPER_VERDICTS.  reason: which parts decide.  caution: "", or why the
    evidence is not from the paper's setting; of our own questions, what was run.  decisive: the part that one line of
    text shows.  decide: the commands whose runs would decide an undecided claim.  kept: judged when the predictions
    were there (studies.claims.kept).
    """

    claim: Claim
    verdict: str
    parts: tuple[Part, ...]
    reason: str
    caution: str = ""
    decisive: Part | None = None
    decide: tuple[str, ...] = ()
    kept: bool = False


def orientation(metric: str) -> int:
    """1 where higher is better, else -1."""
    return 1 if METRICS[metric].higher_is_better else -1


# ------------------------------------------------------------------------------------------------- a part


def judged(part: Part, tolerance: float | None) -> Part:
    """The part with its verdict by the runs. tolerance: of its metric, for words that name a number.

    The interval decides together with the adjusted p: both must speak against "no difference". A part without p (a
    count, or a row set against a number) goes by its interval alone. One with too few seeds for any p below LEVEL is
    undecided, whatever its interval. A size is judged by the interval: a named number is supported where all of it is
    within the larger of the tolerance and what the words allow, "slight" and "great" where all of it is on the right
    side of the number; contradicted where none of it is. Whatever its size, a gain must also be one.
    """
    if part.verdict or part.underpowered or part.low is None or part.high is None:
        return replace(part, verdict=part.verdict or UNDECIDED)
    test, sign = part.contest.test, orientation(part.metric)
    if test == "at_most":  # the difference is from the level
        return replace(part, verdict=_placed(part.high <= 0, part.low > 0))
    low, high = sorted((sign * part.low, sign * part.high))
    significant = part.p_adjusted is None or part.p_adjusted < LEVEL
    better, worse = significant and low > 0, significant and high < 0
    if test == "better":
        fails = worse or (part.p_adjusted is None and high <= 0)  # equal counts: neither is the smaller
        return replace(part, verdict=_placed(better, fails))
    value = part.contest.value if test in ("gain", "slight", "great") else 0.0
    slack = 1e-9  # decimal numbers on the edge belong to what is claimed
    if test == "slight":
        return replace(part, verdict=_placed(better and high <= value + slack, worse or low > value + slack))
    if test == "great":
        return replace(part, verdict=_placed(better and low >= value - slack, worse or high < value - slack))
    within = max(part.contest.within or 0.0, tolerance or 0.0)
    inside = value - within - slack <= low and high <= value + within + slack
    outside = high < value - within - slack or value + within + slack < low
    if value:
        inside, outside = inside and better, outside or worse
    return replace(part, verdict=_placed(inside, outside))


def _placed(supported: bool, contradicted: bool) -> str:
    return SUPPORTED if supported else CONTRADICTED if contradicted else UNDECIDED


# ------------------------------------------------------------------------------------------------- a claim


def fold(claim: Claim, parts: Sequence[Part], yes: str, unknown: str) -> str:
    """The claim's verdict. yes: how a part that holds is called; unknown: the verdict where nothing decides."""
    if not claim.most:
        return _all([part.verdict for part in parts], yes, unknown)
    own: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        own.setdefault(subject(claim, part), []).append(part.verdict)
    return _all([_most(verdicts, yes, unknown) for verdicts in own.values()], yes, unknown)


def subject(claim: Claim, part: Part) -> tuple[str, str]:
    """The table, and the row that the claim is about: of "worst-of" the one that the others are better than."""
    worst = part.contest.b if claim.kind == "worst-of" else None
    return part.table, (worst or part.contest.a).row


def _all(verdicts: Sequence[str], yes: str, unknown: str) -> str:
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    if verdicts.count(yes) == len(verdicts):
        return yes
    return NOT_RUN if NOT_RUN in verdicts else unknown


def _most(verdicts: Sequence[str], yes: str, unknown: str) -> str:
    if 2 * verdicts.count(yes) > len(verdicts):
        return yes
    if 2 * verdicts.count(CONTRADICTED) >= len(verdicts):
        return CONTRADICTED
    return NOT_RUN if NOT_RUN in verdicts else unknown


def decisive(parts: Sequence[Part], verdict: str) -> Part | None:
    """The part to show: the clearest one against a contradicted claim, else the one with the weakest evidence."""
    same = [part for part in parts if part.verdict == verdict and part.difference is not None]
    known = same or [part for part in parts if part.difference is not None]
    if not known:
        return None

    def strength(part: Part) -> tuple[float, float]:
        """Against the claim: the lower, the stronger."""
        p = part.p_adjusted if part.p_adjusted is not None else 0.0
        printed = part.gain * 10 ** METRICS[part.metric].decimals  # in units of the last printed digit
        return (p, printed) if verdict == CONTRADICTED else (-p, printed)

    return min(known, key=strength)


def few(names: Sequence[str]) -> str:
    """ "A, B, C and 4 more"."""
    distinct = list(dict.fromkeys(names))
    more = len(distinct) - 3
    return ", ".join(distinct[:3]) + (f" and {more} more" if more > 0 else "")


def called(part: Part) -> str:
    """ "Acc7 of HyCon against HyCon (W/O L_SCL)"."""
    heading = METRICS[part.metric].heading
    return f"{heading} of {part.row_a}" + (f" against {part.row_b}" if part.row_b else "")


def way(part: Part) -> str:
    """In which way a contradicted part differs from the claim, as "the other way" or "a larger gain than claimed"."""
    test, claimed = part.contest.test, part.contest.value
    if test in ("gain", "slight", "great"):
        if claimed and part.gain <= 0 and (part.p_adjusted is None or part.p_adjusted < LEVEL):
            return "the other way"
        return "a smaller gain than claimed" if claimed and part.gain < claimed else "a larger difference than claimed"
    if test in ("about", "at_most"):
        return "above the number" if (part.difference or 0.0) > 0 else "below the number"
    return "another number" if test == "count" else "the other way"


def ways(parts: Sequence[Part], name: Callable[[Part], str]) -> list[str]:
    """ "the other way in 2: A, B", for each way in which contradicted parts differ. name: of a part."""
    of: dict[str, list[Part]] = {}
    for part in parts:
        of.setdefault(way(part), []).append(part)
    return [f"{said} in {len(own)}: {few([name(part) for part in own])}" for said, own in of.items()]
