"""What kinds of claims there are: the keys that each has in the file, and the comparisons that it is made of.

Nothing here knows a claim by name, and nothing measures: `by_runs` judges the comparisons by our runs, `by_paper` by
the numbers that the paper prints. A new kind is one function and one entry of KINDS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import msgspec

from studies.paper import paper_table, paper_value
from studies.tables import COST, EMOTION, SENTIMENT, TABLES, Column, Row

SEPARATION = Column("separation", "Class separation", 1, 3, True)  # studies.statistics.separation
ANY_CORPUS = "any real corpus"
METRICS = {column.metric: column for column in (*SENTIMENT, *EMOTION, *COST, SEPARATION)}

Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Side(NamedTuple):
    table: str
    row: str


@dataclass(frozen=True)
class Contest:
    """One comparison that a claim is made of.

    table: the claim's, whose family of tests it belongs to.  test: "better" (a than b), "gain" (a better than b by
    `value`), "slight" and "great" (better by at most, at least `value`), "about" or "at_most" (a against `value`),
    "count" (a's parameters against the printed ones).
    value, within: in the printed unit; within None: left to whoever judges.
    """

    table: str
    a: Side
    b: Side | None
    metric: str
    test: str
    value: float = 0.0
    within: float | None = None

    @property
    def sides(self) -> tuple[Side, ...]:
        return (self.a, self.b) if self.b else (self.a,)


@dataclass(frozen=True)
class Claim:
    """One [[claim]] of the file, its groups of rows written out; see there. others: `than` or `among`."""

    id: str
    quote: str
    place: str
    tables: tuple[str, ...]
    kind: str
    rows: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    order: Annotated[tuple[Names, ...], msgspec.Meta(min_length=2)] = ()
    metrics: tuple[str, ...] = ()  # empty: all that the paper prints
    by: Mapping[str, float] = field(default_factory=dict)
    within: float | None = None
    at_most: float | None = None
    about: float | None = None
    pairwise: bool = False
    most: bool = False
    note: str = ""
    implementation: str = ""

    @property
    def table(self) -> str:
        return " and ".join(self.tables)

    @property
    def own(self) -> bool:
        """Whether it is a question of ours, on tables that the paper does not have, and so about no corpus of its."""
        return all(TABLES[table].beyond for table in self.tables)

    @property
    def corpus(self) -> str:
        """What it is about."""
        return ANY_CORPUS if self.own else " and ".join(dict.fromkeys(TABLES[table].corpus for table in self.tables))

    @property
    def task(self) -> str:
        return TABLES[self.tables[0]].task


def side(reference: str, table: str) -> Side:
    """("table4:HyCon", "table1") -> (table4, HyCon); a row without a table is the given table's."""
    named = re.fullmatch(r"(table\d+):(.*)", reference)
    return Side(named[1], named[2]) if named else Side(table, reference)


def row_of(place: Side) -> Row:
    return next(row for row in TABLES[place.table].rows if row.name == place.row)


def _metrics(claim: Claim, table: str) -> tuple[str, ...]:
    return claim.metrics or tuple(dict.fromkeys(metric for _, _, metric in paper_table(table)))


def _better(claim: Claim, table: str, pairs: Sequence[tuple[str, str]]) -> Iterator[Contest]:
    metrics = _metrics(claim, table)
    for winner, loser in pairs:
        for metric in metrics:
            yield Contest(table, side(winner, table), side(loser, table), metric, "better")


def _beats(claim: Claim, table: str) -> Iterator[Contest]:
    each = [(row, other) for row in claim.rows for other in claim.others]
    pairs = list(zip(claim.rows, claim.others, strict=True)) if claim.pairwise else each
    return _better(claim, table, pairs)


def _rest(claim: Claim, table: str) -> list[str]:
    among = claim.others or tuple(row.name for row in TABLES[table].rows)
    return [other for other in among if other not in claim.rows]


def _best(claim: Claim, table: str) -> Iterator[Contest]:
    return _better(claim, table, [(row, other) for row in claim.rows for other in _rest(claim, table)])


def _worst(claim: Claim, table: str) -> Iterator[Contest]:
    return _better(claim, table, [(other, row) for row in claim.rows for other in _rest(claim, table)])


def _ranking(claim: Claim, table: str) -> Iterator[Contest]:
    later = [[name for tier in claim.order[i + 1 :] for name in tier] for i in range(len(claim.order))]
    pairs = [(a, b) for tier, below in zip(claim.order, later, strict=True) for a in tier for b in below]
    return _better(claim, table, pairs)


def _gain(claim: Claim, table: str) -> Iterator[Contest]:
    for row in claim.rows:
        for metric, by in claim.by.items():
            other = _best_printed([side(name, table) for name in claim.others], metric)
            yield Contest(table, side(row, table), other, metric, "gain", by, claim.within)


def _best_printed(sides: Sequence[Side], metric: str) -> Side:
    """The best of those that the paper prints, so that our numbers do not choose; the first where it prints none."""
    found = {s: paper_value(s.table, TABLES[s.table].corpus, s.row, metric) for s in sides}
    values = {s: value.value for s, value in found.items() if value}
    return (max if METRICS[metric].higher_is_better else min)(values or sides, key=lambda s: values.get(s, 0.0))


def _sized(claim: Claim, table: str) -> Iterator[Contest]:
    for row in claim.rows:
        for other in claim.others:
            for metric, by in claim.by.items():
                yield Contest(table, side(row, table), side(other, table), metric, claim.kind, by)


def _level(claim: Claim, table: str) -> Iterator[Contest]:
    value, test = (claim.at_most, "at_most") if claim.about is None else (claim.about, "about")
    assert value is not None  # the file was checked
    for row in claim.rows:
        for metric in claim.metrics:
            yield Contest(table, side(row, table), None, metric, test, value, claim.within)


def _count(claim: Claim, table: str) -> Iterator[Contest]:
    for row in claim.rows:
        yield Contest(table, side(row, table), None, "parameters", "count")


@dataclass(frozen=True)
class Kind:
    """needs, may: keys of the file, beside those that every claim has.  contests: of a claim, on one of its tables."""

    needs: set[str]
    may: set[str]
    contests: Callable[[Claim, str], Iterator[Contest]]


KINDS = {
    "beats": Kind({"rows", "than"}, {"metrics", "pairwise", "most"}, _beats),
    "best-of": Kind({"rows"}, {"among", "metrics", "most"}, _best),
    "worst-of": Kind({"rows"}, {"among", "metrics", "most"}, _worst),
    "ranking": Kind({"order"}, {"metrics", "most"}, _ranking),
    "gain": Kind({"rows", "than", "by"}, {"within"}, _gain),
    "slight": Kind({"rows", "than", "by"}, set(), _sized),
    "great": Kind({"rows", "than", "by"}, set(), _sized),
    "level": Kind({"rows", "metrics"}, {"at_most", "about", "within"}, _level),
    "count": Kind({"rows"}, set(), _count),
}


def contests(claim: Claim) -> tuple[Contest, ...]:
    """The comparisons that the claim is made of, in the order of its tables, rows and metrics."""
    return tuple(contest for table in claim.tables for contest in KINDS[claim.kind].contests(claim, table))
