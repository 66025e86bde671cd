"""The commit in a record: that of the checkout, which nothing is written into."""

import os
import shutil
import subprocess

import pytest

from studies.engines import one_run

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(one_run, "source_root", lambda: tmp_path)
    (tmp_path / "code.py").write_text("1\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "code.py"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    return tmp_path


def test_a_plus_says_that_tracked_files_differ(checkout):
    commit = one_run.commit.__wrapped__
    (checkout / "other.txt").write_text("not tracked")
    clean = commit()
    assert len(clean) == 40
    (checkout / "code.py").write_text("2\n")
    assert commit() == f"{clean}+"
    shutil.rmtree(checkout / ".git")
    assert commit() is None


def test_the_checkout_is_not_locked(checkout):
    """`git describe --dirty` writes the index: killed meanwhile, it left a lock, and git refused the user's commits."""
    os.utime(checkout / "code.py", (1, 1))  # the index has another time of it
    before = (checkout / ".git/index").read_bytes()
    (checkout / ".git/index.lock").touch()
    assert one_run.commit.__wrapped__()
    (checkout / ".git/index.lock").unlink()
    assert one_run.commit.__wrapped__()
    assert (checkout / ".git/index").read_bytes() == before
