"""Blocks in the format that a command was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from studies.document import html, latex, markdown, text
from studies.document.blocks import Block

FORMATS = ("text", "md", "latex", "html")


def write(blocks: Sequence[Block], format: str, title: str, *, width: int = text.WIDTH, notes: bool = False) -> str:
    """`blocks` in one of FORMATS, ending in a newline: HTML as a page with `title`, LaTeX to \\input.

    width: characters of a line of text.  notes: whether captions in text are whole; they always are elsewhere.
    """
    if format == "html":
        return html.page(title, blocks)
    if format == "text":
        return text.write(blocks, width, notes)
    return {"md": markdown.fragment, "latex": latex.fragment}[format](blocks)
