"""Numbers for programs: JSON and CSV, without the noise of binary fractions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from studies.document.words import visible

FORMULAS = ("=", "+", "-", "@")  # what a formula begins with


def as_json(value: Any) -> str:
    """Ending in a newline. Raises ValueError for NaN and infinities, which JSON does not have."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(lines: Sequence[dict[str, Any]]) -> str:
    """A header with the keys of all lines, and a line each; "" for what is None or absent.

    Text that a spreadsheet would take for a formula gets a ' before it, as spreadsheets write it themselves.
    """
    if not lines:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(
        out, list(dict.fromkeys(key for line in lines for key in line)), lineterminator="\n", restval=""
    )
    writer.writeheader()
    writer.writerows([{key: _cell(value) for key, value in line.items()} for line in lines])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.lstrip()[:1] in FORMULAS and not _number(text) else text


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in FORMULAS  # a sign alone
    return True


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def rounded(value: float | None) -> float | None:
    """To six decimals, below anything that is printed: drops 85.10000000000001."""
    return None if value is None else round(value, 6)
