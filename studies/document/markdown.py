"""The report as Markdown: every section in words and pipe tables, details included. Figures are told, not shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studies.aggregate.render import escape_markdown, markdown
from studies.document.blocks import (
    Bullets,
    Counts,
    Document,
    Fold,
    Grid,
    Notice,
    Part,
    Picture,
    Results,
    Section,
    Text,
)


def write(document: Document) -> str:
    """The whole document, ending in a newline."""
    top = [f"# {escape_markdown(document.title)}", escape_markdown(document.lead), *map(_block, document.banner)]
    return "\n\n".join([*top, *map(_section, document.sections)]) + "\n"


def _section(section: Section) -> str:
    return "\n\n".join([f"## {escape_markdown(section.title)}", *map(_block, section.blocks)])


def _block(block: Any) -> str:
    return WRITERS[type(block)](block)


def _notice(block: Notice) -> str:
    return f"**{escape_markdown(block.text)}**"


def _bullets(block: Bullets) -> str:
    return "\n".join(f"- {escape_markdown(item)}" for item in block.items)


def _counts(block: Counts) -> str:
    return f"{escape_markdown(block.label)}: {', '.join(f'{n} {verdict}' for verdict, n in block.counts)}."


def _grid(grid: Grid) -> str:
    heads = [escape_markdown(heading.text) for heading in grid.headings]
    rules = ["--:" if heading.number else "---" for heading in grid.headings]
    rows = [[escape_markdown(" ".join(text.split())) for text in row] for row in grid.rows]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))
    return f"{escape_markdown(grid.caption)}\n\n{lines}"


def _within(block: Part | Fold) -> str:
    """A heading and what stands under it; a detail's heading carries its verdict."""
    name = block.title if isinstance(block, Part) else ": ".join(filter(None, (block.verdict, block.summary)))
    level = "###" if isinstance(block, Part) else "####"
    return "\n\n".join([f"{level} {escape_markdown(name)}", *map(_block, block.blocks)])


def _picture(block: Picture) -> str:
    figure = block.figure
    return f"{escape_markdown(figure.caption)}\n\n{escape_markdown(figure.alt)}"


WRITERS: dict[type, Callable[[Any], str]] = {
    Text: lambda block: escape_markdown(block.text),
    Notice: _notice,
    Bullets: _bullets,
    Counts: _counts,
    Grid: _grid,
    Results: lambda block: markdown(block.result).rstrip(),
    Picture: _picture,
    Fold: _within,
    Part: _within,
}
