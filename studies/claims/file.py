"""The paper's claims as data: results/paper/claims.toml, read strictly, and the comparisons that each is made of.

The file's head documents its format. Nothing here knows a claim by name, and nothing measures: studies.claims judges
the comparisons by runs, studies.claims.by_paper by the numbers that the paper prints.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hycon.errors import UserError, nearest
from studies.paper import paper_folder, paper_table, paper_value
from studies.tables import COST, EMOTION, SENTIMENT, TABLES, Column

SEPARATION = Column("separation", "Class separation", 1, 3, True)  # studies.claims.evidence
METRICS = {column.metric: column for column in (*SENTIMENT, *EMOTION, *COST, SEPARATION)}

# kind -> (what it needs, what it may have), beside what every claim has
KINDS: dict[str, tuple[set[str], set[str]]] = {
    "beats": ({"rows", "than"}, {"metrics", "pairwise", "most"}),
    "best-of": ({"rows"}, {"among", "metrics", "most"}),
    "worst-of": ({"rows"}, {"among", "metrics", "most"}),
    "ranking": ({"order"}, {"metrics", "most"}),
    "gain": ({"rows", "than", "by"}, {"within"}),
    "level": ({"rows", "metrics"}, {"at_most", "about", "within"}),
    "count": ({"rows"}, set()),
}
EVERY = {"id", "quote", "place", "tables", "kind"}


class Side(NamedTuple):
    table: str
    row: str


@dataclass(frozen=True)
class Contest:
    """One comparison that a claim is made of.

    table: the claim's, whose family of tests it belongs to.  test: "better" (a than b), "gain" (a better than b by
    `value`), "about" or "at_most" (a against `value`), "count" (a's parameters against the printed ones).
    value, within: in the printed unit; within None: left to whoever judges.
    """

    table: str
    a: Side
    b: Side | None
    metric: str
    test: str
    value: float = 0.0
    within: float | None = None


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
    order: tuple[tuple[str, ...], ...] = ()
    metrics: tuple[str, ...] = ()  # empty: all that the paper prints
    by: Mapping[str, float] = field(default_factory=dict)
    within: float | None = None
    at_most: float | None = None
    about: float | None = None
    pairwise: bool = False
    most: bool = False
    note: str = ""

    @property
    def table(self) -> str:
        return " and ".join(self.tables)

    @property
    def corpus(self) -> str:
        return " and ".join(dict.fromkeys(TABLES[table].corpus for table in self.tables))

    @property
    def task(self) -> str:
        return TABLES[self.tables[0]].task


# ------------------------------------------------------------------------------------------------- comparisons


def contests(claim: Claim) -> tuple[Contest, ...]:
    """The comparisons that the claim is made of, in the order of its tables, rows and metrics."""
    return tuple(contest for table in claim.tables for contest in _MAKERS[claim.kind](claim, table))


def side(reference: str, table: str) -> Side:
    """("table4:HyCon", "table1") -> (table4, HyCon); a row without a table is the given table's."""
    named = re.fullmatch(r"(table\d+):(.*)", reference)
    return Side(named[1], named[2]) if named else Side(table, reference)


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
    """The best as the paper prints them, so that our own numbers do not choose; the first where it prints none."""
    found = {s: paper_value(s.table, TABLES[s.table].corpus, s.row, metric) for s in sides}
    values = {s: value.value for s, value in found.items() if value}
    if len(values) < len(sides):
        return sides[0]
    return (max if METRICS[metric].higher_is_better else min)(sides, key=values.__getitem__)


def _level(claim: Claim, table: str) -> Iterator[Contest]:
    value, test = (claim.at_most, "at_most") if claim.about is None else (claim.about, "about")
    assert value is not None  # the file was checked
    for row in claim.rows:
        for metric in claim.metrics:
            yield Contest(table, side(row, table), None, metric, test, value, claim.within)


def _count(claim: Claim, table: str) -> Iterator[Contest]:
    for row in claim.rows:
        yield Contest(table, side(row, table), None, "parameters", "count")


_MAKERS: dict[str, Callable[[Claim, str], Iterator[Contest]]] = {
    "beats": _beats,
    "best-of": _best,
    "worst-of": _worst,
    "ranking": _ranking,
    "gain": _gain,
    "level": _level,
    "count": _count,
}


# ------------------------------------------------------------------------------------------------- reading


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """The claims of `path` (default: the paper's), in its order. Raises UserError naming the claim that is wrong."""
    raw, path = _read(path)
    groups = raw.get("groups", {})
    claims = [_claim(item, i, groups, path.name) for i, item in enumerate(raw.get("claim", []), 1)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"{path.name} has two claims with id {name!r}: give one another id.")
    return tuple(claims)


def exact_counts(path: Path | None = None) -> dict[str, int]:
    """Row name -> its exact number of parameters, of those rows where it is known."""
    raw, path = _read(path)
    counts = raw.get("counts", {})
    if not all(type(count) is int and count > 0 for count in counts.values()):
        raise UserError(f"[counts] of {path.name} holds something else than whole numbers of parameters.")
    return dict(counts)


def _read(path: Path | None) -> tuple[dict[str, Any], Path]:
    path = path or paper_folder() / "claims.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): install the package again.") from error
    except ValueError as error:
        raise UserError(f"{path} is not TOML: {error}.") from error
    known = {"groups", "counts", "claim"}
    for key in raw:
        if key not in known:
            raise UserError(f"{path.name} has an unknown part {key!r}; nearest: {nearest(key, known)}.")
    return raw, path


def _claim(raw: Mapping[str, Any], number: int, groups: Mapping[str, list[str]], file: str) -> Claim:
    name = raw.get("id")
    where = f"Claim {name!r} of {file}" if isinstance(name, str) and name else f"The claim at place {number} of {file}"
    try:
        _check_keys(raw)
        claim = _built(raw, groups)
        _check_meaning(claim)
    except ValueError as error:
        raise UserError(f"{where} {error}.") from error
    return claim


def _check_keys(raw: Mapping[str, Any]) -> None:
    kind = raw.get("kind")
    if kind not in KINDS:
        raise ValueError(f"is of kind {kind!r}; nearest: {nearest(str(kind), KINDS)}")
    needed, allowed = KINDS[kind][0] | EVERY, KINDS[kind][1] | {"note"}
    for key in raw:
        if key not in needed | allowed:
            raise ValueError(f"has a key {key!r} that kind {kind} has not; nearest: {nearest(key, needed | allowed)}")
    for key in sorted(needed):
        if key not in raw:
            raise ValueError(f"has no {key}, which kind {kind} needs")
    if kind == "level" and ("at_most" in raw) == ("about" in raw):
        raise ValueError("needs one of at_most and about")
    if "about" in raw and "within" not in raw:
        raise ValueError("says about, but not within how much")


def _built(raw: Mapping[str, Any], groups: Mapping[str, list[str]]) -> Claim:
    def texts(key: str) -> tuple[str, ...]:
        value = raw.get(key, [])
        if not isinstance(value, list) or (key in raw and not value) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"has {key} = {value!r}; expected a list of names")
        return tuple(dict.fromkeys(name for item in value for name in _group(item, groups)))

    def text(key: str) -> str:
        value = raw.get(key, "")
        if not isinstance(value, str) or (key in raw and not value.strip()):
            raise ValueError(f"has {key} = {value!r}; expected some words")
        return value

    def flag(key: str) -> bool:
        if type(raw.get(key, False)) is not bool:
            raise ValueError(f"has {key} = {raw[key]!r}; expected true or false")
        return raw.get(key, False)

    order = raw.get("order", [])
    if not isinstance(order, list) or not all(isinstance(tier, list) and tier for tier in order) or len(order) == 1:
        raise ValueError(f"has order = {order!r}; expected two or more lists of rows")
    by = raw.get("by", {})
    if not isinstance(by, dict) or ("by" in raw and not by):
        raise ValueError(f"has by = {by!r}; expected {{metric = difference}}")
    return Claim(
        id=text("id"),
        quote=text("quote"),
        place=text("place"),
        tables=texts("tables"),
        kind=text("kind"),
        rows=texts("rows"),
        others=texts("than") or texts("among"),
        order=tuple(tuple(name for item in tier for name in _group(item, groups)) for tier in order),
        metrics=texts("metrics"),
        by={metric: _number(value, f"by.{metric}") for metric, value in by.items()},
        **{key: _number(raw[key], key) for key in ("within", "at_most", "about") if key in raw},
        pairwise=flag("pairwise"),
        most=flag("most"),
        note=text("note"),
    )


def _group(item: Any, groups: Mapping[str, list[str]]) -> list[str]:
    if not isinstance(item, str):
        raise ValueError(f"names a row {item!r}; expected a name in quotes")
    if not item.startswith("@"):
        return [item]
    if item[1:] not in groups:
        raise ValueError(f"names a group {item!r}; nearest: {nearest(item[1:], groups)}")
    return list(groups[item[1:]])


def _number(value: Any, key: str) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"has {key} = {value!r}; expected a number")
    return float(value)


def _check_meaning(claim: Claim) -> None:
    """Tables, rows and metrics exist, and there is something to compare."""
    for table in claim.tables:
        if table not in TABLES:
            raise ValueError(f"names a table {table!r}; nearest: {nearest(table, TABLES)}")
    if len({TABLES[table].task for table in claim.tables}) > 1:
        raise ValueError("names tables of two tasks; make it two claims")
    for reference in (*claim.rows, *claim.others, *(name for tier in claim.order for name in tier)):
        for table in claim.tables:
            _check_row(side(reference, table))
    allowed = {column.metric for table in claim.tables for column in TABLES[table].columns}
    allowed |= {column.metric for column in (*COST, SEPARATION)}
    for metric in (*claim.metrics, *claim.by):
        if metric not in allowed:
            raise ValueError(f"names a metric {metric!r}; nearest: {nearest(metric, allowed)}")
    if claim.pairwise and len(claim.rows) != len(claim.others):
        raise ValueError(f"is pairwise, but has {len(claim.rows)} rows and {len(claim.others)} to compare them with")
    found = contests(claim)
    if not found or any(contest.a == contest.b for contest in found):
        raise ValueError("compares nothing, or a row with itself")


def _check_row(place: Side) -> None:
    if place.table not in TABLES:
        raise ValueError(f"names a table {place.table!r}; nearest: {nearest(place.table, TABLES)}")
    rows = [row.name for row in TABLES[place.table].rows]
    if place.row not in rows:
        raise ValueError(f"names a row {place.row!r} that {place.table} has not; nearest: {nearest(place.row, rows)}")
