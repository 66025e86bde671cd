"""Options set by hand: what makes a row stays, what was set elsewhere fills no other row, and Table 8 says them."""

import dataclasses

import pytest
from builders import fill, manifest, put, setting, spec

from hycon.errors import UserError
from studies.aggregate.choice import choose, study_of
from studies.aggregate.table import OTHER_DATA, _budget, table_result
from studies.engines.options import How
from studies.lookup import View
from studies.search import run as search_run
from studies.search.run import check_rows, run_table
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies, save_study
from studies.tables import TABLES, Row
from studies.trust.archive import _covers

MARGIN = next(row for row in TABLES["table6"].rows if "margin" in row.config)
TIMED = next(row for row in TABLES["table8"].rows if row.model == "hycon")


def test_what_makes_a_row_is_not_set_by_hand():
    with pytest.raises(UserError, match="--set margin is what makes the row"):
        check_rows([MARGIN], setting(margin=0.5), None)


def test_a_variant_of_other_options_fills_its_row_marked_and_only_where_there_is_no_other(tmp_path):
    store = RunStore(tmp_path / "results")
    intact = fill(store, [0.1, 0.2])
    row = Row("EF-LSTM-GloVe", "ef_lstm", "glove")
    variant = Row("changed", "ef_lstm", "glove", {"hidden": 9}, intact=row)
    runs = [put(store, spec(10 + n, config={"hidden": 9})).id for n in range(2)]
    taken = dataclasses.replace(intact, row={"hidden": 9}, winner_of=intact.id, runs=runs)
    save_study(store, taken)
    assert study_of(variant, load_studies(store), "mosi", View(), manifest().sha256) == taken
    other = dataclasses.replace(taken, options={"lr": 0.1})
    for known, stale in (([intact, taken], False), ([intact, other, taken], False), ([intact, other], True)):
        choice = choose(variant, known, "mosi", View(), manifest().sha256)
        assert choice.best == (other if stale else taken)
        assert choice.stale == stale


def test_a_measured_row_says_what_was_set_by_hand():
    measured = {"batch_size": 48, "epochs": 3, "patience": 3}
    study = Study("hycon", "bert", "mosi", "0", {}, measured, None, "cpu", "paper", [], [], measured=True)
    assert _budget(study) == ""
    assert _budget(dataclasses.replace(study, options={**measured, "layers": 6})) == "with layers = 6 set by hand"


def test_a_measured_study_on_another_device_is_another_study():
    study = Study("hycon", "bert", "mosi", "0", {}, {}, None, "cpu", "paper", [], [], measured=True)
    others = [dataclasses.replace(study, **change) for change in ({"device": "cuda"}, {"model_version": 9})]
    assert len({study.id, *(other.id for other in others)}) == 3


def test_a_longer_measured_study_replaces_a_shorter_one():
    longer = Study("hycon", "bert", "mosi", "0", {}, {}, None, "cpu", "paper", [], [], runs=["a", "b"], measured=True)
    shorter = dataclasses.replace(longer, runs=["a"])
    assert _covers(longer, shorter)
    assert not _covers(shorter, longer)


def test_runs_on_other_data_of_the_same_name_say_so(tmp_path):
    store = RunStore(tmp_path / "results")
    fill(store, [0.1, 0.2])
    rows = [row for row in TABLES["table1"].rows if row.name == "EF-LSTM-GloVe"]
    [same, *_] = table_result(TABLES["table1"], store, rows=rows, manifest=manifest()).rows
    [other, *_] = table_result(TABLES["table1"], store, rows=rows, manifest=manifest(content="7")).rows
    assert OTHER_DATA not in same.obstacles
    assert OTHER_DATA in other.obstacles


def test_measured_rows_have_the_machine_for_themselves(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(search_run, "check_table", lambda *given: None)
    monkeypatch.setattr(search_run, "run_rows", lambda rows, setting, store, execute: execute([]) or [])
    monkeypatch.setattr(search_run, "_check_kept", lambda *given: None)

    def run(specs, store, *, how, **more):
        asked.append(how.workers)
        raise KeyboardInterrupt

    monkeypatch.setattr("studies.engines.run.run", run)
    for rows, workers in (([TIMED], 1), ([MARGIN], 4)):
        with pytest.raises(KeyboardInterrupt):
            run_table(rows, setting(), RunStore(tmp_path / "results"), How(workers=4))
        assert asked.pop() == workers
