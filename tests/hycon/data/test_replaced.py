"""A corpus that is imported anew while it is read, or by a process that is killed between its two renames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hycon.data import Utterance, convert, corpus, load, read_manifest
from hycon.data.corpus import read_arrays
from hycon.data.manifest import corpus_names
from hycon.errors import UserError

SPLITS = ("train", "valid", "test")


def write(root: Path, value: float, name: str = "own"):
    rows = np.full((2, 3), value, np.float32)
    splits = {s: [Utterance(f"{s}_0", 1.0, rows, rows, ["a", "b"])] for s in SPLITS}
    return convert(name, splits, source={"file": str(value)}, root=root)


def taken_over(monkeypatch, root: Path, times: int) -> None:
    """After the files have been hashed, and before they are opened, another corpus takes their place."""
    check, left = corpus.check_files, list(range(times))

    def check_files(folder, manifest):
        check(folder, manifest)
        if left:
            write(root, 10.0 + left.pop())

    monkeypatch.setattr(corpus, "check_files", check_files)


def test_manifest_and_data_are_of_one_corpus(root: Path, monkeypatch) -> None:
    write(root, 1.0)
    taken_over(monkeypatch, root, 2)
    found = load("own", root)
    assert found.manifest == read_manifest("own", root)
    assert found.splits["train"].audio.rows[0, 0] == 10.0
    taken_over(monkeypatch, root, 2)
    manifest, arrays = read_arrays("own", root)
    assert manifest.source["file"] == "10.0"
    assert arrays["train.audio.rows"][0, 0] == 10.0


def test_imports_without_end_are_one_sentence(root: Path, monkeypatch) -> None:
    write(root, 1.0)
    taken_over(monkeypatch, root, 99)
    with pytest.raises(UserError, match="was imported again each time that it was read"):
        load("own", root)


def test_a_corpus_that_is_away_for_an_instant_is_awaited(root: Path, monkeypatch) -> None:
    write(root, 1.0)
    beside = root / ".own.0000"
    beside.mkdir()
    os.rename(root / "own", beside / "old")
    sleep = time.sleep

    def arrives(seconds):
        write(root, 2.0)
        sleep(seconds)

    monkeypatch.setattr(corpus.time, "sleep", arrives)
    assert load("own", root).splits["train"].audio.rows[0, 0] == 2.0


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_replaced
rename = os.rename

def killed(source, target):
    if Path(target).name == "own":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.rename = killed
test_replaced.write(Path({root!r}), 2.0)
"""


@pytest.mark.parametrize("command", ["read", "list", "import", "import another"])
def test_an_import_that_is_killed_leaves_the_earlier_corpus(root: Path, command: str) -> None:
    before = write(root, 1.0)
    code = KILLED.format(tests=str(Path(__file__).parent), root=str(root))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not (root / "own").exists()
    if command == "read":
        assert read_manifest("own", root) == before
    elif command == "list":
        assert corpus_names(root) == ["own"]
    elif command == "import":
        write(root, 3.0)
    else:
        write(root, 3.0, "other")
    assert load("own", root).splits["train"].audio.rows[0, 0] == (3.0 if command == "import" else 1.0)
    write(root, 4.0, "another")
    assert not list(root.glob(".*"))


def test_what_another_machine_left_is_put_back_after_a_while(root: Path) -> None:
    before = write(root, 1.0)
    beside = root / ".own.k3x9abcd"
    beside.mkdir()
    os.rename(root / "own", beside / "old")
    with pytest.raises(UserError, match="No corpus 'own'"):
        read_manifest("own", root)
    os.utime(beside, (time.time() - 120, time.time() - 120))
    assert read_manifest("own", root) == before
    os.rename(root / "own", root / "gone")
    assert corpus_names(root) == ["gone"]  # an empty folder is not taken for one
