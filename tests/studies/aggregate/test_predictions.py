"""Rows compared by the runs of a store: by their predictions, or by one number a run."""

import numpy as np
import pytest
from predicted import EMOTIONS, sentiment

from hycon.errors import UserError
from hycon.metrics import all_protocols, emotion_metrics
from studies.aggregate.predictions import compare_records, emotions_of, group_of, without_labels
from studies.statistics.comparison import compare
from studies.statistics.separation import centroid_ratio
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore


def stored(store, predictions, label, model="hycon", seeds=None, ids=None, kept=True):
    """A record per line of `predictions`, with their metrics."""
    records = []
    for i, prediction in enumerate(predictions):
        seed = (seeds or range(len(predictions)))[i]
        spec = RunSpec(model, 1, "bert", "toy", "0" * 64, {}, {}, seed=seed)
        if prediction.ndim == 1:
            metrics = all_protocols(prediction, label)
        else:
            metrics = {"emotions": emotion_metrics(prediction, label, EMOTIONS)}
        record = RunRecord(spec, "done", metrics={"test": metrics}, seconds=10.0 + i)
        names = np.array(ids or [f"u{j}" for j in range(len(label))])
        arrays = {"test_prediction": prediction, "test_label": label, "test_id": names}
        records.append(store.put(record, arrays))
        if not kept:
            (store.folder(spec.id) / "predictions.npz").unlink()
    return records


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path)


def test_records_are_compared_by_their_predictions(store):
    prediction, label = sentiment()
    a, b = stored(store, prediction, label), stored(store, prediction + 0.5, label, "tfn")
    groups = group_of(store, a), group_of(store, b)
    assert groups[0].seeds == (0, 1, 2)
    assert np.array_equal(groups[0].prediction, prediction)
    found = compare_records(store, a, b, "acc2")
    assert found == compare(*groups, "acc2")
    assert found.paired
    assert found.utterances > 0
    assert compare_records(store, a, b, "acc2", groups=groups) == found


def test_records_are_compared_under_the_protocol_that_is_asked_for(store):
    prediction, label = sentiment()
    label[:8] = 0.0  # these count under `all` alone
    a, b = stored(store, prediction, label), stored(store, prediction + 0.5, label, "tfn")
    groups = group_of(store, a), group_of(store, b)
    found = compare_records(store, a, b, "acc2", protocol="all")
    assert found == compare(*groups, "acc2", protocol="all")
    assert found.utterances == len(label) == compare_records(store, a, b, "acc2").utterances + (label == 0).sum()


def test_the_separation_that_is_kept_without_labels_has_a_label_of_0_among_the_positive_ones():
    points = np.array([[0.0, 1.0], [0.0, 3.0], [4.0, 1.0], [4.0, 2.0]])
    given = {"test_multimodal": points, "test_label": np.array([0.0, 1.5, -1.0, -0.2]), "test_prediction": np.zeros(4)}
    kept = without_labels(given)
    assert kept["separation"] == centroid_ratio(points, np.array([1, 1, 0, 0]))
    assert "test_label" not in kept
    assert "separation" not in without_labels({**given, "test_label": np.ones((4, 2))})  # of emotions
    assert "separation" not in without_labels({"test_label": given["test_label"]})


@pytest.mark.parametrize(
    "form, videos", [("v{}[{}]", 5), ("v{}$_${}", 5), ("v{}_{}", 5), ("one_{}{}", None), ("u{}-{}", None)]
)
def test_the_video_of_an_utterance_is_read_from_its_id(store, form, videos):
    prediction, label = sentiment()
    ids = [form.format(i // 8, i % 8) for i in range(len(label))]
    group = group_of(store, stored(store, prediction, label, ids=ids))
    assert (None if group.videos is None else len(set(group.videos))) == videos


def test_records_without_predictions_and_costs_are_compared_by_their_numbers(store):
    prediction, label = sentiment()
    a, b = stored(store, prediction, label), stored(store, prediction + 0.5, label, "tfn", kept=False)
    assert group_of(store, b) is None
    assert group_of(store, []) is None
    found = compare_records(store, a, b, "acc2")
    assert (found.utterances, found.paired) == (0, True)
    assert found.difference == pytest.approx(compare_records(store, b, a, "acc2").difference * -1)
    cost = compare_records(store, a, a, "train_seconds")
    assert (cost.difference, cost.utterances, cost.n_a) == (0.0, 0, 3)
    assert compare_records(store, a, b, "parameters") is None  # the records have none
    assert compare_records(store, a, [], "acc2") is None


def test_emotions_come_from_the_records(store):
    rng = np.random.default_rng(2)
    label = (rng.random((30, 3)) < 0.3).astype(float)
    a, b = (stored(store, rng.normal(size=(2, 30, 3, 2)), label, model) for model in ("hycon", "mfn"))
    assert emotions_of(a) == EMOTIONS
    found = compare_records(store, a, b, "average_f1")
    scores = [np.mean([r.metrics["test"]["emotions"]["average"]["f1"] for r in records]) for records in (a, b)]
    assert found.difference == pytest.approx(scores[0] - scores[1])
    assert found.utterances == 30
    assert compare_records(store, a, b, "acc2") is None


def test_runs_on_other_utterances_are_no_group(store):
    prediction, label = sentiment()
    a = stored(store, prediction[:1], label)
    odd = stored(store, prediction[1:2], label, seeds=[5], ids=[f"v{j}" for j in range(40)])
    with pytest.raises(UserError, match="on other utterances or labels"):
        group_of(store, [*a, *odd])
