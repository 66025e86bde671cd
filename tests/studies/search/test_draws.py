"""Draws are distinct, stable and independent; selection sees validation only."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.search.draws import draw, select
from studies.store.record import RunRecord, RunSpec, canonical

SPACE = {"lr": [1e-3, 1e-4, 1e-5], "dropout": [0.0, 0.1, 0.2, 0.3], "layers": [(32,), (64, 32), (128,)], "seed": [1, 2]}
AXES = ("tfn", "mosi", "glove", "search")


def distinct(draws):
    return len({canonical(d) for d in draws})


# ------------------------------------------------------------------------------------------------ draw


def test_draws_are_distinct_and_repeatable():
    draws = draw(SPACE, 50, *AXES)
    assert len(draws) == distinct(draws) == 50
    assert draws == draw(SPACE, 50, *AXES)
    assert draws != draw(SPACE, 50, "lmf", *AXES[1:])
    assert all(d[name] in SPACE[name] for d in draws for name in SPACE)


def test_more_trials_only_append():
    assert draw(SPACE, 60, *AXES)[:20] == draw(SPACE, 20, *AXES)
    assert draw(SPACE, 1000, *AXES)[:60] == draw(SPACE, 60, *AXES)


def test_small_space_is_returned_whole():
    draws = draw({"a": [1, 2], "b": "xyz"}, 50, *AXES)
    assert sorted((d["a"], d["b"]) for d in draws) == [(a, b) for a in (1, 2) for b in "xyz"]
    assert draw({}, 50, *AXES) == [{}]
    assert draw({"a": [1, 1, 1]}, 5, *AXES) == [{"a": 1}]


def test_an_added_parameter_leaves_the_others_alone():
    big = {"lr": list(range(100)), "dropout": list(range(100))}  # repetitions are too rare to matter
    before = draw(big, 20, *AXES)
    after = draw({"new": [1, 2, 3], **big}, 20, *AXES)
    assert [{k: d[k] for k in big} for d in after] == before


def test_order_of_parameters_does_not_matter():
    backwards = dict(reversed(SPACE.items()))
    assert draw(backwards, 30, *AXES) == draw(SPACE, 30, *AXES)


def test_every_choice_turns_up():
    draws = draw(SPACE, 50, *AXES)
    assert all({canonical(d[name]) for d in draws} == {canonical(c) for c in SPACE[name]} for name in SPACE)


def test_no_choices_is_named():
    with pytest.raises(ValueError, match="lr has no choices"):
        draw({"lr": []}, 3, *AXES)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1), st.lists(st.integers(0, 4), min_size=1, max_size=4), max_size=3))
def test_any_space(space):
    size = 1
    for choices in space.values():
        size *= len(set(choices))
    for n in (0, 1, 3, 70):
        draws = draw(space, n, "x")
        assert len(draws) == distinct(draws) == min(n, size)


# ------------------------------------------------------------------------------------------------ select


def record(valid_loss, status="done"):
    spec = RunSpec("tfn", 1, "glove", "mosi", "0", {}, {}, seed=1)
    return RunRecord(spec, status, valid_loss=valid_loss)


def test_select_lowest_loss_then_lowest_index():
    assert select([(0, record(0.9)), (1, record(0.7)), (2, record(0.7)), (3, record(0.8))]) == 1
    assert select([(2, record(0.7)), (1, record(0.7))]) == 1


def test_select_ignores_failed_missing_and_undefined():
    trials = [(0, record(0.1, "failed")), (1, None), (2, record(None)), (3, record(float("nan"))), (4, record(2.0))]
    assert select(trials) == 4
    assert select(trials[:4]) is None
    assert select([]) is None


def test_select_cannot_see_test_metrics():
    from dataclasses import replace

    tempting = replace(record(0.9), metrics={"test": {"paper": {"mae": 0.0}}})
    assert select([(0, tempting), (1, record(0.8))]) == 1
