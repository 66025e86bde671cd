"""Tables and paragraphs for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from studies.document.blocks import Block, Grid, Heading, Text
from studies.document.words import visible

WIDTH = 100  # characters of a wrapped line


def write(blocks: Sequence[Block]) -> str:
    """Paragraphs and tables, ending in a newline. Raises TypeError for any other block: only reports have them."""
    return visible("\n\n".join(map(_block, blocks)) + "\n")


def _block(block: Block) -> str:
    if isinstance(block, Grid):
        return _grid(block)
    if isinstance(block, Text):
        return wrapped(block.text)
    raise TypeError(f"no text format of {type(block).__name__}")


def _grid(grid: Grid) -> str:
    letters = grid.letters
    # Nothing is bold on a plain terminal: a star stands for it.
    rows = [[cell.words(letters) + ("*" if cell.best else "") for cell in row] for row in grid.cells]
    parts = [textwrap.fill(grid.full_caption.text(best="*"), WIDTH, break_on_hyphens=False), table(grid.headings, rows)]
    if grid.notes:
        parts.append("\n".join(map(wrapped, grid.notes)))
    if letters:
        parts.append("\n".join(map(wrapped, grid.cautions)))
    return "\n\n".join(parts)


def table(headings: Sequence[Heading], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns without the trailing spaces, and without a newline at the end."""
    from tabulate import tabulate

    align = ["right" if heading.right else "left" for heading in headings]
    names = [heading.text for heading in headings]
    grid = tabulate(rows, names, "simple", disable_numparse=True, colalign=align if rows else None)
    return "\n".join(line.rstrip() for line in grid.splitlines())


def wrapped(text: str) -> str:
    """Further lines are indented, so that the beginning of each note is seen."""
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
