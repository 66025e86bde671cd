"""Stores whose leases are in a real PostgreSQL."""

import os

import pytest
from postgres_server import HERE, URL

from studies.store import database as storage_module
from studies.store.database import Storage, storage_of
from studies.store.run_store import RunStore


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(storage_module, "PAUSE", 0.1)


@pytest.fixture
def database() -> Storage:
    found = storage_of(URL)
    assert found is not None
    return found


@pytest.fixture
def runs(tmp_path, database):
    return RunStore(tmp_path / "results", storage=database)
