"""Winners at the edge of their grid."""

from collections import Counter
from pathlib import Path

import pytest

from studies.search.edges import at_edge
from studies.store.run_store import RunStore
from studies.store.study import load_studies

PUBLISHED = Path(__file__).parents[3] / "results" / "published" / "old_protocol" / "mosi_resampled"


@pytest.mark.parametrize(
    ("choices", "value", "expected"),
    [
        ((0.1, 0.2, 0.3), 0.1, "lowest"),
        ((0.1, 0.2, 0.3), 0.2, None),
        ((0.3, 0.1, 0.2), 0.3, "highest"),  # in whatever order
        ((0.0, 0.2, 0.5), 0.0, None),  # nothing lies below
        ((0.0, 0.2, 0.5), 0.5, "highest"),
        ((32, 48), 48, None),  # each of two is an end
        (("none", "standard", "maxabs"), "maxabs", None),
        ((False, True, 2), 2, None),
        (("auto", 1, 2, 3), 3, None),  # numbers and a word have no order
        ((None, 0.1, 0.2, 0.3), 0.3, None),  # None, no bound, lies above
        ((None, 0.1, 0.2, 0.3), 0.1, "lowest"),
        ((None, 0.1, 0.2, 0.3), None, None),
    ],
)
def test_the_ends_of_a_grid_of_numbers(choices, value, expected):
    found = at_edge({"option": choices, "other": (1, 2, 3)}, {"option": value, "other": 2})
    assert found == ([("option", value, expected)] if expected else [])


def test_an_option_that_was_not_drawn_is_at_no_edge():
    assert at_edge({"lr": (1, 2, 3)}, {}) == []


def test_the_published_searches():
    """Printed (`pytest -s`): for each row, which options of the best draw lie at an end of what was drawn."""
    searched = [s for s in load_studies(RunStore(PUBLISHED)) if len(s.draws) >= 50 and s.selected is not None]
    assert len(searched) == 8
    counted: Counter[tuple[str, str]] = Counter()
    for study in searched:
        drawn = {name: sorted({draw[name] for draw in study.draws}) for name in study.draws[0]}
        found = at_edge(drawn, study.draws[study.selected])
        print(f"{study.model}-{study.text}: {', '.join(f'{o}={v} ({end})' for o, v, end in found) or 'none'}")
        counted.update((study.model, option) for option, _, _ in found)
        assert len(found) < len(drawn)
    assert counted["mult", "lr"] == 1  # what the grids of this version go beyond
    assert counted["raven", "lr"] == 1
