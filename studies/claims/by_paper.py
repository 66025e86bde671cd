"""The paper's claims against the paper's own tables: what its printed numbers show, without any run of ours.

A part holds where the printed numbers differ on the claimed side, fails where they differ on the other, and cannot be
read off where they are equal as printed or one is not printed. No spread is printed, so nothing here says whether a
difference is more than chance. A printed number of parameters is set against the exact count of that row's model, which
results/paper/claims.toml holds and a test counts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from studies.claims.file import exact_counts, load_claims
from studies.claims.kinds import METRICS, Claim, Contest, Side, contests
from studies.claims.verdict import (
    CANNOT,
    CONSISTENT,
    CONTRADICTED,
    ClaimResult,
    Part,
    called,
    decisive,
    few,
    fold,
    ways,
)
from studies.paper import PaperValue, paper_value
from studies.tables import TABLES


def against_paper(claims: Sequence[Claim] | None = None) -> list[ClaimResult]:
    """The verdict of the printed numbers on every claim (or `claims`): one of studies.claims.verdict.PAPER_VERDICTS."""
    found = []
    for claim in load_claims() if claims is None else claims:
        parts = [_part(contest) for contest in contests(claim)]
        verdict = fold(claim, parts, CONSISTENT, CANNOT)
        found.append(ClaimResult(claim, verdict, tuple(parts), _reason(parts), "", decisive(parts, verdict)))
    return found


def _part(contest: Contest) -> Part:
    corpus = TABLES[contest.table].corpus
    a, b = _printed(contest.a, contest.metric), _printed(contest.b, contest.metric) if contest.b else None
    part = Part(contest, corpus, CANNOT, a=a.value if a else None, b=b.value if b else None)
    for place, value in ((contest.a, a), (contest.b, b)):
        if place and value is None:
            return replace(part, reason=f"{METRICS[contest.metric].heading} of {place.row} is not printed")
    assert a is not None
    if contest.test == "count":
        return _count(part, a)
    part = replace(part, difference=a.value - (b.value if b else contest.value))
    if (contest.test == "slight" and part.gain > 0) or (contest.test == "great" and part.gain >= 0):
        beyond = part.gain - contest.value
        holds = beyond <= 1e-9 if contest.test == "slight" else beyond >= -1e-9
        return replace(part, verdict=CONSISTENT if holds else CONTRADICTED)
    if contest.test in ("better", "slight", "great"):
        verdict = CONSISTENT if part.gain > 0 else CONTRADICTED if part.gain < 0 else CANNOT
        return replace(part, verdict=verdict, reason="" if part.gain else "equal as printed")
    return _against_value(part)


def _against_value(part: Part) -> Part:
    """A gain, or a level: the words' number, give or take `within`, or what rounding can hide."""
    contest = part.contest
    unit = 10.0 ** -METRICS[part.metric].decimals
    rounding = 0.0 if part.metric == "parameters" else 1.5 * unit  # half a unit of both numbers and of the words'
    within = contest.within if contest.within is not None else rounding
    found = part.gain if contest.test == "gain" else part.difference
    assert found is not None
    off = found - (contest.value if contest.test == "gain" else 0.0)
    holds = off <= within + 1e-9 and (contest.test == "at_most" or off >= -within - 1e-9)
    return replace(part, verdict=CONSISTENT if holds else CONTRADICTED)


def _count(part: Part, printed: PaperValue) -> Part:
    """The printed number against the exact count of the row's model; where they differ, whose it is."""
    counts = exact_counts()
    count = counts.get(part.row_a)
    if count is None:
        return replace(part, reason=f"no exact count of {part.row_a} is known")
    part = replace(part, b=float(count), difference=printed.value - count)
    if printed.value == count:
        return replace(part, verdict=CONSISTENT)
    owners = [name for name, other in counts.items() if other == printed.value]
    whose = f"; {printed.text} is the count of {' and '.join(owners)}" if owners else ""
    return replace(part, verdict=CONTRADICTED, reason=f"{part.row_a} has {count:,}{whose}")


def _printed(place: Side, metric: str) -> PaperValue | None:
    """What the table prints. A number that only the text has proves nothing about the text."""
    value = paper_value(place.table, TABLES[place.table].corpus, place.row, metric)
    return None if value and value.in_text else value


def _reason(parts: Sequence[Part]) -> str:
    of = {v: [part for part in parts if part.verdict == v] for v in (CONSISTENT, CONTRADICTED, CANNOT)}
    said = [f"{len(of[CONSISTENT])} of {len(parts)} hold as printed"]
    said += ways(of[CONTRADICTED], _shown)
    if of[CANNOT]:
        what = [f"{called(part)} is equal" if part.difference == 0 else part.reason for part in of[CANNOT]]
        said.append(f"not to be read off in {len(of[CANNOT])}: {few(what)}")
    return "; ".join(said)


def _shown(part: Part) -> str:
    """ "Acc7 of HyCon against HyCon (W/O L_SCL) (46.6, 47.0)"."""
    decimals = METRICS[part.metric].decimals
    numbers = [f"{x:,.{decimals}f}" for x in (part.a, part.b) if x is not None]
    return part.reason if part.reason else f"{called(part)} ({', '.join(numbers)})"
