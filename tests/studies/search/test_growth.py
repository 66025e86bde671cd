"""A study only grows: whatever is run after it, no cell of a table loses runs or changes to a lesser study."""

import contextlib
import dataclasses
from tempfile import TemporaryDirectory

import pytest
from builders import BERT, Runner, fill, manifest
from builders import setting as made_up
from hypothesis import given, settings
from hypothesis import strategies as st

import studies.lookup
from studies.aggregate.ablation import ablation_table
from studies.aggregate.choice import choose
from studies.aggregate.table import table_result
from studies.engines.options import How
from studies.lookup import PROFILES, View
from studies.search import run as search_run
from studies.search.growth import said_of_fewer, stored_studies
from studies.search.plan import trial_specs
from studies.search.run import forecast, run_rows
from studies.store.run_store import RunStore
from studies.store.study import find_study, load_studies
from studies.tables import TABLES, Row

EF = Row("EF-LSTM-GloVe", "ef_lstm", "glove")
HYCON = Row("HyCon-BERT", "hycon", "bert")
NO_IEMCL = Row("HyCon (W/O L_IEMCL)", "hycon", "bert", {"iemcl": 0.0}, intact=HYCON)
CELLS = (EF, HYCON, NO_IEMCL)


def setting(*args, **options):
    """With the paper's text encoder."""
    return dataclasses.replace(made_up(*args, **options), encoders={"bert": BERT})


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results")


def prefer(spec):
    """A loss by which the trial of `spec` wins."""
    return lambda other: 1.0 if other.training == spec.training and other.config == spec.config else 5.0


# ------------------------------------------------------------------------------------------------- other searches


@pytest.mark.parametrize("newest", [0, 1])
def test_of_studies_that_differ_in_nothing_else_the_newest_fills_the_row(store, newest):
    """As after a change of a search space, which raises no VERSION: the hash of their trials decided."""
    days = [2 if number == newest else 1 for number in range(2)]
    for number, day in enumerate(days):
        fill(store, [0.1, 0.2], trials=2, spec_config={"hidden": 8 + number}, started=f"2026-11-0{day}T00:00:00+00:00")
    found = choose(EF, load_studies(store), "mosi", store=store)
    assert store.get(found.best.runs[0]).spec.config == {"hidden": 8 + newest}
    assert list(found.behind.values()) == ["its seeded runs were made earlier"]


# ------------------------------------------------------------------------------------------------- fewer


def test_fewer_trials_and_seeds_than_are_stored_run_nothing(store):
    [study] = run_rows([EF], setting(trials=4, seeds=3), store, Runner(store))
    runner = Runner(store)
    assert run_rows([EF], setting(trials=2, seeds=1), store, runner) == [study]
    assert runner.calls == [study.runs]  # which are done
    assert load_studies(store) == [study]
    said = said_of_fewer([EF], setting(trials=2, seeds=1), stored_studies(store), store)
    assert said == [
        "EF-LSTM-GloVe: 2 trials asked for, 4 stored, 1 seed asked for, 3 stored; nothing is run, what is stored is "
        "shown."
    ]
    assert said_of_fewer([EF], setting(trials=4, seeds=3), stored_studies(store), store) == []


def test_fewer_trials_and_more_seeds_add_seeds_to_the_stored_winner(store):
    [study] = run_rows([EF], setting(trials=4, seeds=2), store, Runner(store))
    asked = setting(trials=1, seeds=3)
    [said] = said_of_fewer([EF], asked, stored_studies(store), store)
    assert said == "EF-LSTM-GloVe: 1 trial asked for, 4 stored; what is stored is kept."
    [more] = run_rows([EF], asked, store, Runner(store))
    assert (more.id, more.selected, len(more.runs)) == (study.id, study.selected, 3)
    assert more.runs[:2] == study.runs


def test_a_variant_of_a_smaller_command_follows_the_stored_search(store):
    asked = setting(trials=1, seeds=2)
    worst = trial_specs(HYCON, setting())[1][3]
    [intact] = run_rows([HYCON], setting(trials=4, seeds=2), store, Runner(store, prefer(worst)))
    table = ablation_table("hycon", "bert", ["iemcl"], {})
    _, variant = run_rows(table.rows, asked, store, Runner(store, prefer(worst)))
    assert (variant.winner_of, variant.winner) == (intact.id, worst.id)
    assert find_study(store, intact.id) == intact


def test_a_dry_run_counts_what_may_run(store, monkeypatch):
    run_rows([EF], setting(trials=4, seeds=3), store, Runner(store))
    monkeypatch.setattr(search_run, "check_table", lambda *given: None)
    for trials, seeds, to_do in ((2, 1, (0, 0)), (4, 3, (0, 0)), (2, 5, (0, 2)), (6, 1, (2, 3))):
        [found] = forecast([EF], setting(trials=trials, seeds=seeds), store, How())
        assert (found.trials, found.seeds) == to_do


def test_a_search_without_a_winner_is_no_obstacle_to_a_shorter_one(store):
    def interrupted(specs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rows([EF], setting(trials=4), store, interrupted)
    [study] = run_rows([EF], setting(trials=2), store, Runner(store))
    assert len(study.trials) == 2


# ------------------------------------------------------------------------------------------------- more


def test_more_trials_with_another_winner_keep_the_old_runs_and_get_as_many(store):
    last = trial_specs(EF, setting(trials=6))[1][5]
    [old] = run_rows([EF], setting(trials=4, seeds=3), store, Runner(store, prefer(last)))
    with pytest.raises(KeyboardInterrupt):
        run_rows([EF], setting(trials=6, seeds=1), store, Stops(store, 3, prefer(last)))
    assert choose(EF, load_studies(store), "mosi", store=store).best == old  # until the new winner has as many runs
    [new] = run_rows([EF], setting(trials=6, seeds=1), store, Runner(store, prefer(last)))
    assert (new.winner, len(new.runs)) == (last.id, 3)
    choice = choose(EF, load_studies(store), "mosi", store=store)
    assert choice.best == new
    assert choice.others == (old,)
    table = dataclasses.replace(TABLES["table1"], rows=(EF,))
    notes = table_result(table, store, manifest=manifest()).notes
    assert "not shown: 1 other study of these rows (`bench list studies`)" in notes


def test_more_trials_with_the_same_winner_are_one_study_that_grew(store):
    first = trial_specs(EF, setting())[1][0]
    [old] = run_rows([EF], setting(trials=2, seeds=3), store, Runner(store, prefer(first)))
    [new] = run_rows([EF], setting(trials=4, seeds=1), store, Runner(store, prefer(first)))
    assert new.runs == old.runs
    choice = choose(EF, load_studies(store), "mosi", store=store)
    assert (choice.best, choice.others) == (new, ())
    assert choice.behind == {old.id: f"its search goes on in {new.id}"}


def test_a_failed_trial_that_wins_when_tried_again_waits_for_its_seeds(store):
    _, specs = trial_specs(EF, setting())
    [before] = run_rows([EF], setting(), store, Runner(store, lambda s: None if s.id == specs[2].id else 5.0))
    better = prefer(specs[2])
    with pytest.raises(KeyboardInterrupt):
        run_rows([EF], setting(), store, Stops(store, 2, better))
    assert load_studies(store) == [before]
    [after] = run_rows([EF], setting(seeds=1), store, Runner(store, better))
    assert (after.winner, len(after.runs)) == (specs[2].id, 3)
    assert load_studies(store) == [after]


# ------------------------------------------------------------------------------------------------- which fills a cell


def test_a_side_experiment_with_more_seeds_takes_no_place(store):
    [plain] = run_rows([EF], setting(trials=2, seeds=2), store, Runner(store))
    [side] = run_rows([EF], setting(trials=2, seeds=4, lr=0.05), store, Runner(store))
    known = load_studies(store)
    choice = choose(EF, known, "mosi", store=store)
    assert (choice.best, choice.others) == (plain, (side,))
    assert choice.behind[side.id] == "it was run with other options"
    assert choose(EF, known, "mosi", View(options={"lr": 0.05}), store=store).best == side
    assert choose(EF, known, "mosi", View(options={"lr": 0.06}), store=store).best is None
    assert choose(EF, known, "mosi", View(studies=(side.id,)), store=store).best == side


def test_another_encoder_with_more_seeds_takes_no_place(store):
    [plain] = run_rows([HYCON], setting(trials=2, seeds=1), store, Runner(store))
    other = {"bert": {"name": "tiny", "sha256": "f" * 64}}
    [tiny] = run_rows([HYCON], dataclasses.replace(setting(trials=2, seeds=4), encoders=other), store, Runner(store))
    known = load_studies(store)
    choice = choose(HYCON, known, "mosi", store=store)
    assert (choice.best, choice.behind) == (plain, {tiny.id: "it was run with another text encoder"})
    assert choose(HYCON, known, "mosi", View(encoders={"bert": "tiny"}), store=store).best == tiny


# ------------------------------------------------------------------------------------------------- random sequences


class Stops(Runner):
    """Interrupted after so many runs. A tenth of the runs fail the first time."""

    def __init__(self, store, most, loss):
        super().__init__(store, loss)
        self.most = most

    def __call__(self, specs):
        for spec in specs:
            if self.store.has(spec.id):
                continue
            if self.most <= 0:
                raise KeyboardInterrupt
            self.most -= 1
            super().__call__([spec])


def loss_of(store):
    """By the spec alone; a seventh of the runs fail where they were not tried before."""

    def loss(spec):
        number = int(spec.id, 16)
        return None if number % 7 == 0 and store.failed(spec.id) is None else float(number % 101)

    return loss


COMMANDS = st.lists(
    st.fixed_dictionaries(
        {
            "rows": st.lists(st.sampled_from(CELLS), min_size=1, max_size=2, unique_by=lambda row: row.name),
            "trials": st.integers(1, 5),
            "seeds": st.integers(1, 4),
            "options": st.sampled_from([{}, {}, {}, {"lr": 0.5}, {"epochs": 3}]),
            "own_search": st.sampled_from([False, False, False, True]),
            "runs": st.sampled_from([100, 100, 100, 3, 7]),  # after so many it is interrupted
        }
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=25, deadline=None)
@given(commands=COMMANDS)
def test_no_cell_loses_runs_or_changes_to_a_lesser_study(commands):
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(studies.lookup.PROFILES, "paper", dataclasses.replace(PROFILES["paper"], trials=3))
        store = RunStore(folder)
        before = cells(store)
        for number, command in enumerate(commands):
            asked = setting(command["trials"], command["seeds"], **command["options"])
            asked = dataclasses.replace(asked, own_search=command["own_search"])
            with contextlib.suppress(KeyboardInterrupt):
                run_rows(command["rows"], asked, store, Stops(store, command["runs"], loss_of(store)))
            after = cells(store)
            for row in CELLS:
                assert_no_less(before[row.name], after[row.name], (row.name, commands[: number + 1]))
            before = after


def cells(store):
    """Row name -> (whether it was run as in the paper, seeded runs that have ended, those that are finished)."""
    known, found = load_studies(store), {}
    for row in CELLS:
        study = choose(row, known, "mosi", data=manifest().sha256, store=store).best
        runs = study.runs if study else []
        done = sum(map(store.has, runs))
        found[row.name] = (
            study is not None and not study.options,
            done + sum(map(bool, map(store.failed, runs))),
            done,
        )
    return found


def assert_no_less(before, after, said):
    (plain, _, done), (plain_after, ended_after, done_after) = before, after
    if done:
        assert done_after, said
        assert plain_after >= plain, said
    if done and plain and plain_after:
        assert ended_after >= done, said  # a run of a new winner may fail
