"""Metrics against scikit-learn and scipy, at the labels where the protocols differ, and on constant predictions."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from hycon.errors import UserError
from hycon.metrics import (
    PROTOCOLS,
    all_protocols,
    constant_metrics,
    correlation,
    emotion_metrics,
    majority_metrics,
    majority_of_counts,
    sentiment_metrics,
    seven_classes,
    weighted_f1,
)

KEYS = {"acc7", "acc2", "f1", "mae", "corr"}
BOUNDARIES = [0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.0, -3.0, 3.5, -3.5, 1.0, -1.0]
scores = st.one_of(st.sampled_from(BOUNDARIES), st.floats(-4, 4, width=32))
labels = st.one_of(st.sampled_from([v for v in BOUNDARIES if abs(v) <= 3]), st.floats(-3, 3, width=32))
samples = st.lists(st.tuples(scores, labels), min_size=2, max_size=40)


def oracle(prediction, label, protocol):
    """Each lineage's evaluation, written out with scikit-learn and scipy."""
    p, y = np.asarray(prediction, float), np.asarray(label, float)
    some = y != 0
    acc7 = accuracy_score(np.round(np.clip(y, -3, 3)).astype(int), np.round(np.clip(p, -3, 3)).astype(int))
    if protocol == "all":
        b, q, m = y >= 0, p >= 0, np.full(len(y), True)
    elif protocol == "paper":
        b, q, m = y[some] >= 0, p[some] >= 0, some
    else:
        b, q, m = y[some] > 0, p[some] > 0, np.full(len(y), True)
    f1 = f1_score(q, b, average="weighted") if protocol == "mult" else f1_score(b, q, average="weighted")
    constant = np.ptp(p[m]) == 0 or np.ptp(y[m]) == 0
    return {
        "acc7": acc7,
        "acc2": accuracy_score(b, q),
        "f1": f1,
        "mae": mean_absolute_error(y[m], p[m]),
        "corr": 0.0 if constant else pearsonr(p[m], y[m]).statistic,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(samples)
def test_equals_scikit_learn_and_scipy(protocol, pairs):
    prediction, label = map(list, zip(*pairs, strict=True))
    if not any(label) and protocol != "all":
        with pytest.raises(UserError, match="leaves those out"):
            sentiment_metrics(prediction, label, protocol)
        return
    got = sentiment_metrics(prediction, label, protocol)
    assert set(got) == KEYS
    assert all(type(v) is float and np.isfinite(v) for v in got.values())
    expected = oracle(prediction, label, protocol)
    # scipy loses digits where a spread is tiny next to the mean; so does float64 itself
    assert got.pop("corr") == pytest.approx(expected.pop("corr"), abs=1e-6)
    assert got == pytest.approx(expected)


def test_by_hand_where_protocols_differ():
    #             right  zero label  zero answered  wrong sign  rounds up to 2
    label = [2.0, 0.0, -1.0, 1.0, 1.6]
    prediction = [2.4, -0.4, 0.0, -0.2, 1.5]
    got = all_protocols(prediction, label)
    assert {p: got[p]["acc7"] for p in PROTOCOLS} == dict.fromkeys(PROTOCOLS, 3 / 5)
    assert got["paper"]["acc2"] == 2 / 4  # 0.0 for -1.0 is "positive"
    assert got["all"]["acc2"] == 2 / 5  # and -0.4 for 0.0 is "negative"
    assert got["mult"]["acc2"] == 3 / 4  # 0.0 is not positive
    assert got["mmsa"]["acc2"] == 3 / 4
    assert got["paper"]["mae"] == pytest.approx((0.4 + 1.0 + 1.2 + 0.1) / 4)
    assert (
        got["all"]["mae"] == got["mult"]["mae"] == got["mmsa"]["mae"] == pytest.approx((0.4 + 0.4 + 1 + 1.2 + 0.1) / 5)
    )
    # true (-, +, +, +), answered (-, -, +, +): F1 of "-" 2/3, of "+" 4/5
    assert got["mmsa"]["f1"] == pytest.approx((1 * 2 / 3 + 3 * 4 / 5) / 4)
    assert got["mult"]["f1"] == pytest.approx((2 * 2 / 3 + 2 * 4 / 5) / 4)


def test_seven_classes_round_half_to_even_after_clipping():
    given_scores = np.array([0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.5, -3.5, 0.51, 2.49, 100.0])
    assert seven_classes(given_scores).tolist() == [0, 0, 0, 2, -2, 2, -2, 3, -3, 1, 2, 3]


def test_labels_at_boundaries_count_as_numpy_rounds_them():
    label = [0.5, -0.5, 1.5, 2.5, 3.0]
    assert sentiment_metrics([0.0, 0.0, 2.0, 2.0, 3.5], label)["acc7"] == 1.0
    assert sentiment_metrics([1.0, -1.0, 1.0, 3.0, 2.4], label)["acc7"] == 0.0


@pytest.mark.parametrize("value", [0.0, 0.1, -2.7, 3.5])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_constant_predictions_have_correlation_zero(value, protocol):
    label = np.linspace(-3, 3, 30)  # no zero in it
    got = sentiment_metrics([value] * 30, label, protocol)
    assert got["corr"] == 0.0
    expected = oracle([value] * 30, label, protocol)
    assert got == pytest.approx(expected)


def test_constant_labels_and_single_samples():
    assert sentiment_metrics([1.0, 2.0], [1.0, 1.0])["corr"] == 0.0
    assert sentiment_metrics([1.4], [1.0]) == pytest.approx({"acc7": 1, "acc2": 1, "f1": 1, "mae": 0.4, "corr": 0})


def test_correlation_is_exact_for_linear_answers_of_any_scale():
    label = np.array([-3.0, -1.0, 0.4, 2.0])
    for scale in (1.0, 1e-200, 1e200):
        assert correlation(scale * label, label) == pytest.approx(1.0)
        assert correlation(-scale * label, label) == pytest.approx(-1.0)
    assert correlation(label, label) <= 1.0


def test_lists_arrays_and_tensors_give_the_same():
    prediction, label = [0.5, -1.25, 2.0, -0.25], [1.0, -1.0, 2.5, 0.5]
    expected = all_protocols(prediction, label)
    assert all_protocols(np.array(prediction, np.float32)[:, None], np.array(label)) == expected
    assert all_protocols(torch.tensor(prediction, requires_grad=True), torch.tensor(label)[:, None]) == expected
    assert all_protocols(torch.tensor(prediction, dtype=torch.bfloat16), torch.tensor(label)) == expected
    assert all_protocols([2, -1, 1], [1, -2, 1]) == all_protocols([2.0, -1.0, 1.0], [1.0, -2.0, 1.0])


@pytest.mark.parametrize(
    "prediction, label, protocol, said",
    [
        ([1.0], [1.0], "papers", "Unknown protocol 'papers'; nearest: paper"),
        ([1.0, 2.0], [1.0], "paper", "2 predictions for 1 labels"),
        ([], [], "all", "at least one sample"),
        ([float("nan"), 1.0], [1.0, 1.0], "paper", "1 of 2 prediction values are not finite"),
        ([float("inf"), 1.0], [1.0, 1.0], "all", "not finite"),
        ([1.0, 1.0], [1.0, float("nan")], "all", "1 of 2 label values"),
        ([1.0, 1.0], [0.0, -0.0], "paper", "use protocol 'all'"),
        ([1.0, 1.0], [0.0, 0.0], "mult", "use protocol 'all'"),
        (["good"], [1.0], "all", "must be a number"),
        ([[1.0], [1.0, 2.0]], [1.0, 1.0], "all", "ragged"),
    ],
)
def test_mistakes_are_named(prediction, label, protocol, said):
    with pytest.raises(UserError, match=said):
        sentiment_metrics(prediction, label, protocol)


def test_neutral_labels_alone_are_fine_for_all():
    assert sentiment_metrics([0.1, -0.2], [0.0, 0.0], "all")["acc2"] == 0.5


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_weighted_f1_is_scikit_learns(pairs):
    true, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    assert weighted_f1(true, predicted) == pytest.approx(f1_score(true, predicted, average="weighted"))


EMOTIONS = ("neutral", "happy", "sad", "angry")


def test_emotions_equal_scikit_learn_for_logits_and_for_answers():
    rng = np.random.default_rng(0)
    label = np.eye(4, dtype=int)[rng.integers(0, 4, 60)]
    logits = rng.normal(size=(60, 4, 2))
    answers = logits.argmax(-1)
    got = emotion_metrics(torch.tensor(logits), torch.tensor(label), EMOTIONS)
    assert list(got) == [*EMOTIONS, "average"]
    for column, emotion in enumerate(EMOTIONS):
        assert got[emotion]["acc"] == pytest.approx(accuracy_score(label[:, column], answers[:, column]))
        expected = f1_score(label[:, column], answers[:, column], average="weighted")
        assert got[emotion]["f1"] == pytest.approx(expected)
    for key in ("acc", "f1"):
        assert got["average"][key] == pytest.approx(np.mean([got[e][key] for e in EMOTIONS]))
    assert emotion_metrics(answers, label, EMOTIONS) == got


def test_majority_line_from_counts_alone():
    label = np.random.default_rng(0).random((41, 4)) < (0.1, 0.4, 0.6, 1.0)
    names = ["a", "b", "c", "d"]
    counted = majority_of_counts(label.sum(0).tolist(), 41, names)
    expected = emotion_metrics(np.broadcast_to(label.mean(0) > 0.5, label.shape), label, names)
    assert set(counted) == set(expected) == {*names, "average"}
    for name, scores in expected.items():
        assert counted[name] == pytest.approx(scores, abs=1e-12)


def test_majority_line():
    label = [[1, 0], [0, 0], [1, 1], [1, 0]]
    got = majority_metrics(label, ["happy", "sad"])
    assert got["happy"]["acc"] == 0.75
    assert got["happy"]["f1"] == pytest.approx(0.75 * 6 / 7)
    assert got["sad"]["acc"] == 0.75
    assert got["average"]["acc"] == 0.75
    assert majority_metrics([[1], [0]], ["happy"])["happy"] == {"acc": 0.5, "f1": pytest.approx(1 / 3)}


@pytest.mark.parametrize(
    "prediction, label, said",
    [
        (np.zeros((3, 2, 2)), np.zeros((3, 3)), "expected .N, 2., a column each"),
        (np.zeros((3, 2, 3)), np.zeros((3, 2)), r"expected \(3, 2, 2\)"),
        (np.zeros((2, 2)), np.zeros((3, 2)), "2 predictions for 3 labels"),
        (np.full((3, 2), 0.4), np.zeros((3, 2)), "prediction holds values other than 0 and 1"),
        (np.zeros((3, 2)), np.full((3, 2), 2), "label holds values other than 0 and 1"),
        (np.full((3, 2, 2), np.nan), np.zeros((3, 2)), "12 of 12 prediction values are not finite"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "a column each"),
        (np.zeros((3, 2)), np.zeros((3, 2, 2)), "label has shape .3, 2, 2.: expected .N, 2."),
    ],
)
def test_emotion_mistakes_are_named(prediction, label, said):
    with pytest.raises(UserError, match=said):
        emotion_metrics(prediction, label, ["happy", "sad"])


def test_needs_neither_torch_nor_scipy():
    code = "import sys, hycon.metrics; print(sorted({'torch', 'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_best_constant_by_the_training_labels():
    train, label = [3.0, 3.0, -1.0, -1.2, -0.9, 0.0, 0.0, 0.1], [2.9, 2.6, -1.0, 0.0, 0.5]
    found = constant_metrics(train, label)
    paper = found["paper"]
    assert paper["acc2"] == 0.75  # three of six polar labels are positive: a tie answers "positive", as are 3 of 4
    assert paper["f1"] == pytest.approx(0.75 * 2 * 0.75 / 1.75)
    assert paper["acc7"] == 1 / 5  # both 0 and -1 are three times in training: the lower one, -1
    assert paper["mae"] == pytest.approx(np.mean([3.3, 3.0, 0.6, 0.9]))  # -0.4, the median of the six
    assert paper["corr"] == 0.0
    assert found["all"]["acc2"] == 4 / 5  # with zeros most labels are not negative, as are 4 of 5
    assert found["mmsa"]["mae"] == pytest.approx(np.mean([2.9, 2.6, 1.0, 0.0, 0.5]))  # 0, the median of all
    for protocol, metrics in found.items():
        best = max(sentiment_metrics(np.full(5, c), label, protocol)["acc2"] for c in (-1.0, 1.0))
        assert metrics["acc2"] <= best
    assert set(constant_metrics([0.0], [1.0, 2.0])) == {"all"}  # the others count no training label
