"""What is refused of the arrays of a run: those of one split are of the same utterances, and of the right kind."""

from __future__ import annotations

import numpy as np
import pytest

from hycon.data.arrays import Damaged
from studies.store.arrays import npz_bytes, read_arrays

NEEDS = ("valid_prediction", "test_prediction")
SOUND = {
    f"{split}_{name}": array
    for split in ("valid", "test")
    for name, array in {
        "id": np.array(["a", "b"]),
        "label": np.array([1.0, -1.0]),
        "prediction": np.array([0.5, -0.5]),
        "multimodal": np.zeros((2, 3)),
    }.items()
}


def test_sound_arrays_are_read():
    found = read_arrays(npz_bytes(SOUND), NEEDS)
    assert found.keys() == SOUND.keys()
    assert all(np.array_equal(found[name], SOUND[name]) for name in SOUND)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_id": np.array([1, 2])}, "test_id holds 1-d int64"),
        ({"valid_prediction": np.array(["0.5", "0.5"])}, "valid_prediction holds 1-d <U3"),
        ({"test_multimodal": np.zeros(2)}, "test_multimodal holds 1-d float64"),
        ({"test_multimodal": np.zeros((2, 3, 1))}, "test_multimodal holds 3-d float64"),
        ({"valid_label": np.zeros(3)}, "the arrays of valid are not of the same utterances"),
        ({"test_prediction": np.zeros((1, 2))}, "the arrays of test are not of the same utterances"),
        ({"test_prediction": np.float64(1.0)}, "the arrays of test are not of the same utterances"),
    ],
)
def test_arrays_that_do_not_belong_together_are_damage(change, said):
    with pytest.raises(Damaged, match=f"^{said}"):
        read_arrays(npz_bytes({**SOUND, **change}), NEEDS)


def test_what_a_run_needs_is_there():
    content = npz_bytes({name: array for name, array in SOUND.items() if name != "test_prediction"})
    with pytest.raises(Damaged, match=r"^it has no test_prediction"):
        read_arrays(content, NEEDS)
    assert "valid_prediction" in read_arrays(content)


def test_nothing_is_pickled():
    with pytest.raises(TypeError, match="array 'a' holds Python objects"):
        npz_bytes({"a": np.array([None])})
