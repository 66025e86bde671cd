"""A study whose runs are not its winner's is refused by whoever reads numbers, set aside by `doctor`, not imported."""

import dataclasses

import pytest
from builders import fill, put, spec

from hycon.errors import UserError
from studies.cli import main
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies, unsound
from studies.store.study import Study, load_studies, save_study
from studies.trust.archive import export, import_results
from studies.trust.doctor import examine, repair


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results")


def _another_model(store: RunStore, study: Study) -> Study:
    return dataclasses.replace(study, runs=[*study.runs[:1], put(store, spec(7, "lf_lstm")).id])


def _a_trial(store: RunStore, study: Study) -> Study:
    return dataclasses.replace(study, runs=[study.runs[0], study.trials[1]])


def _one_run_often(store: RunStore, study: Study) -> Study:
    return dataclasses.replace(study, runs=study.runs[:1] * 5)


def _other_options(store: RunStore, study: Study) -> Study:
    return dataclasses.replace(study, runs=[*study.runs, put(store, spec(7, config={"hidden": 9})).id])


def _one_seed(store: RunStore, study: Study) -> Study:
    return dataclasses.replace(study, runs=[*study.runs, put(store, spec(0, threads=2)).id])


def _other_data(store: RunStore, study: Study) -> Study:
    return dataclasses.replace(study, runs=[put(store, spec(n, data="f" * 64)).id for n in range(2)])


FORGED = {
    _another_model: "is of lf_lstm-glove on mosi",
    _a_trial: "is one of its trials",
    _one_run_often: "more than once",
    _other_options: "has other options than its winner",
    _one_seed: "have one seed",
    _other_data: "none of its seeded runs has its data",
}


def test_a_study_that_names_very_many_runs_is_looked_at_in_time(store):
    """8 MiB hold 400,000 ids: to count each in the list took hours."""

    class Ids(list):
        def count(self, value):
            raise AssertionError("a walk through all of them, for each")

    study = fill(store, [0.1, 0.2], trials=2)
    assert unsound(dataclasses.replace(study, trials=Ids(study.trials)), lambda run: None) is None


@pytest.mark.parametrize(("forge", "said"), FORGED.items(), ids=[f.__name__ for f in FORGED])
def test_a_forged_study_is_refused_and_set_aside(store, tmp_path, capsys, forge, said):
    study = forge(store, fill(store, [0.1, 0.2], trials=2))
    save_study(store, study)
    with pytest.raises(UserError, match=said):
        sound_studies(store)
    for command in (["table", "table1"], ["report"], ["export", str(tmp_path / "x.tar.gz")]):
        assert main([*command, "--results", str(store.root), "--data", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
    (found,) = (finding for finding in examine(store) if finding.kind == "study")
    assert said in found.said
    repair(store, [found])
    assert load_studies(store) == []
    assert sound_studies(store) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"measured": True}, "it is measured, but has trials"),
        (
            {"winner_of": "f" * 16, "trials": ["a" * 16, "b" * 16], "draws": [{}, {}]},
            "it takes another study's winner, but has 2 trials",
        ),
        ({"selected": None}, "it has seeded runs, but no winner"),
        ({"row": {"beta": 0.2}}, "has beta = None, not 0.2"),
        ({"options": {"beta": 0.2}}, None),  # an option that older runs do not tell is no forgery, a row's own is
    ],
)
def test_each_field_is_held_against_the_runs(store, change, said):
    study = dataclasses.replace(fill(store, [0.1, 0.2]), **change)
    found = unsound(study, lambda run: (record := store.get(run)) and record.spec)
    assert (found is None) if said is None else (said in found)


def test_a_run_that_is_named_twice_is_found_and_one_on_other_data_is_no_forgery(store):
    study = fill(store, [0.1, 0.2])
    twice = dataclasses.replace(study, runs=[*study.runs, study.runs[0]])
    assert unsound(twice, lambda run: None) == f"it names seeded run {study.runs[0]} more than once"
    other = put(store, dataclasses.replace(store.get(study.runs[0]).spec, data="f" * 64))
    mixed = dataclasses.replace(study, runs=[*study.runs, other.id])
    assert unsound(mixed, lambda run: (record := store.get(run)) and record.spec) is None


def test_an_archive_with_a_forged_study_is_refused(store, tmp_path, monkeypatch):
    save_study(store, _other_options(store, fill(store, [0.1, 0.2], trials=2)))
    monkeypatch.setattr("studies.trust.archive.sound_studies", load_studies)
    export(store, tmp_path / "x.tar.gz")
    with pytest.raises(UserError, match=r"is refused, nothing was imported: .* has other options than its winner"):
        import_results(tmp_path / "x.tar.gz", RunStore(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_study_without_trials_or_with_runs_still_to_do_is_sound(store):
    study = fill(store, [0.1, 0.2], trials=2)
    for sound in (
        dataclasses.replace(study, runs=[*study.runs, "0" * 16]),
        dataclasses.replace(study, trials=[], draws=[], selected=None, measured=True),
        dataclasses.replace(study, trials=["1" * 16, "2" * 16]),
    ):
        save_study(store, sound)
    assert len(sound_studies(store)) == 3


def test_a_variant_s_runs_may_differ_from_its_intact_row_s_winner_but_not_from_each_other(store):
    intact = fill(store, [0.1, 0.2])
    changed = [put(store, spec(10 + n, config={"hidden": 9})).id for n in range(2)]
    variant = dataclasses.replace(intact, row={"hidden": 9}, winner_of=intact.id, runs=changed)
    save_study(store, variant)
    assert len(sound_studies(store)) == 2
    odd = put(store, spec(12, config={"hidden": 10})).id
    save_study(store, dataclasses.replace(variant, runs=[*changed, odd]))
    with pytest.raises(UserError, match="has other options than its winner"):
        sound_studies(store)
