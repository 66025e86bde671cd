"""Markdown: every block in words and pipe tables, details included. Figures are described, not shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from studies.document import blocks
from studies.document.blocks import Block, Cell, Document, Grid
from studies.document.words import visible

LINE_ENDS = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
BEGINNINGS = re.compile(r"^(\s*\d*)(#{1,6}(?=\s|$)|[-+](?=\s|$)|[.)](?=\s|$)|(?:---|===)[-=]*\s*$)")


def write(document: Document) -> str:
    """The whole document, ending in a newline."""
    top = [f"# {escape(document.title)}", escape(document.lead)]
    return "\n\n".join([*top, *map(_block, (*document.banner, *document.sections))]) + "\n"


def fragment(items: Sequence[Block]) -> str:
    """Some blocks without a document around them, ending in a newline."""
    return "\n\n".join(map(_block, items)) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line: a new line could begin a heading or a list."""
    line = visible(LINE_ENDS.sub(" ", text))
    shown = re.sub(r"([\\`*_{}\[\]<>|~&$])", r"\\\1", line)
    return BEGINNINGS.sub(r"\1\\\2", shown)


def _block(block: Block) -> str:
    match block:
        case blocks.Text(text):
            return escape(text)
        case blocks.Notice(text):
            return f"**{escape(text)}**"
        case blocks.Bullets(items):
            return _bullets(items)
        case blocks.Counts():
            return escape(block.words)
        case Grid():
            return _grid(block)
        case blocks.Picture(figure):
            return f"{escape(figure.caption)}\n\n{escape(figure.alt)}"
        case blocks.Fold(_, summary, inside, verdict):
            return _under("####", ": ".join(filter(None, (verdict, summary))), inside)
        case blocks.Part(_, title, inside):
            return _under("###", title, inside)
        case blocks.Section(_, title, inside):
            return _under("##", title, inside)


def _under(level: str, title: str, items: Sequence[Block]) -> str:
    return "\n\n".join([f"{level} {escape(title)}", *map(_block, items)])


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {escape(item)}" for item in items)


def _grid(grid: Grid) -> str:
    letters = grid.letters
    heads = [escape(heading.text) for heading in grid.headings]
    rows = [[_cell(cell, letters) for cell in row] for row in grid.cells]
    align = [heading.right for heading in grid.headings]
    table = _aligned if grid.narrow else _compact
    parts = [escape(grid.full_caption.text()), table(heads, rows, align)]
    if grid.notes:
        parts.append(_bullets(grid.notes))
    if cautions := grid.cautions:
        parts += [escape(cautions[0]), _bullets(cautions[1:])]
    return "\n\n".join(parts)


def _cell(cell: Cell, letters: dict[str, str]) -> str:
    lines = (escape(" ".join(line.split())) for line in cell.words(letters).splitlines())
    text = "<br>".join(filter(None, lines))
    return f"**{text}**" if cell.best else text


def _aligned(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Cells padded to the width of their column, to be read as they are."""
    from tabulate import tabulate

    align = ["right" if number else "left" for number in right]
    return tabulate(rows, heads, "pipe", disable_numparse=True, colalign=align)


def _compact(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Without padding: sentences would make every line as long as the longest."""
    rules = ["--:" if number else "---" for number in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))
