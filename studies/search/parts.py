"""What is still to do of a table, and what its runs are called while they are done: by row, and place in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from studies.store.record import RunSpec
from studies.tables import Row


@dataclass(frozen=True)
class Part:
    """Runs to do. doing: "search" or "seeds".  names: run id -> "HyCon-BERT trial 3/50"."""

    doing: str
    specs: list[RunSpec]
    names: Mapping[str, str]


def trials_of(row: Row, specs: Sequence[RunSpec]) -> Part:
    """The trials of a row's search."""
    return _numbered("search", row, specs, "trial")


def seeds_of(row: Row, specs: Sequence[RunSpec]) -> Part:
    """The seeded runs of a row."""
    return _numbered("seeds", row, specs, "seed")


def _numbered(doing: str, row: Row, specs: Sequence[RunSpec], what: str) -> Part:
    names = {spec.id: f"{row.name} {what} {i}/{len(specs)}" for i, spec in enumerate(specs, start=1)}
    return Part(doing, list(specs), names)


def together(doing: str, parts: Iterable[Part]) -> Part:
    """Several parts in one, in their order."""
    parts = list(parts)
    names = {run: name for part in parts for run, name in part.names.items()}
    return Part(doing, [spec for part in parts for spec in part.specs], names)
