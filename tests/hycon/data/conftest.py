"""Where the tests of corpora write."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def write_pickle(tmp_path: Path):
    def write(content: Any, name: str = "corpus.pkl", protocol: int = 4) -> Path:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return write
