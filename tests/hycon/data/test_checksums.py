"""The files of a corpus are read once for a command and its processes, and again where one was written to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hycon.data import checksums, load
from hycon.data.checksums import KEPT, SETTLED
from hycon.data.importers.synthetic import synthesize
from hycon.errors import UserError

FILES = ["corpus.safetensors", "vectors.safetensors"]


@pytest.fixture
def read(root: Path, monkeypatch) -> list[str]:
    """The names of the files whose checksum was made, of a corpus that was not written just now."""
    synthesize("tiny", root, sizes={"train": 4, "valid": 2, "test": 2})
    time.sleep(2 * SETTLED)
    monkeypatch.setenv(KEPT, "{}")
    found: list[str] = []
    plain = checksums.sha256_file
    monkeypatch.setattr(checksums, "sha256_file", lambda path: found.append(path.name) or plain(path))
    return found


def test_each_file_is_read_once(root, read):
    for _ in range(3):
        load("tiny", root)
    assert read == FILES


def test_another_process_does_not_read_them_again(root, read):
    load("tiny", root)
    code = (
        "import sys; from hycon.data import checksums, load\n"
        "def refuse(path): sys.exit(f'read {path}')\n"
        "checksums.sha256_file = refuse\n"
        "load('tiny', sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, root], check=True)


def test_a_changed_file_is_noticed(root, read):
    load("tiny", root)
    path = root / "tiny" / FILES[0]
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # size and time of change as before
    with pytest.raises(UserError, match=r"does not have the sha256 of its manifest"):
        load("tiny", root)


def test_a_file_that_is_replaced_by_its_copy_is_read_again(root, read):
    load("tiny", root)
    path = root / "tiny" / FILES[1]
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)
    load("tiny", root)
    assert read == [*FILES, FILES[1]]


def test_what_was_written_just_now_is_not_trusted(root, monkeypatch):
    """A second write within the same tick of the file system's clock could not be told from the first."""
    monkeypatch.setenv(KEPT, "{}")
    monkeypatch.setattr(checksums, "SETTLED", 60.0)
    synthesize("tiny", root, sizes={"train": 4, "valid": 2, "test": 2})
    load("tiny", root)
    assert os.environ[KEPT] == "{}"


@pytest.mark.parametrize("kept", ["", "[]", "no JSON"])
def test_a_damaged_variable_is_ignored(root, read, monkeypatch, kept):
    monkeypatch.setenv(KEPT, kept)
    load("tiny", root)
    load("tiny", root)
    assert read == FILES
