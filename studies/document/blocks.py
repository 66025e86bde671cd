"""A report as data: sections of blocks. What is said is decided in the section modules, how it looks in the writers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from studies.aggregate.cells import TableResult

# A verdict's tone: what a badge looks like beside its words. Every other word has none.
GOOD, BAD, UNSURE, NONE = "good", "bad", "unsure", "none"
TONES = {
    **dict.fromkeys(("reproduced", "supported", "consistent", "complete"), GOOD),
    **dict.fromkeys(("differs", "contradicted", "missing"), BAD),
    **dict.fromkeys(("inconclusive", "undecided", "underpowered", "partial"), UNSURE),
    **dict.fromkeys(("not run", "not comparable", "quoted", "cannot be read off"), NONE),
}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A paragraph that nobody may overlook: synthetic data, stand-ins, nothing run."""

    text: str


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Counts:
    """How many of each verdict, in words: (("reproduced", 3), ...)."""

    label: str
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Heading:
    """Of a column. number: sorts and aligns as one.  badge: its cells are verdicts.  wide: its cells are sentences."""

    text: str
    number: bool = False
    badge: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of ours; the first column names its row. rows: texts, as many as headings.  links: for each row the id of
    the Fold with its detail, or "" (none at all where no row has one)."""

    id: str
    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """A table of the paper, filled."""

    result: TableResult


@dataclass(frozen=True)
class Picture:
    """figure: a studies.figures.Figure whose content is SVG."""

    figure: Any


@dataclass(frozen=True)
class Fold:
    """Detail for whoever asks. verdict: a badge before the summary."""

    id: str
    summary: str
    blocks: tuple[Block, ...]
    verdict: str = ""


@dataclass(frozen=True)
class Part:
    """A heading below a section's, and what stands under it."""

    id: str
    title: str
    blocks: tuple[Block, ...]


Block = Text | Notice | Bullets | Counts | Grid | Results | Picture | Fold | Part


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """lead: one sentence of what this is.  banner: what must be known before any number is read."""

    title: str
    lead: str
    banner: tuple[Block, ...]
    sections: tuple[Section, ...] = field(default_factory=tuple)
