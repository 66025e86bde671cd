"""Draws are distinct, stable and independent; selection sees validation only; Optuna's ledger follows the store."""

import json
import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from studies.search.draws import draw, select
from studies.search.ledger import ledger
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


# ------------------------------------------------------------------------------------------------ ledger


def trials(path, name="s"):
    storage = JournalStorage(JournalFileBackend(str(path)))
    return optuna.load_study(study_name=name, storage=storage).get_trials()


DRAWS = draw(SPACE, 5, *AXES)


def test_ledger_mirrors_draws_and_results(tmp_path):
    path = tmp_path / "studies" / "s.journal"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ledger(path, "s", DRAWS, SPACE, {0: 0.5, 3: None})
    found = trials(path)
    assert [t.number for t in found] == [0, 1, 2, 3, 4]
    assert [t.state for t in found] == [
        TrialState.COMPLETE,
        TrialState.RUNNING,
        TrialState.RUNNING,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert found[0].value == 0.5
    for trial, values in zip(found, DRAWS, strict=True):
        assert trial.params == {**values, "layers": json.dumps(values["layers"]).replace(" ", "")}
        assert not trial.user_attrs


def test_ledger_is_idempotent_and_keeps_what_was_told(tmp_path):
    path = tmp_path / "s.journal"
    ledger(path, "s", DRAWS[:3], SPACE, {0: 0.5})
    ledger(path, "s", DRAWS, SPACE, {1: 0.4})
    size = path.stat().st_size
    ledger(path, "s", DRAWS, SPACE, {0: 0.5, 1: 0.4})
    assert len(trials(path)) == 5
    assert [t.value for t in trials(path)][:2] == [0.5, 0.4]
    assert path.stat().st_size - size < 300  # opening a study logs a line; no trial is added or told again
    ledger(path, "s", DRAWS[:2], SPACE, {})
    assert len(trials(path)) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.journal", "s.journal.guard"]


@pytest.mark.parametrize("damage", [b'{"op_code":4,"worker', b"\x00\x00\xff\n", b"not json\n"])
def test_torn_journal_is_set_aside_and_rebuilt(tmp_path, damage):
    path = tmp_path / "s.journal"
    ledger(path, "s", DRAWS, SPACE, {0: 0.5})
    with open(path, "ab") as handle:
        handle.write(damage)
    ledger(path, "s", DRAWS, SPACE, {0: 0.5, 2: 0.25})
    assert (tmp_path / "s.journal.torn").read_bytes().endswith(damage)
    assert [t.value for t in trials(path)] == [0.5, None, 0.25, None, None]


def test_ledger_killed_half_way_is_completed(tmp_path):
    path = tmp_path / "s.journal"
    ledger(path, "s", DRAWS, SPACE, {0: 0.5})
    whole = path.read_bytes().splitlines(keepends=True)
    for lines in range(1, len(whole), 3):
        path.write_bytes(b"".join(whole[:lines]))
        ledger(path, "s", DRAWS, SPACE, {0: 0.5, 4: 0.1})
        found = trials(path)
        assert [t.value for t in found] == [0.5, None, None, None, 0.1]
        assert [t.params["lr"] for t in found] == [d["lr"] for d in DRAWS]


@pytest.mark.parametrize("draws, finished", [(DRAWS[::-1], {0: 0.5}), (DRAWS, {0: 0.4}), (DRAWS, {0: None})])
def test_a_study_that_contradicts_the_store_is_rewritten(tmp_path, draws, finished):
    path = tmp_path / "s.journal"
    ledger(path, "s", DRAWS, SPACE, {0: 0.5})
    ledger(path, "s", draws, SPACE, finished)
    found = trials(path)
    assert [t.params["dropout"] for t in found] == [d["dropout"] for d in draws]
    assert found[0].value == finished[0]
    assert (tmp_path / "s.journal.old").exists()


def test_a_failure_that_succeeded_later_keeps_the_other_results(tmp_path):
    path = tmp_path / "s.journal"
    ledger(path, "s", DRAWS, SPACE, {0: None, 1: 0.4})
    ledger(path, "s", DRAWS, SPACE, {0: 0.3})
    assert [t.value for t in trials(path)][:2] == [0.3, 0.4]


def test_database_url(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    ledger(url, "s", DRAWS[:2], SPACE, {0: 0.5})
    ledger(url, "s", DRAWS[:2], SPACE, {0: 0.4})
    found = optuna.load_study(study_name="s", storage=url).get_trials()
    assert [t.value for t in found] == [0.4, None]


def test_unreachable_database_is_one_sentence_without_the_password():
    from hycon.errors import UserError

    with pytest.raises(UserError, match="Cannot open the database") as caught:
        ledger("nosuchdb://me:secret@localhost/x", "s", DRAWS, SPACE, {})
    assert "secret" not in str(caught.value)


def test_unwritable_ledger_is_one_sentence(tmp_path):
    from hycon.errors import UserError

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write the search's ledger"):
        ledger(tmp_path / "file" / "s.journal", "s", DRAWS, SPACE, {})
