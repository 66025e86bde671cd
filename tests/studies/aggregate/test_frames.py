"""studies.results, trials and curves: the same columns whatever has been run, and the arguments of `bench table`."""

import inspect
import json
import subprocess
import sys

import pytest
from builders import fill, fill_table, put, spec_of, study_of

import studies
from hycon.errors import UserError
from studies.cli import parser
from studies.lookup import pick_rows
from studies.store.curve import writing
from studies.store.run_store import RunStore
from studies.store.study import save_study
from studies.tables import TABLES

FRAMES = (studies.results, studies.trials, studies.curves)
CURVE = [{"epoch": 1, "train_loss": 2.0, "valid_loss": 1.0}]
ROWS = ["EF-LSTM-GloVe", "HyCon-BERT", "HyCon-v2-BERT"]


@pytest.fixture
def filled(tmp_path):
    """Arguments for a folder with three rows of Table 1."""
    store = RunStore(tmp_path / "results")
    fill_table(store, TABLES["table1"], pick_rows(TABLES["table1"], ROWS))
    return {"results": store.root, "data": tmp_path / "none"}


def other_study(folder, options) -> str:
    """A second study of EF-LSTM-GloVe, with other fixed options and one run."""
    store = RunStore(folder)
    [row] = pick_rows(TABLES["table1"], ["EF-LSTM-GloVe"])
    given = spec_of(row, seed=77, config={"hidden": 8}, training={"lr": 0.5})
    [trial, run] = [put(store, spec_of(row, seed=seed, training={"lr": 0.5}), curve=CURVE).id for seed in (76, 77)]
    study = study_of(row, given, [{"hidden": 8}], [trial], [run], options=options)
    save_study(store, study)
    return study.id


# ------------------------------------------------------------------------------------------------- columns


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.__name__)
@pytest.mark.parametrize("table", ["table1", "table3", "table8"])
def test_the_columns_are_the_same_where_nothing_was_run(filled, tmp_path, frame, table):
    store = RunStore(filled["results"])
    if table != "table1":
        fill_table(store, TABLES[table], TABLES[table].rows[:2])
    (tmp_path / "empty").mkdir()
    some, none = frame(table, **filled), frame(table, **{**filled, "results": tmp_path / "empty"})
    assert list(none.columns) == list(some.columns)
    assert len(none) == 0
    assert some.columns.is_unique


def test_results_have_a_line_a_seeded_run_with_its_place_and_its_options(filled):
    frame = studies.results("table1", rows=ROWS, **filled)
    assert frame["row"].value_counts().to_dict() == dict.fromkeys(ROWS, 3)
    assert frame.groupby("row")["seed_index"].apply(list).to_dict() == {row: [1, 2, 3] for row in ROWS}
    assert frame.groupby("row")["study"].nunique().eq(1).all()
    assert frame["run"].is_unique
    assert set(frame["table"]) == {"table1"}
    assert frame["acc2"].between(0, 1).all()
    assert list(frame.loc[frame["row"] == "HyCon-v2-BERT", "config.beta"]) == [0.2] * 3
    assert "config.lr" in frame


def test_options_that_came_later_have_the_value_that_runs_without_them_mean(filled):
    frame = studies.results("table1", rows="EF-LSTM-GloVe", **filled)
    assert set(frame["config.time_norm"]) == {False}


def test_trials_have_a_line_a_trial_with_what_became_of_it(filled):
    frame = studies.trials("table1", rows="EF-LSTM-GloVe", **filled)
    assert list(frame["trial"]) == [0, 1, 2, 3]
    assert list(frame["state"]) == ["done", "done", "done", "failed"]
    assert list(frame["selected"]) == [False, True, False, False]
    assert frame.loc[frame["valid_loss"].idxmin(), "trial"] == 1
    assert list(frame["config.hidden"]) == [8, 8, 16, 16]
    assert frame["reason"].iloc[3].startswith("non-finite loss")


def test_trials_that_train_or_wait_have_the_options_that_they_will_have(filled):
    store = RunStore(filled["results"])
    [row] = pick_rows(TABLES["table1"], ["TFN-GloVe"])
    given = spec_of(row)
    save_study(store, study_of(row, given, [{"lr": 0.1}, {"lr": 0.2}], ["a" * 16, "b" * 16], [], selected=None))
    with writing(store, "a" * 16) as on_epoch:
        on_epoch({"epoch": 1, "train_loss": 2.0, "valid_loss": 1.0})
    frame = studies.trials("table1", rows="TFN-GloVe", **filled)
    assert list(frame["state"]) == ["training", "to do"]
    assert list(frame["epochs"]) == [1, 0]
    assert list(frame["config.lr"]) == [0.1, 0.2]


def test_rows_that_were_not_searched_have_no_trials(filled):
    fill_table(RunStore(filled["results"]), TABLES["table8"], TABLES["table8"].rows[:2])
    assert studies.trials("table8", **filled).empty
    assert len(studies.results("table8", **filled)) == 6


def test_curves_have_a_line_an_epoch(filled):
    frame = studies.curves("table1", rows="HyCon-BERT", **filled)
    record = next(RunStore(filled["results"]).records())
    for _, run in frame.groupby("run"):
        assert list(run["epoch"]) == list(range(1, len(run) + 1))
    frame = studies.curves("table1", **filled)
    found = frame[frame["run"] == record.id]
    assert list(found["valid_loss"]) == [epoch["valid_loss"] for epoch in record.curve]
    assert set(frame["state"]) == {"done"}


def test_curves_show_a_run_while_it_trains(filled):
    store = RunStore(filled["results"])
    [row] = pick_rows(TABLES["table1"], ["TFN-GloVe"])
    save_study(store, study_of(row, spec_of(row), [{}], ["a" * 16], ["b" * 16]))
    with writing(store, "b" * 16) as on_epoch:
        on_epoch({"epoch": 1, "train_loss": 2.0, "valid_loss": 1.0})
        frame = studies.curves("table1", rows="TFN-*", **filled)
    assert frame[["seed_index", "state", "epoch", "valid_loss"]].values.tolist() == [[1, "training", 1, 1.0]]


# ------------------------------------------------------------------------------------------------- arguments


def test_arguments_are_the_options_of_the_command():
    command = parser()._subparsers._group_actions[0].choices["table"]
    options = {action.dest for action in command._actions}
    for frame in FRAMES:
        names = {name for name, one in inspect.signature(frame).parameters.items() if one.kind is one.KEYWORD_ONLY}
        assert names <= options


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.__name__)
def test_another_study_is_picked_by_its_options_or_its_id(filled, frame):
    own = set(frame("table1", rows="EF-LSTM-GloVe", **filled)["study"])
    other = other_study(filled["results"], {"lr": 0.5, "epochs": 3})
    for asked in ({"set": {"lr": 0.5}}, {"epochs": 3}, {"study": other}, {"study": [other]}):
        assert set(frame("table1", rows="EF-LSTM-GloVe", **asked, **filled)["study"]) == {other}
    assert set(frame("table1", rows="EF-LSTM-GloVe", **filled)["study"]) == own


def test_rows_are_a_text_or_a_list_and_may_be_patterns(filled):
    for rows in ("HyCon-*,EF*GloVe", ["HyCon-*", "EF*GloVe"]):
        assert set(studies.results("table1", rows=rows, **filled)["row"]) == set(ROWS)


@pytest.mark.parametrize(
    "wrong",
    [{"corpus": "mosy"}, {"profile": "dmo"}, {"rows": "HyKon*"}, {"study": "beef"}, {"results": "no-such-folder"}],
    ids=str,
)
def test_mistakes_are_named(filled, wrong):
    for frame in FRAMES:
        with pytest.raises(UserError, match=next(iter(wrong.values())).replace("*", r"\*")):
            frame("table1", **{**filled, **wrong})


def test_runs_that_may_not_be_averaged_are_left_out_on_demand(tmp_path):
    fill(RunStore(tmp_path), [0.1, 0.2], environment=[{"torch": "1"}, {"torch": "2"}])
    given = {"results": tmp_path, "data": tmp_path / "none", "rows": "EF-LSTM-GloVe"}
    assert len(studies.results("table1", **given)) == 2
    assert studies.results("table1", mixed=False, **given).empty


def test_importing_studies_is_light():
    code = "import json, sys, studies; print(json.dumps([m for m in ('pandas', 'torch', 'numpy') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
