"""Winners at the edge of their grid: a wider grid might hold a better configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FEWEST = 3  # values: of two, each is an edge


def at_edge(space: Mapping[str, Sequence[Any]], winner: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """(option, value, "lowest" or "highest") for each numeric grid of at least three values whose winner is an end.

    A lowest value of 0 is no edge: nothing lies below it (a dropout, a weight decay). Nor is the highest number of a
    grid that has None, too: no clipping lies above every bound.
    """
    found = []
    for option, choices in space.items():
        numbers = {choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)}
        value = winner.get(option)
        if len(numbers) < FEWEST or len(numbers) < len(set(choices) - {None}) or value is None:
            continue
        if value == max(numbers) and None not in choices:
            found.append((option, value, "highest"))
        elif value == min(numbers) and value != 0:
            found.append((option, value, "lowest"))
    return found
