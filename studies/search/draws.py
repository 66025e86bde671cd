"""Random search: all configurations are drawn before anything runs, and ranked by validation loss afterwards.

The draws are hashes (studies.search.seeds), so a resumed search goes on with the same ones. Optuna's RandomSampler
would draw its first points again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studies.search.seeds import choose
from studies.store.record import RunRecord, canonical


def draw(space: Mapping[str, Sequence[Any]], n: int, *axes: object) -> list[dict[str, Any]]:
    """The first `n` trials of the search named by `axes`: distinct configurations {parameter: value}.

    Draw t takes each parameter from a hash of (axes, t, parameter, attempt); the attempt rises while the configuration
    repeats an earlier one. A space of fewer than `n` configurations is returned whole. A larger `n` only appends, and
    a parameter added to the space leaves the values of the others as they were (except in the few trials where it
    resolves a repetition).
    """
    for name, choices in space.items():
        if not choices:
            raise ValueError(f"search space: {name} has no choices")
    distinct = {name: list({canonical(c): c for c in choices}.values()) for name, choices in space.items()}
    size = math.prod(map(len, distinct.values()))
    drawn: dict[str, dict[str, Any]] = {}
    for trial in range(min(n, size)):
        for attempt in itertools.count():
            values = {name: choose(distinct[name], *axes, trial, name, attempt) for name in distinct}
            if canonical(values) not in drawn:
                drawn[canonical(values)] = values
                break
    return list(drawn.values())


def select(trials: Iterable[tuple[int, RunRecord | None]]) -> int | None:
    """The index of the trial with the lowest validation loss, the lowest index among equals.

    Failed and missing trials do not count; None where none is left.
    """
    ranked = [
        (record.valid_loss, index)
        for index, record in trials
        if record is not None
        and record.status == "done"
        and record.valid_loss is not None
        and math.isfinite(record.valid_loss)
    ]
    return min(ranked)[1] if ranked else None
