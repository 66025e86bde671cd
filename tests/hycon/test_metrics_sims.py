"""CH-SIMS's metrics of labels in [-1, 1]: against scikit-learn, and by hand at the cuts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from hycon.errors import UserError
from hycon.metrics import (
    NARROW,
    NARROW_PROTOCOLS,
    PROTOCOLS,
    WIDE,
    all_protocols,
    constant_metrics,
    five_classes,
    protocol_for,
    protocols_of,
    sentiment_metrics,
    three_classes,
)

# All values that a label of CH-SIMS has, the cuts, and what lies beyond the range
LABELS = [-1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
CUTS = [-0.7, -0.1, 0.1, 0.7]
scores = st.one_of(st.sampled_from([*LABELS, *CUTS, -1.4, 1.2]), st.floats(-1.5, 1.5, width=32))
labels = st.one_of(st.sampled_from([*LABELS, *CUTS]), st.floats(-1, 1, width=32))


def intervals(values, ends):
    """Classes 0, 1, ... of values in (lower, upper], written as loops over single-precision numbers."""
    found = []
    for value in np.asarray(values, np.float32):
        k = 0
        while k < len(ends) and value > np.float32(ends[k]):
            k += 1
        found.append(k)
    return found


def oracle(prediction, label, protocol):
    """The evaluation of MMSA and CH-SIMS, written out with scikit-learn and scipy."""
    p, y = (np.clip(np.asarray(side, float), -1, 1) for side in (prediction, label))
    some = y != 0 if protocol == "sims_non0" else np.full(len(y), True)
    b, q = y[some] > 0, p[some] > 0
    constant = np.ptp(p) == 0 or np.ptp(y) == 0
    return {
        "acc3": accuracy_score(intervals(y, [-0.1, 0.1]), intervals(p, [-0.1, 0.1])),
        "acc5": accuracy_score(intervals(y, CUTS), intervals(p, CUTS)),
        "acc2": accuracy_score(b, q),
        "f1": f1_score(b, q, average="weighted"),
        "mae": mean_absolute_error(y, p),
        "corr": 0.0 if constant else pearsonr(p, y).statistic,
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", NARROW_PROTOCOLS)
@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.tuples(scores, labels), min_size=2, max_size=40))
def test_equals_scikit_learn_and_scipy(protocol, pairs):
    prediction, label = map(list, zip(*pairs, strict=True))
    if not any(label) and protocol == "sims_non0":
        with pytest.raises(UserError, match="use protocol 'sims' here"):
            sentiment_metrics(prediction, label, protocol)
        return
    got, expected = sentiment_metrics(prediction, label, protocol), oracle(prediction, label, protocol)
    assert got.pop("corr") == pytest.approx(expected.pop("corr"), abs=1e-6)
    assert got == pytest.approx(expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_value_at_a_cut_belongs_to_the_class_below(kind):
    """Also as labels are stored, in single precision, where 0.1 is a little more than 0.1."""
    values = np.array([-1, -0.7, -0.69, -0.1, -0.09, 0, 0.1, 0.11, 0.7, 0.71, 1], kind)
    assert three_classes(values).tolist() == [-1, -1, -1, -1, 0, 0, 0, 1, 1, 1, 1]
    assert five_classes(values).tolist() == [-1, -1, -0.4, -0.4, 0, 0, 0, 0.4, 0.4, 1, 1]
    assert three_classes(values.astype(np.float64)).tolist() == three_classes(values).tolist()


def test_by_hand():
    #        right  neutral  wrong sign  beyond the range
    label = [0.8, 0.0, -0.2, -1.0]
    prediction = [0.6, 0.05, 0.1, -1.5]
    got = all_protocols(prediction, label, NARROW)
    assert set(got) == {"sims", "sims_non0"}
    assert got["sims"]["acc2"] == 2 / 4  # 0.0 is negative, and 0.05 is not
    assert got["sims_non0"]["acc2"] == 2 / 3
    assert got["sims"]["acc3"] == 3 / 4  # 0.1 is neutral, -0.2 is not
    assert got["sims"]["acc5"] == 2 / 4  # 0.6 is weakly positive, 0.8 is positive
    assert got["sims"]["mae"] == pytest.approx((0.2 + 0.05 + 0.3 + 0.0) / 4)  # -1.5 is clipped
    assert got["sims_non0"]["mae"] == got["sims"]["mae"]
    # true (+, -, -, -), answered (+, +, +, -): F1 of "-" 2/4, of "+" 2/4
    assert got["sims"]["f1"] == pytest.approx(0.5)


def test_each_range_has_its_protocols_and_mmsas_names_fit_both():
    assert protocols_of(WIDE) == tuple(PROTOCOLS)
    assert protocols_of(NARROW) == ("sims", "sims_non0")
    assert [protocol_for(name, WIDE) for name in ("paper", "mult", "has0", "non0")] == ["paper", "mult", "all", "mmsa"]
    assert [protocol_for(name, NARROW) for name in ("paper", "has0", "non0")] == ["sims", "sims", "sims_non0"]
    with pytest.raises(UserError, match=r"'mult' is not for labels in \[-1, 1\].*sims, sims_non0"):
        protocol_for("mult", NARROW)
    with pytest.raises(UserError, match=r"'sims' is not for labels in \[-3, 3\]"):
        protocol_for("sims", WIDE)


def test_the_best_constant_by_the_training_labels():
    found = constant_metrics([-0.8, -0.8, 0.0, 0.2, 0.2], [-1.0, -0.4, 0.6], NARROW)
    assert set(found) == {"sims", "sims_non0"}
    assert found["sims"]["acc2"] == 2 / 3  # three of five are not positive
    assert found["sims"]["acc5"] == 1 / 3  # -0.8 and 0.2 are twice each: the lower class
    assert found["sims"]["acc3"] == 2 / 3
    assert found["sims"]["mae"] == pytest.approx(2.0 / 3)  # 0, the median
