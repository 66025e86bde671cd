"""The hash of a run's code: what it covers, what changes it, and what does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from hycon.model_file import read_model_file
from hycon.source import NO_PYTHON, changed, digest, files, said, sources

MODEL = '''"""A model."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

VERSION = 1
SEARCH_SPACE = {"lr": (1e-3, 1e-4)}
SCALE = 0.5  # chosen here


def half(x: int, name: str = "a") -> "int":
    """Half of x."""
    if x < 0:
        raise ValueError(f"{name} is {x}")
    return SCALE * x  # of x
'''


def written(folder: Path, text: str, name: str = "my.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# of x", "# half of it"),
        ('"""Half of x."""', '"""Divide by two."""'),
        ('    """Half of x."""\n', ""),
        ('"""A model."""', '"""Another model, said otherwise."""'),
        ("    return SCALE * x", "    return (\n        SCALE * x\n    )"),
        ("x: int,", "x,"),
        (' -> "int"', ""),
        ('f"{name} is {x}"', 'f"{name} is {x}; expected a number from 0"'),
        ("    from torch import nn", "    from torch import Tensor, nn"),
        ("VERSION = 1", "VERSION = 2"),
        ("(1e-3, 1e-4)", "(1e-3, 1e-4, 1e-5)"),
        ("0.5 ", "0.50 "),
    ],
)
def test_what_moves_no_number_changes_no_hash(tmp_path, old, new):
    assert old in MODEL
    before = digest(written(tmp_path / "a", MODEL))
    assert digest(written(tmp_path / "b", MODEL.replace(old, new))) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.5", "0.25"), ("SCALE * x", "SCALE + x"), ("x < 0", "x <= 0"), ('= "a"', "= None"), ("ValueError", "KeyError")],
)
def test_what_may_move_a_number_changes_it(tmp_path, old, new):
    before = digest(written(tmp_path / "a", MODEL))
    assert digest(written(tmp_path / "b", MODEL.replace(old, new))) != before


def test_the_hash_is_the_same_in_every_version_of_python(tmp_path):
    """Made with 3.11. `ast.dump` would give another text in 3.12 (type_params) and in 3.13 (empty fields)."""
    assert digest(written(tmp_path, MODEL)) == "5ca2b94f5ab96bf2"


def test_an_edited_file_is_read_again(tmp_path):
    path = written(tmp_path, MODEL)
    before = digest(path)
    written(tmp_path, MODEL.replace("0.5", "0.125"))
    assert digest(path) != before


def test_a_file_that_is_no_python_has_no_hash(tmp_path):
    assert digest(written(tmp_path, "def half(:\n")) == NO_PYTHON


def test_a_model_is_its_file_what_it_imports_and_what_every_run_needs():
    found = files("baselines.graph_mfn")
    assert {"baselines/graph_mfn.py", "baselines/mfn.py", "hycon/kernels/fusion_graph.py"} <= found.keys()
    assert {"hycon/train.py", "hycon/data/batch.py", "hycon/data/prepare.py", "hycon/metrics.py"} <= found.keys()
    assert "hycon/losses.py" not in found
    assert "hycon/losses.py" in files("hycon.model")


def test_importers_studies_and_what_moves_no_number_are_no_part_of_it():
    found = {name for model in ("hycon.model", "baselines.tfn", "baselines.mag") for name in files(model)}
    assert not [name for name in found if name.startswith(("hycon/data/importers", "studies"))]
    assert not found & {"hycon/errors.py", "hycon/host.py", "hycon/files.py", "hycon/data/manifest.py"}


def test_a_module_and_its_file_are_the_same_code():
    assert sources("baselines.tfn") == sources(files("baselines.tfn")["baselines/tfn.py"])


def test_a_file_of_ones_own_has_what_it_imports_from_beside_it(tmp_path):
    written(tmp_path, "X = 1\n", "layers.py")
    written(tmp_path / "parts", "Y = 1\n", "deep.py")
    written(tmp_path, "Z = 1\n", "unused.py")
    path = written(
        tmp_path, "import numpy\nimport layers\nfrom parts import deep\nfrom hycon.losses import hybrid_loss\n"
    )
    found = sources(path)
    assert {"my.py", "layers.py", "parts/deep.py", "hycon/losses.py", "hycon/train.py"} <= found.keys()
    assert "unused.py" not in found
    written(tmp_path, "X = 2\n", "layers.py")
    assert changed(found, sources(path)) == ["layers.py"]


def test_a_model_file_is_hashed_as_it_was_read_whatever_stands_there_now(tmp_path, monkeypatch):
    """It is what runs. Nothing is written for it: a folder that a worker process makes would stay."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    written(tmp_path, "X = 1\n", "layers.py")
    parts = "class Model: ...\nclass Config: ...\nTRAINING = {}\nSEARCH_SPACE = {}\n"
    path = written(tmp_path, f"import layers\n{MODEL}{parts}", "my-own.py")
    file, before = read_model_file(path), sources(path)
    assert {"my-own.py", "layers.py", "hycon/train.py"} <= before.keys()
    assert sources(file) == before
    path.write_text(path.read_text().replace("0.5", "0.25"))
    assert sources(file) == before
    assert changed(before, sources(path)) == ["my-own.py"]
    path.unlink()
    assert sources(file) == before
    assert not list((tmp_path / "temporary").iterdir())


def test_it_imports_no_torch():
    code = "import sys; from hycon.source import sources; sources('hycon.model'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_changed_names_files_that_came_and_went():
    assert changed({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == ["b", "c", "d"]


def test_said():
    rows = {"TFN": ["tfn.py", "train.py"], "LMF": ["train.py"]}
    assert said(rows, "all rows") == "tfn.py (TFN), train.py (all rows)"
    assert said({**rows, "MFN": []}, "all rows") == "tfn.py (TFN), train.py (TFN, LMF)"
    many = {f"row {i}": [f"{j}.py" for j in range(6)] for i in range(8)}
    assert said(many).startswith("0.py (row 0, row 1, row 2, row 3, row 4, row 5 and 2 more), 1.py (")
    assert said(many).endswith(" and 2 more files")
    assert said({"TFN": []}) == ""
