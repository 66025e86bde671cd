"""What `bench show` finds and prints, on made-up results."""

import json

import pytest
from builders import fill_table

from hycon.errors import UserError
from studies.aggregate.table import table_result
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.store.study import load_studies
from studies.tables import TABLES
from studies.trust.trace import column_of, find, rows_of, trace_cell, trace_run, trace_study
from studies.trust.trace_text import WIDTH, text

TABLE = TABLES["table1"]
ROWS = [row for row in TABLE.rows if row.name in ("TFN-GloVe", "HyCon-v2-BERT")]


def command(verb, run):
    return f"bench {verb} {run}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = RunStore(tmp_path_factory.mktemp("results"))
    fill_table(made, TABLE, ROWS)
    fill_table(made, TABLES["table3"], TABLES["table3"].rows[:1])
    return made


def study_of(store, model):
    return next(study for study in load_studies(store) if study.model == model)


def cell(store, name, metric=None, table=TABLE):
    row = next(row for row in table.rows if row.name == name)
    result = table_result(table, store, View(), rows=[row])
    return trace_cell(result, store, metric and column_of(table, metric), command)


def fits(shown):
    return max(map(len, shown.splitlines())) <= WIDTH


def test_a_cell_leads_to_its_runs(store):
    found = cell(store, "TFN-GloVe", "acc2")
    study = study_of(store, "tfn")
    assert [run["id"] for run in found["runs"]] == study.runs
    assert found["study"]["id"] == study.id
    assert found["study"]["winner"] == study.trials[1]
    assert found["study"]["drawn"] == study.draws[1]
    assert list(found["metrics"]) == ["acc2"]
    record = store.get(study.runs[0])
    assert found["runs"][0]["metrics"] == {"acc2": 100 * record.metrics["test"]["paper"]["acc2"]}
    assert found["runs"][0]["seed"] == record.spec.seed
    assert found["runs"][0]["verify"] == f"bench verify {record.id}"
    values = [run["metrics"]["acc2"] for run in found["runs"]]
    assert found["metrics"]["acc2"]["mean"] == pytest.approx(sum(values) / len(values))
    shown = text(found)
    assert all(run in shown for run in study.runs)
    assert fits(shown)


def test_what_keeps_a_verdict_away_is_said_once(store):
    found = {
        **cell(store, "TFN-GloVe", "acc2"),
        "notes": ["resampled", "more"],
        "not_comparable_because": ["resampled"],
    }
    assert text(found).count("resampled") == 1
    assert "notes       more" in text(found)


def test_a_row_is_all_its_cells(store):
    assert list(cell(store, "TFN-GloVe")["metrics"]) == [column.metric for column in TABLE.columns]


def test_a_cell_that_was_not_run_says_what_to_run(store):
    found = cell(store, "LMF-GloVe")
    assert (found["runs"], found["study"], found["next"]) == ([], None, ["bench run "])
    assert "not run yet" in text(found)


def test_many_metrics_fit(store):
    table = TABLES["table3"]
    found = cell(store, table.rows[0].name, table=table)
    assert len(found["metrics"]) == len(table.columns)
    assert fits(text(found))


def test_a_run_is_its_record_and_where_it_belongs(store):
    study = study_of(store, "tfn")
    run = study.runs[1]
    found = json.loads(json.dumps(trace_run(find(store, run), store, command)))
    assert found["metrics"] == json.loads(json.dumps(store.get(run).metrics))
    assert found["belongs_to"] == [{"study": study.id, "as": "seeded run 2 of 3", "rows": rows_of(study)}]
    assert "table1 TFN-GloVe" in rows_of(study)
    assert "table2 TFN-GloVe" not in rows_of(study)  # of another corpus
    won = trace_run(find(store, study.trials[1]), store, command)
    assert [one["as"] for one in won["belongs_to"]] == ["trial 1 (0 to 3), the winner"]
    assert fits(text(found))


def test_a_run_of_other_code_says_so_and_has_no_defaults(store):
    found = trace_run(find(store, study_of(store, "tfn").runs[0]), store, command)
    assert found["code_state"] == "not recorded"
    assert found["verify_not_here"].startswith("of version")
    assert found["defaults"] is None
    assert "not by this code: the run is of version" in " ".join(text(found).split())


def test_a_failed_run_has_its_reason_and_no_verify(store):
    found = trace_run(find(store, study_of(store, "tfn").trials[3]), store, command)
    assert (found["status"], found["verify"]) == ("failed", None)
    assert "non-finite loss at epoch 1, step 2" in text(found)


def test_a_study_has_its_trials_best_first(store):
    study = study_of(store, "hycon")
    found = trace_study(study, store, "paper", command)
    assert [trial["trial"] for trial in found["trials"]] == [1, 0, 2, 3]
    assert [trial["selected"] for trial in found["trials"]] == [True, False, False, False]
    assert found["trials"][-1]["status"] == "failed"
    assert found["unsound"] is None
    assert [run["id"] for run in found["runs"]] == study.runs
    shown = text(found)
    assert "beta = 0.2" in shown
    assert fits(shown)


def test_an_unsound_study_says_so(store):
    import dataclasses

    study = study_of(store, "tfn")
    twice = dataclasses.replace(study, runs=[study.runs[0], study.runs[0]])
    assert "NOT SOUND" in text(trace_study(twice, store, "paper", command))


def test_the_beginning_of_an_id_is_enough(store):
    study = study_of(store, "tfn")
    assert find(store, study.id[:12]) == study
    assert find(store, study.runs[0][:12]).id == study.runs[0]


def test_mistakes_are_sentences_with_the_nearest_names(store):
    with pytest.raises(UserError, match=r"has no run or study 'tabel1', and there is no such table \(nearest: table"):
        find(store, "tabel1")
    with pytest.raises(UserError, match="has no run or study ''"):
        find(store, "")
    ids = [*store.ids(), *(study.id for study in load_studies(store))]
    first = next(letter for letter in "0123456789abcdef" if sum(name.startswith(letter) for name in ids) > 1)
    with pytest.raises(UserError, match=f"'{first}' does not name one run or study: .*; give more of its id"):
        find(store, first)
    with pytest.raises(UserError, match="Unknown metric 'acc3' of table1; nearest: acc"):
        column_of(TABLE, "acc3")
    assert column_of(TABLE, "Corr").metric == "corr"


def test_a_run_under_way_is_neither_done_nor_failed(store):
    (store.root / "runs" / "feedfeedfeedfeed").mkdir()
    with pytest.raises(UserError, match="feedfeedfeedfeed is neither done nor failed"):
        find(store, "feedfeed")
