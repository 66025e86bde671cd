"""What can be printed, as data: sections of blocks. Writers decide how a block looks, the other rooms what it says."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Any

from studies.document.words import DAGGER

# A verdict's tone: the colour of its badge. Any other word has none.
GOOD, BAD, UNSURE, NONE = "good", "bad", "unsure", "none"
TONES = {
    **dict.fromkeys(("reproduced", "supported", "consistent", "complete"), GOOD),
    **dict.fromkeys(("differs", "contradicted", "missing"), BAD),
    **dict.fromkeys(("inconclusive", "undecided", "underpowered", "partial"), UNSURE),
    **dict.fromkeys(("not run", "not comparable", "quoted", "cannot be read off", "too few seeds", "no verdict"), NONE),
}
# A verdict's sign: stands after a number, and beside the word, so that no verdict depends on colour alone.
SIGNS = {
    **dict.fromkeys(("supported", "consistent", "complete"), "✓"),
    **dict.fromkeys(("contradicted", "missing"), "✗"),
    **dict.fromkeys(("inconclusive", "undecided", "partial"), "?"),
    "reproduced": "=",
    "differs": "≠",
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
    """How many of each verdict: (("reproduced", 3), ...)."""

    label: str
    counts: tuple[tuple[str, int], ...]

    @property
    def words(self) -> str:
        return f"{self.label}: {', '.join(f'{n} {verdict}' for verdict, n in self.counts)}."


@dataclass(frozen=True)
class Heading:
    """Of a column. number: it sorts and aligns as one.  wide: its cells are sentences.

    of: the column to its left that it belongs to, as the paper's number to ours. It is aligned with the text, and read
    aloud with that column's name.
    """

    text: str
    number: bool = False
    wide: bool = False
    of: str = ""

    @property
    def right(self) -> bool:
        return self.number and not self.of


def headings(*texts: str) -> tuple[Heading, ...]:
    return tuple(map(Heading, texts))


def numbers(*texts: str) -> tuple[Heading, ...]:
    return tuple(Heading(text, number=True) for text in texts)


def wide(*texts: str) -> tuple[Heading, ...]:
    return tuple(Heading(text, wide=True) for text in texts)


@dataclass(frozen=True)
class Cell:
    """best: bold, the best of its column.  quoted: has a dagger.

    verdict: a key of TONES. After a text its sign stands, a cell without a text shows the word; HTML shows a badge.
    hint: direction and size of the verdict, or why there is none (HTML only: a tooltip, and read aloud).
    note: a caution that may not be lost: in small print in HTML, elsewhere a letter that is written out below.
    link: the id of the Fold with the detail.  id: of the cell itself.
    """

    text: str
    best: bool = False
    quoted: bool = False
    verdict: str = ""
    hint: str = ""
    note: str = ""
    link: str = ""
    id: str = ""

    @property
    def number(self) -> str:
        """The text with its dagger."""
        return self.text + (DAGGER if self.quoted else "")

    def words(self, letters: dict[str, str]) -> str:
        """The cell where a sign must do for a badge, and a letter for its note."""
        shown = f"{self.number} {SIGNS.get(self.verdict, '')}".rstrip() if self.text else self.verdict
        return shown + (f" ({letters[self.note]})" if self.note else "")

    @property
    def title(self) -> str:
        """The verdict with its hint, whichever there is."""
        return ": ".join(filter(None, (self.verdict, self.hint)))


@dataclass(frozen=True)
class Caption:
    """lead: what the table is.  data: what must be known of the data before any number is read.  rest: how to read it.
    best: what the best cells are.  marks: what the other marks mean.
    brief: the same for a terminal, in short: the line above the table, then the paragraphs below it.
    """

    lead: str
    data: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    best: str = ""
    marks: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()

    @property
    def top(self) -> str:
        """What stands above the table even where the rest is below it."""
        return " ".join((self.lead, *self.data))

    def more(self, best: str = "Bold:") -> str:
        """All but the top. best: how the format shows the best cells."""
        return " ".join((*self.rest, *((f"{best} {self.best}",) if self.best else ()), *self.marks))

    def text(self, best: str = "Bold:") -> str:
        return " ".join(filter(None, (self.top, self.more(best))))


@dataclass(frozen=True)
class Grid:
    """A table. A plain string is a caption of one sentence, or a cell without marks.

    rows: as many cells as headings.  name: the index of the column that names its row.  notes: sentences below.
    lettered: the words above the cells' notes where letters stand for them.
    narrow: short cells that fit on a page. Others may wrap and break over pages.
    """

    id: str
    caption: Caption | str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    name: int = 0
    notes: tuple[str, ...] = ()
    lettered: str = ""
    narrow: bool = False

    @property
    def full_caption(self) -> Caption:
        return Caption(self.caption) if isinstance(self.caption, str) else self.caption

    @property
    def cells(self) -> list[list[Cell]]:
        return [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in self.rows]

    @property
    def letters(self) -> dict[str, str]:
        """note -> "a", "b", ..., "aa": in the order of the rows."""
        found = dict.fromkeys(cell.note for row in self.cells for cell in row if cell.note)
        names = [*string.ascii_lowercase, *(a + b for a in string.ascii_lowercase for b in string.ascii_lowercase)]
        return dict(zip(found, names, strict=False))

    @property
    def cautions(self) -> list[str]:
        """The cells' notes, each with its letter; above them what they are."""
        letters = self.letters
        return [self.lettered, *(f"({letter}) {note}" for note, letter in letters.items())] if letters else []


@dataclass(frozen=True)
class Picture:
    """figure: has `content` (SVG, as bytes), `caption` and `alt`."""

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
    """A heading below a section's, and what stands under it. closed: HTML shows it to whoever opens it."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    closed: bool = False


@dataclass(frozen=True)
class Section:
    """parts: its parts are listed in the contents."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    parts: bool = False


Block = Text | Notice | Bullets | Counts | Grid | Picture | Fold | Part | Section


@dataclass(frozen=True)
class Document:
    """lead: one sentence of what this is.  banner: what must be known before any number is read."""

    title: str
    lead: str
    banner: tuple[Block, ...]
    sections: tuple[Section, ...] = ()
