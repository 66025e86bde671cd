"""What can happen to a machine, a disk, a folder or a training while `bench run` works; then the same command again."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sessions import RUN, RUNS, Place, wait_for

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")


def test_misbehaving_trainings(place, recovers):
    """One that raises, one that returns NaN, one that hangs, one that is killed."""
    place.faults(**{"2": "raise", "4": "nan", "7": "hang", "9": "kill"})
    session = place.start(*RUN, "--time-limit", "4")
    assert session.end() == 1
    for reason in ("RuntimeError: mat1", "non-finite loss at epoch 2, step 5", "time limit of 4 s"):
        assert len([line for line in session.text.splitlines() if line.startswith("failed") and reason in line]) == 1
        assert (
            len([line for line in session.text.splitlines() if line.startswith("bench: run ") and reason in line]) == 1
        )
    assert session.text.count("killed by signal 9 (out of memory?)") == 1
    assert "retry" in session.text
    recovers(place)


def test_out_of_memory_beside_another_run_and_alone(place, recovers):
    """Beside another it is tried again, one at a time from there on; the second lack of memory is a failure."""
    place.faults(**{"sleep": 0.3, "1": "memory", "5": "memory"})
    session = place.start(*RUN, "--slots", "2")
    assert session.end() == 1
    told = [line for line in session.text.splitlines() if "out of memory: " in line and "MemoryError" in line]
    assert [line.split()[0] for line in told[:2]] == ["retry", "failed"]
    assert "; 1 other ran beside it, from here on at most 1 at a time" in told[0]
    assert "; nothing ran beside it" in told[1]
    assert told[-1].startswith("bench: run ")
    failed = {run: json.loads(content)["failures"] for run, content in place.records().items()}
    assert [len(reasons) for reasons in failed.values() if reasons] == [1]
    recovers(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_cancel_the_queue(place, recovers, number):
    place.faults(**{"sleep": 0.02, "5": "hang", "6": "hang"})
    session = place.start(*RUN)
    wait_for(lambda: len(place.workers()) == 6)
    time.sleep(0.3)
    os.killpg(session.pid, number)
    assert session.end() == 130
    assert session.text.endswith("the same command goes on from here.\n")
    assert len(place.records()) == 4
    assert place.hidden() == []
    recovers(place)


def test_two_drivers_on_the_same_table(undisturbed, place, recovers):
    sessions = [place.start(*RUN, "--quiet", "--format", "json") for _ in range(2)]
    assert [session.end() for session in sessions] == [0, 0]
    assert [session.text for session in sessions] == [undisturbed.table] * 2
    assert len(place.executed()) == RUNS
    assert set(place.executed().values()) == {1}
    recovers(place)


def test_the_results_folder_is_deleted_under_way(place, recovers):
    """Not a table from the trials that are left: the command ends and says why."""
    session = place.start(*RUN)
    wait_for(lambda: len(place.records()) >= 4)
    shutil.move(place.folder / "results", place.folder / "moved")
    assert session.end() == 2, session.text
    assert session.text.splitlines()[-1].startswith("bench: ")
    assert "Acc7" not in session.text
    recovers(place)


def small_disk(place: Place, kib: int) -> None:
    results = place.folder / "results"
    results.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", results], capture_output=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")


def remount(place: Place, options: str) -> None:
    """As soon as nobody has a file open for writing there."""
    command = ["mount", "-o", f"remount,{options}", str(place.folder / "results")]
    wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0)


@root_only
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_disk_that_is_full_or_read_only_in_mid_run(place, recovers, kind):
    small_disk(place, 200 if kind == "full" else 8000)
    try:
        session = place.start(*RUN)
        if kind == "read-only":
            wait_for(lambda: len(place.records()) >= 3)
            remount(place, "ro")
        assert session.end() == 2, session.text
        last = session.text.splitlines()[-1]
        assert last.startswith("bench: Cannot write")
        assert "Traceback" not in session.text
        assert ("No space left" if kind == "full" else "Read-only file system") in last
        assert len(place.records()) < RUNS
        remount(place, "rw,size=8000k")
        recovers(place)
    finally:
        subprocess.run(["umount", "-l", place.folder / "results"], check=True)


@pytest.mark.parametrize("jump", [-400_000_000, 400_000_000])
def test_clocks_that_jump(place, recovers, jump):
    """Everything there is dated years ahead or back, beside the leases of a killed driver and of a dead machine."""
    session = place.start(*RUN)
    wait_for(lambda: len(place.records()) >= 3)
    os.killpg(session.pid, signal.SIGKILL)
    session.end()
    for path in (place.folder / "results").rglob("*"):
        os.utime(path, (time.time() + jump,) * 2, follow_symlinks=False)
    recovers(place)


def first(place: Place, file: str) -> Path:
    return sorted((place.folder / "results" / "runs").glob(f"*/{file}"))[0]


@pytest.mark.parametrize("file", ["record.json", "predictions.npz"])
@pytest.mark.parametrize("harm", ["truncated", "flipped"])
def test_a_damaged_file_is_found_told_and_made_again(undisturbed, place, recovers, file, harm):
    shutil.copytree(undisturbed.place.folder / "results", place.folder / "results")
    path = first(place, file)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if harm == "truncated" else b"{" + content[1:-4] + b"\0\0\0\0")
    intact = {run: kept for run, kept in place.records().items() if run != path.parent.name}
    session = place.start(*RUN, "--quiet", "--format", "json")
    assert session.end() == 0
    said, table = session.text.split("\n", 1)
    assert said.startswith("bench: ")
    assert path.parent.name in said
    assert "quarantine" in said
    assert table == undisturbed.table
    assert list(place.executed()) == [path.parent.name]
    assert path.read_bytes() == content
    assert place.records().items() >= intact.items()
    assert (place.folder / "results" / "quarantine" / "runs" / path.parent.name / file).exists()
    recovers(place)


def test_a_published_folder_without_predictions_is_not_made_again(undisturbed, place, recovers):
    shutil.copytree(undisturbed.place.folder / "results", place.folder / "results")
    for path in (place.folder / "results" / "runs").glob("*/predictions.npz"):
        path.unlink()
    recovers(place)
    assert not place.executed()


def test_a_byte_of_the_corpus_is_corrupted(place, recovers):
    corpus = place.folder / "data" / "synthetic" / "corpus.safetensors"
    content = corpus.read_bytes()
    corpus.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    session = place.start(*RUN)
    assert session.end() == 2
    assert "does not have the sha256 of its manifest" in session.text
    assert session.text.count("\n") == 1
    assert not (place.folder / "results").exists()
    corpus.write_bytes(content)
    recovers(place)


def test_a_lost_record_changes_no_winner_silently(undisturbed, place, recovers):
    """A finished study whose winner is gone: chosen again from all trials, not from those that are left."""
    shutil.copytree(undisturbed.place.folder / "results", place.folder / "results")
    study = json.loads(sorted((place.folder / "results" / "studies").glob("*.json"))[0].read_text())
    shutil.rmtree(place.folder / "results" / "runs" / study["trials"][study["selected"]])
    recovers(place)
    assert len(place.executed()) == 1
