"""Places to disturb a `bench` in, and what must hold afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sessions import FINAL, RUN, RUNS, Place

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def host() -> Iterator[subprocess.Popen]:
    path = os.pathsep.join([str(HERE.parent.parent), str(HERE)])
    process = subprocess.Popen(
        [sys.executable, HERE / "host.py"], stdin=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip
    yield process
    process.stdin.close()
    process.wait(20)


@dataclass(frozen=True)
class Undisturbed:
    place: Place
    seconds: float  # how long the command took
    table: str


@pytest.fixture(scope="session")
def undisturbed(host, tmp_path_factory) -> Undisturbed:
    """A place with the demo corpus and a finished run in `results`. Not to be written to."""
    place = Place(tmp_path_factory.mktemp("undisturbed"), host)
    (place.folder / "data").mkdir()
    place.faults()
    assert place.start("data", "synthesize").end() == 0
    began = time.monotonic()
    session = place.start(*RUN, *FINAL)
    assert session.end() == 0, session.text
    seconds = time.monotonic() - began
    assert set(place.executed().values()) == {1}
    assert len(place.records()) == RUNS
    assert place.hidden() == []
    return Undisturbed(place, seconds, session.text)


@pytest.fixture
def place(undisturbed, host, tmp_path) -> Place:
    """A place with the corpus and without results."""
    shutil.copytree(undisturbed.place.folder / "data", tmp_path / "data")
    made = Place(tmp_path, host)
    made.faults(sleep=0.02)
    return made


@pytest.fixture
def recovers(undisturbed):
    """recovers(place): the same command again ends well, with the table of an undisturbed one to the byte.

    said: what it says before the table.
    """

    def recovers(place: Place, said: str = "") -> None:
        kept = place.records()
        place.faults()
        session = place.start(*RUN, *FINAL)
        assert session.end() == 0, session.text
        assert session.text == said + undisturbed.table
        assert not place.executed().keys() & kept.keys()  # no finished run was lost or made again
        assert {run: place.records()[run] for run in kept} == kept
        # More are there where a failed trial let another one win for a while.
        assert place.records().keys() >= undisturbed.place.records().keys()
        assert place.hidden() == []
        for path in (undisturbed.place.folder / "results").glob("studies/*.json"):
            assert (place.folder / "results" / "studies" / path.name).read_bytes() == path.read_bytes()

    return recovers
