"""docs/notebook.ipynb: its cells run, one after the other, and what is stored of them is small and names no machine."""

import json
import re
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"
LARGEST = 100_000  # bytes of one output


def cells(kind: str) -> list[dict]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def test_its_cells_run(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "notebook"}
    for number, cell in enumerate(cells("code"), start=1):
        exec(compile("".join(cell["source"]), f"<cell {number}>", "exec"), names)
    assert names["runs"]["row"].value_counts().to_dict() == dict.fromkeys(names["ROWS"], 3)
    assert names["trials"].groupby("row")["selected"].sum().tolist() == [1, 1]
    assert len(names["curves"]) >= 6
    assert len(plt.get_fignums()) == 2
    plt.close("all")
    assert "pandas" in sys.modules


def test_it_says_that_the_data_are_synthetic():
    assert "synthetic" in "".join(cells("markdown")[0]["source"])


def test_its_stored_outputs_are_those_of_one_pass():
    assert [cell["execution_count"] for cell in cells("code")] == list(range(1, len(cells("code")) + 1))
    assert sum("image/png" in output.get("data", {}) for cell in cells("code") for output in cell["outputs"]) == 2
    for cell in cells("code"):
        for output in cell["outputs"]:
            text = json.dumps(output)
            assert len(text) <= LARGEST
            assert output["output_type"] != "error"
            assert not re.search(r"/(home|root|tmp|work|Users)/", text)
