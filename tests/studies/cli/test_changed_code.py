"""Code that has changed under an old VERSION is said by every command that shows or uses its runs.

The suite is copied, and the copy's EF-LSTM edited: the runs of `finished` were made by the same files, unedited.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import BUDGET, places

ROOT = Path(__file__).resolve().parents[3]
FILE = "baselines/ef_lstm.py"
SAID = "CODE HAS CHANGED since these runs were made, and no VERSION was raised: baselines/ef_lstm.py (EF-LSTM-GloVe)"
REUSED = "stored runs that are used again were made by other code, and no VERSION was raised since: " + FILE


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    """A copy of the packages that may be edited."""
    folder = tmp_path_factory.mktemp("suite")
    for package in ("hycon", "baselines", "studies", "results/paper"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@contextlib.contextmanager
def edit(suite: Path, file: str, old: str, new: str):
    """One change in the copy, until the block ends."""
    text = (suite / file).read_text()
    assert old in text
    (suite / file).write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        (suite / file).write_text(text)


@pytest.fixture
def edited(suite):
    """The copy with another EF-LSTM, which computes the same."""
    with edit(suite, FILE, "VERSION = 2", "VERSION = 2\nEXTRA = 1"):
        yield suite


def bench(suite: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and all that is printed on one line, wherever lines were broken."""
    command = [sys.executable, "-m", "studies.cli", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(suite), "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=suite, env=environment)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_table_and_status_say_it_until_it_is_restored(suite, finished):
    shown = [("table", "table1", "--profile", "demo"), ("status", "table1", "--profile", "demo")]
    for command in shown:
        assert SAID not in bench(suite, *command, *places(finished))[1]
    with edit(suite, FILE, "VERSION = 2", "VERSION = 2\nEXTRA = 1"):
        for command in shown:
            code, out = bench(suite, *command, *places(finished))
            assert code == 0
            assert SAID in out
        _, out = bench(suite, *shown[0], "--format", "json", *places(finished))
        changed = {row["row"]: row["changed_code"] for row in json.loads(out)["rows"]}
        assert (changed["EF-LSTM-GloVe"], changed["HyCon-BERT"]) == ([FILE], [])
    assert SAID not in bench(suite, *shown[0], *places(finished))[1]


def test_better_wording_is_no_change(suite, finished):
    with edit(suite, FILE, '"""', '"""Reworded. '), edit(suite, FILE, "VERSION = 2", "# A comment.\n\nVERSION = 2"):
        assert SAID not in bench(suite, "table", "table1", "--profile", "demo", *places(finished))[1]


def test_code_of_all_models_names_all_rows(suite, finished):
    with edit(suite, "hycon/train.py", "PATIENCE = 20", "PATIENCE = 21"):
        _, out = bench(suite, "status", "table1", "--profile", "demo", *places(finished))
    assert "no VERSION was raised: hycon/train.py (all rows);" in out


def test_run_says_it_before_it_uses_stored_runs(edited, copy):
    code, out = bench(edited, "run", "table1", *BUDGET, "--seeds", "2", *places(copy))
    assert code == 0
    assert out.count(REUSED) == 1
    _, out = bench(edited, "run", "table1", *BUDGET, "--seeds", "2", "--dry-run", *places(copy))
    assert out.count(REUSED) == 1


def test_a_raised_version_is_another_run_and_no_change(suite, copy):
    with edit(suite, FILE, "VERSION = 2", "VERSION = 99\nEXTRA = 1"):
        _, out = bench(suite, "run", "table1", *BUDGET, "--seeds", "2", "--dry-run", *places(copy))
    assert REUSED not in out
    assert "4 runs" in out


def test_verify_and_show_say_it(edited, finished):
    _, out = bench(edited, "show", "table1", "EF-LSTM-GloVe", "--profile", "demo", "--json", *places(finished))
    run = json.loads(out)["runs"][0]["id"]
    _, out = bench(edited, "show", run, *places(finished))
    assert f"changed since, with VERSION as it was: {FILE}" in out
    code, out = bench(edited, "verify", run, "--executor", "inline", "--quiet", *places(finished))
    assert code == 0
    assert "identical" in out
    assert f"code has changed since the run, and VERSION is still 2: {FILE}; the numbers have not moved" in out
