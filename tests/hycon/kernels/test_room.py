"""Written-out gradients stand in hycon/kernels, each beside a plain form; a model file is short and has none."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
KERNELS = sorted((ROOT / "hycon" / "kernels").glob("*.py"))
MODELS = [ROOT / "hycon" / "model.py", *sorted((ROOT / "baselines").glob("*.py"))]


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_autograd_functions_stand_in_kernels_alone():
    code = [path for package in ("hycon", "baselines", "studies") for path in (ROOT / package).rglob("*.py")]
    found = {path for path in code if "autograd.Function)" in path.read_text(encoding="utf-8")}
    assert found
    assert found <= set(KERNELS)


@pytest.mark.parametrize("path", KERNELS, ids=name)
def test_a_written_out_gradient_stands_beside_a_plain_form(path):
    text = path.read_text(encoding="utf-8")
    assert "def backward(" not in text or "def plain_" in text


@pytest.mark.parametrize("path", MODELS, ids=name)
def test_a_model_reads_as_its_equations(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert "def backward(" not in text
