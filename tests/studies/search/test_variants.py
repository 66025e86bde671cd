"""Rows without a search: variants take their intact row's winner, Table 8 is measured. Nothing is trained."""

import dataclasses
import json

import pytest
from builders import Runner, manifest, setting
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hycon.errors import UserError
from studies.aggregate.choice import choose
from studies.aggregate.render import render
from studies.aggregate.table import OTHER_WINNER, table_result
from studies.cli.closing import edges
from studies.engines.options import How
from studies.lookup import PROFILES, View, pick_rows, profile_of
from studies.registry import model_module
from studies.report.scope import read_scope
from studies.report.write import report
from studies.search.check import possible
from studies.search.edges import at_edge
from studies.search.plan import Setting, following, repeat_specs, trial_specs
from studies.search.run import forecast, run_rows
from studies.store.run_store import RunStore
from studies.store.study import load_studies, read_study
from studies.tables import TABLES, Row
from studies.trust.archive import export, import_results
from studies.trust.doctor import examine

ABLATIONS = ("table4", "table5", "table6", "table7")
INTACT = Row("HyCon-BERT", "hycon", "bert")
NO_SCL = Row("W/O SCL", "hycon", "bert", {"scl": 0.0}, intact=INTACT)
NO_SCL_ALONE = dataclasses.replace(TABLES["table4"], rows=(NO_SCL,))
MEAN = Row("mean", "hycon", "bert", {"reduction": "mean"}, intact=INTACT)
VARIANTS = [row for table in TABLES.values() for row in table.rows if row.intact]


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results")


def of(studies, row):
    return next(study for study in studies if study.row == dict(row.config) and study.model == row.model)


def prefer(draw, repeats=5.0):
    """Losses by which the trial of that draw wins."""
    return lambda spec: 1.0 if draw.items() <= {**spec.config, **spec.training}.items() else repeats


# ------------------------------------------------------------------------------------------------- the plan


def test_tables_4_to_7_need_two_searches_and_the_seeds_of_24_rows(store):
    rows = [row for name in ABLATIONS for row in TABLES[name].rows]
    assert len(rows) == 24
    runner = Runner(store)
    studies = run_rows(rows, setting(trials=7, seeds=3), store, runner)
    assert [len(call) for call in runner.calls] == [2 * 7, 24 * 3]
    assert len(set(runner.calls[1])) == 20 * 3  # HyCon is four of the 24 rows, HyCon-v2 two
    assert sum(study.searched for study in studies) == 2
    assert len(studies) == len(load_studies(store)) == 20


def test_each_table_alone_shares_the_searches_with_table_1(store):
    asked = setting(trials=3, seeds=2)
    for name in ("table1", *ABLATIONS, "sensitivity", "modalities"):
        rows = [row for row in TABLES[name].rows if (row.model, row.text) == ("hycon", "bert")]
        run_rows(rows, asked, store, Runner(store))
    searched = [study for study in load_studies(store) if study.searched]
    assert [study.row for study in searched] in ([{}, {"beta": 0.2}], [{"beta": 0.2}, {}])


@pytest.mark.parametrize("row", VARIANTS, ids=lambda row: row.name)
def test_a_variant_s_row_and_intact_row_are_of_one_model(row):
    assert (row.model, row.text, row.study) == (row.intact.model, row.intact.text, row.intact.study)
    assert row.intact.intact is None
    assert row.config != row.intact.config


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.sampled_from(VARIANTS), winner=st.integers(0, 19))
def test_runs_of_a_variant_are_the_intact_winners_but_for_the_named_options(row, winner):
    asked = setting(trials=20, seeds=2)
    intact, _ = trial_specs(row.intact, asked)
    intact = dataclasses.replace(intact, selected=winner)
    pairs = zip(
        repeat_specs(row, asked, following(row, asked, intact)), repeat_specs(row.intact, asked, intact), strict=True
    )
    for variant, whole in pairs:
        assert variant.seed == whole.seed
        changed, before = ({**spec.config, **spec.training} for spec in (variant, whole))
        assert set(before) <= set(changed) | {"modalities"}  # which is in a spec only where it is not the default
        different = {key for key in changed if changed[key] != before.get(key)}
        named = {key for key in {*row.config, *row.intact.config} if row.config.get(key) != row.intact.config.get(key)}
        assert different <= named
        assert {key: changed[key] for key in row.config} == row.config


def test_options_that_were_fixed_hold_for_variants_too(store):
    studies = run_rows([NO_SCL], setting(trials=2, most_epochs=4, lr=0.5), store, Runner(store))
    assert of(studies, NO_SCL).options == {"lr": 0.5, "epochs": 4}
    for run in of(studies, NO_SCL).runs:
        assert (store.get(run).spec.training["lr"], store.get(run).spec.training["epochs"]) == (0.5, 4)


def test_every_draw_of_the_intact_search_is_checked_before_anything_runs():
    draws = trial_specs(INTACT, setting(trials=6))[0].draws
    assert possible(MEAN, setting(trials=6)) == [{**draw, "reduction": "mean"} for draw in draws]


# ------------------------------------------------------------------------------------------------- on disk


def test_a_variant_alone_searches_its_intact_row_and_runs_its_own_seeds_only(store):
    runner = Runner(store)
    studies = run_rows([NO_SCL], setting(trials=4, seeds=3), store, runner)
    intact, variant = of(studies, INTACT), of(studies, NO_SCL)
    assert runner.calls == [intact.trials, variant.runs]
    assert variant.winner_of == intact.id
    assert (variant.draws, variant.trials) == ([intact.chosen], [intact.winner])
    assert variant.selected == 0
    assert not variant.searched
    result = table_result(TABLES["table4"], store, studies=studies, manifest=manifest())
    assert next(row for row in result.rows if row.row.name == "HyCon").reason == "3 of 3 seeded runs to do"


def test_what_is_done_is_not_done_again(store):
    first = run_rows([INTACT, NO_SCL], setting(), store, Runner(store))
    before = len(list(store.records()))
    assert run_rows([INTACT, NO_SCL], setting(), store, Runner(store)) == first
    assert len(list(store.records())) == before


def test_another_winner_plans_the_variants_anew(store):
    few, many = setting(trials=2, seeds=2), setting(trials=8, seeds=2)
    worst = trial_specs(INTACT, many)[0].draws[7]
    old = of(run_rows([INTACT, NO_SCL], few, store, Runner(store, prefer(worst))), NO_SCL)
    new = of(run_rows([INTACT, NO_SCL], many, store, Runner(store, prefer(worst))), NO_SCL)
    assert new.draws == [worst]
    assert old.id != new.id
    assert choose(NO_SCL, load_studies(store), "mosi").best == new
    without = [study for study in load_studies(store) if study.id != new.id]
    stale = choose(NO_SCL, without, "mosi")
    assert stale.best == old  # the cell keeps its runs, marked: they are not the intact row's counterpart
    assert stale.stale
    assert not choose(NO_SCL, load_studies(store), "mosi").stale
    [row] = table_result(NO_SCL_ALONE, store, manifest=manifest(), studies=without).rows[:1]
    assert row.n == 2
    assert row.reason == "of another winner than HyCon-BERT has now: run it again"
    assert OTHER_WINNER in row.obstacles


def test_the_same_winner_of_a_longer_search_keeps_the_runs(store):
    best = trial_specs(INTACT, setting(trials=2))[0].draws[1]
    old = of(run_rows([INTACT, NO_SCL], setting(trials=2), store, Runner(store, prefer(best))), NO_SCL)
    runner = Runner(store, prefer(best))
    studies = run_rows([INTACT, NO_SCL], setting(trials=6), store, runner)
    assert of(studies, NO_SCL).runs == old.runs
    assert sum(study.winner_of is not None for study in load_studies(store)) == 1


def test_own_search_searches_each_and_stays_beside_the_other_kind(store):
    both = [INTACT, NO_SCL]
    run_rows(both, setting(), store, Runner(store))
    runner = Runner(store)
    own = run_rows(both, dataclasses.replace(setting(), own_search=True), store, runner)
    assert len(runner.calls[0]) == 2 * 4
    assert all(study.searched for study in own)
    assert of(own, NO_SCL).space["reduction"] == ["sample", "mean", "sum"]
    assert choose(NO_SCL, load_studies(store), "mosi").best.winner_of
    assert choose(NO_SCL, own, "mosi").best == of(own, NO_SCL)


def test_a_variant_and_its_own_search_of_one_and_the_same_trial_are_two_studies():
    asked = setting(trials=1)
    intact = dataclasses.replace(trial_specs(INTACT, asked)[0], selected=0)
    same = Row("same", "hycon", "bert", {"reduction": intact.draws[0]["reduction"]}, intact=INTACT)
    own, taken = trial_specs(same, asked)[0], following(same, asked, intact)
    assert own.trials == taken.trials
    assert own.id != taken.id


def test_older_folders_whose_variants_were_searched_are_read_and_say_so(store):
    own = run_rows([INTACT, NO_SCL], dataclasses.replace(setting(), own_search=True), store, Runner(store))
    for study in own:
        path = store.root / "studies" / f"{study.id}.json"
        raw = json.loads(path.read_text())
        for name in ("winner_of", "measured"):
            del raw[name]
        path.write_text(json.dumps(raw))
        assert read_study(path.read_bytes()) == study
    table = dataclasses.replace(TABLES["table4"], rows=(INTACT, NO_SCL))
    result = table_result(table, store, manifest=manifest())
    assert "each row was searched by itself" in result.notes
    assert "Each row was searched by itself." in " ".join(render(result, "text").split())


def test_captions_say_whose_configuration_it_is_and_which_search_it_came_from(store):
    run_rows([INTACT, NO_SCL], setting(), store, Runner(store))
    table = dataclasses.replace(TABLES["table4"], rows=(INTACT, NO_SCL))
    result = table_result(table, store, manifest=manifest())
    assert result.notes == (
        "variants were not searched: each has the winning configuration of HyCon-BERT, changed only as its name says",
    )
    assert [row.budget for row in result.rows[:2]] == ["4 trials"] * 2


def test_patience_and_epochs_are_named_in_captions(store):
    profile = profile_of("paper", trials=2, seeds=1, epochs=9, patience=2)
    asked = dataclasses.replace(setting(), profile=profile)
    [study] = run_rows([INTACT], asked, store, Runner(store))
    assert study.options == {"epochs": 9, "patience": 2}
    result = table_result(TABLES["table4"], store, manifest=manifest(), studies=[study])
    budget = next(row.budget for row in result.rows if row.row.name == "HyCon")
    assert budget == "2 trials, at most 9 epochs, patience 2"


def test_a_variant_waits_for_its_intact_row(store):
    def interrupted(specs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rows([NO_SCL], setting(), store, interrupted)
    table = dataclasses.replace(TABLES["table4"], rows=(NO_SCL,))
    row = table_result(table, store, manifest=manifest()).rows[0]
    assert (row.status, row.reason) == ("missing", "HyCon-BERT: search under way: 0 of 4 trials done")
    studies = run_rows([NO_SCL], setting(), store, Runner(store, lambda spec: None))
    assert [study.searched for study in studies] == [True]
    row = table_result(table, store, manifest=manifest()).rows[0]
    assert (row.status, row.reason) == ("failed", "HyCon-BERT: non-finite loss at epoch 1, step 1")


# ------------------------------------------------------------------------------------------------- the forecast


def test_a_forecast_counts_the_search_once_and_the_seeds_of_every_row(tmp_path, corpora, store):
    from hycon.data import load
    from hycon.pretrained import identify

    asked = Setting(
        load("small", corpora).manifest, profile_of("paper", trials=3, seeds=2), {"bert": identify("bert", "demo")}
    )
    how = How(data_root=corpora)
    rows = [NO_SCL, MEAN]
    assert [(f.row, f.trials, f.seeds) for f in forecast(rows, asked, store, how)] == [
        ("HyCon-BERT", 3, 0),
        ("W/O SCL", 0, 2),
        ("mean", 0, 2),
    ]
    with_intact = forecast([*rows, INTACT], asked, store, how)
    assert [(f.row, f.trials, f.seeds) for f in with_intact] == [
        ("W/O SCL", 0, 2),
        ("mean", 0, 2),
        ("HyCon-BERT", 3, 2),
    ]
    run_rows([NO_SCL], asked, store, Runner(store, lambda spec: 1.0))
    left = forecast(rows, dataclasses.replace(asked, profile=profile_of("paper", trials=3, seeds=3)), store, how)
    assert [(f.trials, f.seeds) for f in left] == [(0, 0), (0, 1), (0, 3)]


# ------------------------------------------------------------------------------------------------- Table 8


def test_table_8_is_measured_not_searched(store):
    runner = Runner(store)
    rows = list(TABLES["table8"].rows)
    studies = run_rows(rows, setting(seeds=3), store, runner)
    assert [len(call) for call in runner.calls] == [3 * 7]
    for study, row in zip(studies, rows, strict=True):
        assert study.measured
        assert (study.trials, study.draws) == ([], [])
        for run in study.runs:
            made = store.get(run).spec
            training = made.training
            assert (training["batch_size"], training["epochs"]) == (48, 3)
            assert training["patience"] >= training["epochs"]  # never stopped early
            defaults = {**vars(model_module(row.model).Config()), **row.config}
            assert made.config == {key: defaults[key] for key in made.config}
    assert load_studies(store) == sorted(studies, key=lambda study: study.id)
    result = table_result(TABLES["table8"], store, manifest=manifest())
    assert [row.n for row in result.rows] == [3] * 7
    assert any("batch size 48, 3 epochs without early stopping" in note for note in result.notes)


def test_measurements_and_searches_do_not_fill_each_others_rows(store):
    hycon = pick_rows(TABLES["table8"], ["HyCon"])
    run_rows(hycon, setting(seeds=5), store, Runner(store))
    assert choose(INTACT, load_studies(store), "mosi").best is None
    [searched] = run_rows([INTACT], setting(), store, Runner(store))
    assert choose(INTACT, load_studies(store), "mosi").best == searched
    assert choose(hycon[0], load_studies(store), "mosi").best.measured
    assert choose(hycon[0], [searched], "mosi").best is None


def test_measured_epochs_can_be_set_and_patience_cannot_cut_them(store):
    [row] = pick_rows(TABLES["table8"], ["HyCon"])
    [study] = run_rows([row], setting(seeds=1, most_epochs=6, patience=1), store, Runner(store))
    training = store.get(study.runs[0]).spec.training
    assert (training["epochs"], training["patience"]) == (6, 6)


# ------------------------------------------------------------------------------------------------- profiles


def test_decisive_goes_on_with_what_paper_has_run(store):
    def under(name):
        return dataclasses.replace(setting(), profile=profile_of(name, trials=4))

    [paper] = run_rows([INTACT], under("paper"), store, Runner(store))
    runner = Runner(store)
    before = {found.id for found in store.records()}
    [more] = run_rows([INTACT], under("decisive"), store, runner)
    assert {found.id for found in store.records()} - before == set(more.runs[5:])
    assert more.id == paper.id
    assert more.runs[:5] == paper.runs
    assert len(more.runs) == 10
    assert more.profile == "paper"
    for view in (View(profile="paper"), View(profile="decisive"), View()):
        assert choose(INTACT, load_studies(store), "mosi", view).best == more
    assert choose(INTACT, load_studies(store), "mosi", View(profile="demo")).best is None
    assert run_rows([INTACT], under("paper"), store, Runner(store)) == [more]


def test_decisive_is_the_papers_search():
    assert PROFILES["decisive"].trials == PROFILES["paper"].trials == 50
    assert (PROFILES["paper"].seeds, PROFILES["decisive"].seeds) == (5, 10)
    assert profile_of("decisive", seeds=12).seeds == 12
    with pytest.raises(UserError, match="--patience is 0"):
        profile_of("decisive", patience=0)


def test_archives_take_both_profiles_for_one(store, tmp_path):
    run_rows([INTACT, NO_SCL], setting(), store, Runner(store))
    for profile in ("paper", "decisive"):
        done = export(store, tmp_path / f"{profile}.tar.gz", profile=profile)
        assert (done.runs, done.studies) == (4 + 2 * 3, 2)
        copied = RunStore(tmp_path / profile)
        assert import_results(tmp_path / f"{profile}.tar.gz", copied).conflicts == []
        assert load_studies(copied) == load_studies(store)


# ------------------------------------------------------------------------------------------------- other readers


def test_a_report_tells_searches_from_the_rest(store):
    measured = pick_rows(TABLES["table8"], ["HyCon"])
    run_rows([INTACT, NO_SCL, *measured], setting(), store, Runner(store))
    tried = {use.row.name: len(use.trials) for use in read_scope(store).uses if use.study.corpus == "mosi"}
    assert tried == {"HyCon-BERT": 4, "HyCon (W/O L_SCL)": 0, "HyCon": 0}
    text = " ".join(report(store, format="md").split())
    assert text.count("was not searched: it has its intact row’s winner’s configuration, ") == 1
    assert r"HyCon on mosi was not searched but measured, with batch\_size = 48, epochs = 3" in text


def test_a_finished_folder_has_no_findings_on_its_studies(store):
    run_rows([INTACT, MEAN, *pick_rows(TABLES["table8"], ["HyCon"])], setting(), store, Runner(store))
    assert [finding for finding in examine(store) if finding.kind == "study"] == []


# ------------------------------------------------------------------------------------------------- edges


def test_a_command_names_the_searches_whose_winner_is_at_an_edge(store):
    batches = trial_specs(INTACT, setting())[0].space["batch_size"]
    wide = {"batch_size": min(batches)}
    studies = run_rows([INTACT, NO_SCL], setting(trials=12), store, Runner(store, prefer(wide)))
    [said] = edges(studies)
    assert said.startswith("the winner of hycon-bert lies at the edge of its grid: ")
    assert f"batch_size = {min(batches)} (lowest)" in said


@pytest.mark.parametrize(
    ("space", "winner", "found"),
    [
        ({"lr": (1e-3, 2e-3, 5e-3)}, {"lr": 5e-3}, [("lr", 5e-3, "highest")]),
        ({"lr": (5e-3, 1e-3, 2e-3)}, {"lr": 1e-3}, [("lr", 1e-3, "lowest")]),
        ({"lr": (1e-3, 2e-3, 5e-3)}, {"lr": 2e-3}, []),
        ({"lr": (1e-3, 2e-3)}, {"lr": 2e-3}, []),
        ({"decay": (0.0, 1e-4, 1e-3)}, {"decay": 0.0}, []),
        ({"reduction": ("sample", "mean", "sum")}, {"reduction": "sum"}, []),
        ({"clip": (None, 0.1, 0.5, 1.0)}, {"clip": 1.0}, []),
        ({"relu": (True, False)}, {"relu": True}, []),
        ({"lr": (1, 2, 3)}, {}, []),
        ({}, {"lr": 3}, []),
    ],
)
def test_winners_at_the_edge_of_a_grid(space, winner, found):
    assert at_edge(space, winner) == found
