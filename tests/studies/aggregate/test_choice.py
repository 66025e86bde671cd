"""Which of several studies fills a row: each reason by itself, against a study that is ahead in what counts less."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from studies.aggregate.choice import BEHIND, OTHERWISE, Rank, choose
from studies.lookup import View
from studies.store.study import Study
from studies.tables import Row

ROW, BERT_ROW = Row("EF-LSTM-GloVe", "ef_lstm", "glove"), Row("EF-LSTM-BERT", "ef_lstm", "bert")
NOW, THEN = "1" * 64, "2" * 64
BERT, TINY = ({"name": name, "sha256": "0"} for name in ("bert-base-uncased", "tiny"))


def study(trials: int = 50, runs: int = 2, **changes) -> Study:
    """As in the paper but for `changes`. Of each one the draws and runs are its own: none goes on with another."""
    own = f"{trials} {runs} {sorted(changes.items())}"
    given = Study(
        **{"model": "ef_lstm", "text": "glove", "corpus": "mosi", "data": NOW, "device": "cpu", "profile": "paper"},
        **{"row": {}, "options": {}, "encoder": None, "selected": 0, "model_version": 4},
        draws=[{"lr": f"{own} {i}"} for i in range(trials)],
        trials=[f"trial {own} {i}" for i in range(trials)],
        runs=[f"run {own} {i}" for i in range(runs)],
    )
    return dataclasses.replace(given, **changes)


BEFORE = [
    ("begun", study(10, 1, options={"lr": 1.0}), study(90, 0)),
    ("options", study(10, 1, data=THEN), study(90, 9, options={"lr": 1.0})),
    ("options", study(10, 1, data=THEN), study(90, 9, profile="demo", options={"epochs": 5})),
    ("options", study(10, 1, profile="demo", options={"epochs": 5}), study(90, 9, options={"epochs": 5})),
    ("present", study(10, 1, model_version=3), study(90, 9, data=THEN)),
    ("version", study(10, 1), study(90, 9, model_version=3)),
    ("whole", study(50, 1), study(49, 9)),
    ("whole", study(6, 1, space={"lr": [1, 2, 3], "hidden": [4, 5]}), study(49, 9)),  # all that there is to draw
    ("done", study(50, 3), study(90, 2)),
    ("trials", study(51, 2), study(50, 2)),
]


@pytest.mark.parametrize(("why", "first", "second"), BEFORE, ids=[why for why, _, _ in BEFORE])
def test_what_counts_more_decides(why, first, second):
    for both in ([first, second], [second, first]):
        found = choose(ROW, both, "mosi", data=NOW)
        assert (found.best, found.others, found.behind) == (first, (second,), {second.id: BEHIND[why]})


def test_a_study_with_the_paper_s_encoder_comes_before_more_runs_of_another():
    first, second = (study(10, 1, text="bert", encoder=BERT, data=THEN), study(90, 9, text="bert", encoder=TINY))
    assert choose(BERT_ROW, [second, first], "mosi", data=NOW).best == first
    asked = choose(BERT_ROW, [second, first], "mosi", View(encoders={"bert": "tiny"}), NOW)
    assert (asked.best, asked.behind) == (second, {first.id: OTHERWISE})


def test_a_profile_has_an_encoder_of_its_own():
    demo, base, tiny = (
        study(50, runs, text="bert", profile=profile, encoder=encoder)
        for profile, encoder, runs in (("demo", {**TINY, "name": "demo"}, 2), ("demo", BERT, 1), ("paper", TINY, 9))
    )
    assert choose(BERT_ROW, [base, demo, tiny], "mosi", data=NOW).best == base
    assert choose(BERT_ROW, [demo, tiny], "mosi", data=NOW).best == demo
    assert choose(BERT_ROW, [base, demo], "mosi", View(profile="demo"), NOW).best == demo


def held(started: dict[str, str], failed: tuple[str, ...] = ()) -> SimpleNamespace:
    """A store of these runs: id -> when it began. failed: ids of others."""
    records = {run: SimpleNamespace(spec=SimpleNamespace(suite=1), started=when) for run, when in started.items()}
    return SimpleNamespace(get=records.get, failed=lambda run: "why" if run in failed else None, beside=None)


def test_runs_that_are_still_to_do_are_waited_for_and_failed_ones_are_not():
    whole, growing = study(50, 1), study(50, 3)
    done = {run: "2026-01-01" for run in (*whole.runs, *growing.runs[:2])}
    found = choose(ROW, [whole, growing], "mosi", data=NOW, store=held(done))
    assert (found.best, found.behind) == (whole, {growing.id: BEHIND["whole"]})
    assert choose(ROW, [whole, growing], "mosi", data=NOW, store=held(done, (growing.runs[2],))).best == growing


def test_of_equal_studies_the_one_whose_last_run_began_later_is_shown():
    first, second = study(50), study(60)
    began = zip((*first.runs, *second.runs), ("2026-01-01", "2026-03-01", "2026-02-01", "2026-02-02"), strict=True)
    found = choose(ROW, [first, second], "mosi", data=NOW, store=held(dict(began)))
    assert (found.best, found.behind) == (first, {second.id: BEHIND["latest"]})


def test_a_space_of_which_draws_are_left_is_not_whole():
    short = study(5, 9, space={"lr": [1, 2, 3], "hidden": [4, 5]})
    assert choose(ROW, [short, study(50, 1)], "mosi", data=NOW).behind == {short.id: BEHIND["whole"]}


def test_only_what_the_view_asks_for_fits():
    plain, fixed, demo = study(), study(options={"lr": 1.0}), study(profile="demo", options={"epochs": 5})
    everything = [plain, fixed, demo]
    found = choose(ROW, everything, "mosi", View(options={"lr": 1.0}), NOW)
    assert (found.best, set(found.behind.values())) == (fixed, {OTHERWISE})
    assert choose(ROW, everything, "mosi", View(options={"lr": 1.0, "epochs": 5}), NOW).best is None
    assert choose(ROW, everything, "mosi", View(profile="demo"), NOW).best == demo
    nothing = choose(ROW, everything, "mosi", View(options={"lr": 2.0}), NOW)
    assert (nothing.best, nothing.others, len(nothing.behind)) == (None, tuple(everything), 3)


def test_a_study_that_is_named_comes_before_all_others():
    plain, begun = study(), study(1, 0, options={"lr": 1.0}, data=THEN)
    assert choose(ROW, [plain, begun], "mosi", View(studies=(begun.id,)), NOW).best == begun
    assert choose(ROW, [plain, begun], "mosi", View(studies=("f" * 16,)), NOW).best == plain


def test_each_reason_has_its_words():
    assert list(BEHIND) == list(Rank._fields)
