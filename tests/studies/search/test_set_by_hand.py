"""Options set by hand: what makes a row stays, what was set elsewhere fills no other row, and Table 8 says them."""

import dataclasses

import pytest
from builders import fill, manifest, put, setting, spec

from hycon.errors import UserError
from studies.aggregate.choice import choose
from studies.aggregate.table import OTHER_DATA, _budget, _origins, table_result
from studies.engines.options import Cluster, How
from studies.lookup import PROFILES, View
from studies.search import run as search_run
from studies.search.check import check_rows
from studies.search.plan import following, repeat_specs, setting_for, trial_specs
from studies.search.run import run_table
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies, save_study
from studies.tables import TABLES, Row
from studies.trust.archive import _covers

MARGIN = next(row for row in TABLES["table6"].rows if "margin" in row.config)
TIMED = next(row for row in TABLES["table8"].rows if row.model == "hycon")


def test_what_makes_a_row_is_not_set_by_hand():
    with pytest.raises(UserError, match="--set margin is what makes the row"):
        check_rows([MARGIN], setting(margin=0.5), None)


def test_a_name_that_states_an_option_stays_true():
    default = next(row for row in TABLES["table6"].rows if "margin" not in row.config)
    with pytest.raises(UserError, match="--set margin is what makes the row 'HyCon"):
        check_rows([default], setting(margin=0.5), None)


def test_what_a_variant_fixes_may_be_set_for_the_row_that_it_follows():
    row = next(row for row in TABLES["beyond"].rows if row.name == "Text-BERT")
    fixed = setting(modalities="text,audio", scale="standard")  # scale alone has no effect on a network of the text
    check_rows([row], fixed, None)
    study, specs = trial_specs(row.intact, fixed)
    assert {spec.config["modalities"] for spec in specs} == {"text,audio"}
    chosen = following(row, fixed, dataclasses.replace(study, selected=0))
    (seeded, *_) = repeat_specs(row, fixed, chosen)
    assert seeded.config["modalities"] == "text"
    with pytest.raises(UserError, match="--set modalities is what makes the row 'Text-BERT'"):
        check_rows([row], dataclasses.replace(fixed, own_search=True), None)


def test_a_variant_of_other_options_fills_its_row_marked_and_only_where_there_is_no_other(tmp_path):
    store = RunStore(tmp_path / "results")
    intact = fill(store, [0.1, 0.2])
    row = Row("EF-LSTM-GloVe", "ef_lstm", "glove")
    variant = Row("changed", "ef_lstm", "glove", {"hidden": 9}, intact=row)
    runs = [put(store, spec(10 + n, config={"hidden": 9})).id for n in range(2)]
    taken = dataclasses.replace(intact, row={"hidden": 9}, winner_of=intact.id, runs=runs)
    save_study(store, taken)
    assert choose(variant, load_studies(store), "mosi", View(), manifest().sha256).best == taken
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
    labels = {"paper": {"acc2": 0.6, "f1": 0.5, "acc7": 0.2, "mae": 1.0, "corr": 0.0}}
    now = dataclasses.replace(manifest(content="7"), constant=labels)
    [other, constant] = table_result(TABLES["table1"], store, rows=rows, manifest=now).rows
    assert OTHER_DATA not in same.obstacles
    assert OTHER_DATA in other.obstacles
    assert constant.cells["acc2"].stat is None  # that of the labels now is not beside runs on others


@pytest.mark.parametrize(("patience", "options"), [(3, {}), (None, {"patience": 3})])
def test_a_measurement_has_no_patience(tmp_path, patience, options):
    profile = dataclasses.replace(PROFILES["demo"], patience=patience)
    with pytest.raises(UserError, match="a measurement has none: each run takes all its epochs"):
        setting_for(TABLES["table8"], [TIMED], profile, data=tmp_path, options=options)
    assert not list(tmp_path.iterdir())


def test_what_makes_a_row_goes_before_what_the_profile_fixes():
    """The demo profile has a learning rate of its own; a row of another one is trained with that."""
    row = Row("HyCon (lr = 0.01)", "hycon", "bert", {"lr": 0.01, "epochs": 7})
    demo = dataclasses.replace(setting(), profile=dataclasses.replace(PROFILES["demo"], trials=2))
    study, specs = trial_specs(row, demo)
    repeats = repeat_specs(row, demo, dataclasses.replace(study, selected=0))
    for spec_ in (*specs, *repeats):
        assert (spec_.training["lr"], spec_.training["epochs"]) == (0.01, 7)
    assert {s.training["lr"] for s in trial_specs(Row("HyCon", "hycon", "bert"), demo)[1]} == {1e-3}


def test_the_caption_of_a_measurement_is_one_sentence(tmp_path):
    """What all rows have comes first, then what some have besides, with their names."""
    table = TABLES["table8"]
    study = Study("hycon", "bert", "mosi", "0", {}, {}, None, "cpu", "demo", [], [], measured=True)
    fixed = {"batch_size": 48, "epochs": 3, "patience": 3, "lr": 0.001}
    alike = {name: dataclasses.replace(study, options=fixed) for name in ("MAG-BERT", "HyCon")}
    [said] = _origins(table, alike)
    assert said == (
        "not searched: the default configuration of each model, batch size 48, 3 epochs without early stopping, with "
        "lr = 0.001 set by the demo profile"
    )
    [said] = _origins(table, {**alike, "TFN-BERT": dataclasses.replace(study, options={**fixed, "d": 20})})
    assert said == (
        "not searched: the default configuration of each model, batch size 48, 3 epochs without early stopping, with "
        "lr = 0.001 set by the demo profile; TFN-BERT with d = 20 set by the demo profile"
    )
    longer = dataclasses.replace(study, profile="paper", options={"batch_size": 48, "epochs": 9, "patience": 9})
    [said] = _origins(table, {"HyCon": longer, "TFN-BERT": dataclasses.replace(longer, options={"batch_size": 48})})
    assert said == (
        "not searched: the default configuration of each model, batch size 48; HyCon with epochs = 9 set by hand"
    )


def test_measured_rows_have_the_machine_for_themselves(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(search_run, "check_table", lambda *given: None)
    monkeypatch.setattr(search_run, "run_rows", lambda rows, setting, store, execute, *more: execute([]) or [])
    monkeypatch.setattr(search_run, "_check_kept", lambda *given: None)

    def run(specs, store, *, how, **more):
        asked.append((how.workers, how.slots, how.cluster.slots))
        raise KeyboardInterrupt

    monkeypatch.setattr("studies.engines.run.run", run)
    for rows, slots, expected in (
        ([TIMED], None, (1, None, 1)),  # None: some executors take none
        ([TIMED], "auto", (1, 1, 1)),
        ([MARGIN], 2, (4, 2, 3)),
    ):
        how = How(workers=4, slots=slots, cluster=Cluster(slots=3))
        with pytest.raises(KeyboardInterrupt):
            run_table(rows, setting(), RunStore(tmp_path / "results"), how)
        assert asked.pop() == expected
