"""A finished run's record must hold its numbers, and its numbers must be those of its predictions."""

import json
import math

import numpy as np
import pytest
from builders import LABEL, fill, put, record, spec

from hycon.errors import UserError
from hycon.metrics import emotion_metrics, majority_metrics
from studies.aggregate.predictions import group_of
from studies.store.recompute import _same, other_metrics
from studies.store.record import RESULT, RunRecord
from studies.store.run_store import RunStore
from studies.trust.doctor import examine, repair
from studies.trust.verify import _predictions


@pytest.fixture
def store(tmp_path):
    made = RunStore(tmp_path / "results")
    fill(made, [0.1, 0.2])
    return made


def edit(store, run_id, old, new):
    path = store.folder(run_id) / "record.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("name", RESULT)
def test_a_record_that_has_lost_a_field_counts_as_not_done(store, name):
    run_id = next(store.records()).id
    edit(store, run_id, f'"{name}"', f'"{name[:-1]}~"')
    assert store.get(run_id) is None
    assert store.damage(run_id).reason == f"it has no {name}"


def test_a_failed_run_needs_none_of_them():
    raw = RunRecord(spec(), "failed", "x").to_dict()
    kept = {key: value for key, value in raw.items() if key not in RESULT}
    assert RunRecord.from_json(json.dumps(kept).encode(), spec().id, "failed").reason == "x"


@pytest.mark.parametrize(
    ("old", "new"), [('"mae": ', '"mae": 1'), ('"test"', '"tesu"'), ('"mult"', '"muls"'), ('"corr"', '"cor2"')]
)
def test_doctor_finds_metrics_that_are_not_those_of_the_predictions(store, old, new):
    assert not [finding for finding in examine(store) if finding.kind == "metrics"]
    run_id = next(r.id for r in store.records() if r.spec.seed == 0)
    edit(store, run_id, old, new)
    (found,) = (finding for finding in examine(store) if finding.kind == "metrics")
    assert found.path == f"runs/{run_id}"
    repair(store, [found])
    assert store.get(run_id) is None


CURVE = [{"epoch": n, "train_loss": 1.0, "valid_loss": loss} for n, loss in ((1, 0.7), (2, 0.5), (3, 0.5))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"valid_loss": 0.0}, "validation loss 0 in epoch 2, its curve has the lowest, 0.5, in epoch 2"),
        ({"best_epoch": 3}, "validation loss 0.5 in epoch 3, its curve has the lowest, 0.5, in epoch 2"),
        ({"curve": [*CURVE, {**CURVE[0], "epoch": 4, "valid_loss": 0.1}]}, "its curve has the lowest, 0.1, in epoch 4"),
        ({"curve": []}, None),  # nothing to compare with
    ],
)
def test_doctor_finds_a_loss_that_the_search_ranks_by_and_that_is_not_the_curve_s(tmp_path, changes, said):
    store = RunStore(tmp_path / "results")
    made = put(store, spec(), **{"valid_loss": 0.5, "best_epoch": 2, "curve": CURVE, **changes})
    found = [finding for finding in examine(store) if finding.kind == "metrics"]
    assert [finding.path for finding in found] == [f"runs/{made.id}"] * (said is not None)
    assert all(finding.said.endswith(said) for finding in found)
    repair(store, found)
    assert (store.get(made.id) is None) == (said is not None)


def test_emotions_undefined_numbers_and_older_suites():
    label = np.array([[1, 0], [0, 0], [1, 0]])
    prediction = np.array([[1, 0], [1, 0], [1, 0]])
    names = ["happy", "sad"]
    metrics = {"emotions": emotion_metrics(prediction, label, names), "majority": majority_metrics(label, names)}
    arrays = {"test_prediction": prediction, "test_label": label}
    assert other_metrics(RunRecord(spec(), "done", metrics={"test": metrics}), arrays) is None
    metrics["emotions"]["happy"]["acc"] = 0.5
    assert "emotions happy acc is 0.5" in other_metrics(RunRecord(spec(), "done", metrics={"test": metrics}), arrays)
    constant = np.ones_like(LABEL)
    assert _same(None, math.nan)
    assert not _same(None, 0.5)
    assert not _same(0.5, math.nan)
    older = RunRecord(spec(suite=0), "done", metrics={"test": {"paper": {"corr": 0.5}}})
    assert other_metrics(older, {"test_prediction": constant, "test_label": LABEL}) is None
    odd = {"test_prediction": constant[:3], "test_label": LABEL}
    assert "3 predictions for 10 labels" in other_metrics(record(spec(), constant), odd)


NAMES = LABEL.astype(str)
ODD = {
    "no test_id": {"test_prediction": LABEL, "test_label": LABEL},
    "same utterances": {"test_prediction": LABEL[:3], "test_label": LABEL, "test_id": NAMES},
    "test_label holds 1-d <U": {
        "test_prediction": LABEL,
        "test_label": NAMES,
        "test_id": NAMES,
    },
    "test_id holds 1-d float32": {"test_prediction": LABEL, "test_label": LABEL, "test_id": LABEL},
}


@pytest.mark.parametrize(("said", "arrays"), ODD.items(), ids=ODD)
def test_arrays_that_are_missing_or_do_not_fit_are_one_sentence(tmp_path, said, arrays):
    store = RunStore(tmp_path)
    stored = store.put(record(spec(), LABEL), arrays)
    with pytest.raises(UserError, match=said):
        group_of(store, [stored])


def test_verify_misses_predictions_that_are_not_kept():
    now = {"test_prediction": LABEL, "test_label": LABEL, "test_multimodal": LABEL}
    assert list(_predictions({"test_label": LABEL}, now)) == ["predictions: test_prediction is not among those kept"]
