"""Tables and paragraphs for a terminal: no line is longer than its width.

A table of numbers that is too wide stands in blocks of columns, one below the other, each with the rows' names. In any
other table cells of words break into lines. Numbers come first: a caption stands below its table, in its short form
unless the whole is asked for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from studies.document.blocks import Block, Caption, Grid, Heading, Text
from studies.document.words import visible

WIDTH = 100  # characters of a line where no terminal says otherwise
GAP, ROOM = 2, 2  # spaces between columns, and those that tabulate leaves beside a heading
NARROWEST = 12  # characters that a column of words keeps, as far as it can; chosen here
MORE = "--notes prints the whole caption."


def write(blocks: Sequence[Block], width: int = WIDTH, notes: bool = False) -> str:
    """Paragraphs and tables, ending in a newline. notes: captions are whole, not short.

    Raises TypeError for any other block: only reports have them.
    """
    return visible("\n\n".join(_block(block, width, notes) for block in blocks) + "\n")


def _block(block: Block, width: int, notes: bool) -> str:
    if isinstance(block, Grid):
        return _grid(block, width, notes)
    if isinstance(block, Text):
        return wrapped(block.text, width)
    raise TypeError(f"no text format of {type(block).__name__}")


def _grid(grid: Grid, width: int, notes: bool) -> str:
    letters = grid.letters
    # Nothing is bold on a plain terminal: a star stands for it.
    rows = [[cell.words(letters) + ("*" if cell.best else "") for cell in row] for row in grid.cells]
    blocks = _in_blocks(grid.headings, rows, width) if grid.narrow else [list(range(len(grid.headings)))]
    drawn = [
        table([grid.headings[c] for c in block], [[row[c] for c in block] for row in rows], width) for block in blocks
    ]
    heading, caption = _caption(grid.full_caption, width, len(blocks), notes)
    notes_below, cautions = ([wrapped(note, width) for note in said] for said in (grid.notes, grid.cautions))
    below = ["\n".join(paragraphs) for paragraphs in (notes_below, cautions, caption) if paragraphs]
    return "\n\n".join([_filled(heading, width), *drawn, *below])


def _caption(caption: Caption, width: int, blocks: int, notes: bool) -> tuple[str, list[str]]:
    """What stands above a table, and the paragraphs below it."""
    split = [f"The columns stand in {blocks} blocks, to fit {width} characters."] if blocks > 1 else []
    if caption.brief and not notes:
        heading, *paragraphs = caption.brief
        paragraphs[-1:] = [" ".join([*paragraphs[-1:], *split, MORE])]
    else:
        heading = caption.lead
        paragraphs = [" ".join(filter(None, (*caption.data, caption.more(best="*"), *split)))]
    return heading, [_filled(paragraph, width) for paragraph in paragraphs if paragraph]


def _in_blocks(headings: Sequence[Heading], rows: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """The columns of each block, as many as fit. Each begins with the first; a column that belongs to the one to its
    left stays with it."""
    widths = _widths(headings, rows)
    found: list[list[int]] = [[0]]
    column = 1
    while column < len(headings):
        end = column + 1
        while end < len(headings) and headings[end].of:
            end += 1
        together = list(range(column, end))
        if len(found[-1]) > 1 and _total([widths[c] for c in (*found[-1], *together)]) > width:
            found.append([0])
        found[-1] += together
        column = end
    return found


def table(headings: Sequence[Heading], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Aligned columns without the trailing spaces, and without a newline at the end.

    width: cells of words break into lines so that no line is longer; None: as wide as it is.
    """
    from tabulate import tabulate

    align = ["right" if heading.right else "left" for heading in headings]
    limits = _limits(headings, rows, width)
    names = [_lines(heading.text, most - ROOM) for heading, most in zip(headings, limits, strict=True)]
    cells = [[_lines(text, most) for text, most in zip(row, limits, strict=True)] for row in rows]
    grid = tabulate(cells, names, "simple", disable_numparse=True, colalign=align if rows else None)
    return "\n".join(line.rstrip() for line in grid.splitlines())


def listing(headings: Sequence[Heading], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """A `table` where it fits without a broken word, else a paragraph for each row, below its first cell."""
    if width is None or _total(_limits(headings, rows, width, whole=True)) <= width:
        return table(headings, rows, width)
    said = []
    for first, *others in rows:
        pairs = ", ".join(f"{heading.text}: {text}" for heading, text in zip(headings[1:], others, strict=True) if text)
        below = [textwrap.fill(pairs, width, initial_indent="  ", subsequent_indent="  ")] if pairs else []
        said.append("\n".join([first, *below]))
    return "\n".join(said)


def _limits(
    headings: Sequence[Heading], rows: Sequence[Sequence[str]], width: int | None, whole: bool = False
) -> list[int]:
    """The width of each column: its widest cell, or less where the table is wider than `width`. Sentences give way
    first, then other words, the widest column before others. whole: no word is broken, whatever the width."""
    widths, words = _widths(headings, rows), _longest_words(headings, rows)
    every = range(len(headings))
    able = [c for c in every if headings[c].wide or not headings[c].number]
    steps = [
        {c: max(2 * NARROWEST, words[c]) for c in able if headings[c].wide},
        {c: max(NARROWEST, words[c]) for c in able},
    ]
    for least in steps if whole else (*steps, dict.fromkeys(able, NARROWEST), dict.fromkeys(able, NARROWEST // 2)):
        while width and _total(widths) > width and (more := [c for c in least if widths[c] > least[c]]):
            widths[max(more, key=lambda c: widths[c])] -= 1
    return widths


def _longest_words(headings: Sequence[Heading], rows: Sequence[Sequence[str]]) -> list[int]:
    def longest(text: str) -> int:
        return max(map(len, text.split()), default=0)

    return [
        max([longest(heading.text) + ROOM, *(longest(row[c]) for row in rows)]) for c, heading in enumerate(headings)
    ]


def _widths(headings: Sequence[Heading], rows: Sequence[Sequence[str]]) -> list[int]:
    def widest(text: str) -> int:
        return max(map(len, text.splitlines()), default=0)

    return [max([len(heading.text) + ROOM, *(widest(row[c]) for row in rows)]) for c, heading in enumerate(headings)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _lines(text: str, width: int) -> str:
    lines = [textwrap.wrap(line, max(width, 1), break_on_hyphens=False) or [""] for line in text.splitlines()]
    return "\n".join(part for parts in lines for part in parts)


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)


def wrapped(text: str, width: int = WIDTH) -> str:
    """Further lines are indented, so that the beginning of each note is seen."""
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)
