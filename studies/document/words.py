"""How numbers and words are printed, the same in every format."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

NOTHING = "–"  # where there is no number
DAGGER = "†"  # a number that the paper quotes from another publication


def one_line(text: str) -> str:
    """Printable, on one line, whatever a note or an error message held."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def sentence(text: str) -> str:
    """On one line, with a capital letter and one full stop."""
    line = one_line(text).rstrip(".")
    return f"{line[:1].upper()}{line[1:]}."


def listed(names: Iterable[str], word: str = "and") -> str:
    """ "A, B and C"; empty for none."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} {word} {last}" if first else last


# Control characters but for tab and newline; those that hide or turn text (bidi); other line ends; what Unicode
# calls no characters; lone surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """Text whose control characters are shown as JSON writes them: \\u001b. A terminal would obey them."""
    return _HIDDEN.sub(lambda found: escaped(found[0]), text)


def escaped(character: str) -> str:
    """A character as JSON may write it: \\u and four hex digits, twice beyond the first 65,536."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def slug(text: str) -> str:
    """An id that needs no escaping, whatever the data called itself."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def mean_sd(mean: float, sd: float | None, n: int, decimals: int) -> str:
    """As "85.1 ± 0.4 (5)", "85.1 (1)" where there is no spread, "85.1" for what is no run (n = 0)."""
    spread = "" if sd is None else f" ± {sd:,.{decimals}f}"
    return f"{mean:,.{decimals}f}{spread}" + (f" ({n})" if n else "")


def mean_sd_of(values: Sequence[float], decimals: int) -> str:
    """`mean_sd` of the values, with their sample standard deviation where there are two or more."""
    if not values:
        return NOTHING
    return mean_sd(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), decimals
    )


def plain(value: Any) -> str:
    """A configuration's value as a reader writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {plain(value)}" for key, value in values.items()) or "nothing"


def p_value(p: float | None, nothing: str = NOTHING) -> str:
    """Three decimals, "< 0.001" below them."""
    return nothing if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def between(low: float | None, high: float | None, show: Callable[[float], str], nothing: str = NOTHING) -> str:
    """An interval, as "-0.3 to +1.2"; show: prints one number."""
    return nothing if low is None or high is None else f"{show(low)} to {show(high)}"


def span(counts: Collection[int]) -> str:
    """ "5", "3 to 5", or a dash for none."""
    if not counts:
        return NOTHING
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def count_of(n: int, one: str, many: str = "") -> str:
    """ "1 row", "3 rows"; many: where it is not `one` with an s."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
