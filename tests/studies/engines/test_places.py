"""Places where workers cannot be started, or nothing can be put aside: one sentence."""

import os
import subprocess
import sys

import pytest

from hycon.errors import UserError
from studies.trust.verify import scratch_folder

CODE = """
from fake_execute import spec
from hycon.errors import UserError
from studies.engines.run import run
from studies.store.run_store import RunStore
import sys
try:
    store = RunStore(sys.argv[1])
    run([spec(0)], store, execute="fake_execute:execute", data_root=sys.argv[1], preload=())
except UserError as error:
    print(error)
"""


def test_a_tmpdir_too_long_for_a_socket(tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    environment = {**os.environ, "TMPDIR": str(long), "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "results")],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.stderr == ""
    assert ended.stdout.startswith("Workers cannot be started (AF_UNIX path too long): set TMPDIR to a short path")


def test_no_place_for_scratch(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(UserError, match="No scratch folder can be made"), scratch_folder():
        pass
