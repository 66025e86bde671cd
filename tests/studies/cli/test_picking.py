"""Which of a folder's results a reading command shows: the only thing that it holds, or what its options pick."""

import dataclasses
import json
from pathlib import Path

import pytest
from builders import fill, fill_table, put, spec
from commands import bench, places, records

import studies
from hycon.errors import UserError
from studies.lookup import View, held_view
from studies.store.run_store import RunStore
from studies.store.study import load_studies, save_study
from studies.tables import TABLES

PUBLISHED = Path(__file__).resolve().parents[3] / "results" / "published"
TABLE1, TABLE2, TABLE3 = (TABLES[f"table{n}"] for n in (1, 2, 3))
TFN = [row for row in TABLE1.rows if row.name == "TFN-GloVe"]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results")


# ------------------------------------------------------------------------------------------------- what a folder holds


@pytest.mark.parametrize("command", [["table", "table1"], ["status"], ["claims"], ["report"]], ids=" ".join)
def test_the_quick_start_is_shown_without_naming_its_profile(capsys, copy, command):
    code, out, err = bench(capsys, *command, *places(copy))
    named = bench(capsys, *command, "--profile", "demo", *places(copy))
    assert (code, out) == named[:2]
    assert err.endswith("shown: corpus synthetic (profile demo).\n")
    assert err.count("\n") == 1
    assert named[2] == ""


def test_published_results_are_shown_without_naming_their_corpus(capsys):
    command = ["table", "table1", "--format", "json", "--results", PUBLISHED / "old_protocol" / "mosi_resampled"]
    code, out, err = bench(capsys, *command)
    assert code == 0
    assert "holds no runs on mosi; shown: corpus mosi_resampled (profile paper)" in err
    assert json.loads(out)["corpus"] == "mosi_resampled"
    assert sum(row["status"] == "measured" for row in json.loads(out)["rows"]) == 19
    assert bench(capsys, *command, "--corpus", "mosi_resampled")[1:] == (out, "")


def test_the_paper_s_corpus_comes_first_and_several_others_are_named(store):
    fill_table(store, TABLE1, TFN, corpus="one")
    known = load_studies(store)
    assert held_view(View(), [TABLE1], known, store.root)[0].corpus == "one"
    fill_table(store, TABLE1, TFN, corpus="two", profile="demo")
    with pytest.raises(UserError, match=r"holds no runs on mosi, but corpus one \(profile paper\) and corpus two \(pr"):
        held_view(View(), [TABLE1], load_studies(store), store.root)
    assert held_view(View(profile="paper"), [TABLE1], load_studies(store), store.root)[0].corpus == "one"
    fill_table(store, TABLE1, TFN)
    assert held_view(View(), [TABLE1], load_studies(store), store.root) == (View(), "")


def test_what_cannot_stand_for_the_table_is_said_and_not_shown(store):
    fill_table(store, TABLE1, TFN)
    known = load_studies(store)
    for table, corpus in ((TABLE2, "mosei"), (TABLE3, "iemocap")):
        view, said = held_view(View(), [table], known, store.root)
        assert view == View()
        assert said.endswith(f"holds no runs on {corpus}; it holds corpus mosi (profile paper)")
    assert held_view(View(profile="demo"), [TABLE1], known, store.root)[0] == View(profile="demo")


def test_a_study_that_was_cut_off_in_a_copy_is_told(store, capsys):
    """Its row would else be "not run yet" without a word."""
    study = fill(store, [0.1, 0.2])
    path = store.root / "studies" / f"{study.id}.json"
    command = ["table", "table1", "--rows", "EF-LSTM-GloVe", "--results", store.root]
    assert bench(capsys, *command)[2] == ""
    path.write_bytes(path.read_bytes()[:100])
    code, out, err = bench(capsys, *command)
    assert (code, "not run yet" in out) == (0, True)
    assert (
        err
        == f"bench: 1 study file cannot be read ({study.id}.json), what is in it is not shown: see `bench doctor`.\n"
    )


def test_an_empty_folder_has_nothing_to_say(capsys, tmp_path):
    (tmp_path / "results").mkdir()
    code, out, err = bench(capsys, "table", "table1", *places(tmp_path))
    assert (code, err) == (0, "")
    assert "not run yet" in out


def test_results_in_python_show_what_the_folder_holds(finished, caplog):
    frame = studies.results("table1", results=finished / "results", data=finished / "data")
    assert set(frame["corpus"]) == {"synthetic"}
    assert "shown: corpus synthetic (profile demo)" in caplog.text
    with pytest.raises(UserError, match="There is no results folder"):
        studies.results("table1", results=finished / "nowhere")


# ------------------------------------------------------------------------------------------------- one of several


@pytest.fixture
def two(store):
    """EF-LSTM-GloVe as in the paper but for its one trial, and with lr = 0.05 and more seeds; their ids."""
    plain = fill(store, [0.1, 0.2])
    runs = [put(store, spec(50 + n, training={"lr": 0.05}), 0.5).id for n in range(3)]
    trial = put(store, spec(60, training={"lr": 0.05}), 0.5).id
    side = dataclasses.replace(plain, options={"lr": 0.05}, runs=runs, trials=[trial], draws=[{}])
    save_study(store, side)
    return plain.id, side.id


def count(capsys, store, *options):
    code, out, err = bench(
        capsys, "table", "table1", "--rows", "EF-LSTM-GloVe", "--format", "json", "--results", store.root, *options
    )
    assert code == 0, err
    return json.loads(out)["rows"][0]["n"], json.loads(out)["rows"][0]["reason"]


def test_options_and_ids_pick_a_study(capsys, store, two):
    plain, side = two
    assert count(capsys, store) == (2, "")
    for options in (["--set", "lr=0.05"], ["--study", side], ["--study", side[:6]]):
        assert count(capsys, store, *options) == (3, "")
    assert count(capsys, store, "--study", plain) == (2, "")
    for options in (["--set", "lr=0.06"], ["--epochs", "3"], ["--patience", "2"]):
        assert count(capsys, store, *options) == (0, "not run with these options")
    assert len(studies.results("table1", results=store.root, study=side)) == 3
    assert len(studies.results("table1", results=store.root, set={"lr": 0.05})) == 3
    assert len(studies.results("table1", results=store.root, epochs=3)) == 0


def test_a_table_says_that_there_are_others(capsys, store, two):
    for command in (["table", "table1"], ["table", "table1", "--study", two[1]]):
        _, out, _ = bench(capsys, *command, "--results", store.root)
        assert "Not shown: 1 other study of these rows (`bench list studies`)." in " ".join(out.split())
    _, out, _ = bench(capsys, "table", "table1", "--rows", "TFN-GloVe", "--results", store.root)
    assert "Not shown" not in out


def test_studies_are_listed_with_what_they_fill(capsys, store, two):
    plain, side = two
    code, out, _ = bench(capsys, "list", "studies", "--json", "--results", store.root)
    found = {item["id"]: item for item in json.loads(out)}
    assert code == 0
    assert (found[plain]["fills"], found[plain]["because"]) == (["table1", "robustness"], "")
    assert (found[side]["fills"], found[side]["because"]) == ([], "it was run with other options")
    assert found[side]["options"] == {"lr": 0.05}
    keys = ("row", "trials", "trials_done", "seeds", "seeds_done")
    assert [found[side][key] for key in keys] == ["EF-LSTM-GloVe", 1, 1, 3, 3]
    _, out, _ = bench(capsys, "list", "studies", "--results", store.root)
    assert "no: it was run with other options" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--study", "zzz"], "No study 'zzz' in "),
        (["--study", ""], "No study '' in "),
        (["--set", "lr"], "KEY=VALUE"),
    ],
)
def test_a_study_that_is_not_there_is_one_sentence(capsys, store, two, options, said):
    code, out, err = bench(capsys, "table", "table1", "--results", store.root, *options)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_study_of_another_table_or_corpus_is_refused(capsys, store, two):
    _, _, err = bench(capsys, "table", "table4", "--study", two[0], "--results", store.root)
    assert err == f"bench: Study {two[0]} is of no row of table4: it is in table1, table2, robustness.\n"
    _, _, err = bench(capsys, "table", "table1", "--study", two[0], "--corpus", "mosei", "--results", store.root)
    assert err == f"bench: Study {two[0]} is on corpus mosi, not mosei.\n"


# ------------------------------------------------------------------------------------------------- runs


def test_runs_are_listed_by_row_kind_corpus_and_failure(capsys, store):
    fill_table(store, TABLE1, TFN, seeds=2)
    fill(store, [0.1])

    def ids(*options):
        code, out, err = bench(capsys, "list", "runs", "--json", "--results", store.root, *options)
        assert code == 0, err
        return json.loads(out)

    everything = ids()
    assert len(everything) == 4 + 2 + 1 + 1
    assert [(item["row"], item["kind"], item["status"]) for item in ids("--failed")] == [
        ("TFN-GloVe", "trial", "failed")
    ]
    seeds = ids("--row", "tfn*", "--kind", "seed")
    assert len(seeds) == 2
    assert all(item["test"]["acc2"] > 0 for item in seeds)
    assert all(value is None for item in ids("--kind", "trial") for value in item["test"].values())
    assert ids("--corpus", "mosei") == []
    assert len(ids("--corpus", "mosi")) == len(everything)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["runs", "--row", "LMF"], "No run is of a row 'LMF'"),
        (["runs", "--kind", "trail"], "Unknown kind of run 'trail'; nearest: trial"),
        (["models", "--row", "TFN-GloVe"], "--row is for lists of runs, not of models"),
        (["studies", "--failed"], "--failed is for lists of runs, not of studies"),
        (["tables", "--corpus", "mosi"], "--corpus is for lists of runs and studies, not of tables"),
    ],
)
def test_a_filter_that_would_do_nothing_is_refused(capsys, finished, options, said):
    code, out, err = bench(capsys, "list", *options, *places(finished))
    assert (code, out) == (2, "")
    assert said in err
    assert records(finished)


def test_status_counts_what_failed_and_what_is_running(capsys, store):
    fill_table(store, TABLE1, TFN, seeds=2)
    [study] = load_studies(store)
    lease = store.claim(study.trials[3])
    try:
        _, out, _ = bench(capsys, "status", "--json", "--rows", "TFN-GloVe", "--results", store.root)
    finally:
        lease.release()
    [item] = json.loads(out)
    wanted = {"trials_done": 3, "trials_wanted": 4, "seeds_done": 2, "seeds_wanted": 2, "failed": 1, "running": 1}
    assert {key: item[key] for key in wanted} == wanted
    assert item["study"] == study.id
