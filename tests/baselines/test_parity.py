"""EF-LSTM, TFN and LMF give what MMSA gave, to 1e-5, and MISA and Self-MM with their losses, in float64;
tests/peer/test_against_mmsa_fusion.py and ..._beyond.py recorded it."""

import pytest
from peer.test_against_mmsa_fusion import OURS
from recorded import GOLDEN, compare, compare_misa, compare_self_mm
from safetensors.torch import load_file


@pytest.mark.parametrize("model", OURS)
def test_same_numbers_as_recorded(model):
    compare(load_file(GOLDEN / f"{model}.safetensors"), model, **OURS[model])


def test_misa_as_recorded():
    compare_misa(load_file(GOLDEN / "misa.safetensors"))


def test_self_mm_as_recorded():
    compare_self_mm(load_file(GOLDEN / "self_mm.safetensors"))
