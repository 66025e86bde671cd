"""docs/protocol.md says of the code what the code does."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from studies.registry import model_module
from studies.report.marked import split
from studies.report.protocol import (
    EVERY,
    REASONS,
    VECTOR_REASONS,
    conditions,
    differences,
    generated,
    shown_rows,
    successors,
    vector_values,
    words,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"
RENEW = "run `python -m studies.report.protocol docs/protocol.md`, and read what has changed there"


@pytest.fixture(scope="module")
def found():
    return [conditions(row) for row in shown_rows()]


def test_the_page_has_the_tables_of_the_code() -> None:
    inside = split(PAGE.read_text(encoding="utf-8"), "protocol")[1]
    assert inside == generated(), f"docs/protocol.md does not say what the code does: {RENEW}"


def test_every_difference_between_token_rows_has_a_reason(found) -> None:
    for each in differences(found):
        assert each.reason, f"REASONS in studies/report/protocol.py has none for {each}"


def test_every_clipping_and_scaling_of_word_vectors_has_a_reason(found) -> None:
    lines = vector_values(found)
    assert {line.option for line in lines} == {"clip", "scale"}
    for each in lines:
        assert each.reason, f"VECTOR_REASONS in studies/report/protocol.py has none for {each}"
    models = {one.row.model for one in found}
    assert {model for _, model in VECTOR_REASONS} <= models


def test_another_clipping_of_word_vectors_has_no_reason_by_chance(found) -> None:
    hffn = next(one for one in found if one.row.model == "hffn")
    changed = dataclasses.replace(hffn, training={**hffn.training, "scale": "none"})
    assert [line.reason for line in vector_values([changed]) if line.option == "scale"] == [""]


def test_every_reason_is_for_a_difference(found) -> None:
    models = {one.row.name: one.row.model for one in found}
    there = {(each.option, models[name]) for each in differences(found) for name in each.rows}
    there |= {(option, EVERY) for option, model in there if (option, model) not in REASONS}
    assert set(REASONS) <= there, "these differences are gone, and their reasons can go, too"


def test_every_row_is_there_once(found) -> None:
    names = [one.row.name for one in found]
    assert len(names) == len(set(names))
    assert {"EF-LSTM-GloVe", "MAG-XLNet", "HyCon-v2-BERT", "Graph-MFN (Table 3)", "HyCon (Table 3)"} <= set(names)


def test_the_successors_of_beyond_are_there_too() -> None:
    assert [row.name for row in successors()] == ["MISA", "Self-MM", "MMIM", "TETFN", "ALMT"]
    trained = {row.name: conditions(row).training for row in successors()}
    assert {name for name, found in trained.items() if found["loss"] == "mse"} == {"MISA", "ALMT"}
    page = PAGE.read_text(encoding="utf-8")
    assert "MAG, MISA and ALMT keep their squared error" in page


def unexplained() -> set[tuple[str, str, tuple[str, ...]]]:
    every = differences([conditions(row) for row in shown_rows()])
    return {(each.option, each.here, each.rows) for each in every if not each.reason}


def test_the_tables_follow_the_code(monkeypatch) -> None:
    before, explained, module = generated(), unexplained(), model_module("gfn")
    training = {**module.TRAINING, "tokens": dataclasses.replace(module.TRAINING["tokens"], clip=0.123)}
    monkeypatch.setattr(module, "TRAINING", training)
    assert "0.123" not in before
    assert "0.123" in generated()
    assert unexplained() - explained == {("clip", "0.123", ("GFN-BERT",))}


def test_a_searched_value_is_in_the_tables(monkeypatch) -> None:
    module = model_module("gfn")
    space = {**module.SEARCH_SPACE["tokens"], "weight_decay": (0.02, 0.0)}
    monkeypatch.setattr(module, "SEARCH_SPACE", {**module.SEARCH_SPACE, "tokens": space})
    row = next(row for row in shown_rows() if row.name == "GFN-BERT")
    assert conditions(row).training["weight_decay"] == "0 (0, 0.02)"


@pytest.mark.parametrize(
    ("value", "said"),
    [(2e-5, "2e-5"), (0.0015, "1.5e-3"), (0.01, "0.01"), (0.0, "0"), (1.0, "1"), (48, "48"), (None, "none")],
)
def test_numbers_in_words(value, said: str) -> None:
    assert words(value) == said


def test_the_module_imports_no_torch_before_it_is_asked() -> None:
    code = "import sys, studies.report.protocol; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
