"""What the docstring of a model's file says: its source, and where it departs from it.

"Deviates:" or "Deviates from the paper:" opens the part, further words on that line are its remark, "1." begins an
item, and the line on reference implementations ends it.
"""

from __future__ import annotations

import re

PART = re.compile(r"^Deviates(?: from the paper)?(?: \((?P<aside>[^\n]*)\))?:(?P<body>.*?)(?:\n\s*\n|\Z)", re.M | re.S)
ITEM = re.compile(r"^\d+\.\s+", re.M)
CLOSES = re.compile(r"^Reference implementations?(?: consulted)?:?", re.M)
CITED = re.compile(r"\b(19|20)\d\d\b|unpublished", re.I)  # a year, as every citation has one


def parse(docstring: str) -> tuple[str, tuple[str, ...], str] | None:
    """(remark, items, reference implementations) of a module's docstring, None where it has no such part."""
    part = PART.search(docstring)
    if part is None:
        return None
    body, *consulted = CLOSES.split(part["body"], maxsplit=1)
    remark, *items = map(_joined, ITEM.split(body))
    return _joined(f"{part['aside'] or ''} {remark}"), tuple(items), _joined(" ".join(consulted))


def _joined(text: str) -> str:
    return " ".join(text.replace("`", "").split())
