"""Metrics on resamples, held to hycon.metrics."""

import numpy as np
import pytest
from predicted import EMOTIONS, METRICS, sentiment

from hycon.errors import UserError
from hycon.metrics import NARROW_PROTOCOLS, PROTOCOLS, emotion_metrics, sentiment_metrics
from studies.statistics.resample import measure

ON_NARROW = ("acc3", "acc5", "acc2", "f1", "mae", "corr")
CASES = [(metric, protocol) for metric in METRICS for protocol in PROTOCOLS]
CASES += [(metric, protocol) for metric in ON_NARROW for protocol in NARROW_PROTOCOLS]


@pytest.mark.parametrize(("metric", "protocol"), CASES)
def test_each_metric_is_that_of_hycon_metrics_on_every_resample(metric, protocol):
    prediction, label = sentiment()
    assert (label == 0).any()
    assert (prediction == 0).any()
    measured = measure(prediction, label, metric, protocol=protocol)
    expected = [sentiment_metrics(p, label, protocol)[metric] for p in prediction]
    assert measured.values() == pytest.approx(expected, abs=1e-12)
    kept = label != 0 if measured.utterances < len(label) else np.ones(len(label), bool)
    prediction, label = prediction[:, kept], label[kept]
    drawn = np.random.default_rng(1).integers(len(label), size=(20, len(label)))
    weights = np.stack([np.bincount(line, minlength=len(label)) / len(label) for line in drawn])
    expected = [[sentiment_metrics(p[line], label[line], protocol)[metric] for p in prediction] for line in drawn]
    assert measured.under(weights) == pytest.approx(np.array(expected), abs=1e-12)


def test_what_does_not_enter_a_metric_is_not_resampled():
    prediction, label = sentiment()
    polar = int((label != 0).sum())
    assert [measure(prediction, label, m).utterances for m in METRICS] == [40, polar, polar, polar, polar]
    assert measure(prediction, label, "mae", protocol="mult").utterances == 40
    assert measure(prediction, label, "f1", protocol="all").utterances == 40


@pytest.mark.parametrize("metric", ["happy_acc", "sad_f1", "angry_f1", "average_acc", "average_f1"])
def test_emotions_are_those_of_hycon_metrics(metric):
    rng = np.random.default_rng(2)
    label = (rng.random((30, 3)) < 0.3).astype(float)
    logits = rng.normal(size=(4, 30, 3, 2))
    emotion, kind = metric.split("_")
    found = measure(logits, label, metric, emotions=EMOTIONS).values()
    assert found == pytest.approx([emotion_metrics(p, label, EMOTIONS)[emotion][kind] for p in logits], abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.3, -2.0])
def test_a_constant_prediction_has_no_correlation(constant):
    label = sentiment()[1]
    measured = measure(np.full((2, 40), constant), label, "corr")
    assert not measured.values().any()
    assert not measured.resampled(50, 0).any()


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_f1_of_one_class_alone(value):
    label = np.full(6, value)
    assert measure(np.full((1, 6), value), label, "f1").values() == pytest.approx([1.0])
    assert measure(np.full((1, 6), -value), label, "f1").values() == pytest.approx([0.0], abs=1e-12)


def test_resamples_are_the_same_for_all_runs_and_repeatable(monkeypatch):
    prediction, label = sentiment()
    twice = measure(np.concatenate([prediction, prediction]), label, "mae").resampled(60, 3)
    assert twice.shape == (60, 6)
    assert np.array_equal(twice[:, :3], twice[:, 3:])
    monkeypatch.setattr("studies.statistics.resample.BLOCK", 100)  # blocks bound the memory and move no draw
    assert measure(prediction, label, "mae").resampled(60, 3) == pytest.approx(twice[:, :3], abs=1e-12)
    assert measure(prediction, label, "mae").resampled(60, 4) != pytest.approx(twice[:, :3], abs=1e-12)


def test_utterances_of_one_unit_are_drawn_together():
    prediction, label = sentiment()
    measured = measure(prediction, label, "mae", protocol="all")
    unit = np.arange(40) // 13  # 13, 13, 13 and 1
    drawn = np.random.default_rng(5).integers(4, size=(20, 4))
    lines = [np.concatenate([np.flatnonzero(unit == i) for i in line]) for line in drawn]
    expected = [[np.abs(p[line] - label[line]).mean() for p in prediction] for line in lines]
    assert measured.resampled(20, 5, unit) == pytest.approx(np.array(expected), abs=1e-12)
    polar = measure(prediction, label, "mae").kept
    assert np.array_equal(polar, label != 0)


def test_a_measure_refuses_what_it_cannot_be_of():
    prediction, label = sentiment()
    with pytest.raises(UserError, match="No metric 'acc3' of sentiment predictions; nearest: acc"):
        measure(prediction, label, "acc3")
    with pytest.raises(UserError, match="Unknown protocol 'papr'; nearest: paper"):
        measure(prediction, label, "acc2", protocol="papr")
    with pytest.raises(UserError, match="do not fit labels"):
        measure(prediction[:, 1:], label, "acc2")
    with pytest.raises(UserError, match="not finite"):
        measure(np.where(prediction == prediction.max(), np.nan, prediction), label, "acc2")
    with pytest.raises(UserError, match="All 40 labels are 0"):
        measure(prediction, 0 * label, "acc2")
    logits, felt = np.zeros((2, 5, 3, 2)), np.zeros((5, 3))
    with pytest.raises(UserError, match="No metric 'hapy_acc' of emotion predictions; nearest: happy_acc"):
        measure(logits, felt, "hapy_acc", emotions=EMOTIONS)
    with pytest.raises(UserError, match="a name for each"):
        measure(logits, felt, "happy_acc", emotions=("happy",))
