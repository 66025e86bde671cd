"""Claims as data, read strictly: the paper's in results/paper/claims.toml, whose head documents the format, and ours in
results/claims_beyond.toml, in the same form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from hycon.errors import UserError, check_known, nearest
from hycon.host import shipped
from studies.claims.kinds import KINDS, SEPARATION, Claim, Side, contests, side
from studies.tables import COST, TABLES

FILES = {"paper": "paper/claims.toml", "beyond": "claims_beyond.toml"}  # the paper's own; what we ask of table `beyond`
CLAIMS = tuple(FILES)
EVERY = {"id", "quote", "place", "tables", "kind"}  # keys that every claim has


class File(msgspec.Struct):
    """The whole file. groups: name -> rows.  counts: row -> its exact number of parameters, where it is known."""

    groups: dict[str, tuple[str, ...]] = {}
    counts: dict[str, Annotated[int, msgspec.Meta(gt=0)]] = {}
    claim: list[dict[str, Any]] = []


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """The claims of `path` (default: the paper's), in its order. Raises UserError naming the claim that is wrong."""
    path = path or claims_file("paper")
    file = _read(path)
    claims = [_claim(item, i, file.groups, path.name) for i, item in enumerate(file.claim, 1)]
    ids = [claim.id for claim in claims]
    for name in ids:
        if ids.count(name) > 1:
            raise UserError(f"{path.name} has two claims with id {name!r}: give one another id.")
    return tuple(claims)


def claims_file(whose: str) -> Path:
    """The file of one of CLAIMS."""
    return shipped(FILES[whose])


def pick(claims: Sequence[Claim], ids: Sequence[str]) -> tuple[Claim, ...]:
    """The claims of these ids, each once. Raises UserError with the nearest ids."""
    by_id = {claim.id: claim for claim in claims}
    for name in ids:
        if name not in by_id:
            raise UserError(f"No claim {name!r}; nearest: {nearest(name, by_id)} (see `bench list claims`).")
    return tuple(by_id[name] for name in dict.fromkeys(ids))


def exact_counts(path: Path | None = None) -> dict[str, int]:
    """Row name -> its exact number of parameters, of those rows where it is known."""
    return _read(path or claims_file("paper")).counts


def _read(path: Path) -> File:
    try:
        raw = msgspec.toml.decode(path.read_bytes())
        for key in raw:
            check_known(f"part of {path.name}", key, File.__struct_fields__)
        return msgspec.convert(raw, File)
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}): install the package again.") from error
    except msgspec.ValidationError as error:
        raise UserError(f"{path} is wrong: {error}.") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise UserError(f"{path} is not TOML: {error}.") from error


def _claim(raw: Mapping[str, Any], number: int, groups: Mapping[str, Sequence[str]], file: str) -> Claim:
    name = raw.get("id")
    where = f"Claim {name!r} of {file}" if isinstance(name, str) and name else f"The claim at place {number} of {file}"
    try:
        _check_keys(raw)
        values = {"others": raw.get("than", raw.get("among", ())), **raw}
        claim = _expanded(msgspec.convert(values, Claim), groups)
        _check_meaning(claim)
    except msgspec.ValidationError as error:
        raise UserError(f"{where} is wrong: {error}.") from error
    except ValueError as error:
        raise UserError(f"{where} {error}.") from error
    return claim


def _check_keys(raw: Mapping[str, Any]) -> None:
    kind = str(raw.get("kind"))
    if kind not in KINDS:
        raise ValueError(f"is of kind {kind!r}; nearest: {nearest(kind, KINDS)}")
    needed, allowed = KINDS[kind].needs | EVERY, KINDS[kind].may | {"note", "implementation"}
    for key, value in raw.items():
        if key not in needed | allowed:
            raise ValueError(f"has a key {key!r} that kind {kind} has not; nearest: {nearest(key, needed | allowed)}")
        if value in ([], {}) or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"has {key} = {value!r}, which says nothing")
    for key in sorted(needed):
        if key not in raw:
            raise ValueError(f"has no {key}, which kind {kind} needs")
    if kind == "level" and ("at_most" in raw) == ("about" in raw):
        raise ValueError("needs one of at_most and about")
    if "about" in raw and "within" not in raw:
        raise ValueError("says about, but not within how much")


def _expanded(claim: Claim, groups: Mapping[str, Sequence[str]]) -> Claim:
    """With the rows of "@name" in its place."""

    def rows(names: Iterable[str]) -> tuple[str, ...]:
        for name in names:
            if name.startswith("@") and name[1:] not in groups:
                raise ValueError(f"names a group {name!r}; nearest: {nearest(name[1:], groups)}")
        each = (groups[name[1:]] if name.startswith("@") else (name,) for name in names)
        return tuple(dict.fromkeys(row for found in each for row in found))

    return replace(
        claim,
        tables=rows(claim.tables),
        rows=rows(claim.rows),
        others=rows(claim.others),
        order=tuple(rows(tier) for tier in claim.order),
        metrics=rows(claim.metrics),
    )


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
