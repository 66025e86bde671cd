"""Studies: what is drawn, who wins, what is remembered. Nothing is trained; records are made up."""

import dataclasses
import errno
import json
from types import SimpleNamespace

import pytest
from builders import ENCODER, Runner, manifest, setting

import studies.store.study
from hycon.errors import UserError
from hycon.train import EPOCHS
from studies.aggregate.choice import choose
from studies.lookup import PROFILES, View
from studies.registry import MODELS, model_module, resolve, search_space
from studies.search.plan import repeat_specs, trial_specs
from studies.search.run import run_rows
from studies.store.run_store import RunStore
from studies.store.study import Study, conditions, goes_on, load_studies, save_study
from studies.tables import Row

EF, TFN, LMF = Row("EF", "ef_lstm", "glove"), Row("TFN", "tfn", "glove"), Row("LMF-BERT", "lmf", "bert")
HYCON, V2 = Row("HyCon", "hycon", "bert"), Row("HyCon-v2", "hycon", "bert", {"beta": 0.2})


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results")


# ------------------------------------------------------------------------------------------------- trials


def test_trials_are_the_same_whatever_else_is_asked():
    study, specs = trial_specs(EF, setting())
    again, same = trial_specs(EF, setting(seeds=9))
    assert [s.id for s in specs] == [s.id for s in same] == study.trials == again.trials
    assert study.id == again.id
    more, longer = trial_specs(EF, setting(trials=7))
    assert [s.id for s in longer][:4] == [s.id for s in specs]
    assert more.id != study.id
    assert len({s.seed for s in longer}) == len({s.id for s in longer}) == 7


def test_trials_hold_their_draws():
    study, specs = trial_specs(EF, setting(trials=6))
    space = model_module("ef_lstm").SEARCH_SPACE["vectors"]
    assert study.space == {name: list(choices) for name, choices in space.items()}
    assert len({json.dumps(d, sort_keys=True) for d in study.draws}) == 6
    for draw, spec in zip(study.draws, specs, strict=True):
        assert set(draw) == set(space)
        assert {**spec.config, **spec.training} == {**spec.config, **spec.training, **draw}
        assert all(value in space[name] for name, value in draw.items())
        assert (spec.model, spec.text, spec.corpus, spec.data) == ("ef_lstm", "glove", "mosi", manifest().sha256)
        assert spec.encoder is None
        assert spec.threads == 1


def test_what_is_fixed_is_not_searched():
    study, specs = trial_specs(EF, setting(hidden=48, lr=0.5))
    assert all("hidden" not in draw and "lr" not in draw for draw in study.draws)
    assert all(spec.config["hidden"] == 48 and spec.training["lr"] == 0.5 for spec in specs)
    assert study.options == {"hidden": 48, "lr": 0.5}


def test_a_row_s_options_are_its_own():
    plain, specs = trial_specs(HYCON, setting())
    second, others = trial_specs(V2, setting())
    assert {s.config["beta"] for s in specs} == {None}
    assert {s.config["beta"] for s in others} == {0.2}
    assert plain.id != second.id
    assert second.row == {"beta": 0.2}
    assert all("gamma" not in d for d in plain.draws)
    assert all("gamma" in d for d in second.draws)
    assert all(s.encoder == ENCODER for s in specs)


@pytest.mark.parametrize(
    ("epochs", "options", "expected"), [(7, {}, 7), (None, {"epochs": 3}, 3), (7, {"epochs": 3}, 3)]
)
def test_epochs(epochs, options, expected):
    """--set epochs=3 is not overruled by a profile."""
    study, specs = trial_specs(EF, setting(most_epochs=epochs, **options))
    assert {s.training["epochs"] for s in specs} == {expected} == {study.options["epochs"]}
    assert {s.training["epochs"] for s in trial_specs(EF, setting())[1]} == {EPOCHS["vectors"]}


def test_data_and_encoder_are_part_of_the_identity():
    study, specs = trial_specs(HYCON, setting())
    other, changed = trial_specs(HYCON, setting(content="1"))
    assert study.id != other.id
    assert not {s.id for s in specs} & {s.id for s in changed}
    assert [s.seed for s in specs] == [s.seed for s in changed]
    elsewhere = dataclasses.replace(setting(), encoders={"bert": {**ENCODER, "sha256": "f" * 64}})
    assert trial_specs(HYCON, elsewhere)[0].id != study.id


def test_demo_profile_shrinks_what_is_too_large():
    demo = dataclasses.replace(setting(), profile=PROFILES["demo"])
    _, specs = trial_specs(Row("TFN-BERT", "tfn", "bert"), demo)
    assert {s.config["d"] for s in specs} == {20}
    assert {s.training["lr"] for s in specs} == {1e-3}
    assert {s.config["d"] for s in trial_specs(Row("TFN-BERT", "tfn", "bert"), setting())[1]} == {100}


# ------------------------------------------------------------------------------------------------- winners


def test_the_lowest_validation_loss_wins_and_is_run_with_seeds(store):
    study, specs = trial_specs(EF, setting())
    losses = dict(zip((s.id for s in specs), (3.0, 1.0, 1.0, 2.0), strict=True))  # among equals the first
    runner = Runner(store, lambda spec: losses.get(spec.id, 9.0))
    [done] = run_rows([EF], setting(), store, runner)
    assert done.selected == 1
    assert runner.calls == [study.trials, done.runs]
    records = [store.get(run) for run in done.runs]
    assert len(records) == 3
    for record in records:
        assert record.spec.config == specs[1].config
        assert record.spec.training == specs[1].training
    seeds = {r.spec.seed for r in records}
    assert len(seeds) == 3
    assert not seeds & {s.seed for s in specs}
    assert load_studies(store) == [done]


def test_failed_trials_do_not_win(store):
    _, specs = trial_specs(EF, setting())
    lost = {specs[0].id, specs[2].id}
    [study] = run_rows([EF], setting(), store, Runner(store, lambda spec: None if spec.id in lost else 5.0))
    assert study.selected == 1


def test_where_every_trial_failed_no_seed_is_run_and_other_rows_go_on(store):
    runner = Runner(store, lambda spec: None if spec.model == "ef_lstm" else 1.0)
    lost, won = run_rows([EF, TFN], setting(), store, runner)
    assert (lost.selected, lost.runs) == (None, [])
    assert won.selected == 0
    assert runner.calls[1] == won.runs


def test_rows_do_not_know_of_each_other(store, tmp_path):
    together = run_rows([EF, TFN, LMF], setting(), store, Runner(store))
    alone = RunStore(tmp_path / "alone")
    assert run_rows([TFN], setting(), alone, Runner(alone)) == [together[1]]


def test_more_seeds_append(store):
    [few] = run_rows([EF], setting(seeds=2), store, Runner(store))
    [more] = run_rows([EF], setting(seeds=4), store, Runner(store))
    assert more.runs[:2] == few.runs
    assert len(more.runs) == 4
    assert load_studies(store) == [more]


def test_fewer_seeds_later_forget_none(store):
    [more] = run_rows([EF], setting(seeds=4), store, Runner(store))
    [again] = run_rows([EF], setting(seeds=2), store, Runner(store))
    assert again == more
    assert load_studies(store) == [more]


def test_a_finished_study_is_not_forgotten_while_it_is_run_again(store):
    [before] = run_rows([EF], setting(), store, Runner(store))
    seen = []
    run_rows([EF], setting(), store, lambda specs: seen.append(load_studies(store)))
    assert seen == [[before], [before]]


def test_an_interrupted_study_is_on_disk(store):
    def interrupted(specs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rows([EF], setting(), store, interrupted)
    [study] = load_studies(store)
    assert study.selected is None
    assert study == trial_specs(EF, setting())[0]


def test_the_search_can_be_opened_with_optuna(store):
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    [study] = run_rows([EF], setting(trials=3), store, Runner(store, lambda spec: spec.training["lr"]))
    storage = JournalStorage(JournalFileBackend(str(store.root / "studies" / f"{study.id}.journal")))
    opened = optuna.load_study(study_name=f"ef_lstm-glove-mosi-{study.id}", storage=storage)
    assert [t.params for t in opened.trials] == study.draws
    assert opened.best_trial.number == study.selected


# ------------------------------------------------------------------------------------------------- on disk


def test_studies_round_trip(store):
    study, _ = trial_specs(V2, setting())
    study = dataclasses.replace(study, selected=2, runs=["a" * 16])
    save_study(store, study)
    assert load_studies(store) == [study]
    assert not list((store.root / "studies").glob(".*"))


def test_a_damaged_study_is_skipped(store):
    study, _ = trial_specs(EF, setting())
    save_study(store, study)
    for name, text in (("torn", '{"model": "ef'), ("list", "[]"), ("short", '{"model": "ef_lstm"}')):
        (store.root / "studies" / f"{name}.json").write_text(text)
    assert load_studies(store) == [study]


def test_a_newer_study_is_refused(store):
    study, _ = trial_specs(EF, setting())
    save_study(store, dataclasses.replace(study, version=99))
    with pytest.raises(UserError, match="newer version"):
        load_studies(store)


def test_a_full_disk_is_one_sentence(store, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(studies.store.study, "write_atomic", full)
    with pytest.raises(UserError, match="No space left"):
        run_rows([EF], setting(), store, Runner(store))


# ------------------------------------------------------------------------------------------------- filling a row


def made(**changes) -> Study:
    study, _ = trial_specs(HYCON, setting())
    return dataclasses.replace(study, **changes)


def test_study_of_fits_row_corpus_profile_and_encoder():
    ours = made(runs=["r"])
    others = [
        made(model="tfn"),
        made(text="xlnet"),
        made(corpus="mosei"),
        made(row={"beta": 0.2}),
        made(profile="demo"),
        made(encoder={"name": "other", "sha256": "x"}),
    ]
    everything = [dataclasses.replace(s, runs=["a", "b"]) for s in others] + [ours]
    assert choose(HYCON, everything, "mosi", View(profile="paper", encoders={"bert": "demo"})).best == ours
    assert choose(HYCON, [], "mosi").best is None
    assert choose(V2, everything, "mosi").best.row == {"beta": 0.2}


def test_study_of_takes_the_most_thorough_one_on_the_present_data():
    small, large = made(runs=["a"]), made(runs=["a", "b"], trials=["t"] * 9)
    old = made(runs=["a", "b", "c"], data="d" * 64)
    present = manifest().sha256
    assert choose(HYCON, [small, large, old], "mosi", data=present).best == large
    assert choose(HYCON, [old], "mosi", data=present).best == old  # results without their corpus can be read
    many = made(runs=["a", "b"], trials=["t"] * 50)
    assert choose(HYCON, [large, many], "mosi", data=present).best == many


def test_study_of_takes_the_newest_version_of_the_model():
    new, old = made(runs=["a"]), made(model_version=0, runs=["a", "b"], trials=["t"] * 9)
    assert new.model_version == studies.registry.model_module("hycon").VERSION
    assert choose(HYCON, [old, new], "mosi").best == new
    begun = dataclasses.replace(new, runs=[])
    assert choose(HYCON, [old, begun], "mosi").best == old  # what has just begun takes no cell


def test_study_of_takes_a_whole_search_before_more_seeds():
    whole, short = made(runs=["a"], trials=["t"] * 50), made(runs=["b", "c"], trials=["t"] * 9)
    assert choose(HYCON, [whole, short], "mosi").best == whole


def test_study_of_takes_the_newest_protocol():
    new, old = made(runs=["a"], trials=["t"]), made(runs=["b", "c"], trials=["t"] * 50)
    suites = {"a": 2, "b": 1, "c": 1}
    held = SimpleNamespace(
        get=lambda run: SimpleNamespace(spec=SimpleNamespace(suite=suites[run]), started=None),
        failed=lambda run: None,
        beside=None,
    )
    assert choose(HYCON, [old, new], "mosi", store=held).best == new
    suites["a"] = 1
    assert choose(HYCON, [old, new], "mosi", store=held).best == old


@pytest.mark.parametrize(
    "change",
    [
        {"data": "d" * 64},
        {"row": {"beta": 0.2}},
        {"options": {"lr": 0.1}},
        {"encoder": {"name": "tiny", "sha256": "f" * 64}},
        {"device": "cuda"},
        {"number": 1},
        {"model_version": 99},
    ],
)
def test_studies_under_other_conditions_lend_each_other_no_seeds(change):
    one, other = made(), made(**change)
    assert conditions(one) != conditions(other)
    assert not goes_on(dataclasses.replace(other, trials=[*one.trials, "more"]), one)


# ------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("model", "text", "overrides", "said"),
    [
        ("hycn", "bert", {}, "hycon"),
        ("hycon", "brt", {}, "bert"),
        ("hycon", "bert", {"margn": 0.5}, "margin"),
        ("hycon", "bert", {"margin": "wide"}, "a number"),
        ("hycon", "bert", {"margin": True}, "a number"),
        ("hycon", "bert", {"margin": None}, "a number"),
        ("hycon", "bert", {"beta": "abc"}, "a number or None"),
        ("hycon", "bert", {"beta": [1]}, "a number or None"),
        ("hycon", "bert", {"layers": 2.5}, "a whole number"),
        ("hycon", "bert", {"refinement": 1}, "true or false"),
        ("hycon", "bert", {"fusion": 3}, "a word"),
        ("ef_lstm", "glove", {"clip": "tight"}, "a number or None"),
        ("ef_lstm", "glove", {"batch_size": 2.5}, "a whole number"),
        ("ef_lstm", "glove", {"optimizer": "sgd"}, "rmsprop"),
    ],
)
def test_options_that_no_model_takes(model, text, overrides, said):
    with pytest.raises(UserError, match=said) as caught:
        resolve(model, text, overrides)
    assert "\n" not in str(caught.value)


def test_options_of_either_kind_and_numbers_of_either_type():
    config, training = resolve("hycon", "bert", {"margin": 1, "beta": None, "lr": 1, "clip": 0.5, "layers": 2})
    assert (config.margin, config.beta, config.layers) == (1, None, 2)
    assert (training.lr, training.clip, training.batch_size) == (1, 0.5, 48)


@pytest.mark.parametrize("model", MODELS)
def test_every_value_that_a_search_may_draw_is_an_option(model):
    for text in MODELS[model].text:
        for name, values in search_space(model, text, {}).items():
            for value in values:
                resolve(model, text, {name: value})


def test_repeats_need_no_trial_records():
    study, _ = trial_specs(EF, setting())
    specs = repeat_specs(EF, setting(), dataclasses.replace(study, selected=3))
    assert all({**s.config, **s.training}["lr"] == study.draws[3]["lr"] for s in specs)
