"""Studies and records on disk: files of older versions, emotions, undefined numbers, and the bytes that are written."""

import dataclasses
import json
from pathlib import Path

import pytest
from builders import fill, spec

from hycon.errors import UserError
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.study import Study, find_study, load_studies, read_study, save_study

PUBLISHED = Path(__file__).parents[3] / "results" / "published"


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path)


def test_what_is_written_is_read_back_and_written_the_same(store):
    study = dataclasses.replace(fill(store, [0.1]), space={"lr": [0.001, 1]})
    save_study(store, study)
    assert load_studies(store) == [study]
    path = store.root / "studies" / f"{study.id}.json"
    before = path.read_bytes()
    save_study(store, read_study(before))
    assert path.read_bytes() == before


def test_the_space_is_no_part_of_a_study_s_identity(store):
    study = fill(store, [0.1])
    assert dataclasses.replace(study, space={"lr": [0.001]}).id == study.id


def test_a_study_from_before_newer_fields_is_read_and_unknown_ones_are_ignored(store):
    study = fill(store, [0.1])
    path = store.root / "studies" / f"{study.id}.json"
    raw = json.loads(path.read_text())
    for name in ("space", "model_version", "number", "version"):
        del raw[name]
    path.write_text(json.dumps({**raw, "gone": 1}))
    (found,) = load_studies(store)
    assert found == dataclasses.replace(study, model_version=0)
    assert found.space is None


@pytest.mark.parametrize("change", [{"options": {"lr": 0.05}}, {"trials": ["0" * 16]}, {"data": "f" * 64}])
def test_a_study_that_is_not_the_one_of_its_name_is_none(store, change):
    """Else a side experiment whose file was edited would stand for a search as in the paper."""
    study = fill(store, [0.1])
    path = store.root / "studies" / f"{study.id}.json"
    raw = json.loads(path.read_text())
    changed = {**raw, **change, "draws": raw["draws"][:1] if "trials" in change else raw["draws"], "selected": 0}
    path.write_text(json.dumps(changed))
    assert find_study(store, study.id) is None
    assert load_studies(store) == []


def test_a_newer_study_is_refused(store):
    study = fill(store, [0.1])
    path = store.root / "studies" / f"{study.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "draws": "of another type"}))
    with pytest.raises(UserError, match=rf"{path} was written by a newer version"):
        load_studies(store)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": {}}, "its encoder has no name"),
        ({"encoder": {"name": "demo"}}, "its encoder has no sha256"),
        ({"encoder": {"sha256": 1}}, "Expected `str`, got `int`"),
        ({"version": "1"}, "version"),
        ({"trials": None}, "Expected `array`, got `null`"),
        ({"draws": []}, "it has 0 draws and 1 trials"),
        ({"selected": 1}, "its winner is 1 of 1 trials"),
        ({"selected": -1}, "its winner is -1 of 1 trials"),
    ],
)
def test_a_damaged_study_is_a_value_error(store, change, said):
    content = json.dumps({**dataclasses.asdict(fill(store, [0.1])), **change}).encode()
    with pytest.raises(ValueError, match=said):
        read_study(content)


def test_a_record_is_read_as_it_was_written(store):
    """Numbers of emotions, undefined ones, and whole ones that stay whole."""
    metrics = {"test": {"paper": {"happy": {"acc2": 0.5, "f1": None}, "corr": None, "count": 3}}}
    curve = [{"epoch": 1, "train_loss": 0.5, "valid_loss": None}]
    stored = store.put(RunRecord(spec(), "done", metrics=metrics, curve=curve, best_epoch=1, seconds=2), {})
    found = store.get(stored.id)
    assert found == stored
    assert json.dumps(found.metrics) == json.dumps(metrics)
    assert json.dumps(found.curve) == json.dumps(curve)


@pytest.mark.parametrize(
    "folder", sorted(runs.parent for runs in PUBLISHED.glob("**/runs")), ids=lambda folder: folder.name
)
def test_every_published_record_and_study_is_read(folder):
    store = RunStore(folder)
    assert store.damaged() == []
    assert len(list(store.records())) == len(store.ids())
    assert len(load_studies(store)) == len(list((folder / "studies").glob("*.json")))
    for study in load_studies(store):
        assert isinstance(study, Study)
        assert (folder / "studies" / f"{study.id}.json").exists()
