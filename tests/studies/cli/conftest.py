"""A folder after a small run of the demo."""

import shutil
from pathlib import Path

import pytest
from commands import RUN, places

from studies.cli import main


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder with `data` and `results` after a small run of two rows. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    assert main([*RUN, *places(folder), "--executor", "inline"]) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"
