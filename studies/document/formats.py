"""Blocks in the format that a command was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from studies.document import html, latex, markdown, text
from studies.document.blocks import Block

FORMATS = ("text", "md", "latex", "html")


def write(blocks: Sequence[Block], format: str, title: str) -> str:
    """`blocks` in one of FORMATS, ending in a newline: HTML as a page with `title`, LaTeX to \\input."""
    if format == "html":
        return html.page(title, blocks)
    return {"text": text.write, "md": markdown.fragment, "latex": latex.fragment}[format](blocks)
