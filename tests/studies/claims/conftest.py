"""Runs of known truth."""

from __future__ import annotations

import pytest
from builders import fill_signs
from claim_cases import FULL, IAMCL, ROWS, SCL

from studies.store.run_store import RunStore


@pytest.fixture
def store(tmp_path) -> RunStore:
    """HyCon misses 3 or 4 of 60, without IAMCL 24 or 25, without SCL 4 or 3: eight paired seeds each."""
    store = RunStore(tmp_path / "results")
    fill_signs(store, ROWS[FULL], [3, 4] * 4)
    fill_signs(store, ROWS[IAMCL], [24, 25] * 4)
    fill_signs(store, ROWS[SCL], [4, 3] * 4)
    return store
