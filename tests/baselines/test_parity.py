"""EF-LSTM, TFN and LMF give what MMSA gave, to 1e-5; tests/peer/test_against_mmsa_fusion.py recorded it."""

import pytest
from peer.test_against_mmsa_fusion import OURS
from recorded import GOLDEN, compare
from safetensors.torch import load_file


@pytest.mark.parametrize("model", OURS)
def test_same_numbers_as_recorded(model):
    compare(load_file(GOLDEN / f"{model}.safetensors"), model, **OURS[model])
