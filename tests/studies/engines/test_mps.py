"""MPS for the time of a command, by a daemon of our own that ends with it; the daemon here is a script."""

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import bench, places
from fake_execute import pids, spec
from waiting import wait_for

from hycon.errors import UserError
from studies.cli.training import gpus_shared
from studies.engines import mps
from studies.engines.mps import Unavailable, daemon, shared, sharing
from studies.engines.options import How
from studies.engines.workers import kill_forkserver

ROOT = Path(__file__).resolve().parents[3]
# Notes its arguments, its input and its folder of pipes; with -d it "runs" as long as that folder has a file `running`
SCRIPT = """#!/bin/sh
folder="${CUDA_MPS_PIPE_DIRECTORY:-@HERE@/default}"
if [ "$1" = -d ]; then said=-d; else said=$(cat); fi
echo "$said $folder" >> @HERE@/told
case "$said" in
-d)
    sleep $(cat @HERE@/slow 2>/dev/null || echo 0)
    [ -e @HERE@/broken ] && exit 1
    touch "$folder/control" "$folder/running" ;;
quit) rm -f "$folder/running" ;;
*) [ -e "$folder/running" ] || exit 1; echo 1234 ;;
esac
"""
COMMAND = """
import sys, time
from studies.cli.training import gpus_shared
from studies.engines import mps
mps.PROBE = "raise SystemExit(0)"
with mps.sharing(["cuda:0"], 4, 4) as why:
    print(why, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """The script on the PATH; gives what it was told, as (what, folder)."""
    script = tmp_path / "bin" / mps.CONTROL
    script.parent.mkdir()
    script.write_text(SCRIPT.replace("@HERE@", str(tmp_path)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.delenv(mps.PIPES, raising=False)
    monkeypatch.delenv(mps.VISIBLE, raising=False)
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(0)")

    def told():
        path = tmp_path / "told"
        return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []

    return told


def ended(control):
    wait_for(lambda: control()[-1][0] == "quit", seconds=5)
    folder = control()[-1][1]
    wait_for(lambda: not Path(folder).exists(), seconds=5)
    return folder


@pytest.mark.parametrize(
    "devices, slots, workers, expected",
    [
        (["cuda:0"], 4, 4, True),
        (["cuda:0"], 4, 1, False),
        (["cuda:0", "cuda:1"], 1, 2, False),
        (["cuda:0", "cuda:0"], 1, 2, True),
        (["cuda:0", "cuda:1"], None, 2, False),
        (["cuda:0", "cuda:1"], None, 3, True),
        (["cuda:0"], "auto", 8, True),
        (["cpu"], 4, 4, False),
        ([], 4, 4, False),
    ],
)
def test_where_several_share_a_gpu(devices, slots, workers, expected):
    assert shared(devices, slots, workers) is expected


def test_a_daemon_of_our_own_for_the_time_of_a_block(control):
    with sharing(["cuda:0"], 4, 4) as why:
        assert why is None
        folder = os.environ[mps.PIPES]
        assert len(folder) < 80  # "/control_privileged.sock" and more go behind it; 107 characters are allowed
        assert Path(folder, "running").exists()
    assert mps.PIPES not in os.environ
    assert ended(control) == folder
    assert [what for what, _ in control()] == ["-d", "quit"]


def test_a_daemon_that_has_ended_is_replaced_by_one_of_our_own(control, tmp_path, monkeypatch):
    (tmp_path / "default").mkdir()
    (tmp_path / "default/control").touch()
    monkeypatch.setenv(mps.PIPES, str(tmp_path / "default"))
    with sharing(["cuda:0"], 4, 4):
        assert os.environ[mps.PIPES] != str(tmp_path / "default")
    assert os.environ[mps.PIPES] == str(tmp_path / "default")


@pytest.mark.parametrize("default", [True, False])
def test_one_that_runs_already_is_left_alone(control, tmp_path, monkeypatch, default):
    theirs = tmp_path / "default"
    theirs.mkdir()
    (theirs / "running").touch()
    (theirs / "control").touch()
    if default:
        monkeypatch.setattr(mps, "DEFAULT", str(theirs))
    else:
        monkeypatch.setenv(mps.PIPES, str(theirs))
    with sharing(["cuda:0"], 4, 4) as why:
        assert why is None
        assert os.environ.get(mps.PIPES) == (None if default else str(theirs))
    assert [what for what, _ in control()] == ["get_server_list"]


def test_no_daemon_where_none_is_wanted_or_of_use(control):
    with sharing(["cuda:0"], 4, 4, "no"), sharing(["cpu"], 4, 4), sharing(["cuda:0"], 1, 1):
        assert mps.PIPES not in os.environ
    assert control() == []


def test_a_daemon_that_does_not_start_is_told_and_done_without(control, tmp_path):
    (tmp_path / "broken").touch()
    with sharing(["cuda:0"], 4, 4) as why:
        assert why == "its daemon ended with exit code 1"
        assert mps.PIPES not in os.environ
    ended(control)  # the folder too


@pytest.mark.parametrize("executor, told", [("local", True), ("slurm", False), ("inline", False)])
def test_a_command_says_once_why_it_does_without(control, tmp_path, capsys, executor, told):
    (tmp_path / "broken").touch()
    options = argparse.Namespace(mps="auto", quiet=False)
    with gpus_shared(options, How(executor=executor, workers=4, devices=("cuda:0",), slots=4)):
        pass
    note = "bench: without MPS, which lets runs share a GPU better: its daemon ended with exit code 1\n"
    assert capsys.readouterr().err == (note if told else "")


@pytest.mark.parametrize(
    "command, several",
    [
        (["run", "table4", "--profile", "demo", "--slots", "4"], True),
        (["run", "table8", "--profile", "demo", "--slots", "4"], False),  # what is timed has the machine for itself
        (["worker", "--slots", "4"], True),
        (["worker", "--slots", "4", "--once"], False),
    ],
)
def test_whether_a_command_does_several_runs_at_a_time(command, several, tmp_path, capsys, monkeypatch):
    asked = []

    def noted(options, how):
        asked.append(shared(["cuda:0"], how.slots, how.workers))
        raise UserError("that is enough")

    (tmp_path / "results").mkdir()
    monkeypatch.setattr(f"studies.cli.{command[0]}.gpus_shared", noted)
    assert bench(capsys, *command, *places(tmp_path))[0] == 2
    assert asked == [several]


def test_where_cuda_refuses_it_no_run_uses_it(control, monkeypatch):
    """As in containers that share no memory between processes."""
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(1)")
    with sharing(["cuda:0"], 4, 4) as why:
        assert why == "a process that uses it can make no context; it has no log"
        assert mps.PIPES not in os.environ
    ended(control)


@pytest.mark.parametrize(
    "names, serve", [("", True), ("0", True), ("0,1", True), ("GPU-8f2e", True), ("1", False), ("1,0", False)]
)
def test_numbers_that_mps_would_count_anew(control, monkeypatch, names, serve):
    monkeypatch.setenv(mps.VISIBLE, names)
    if serve:
        with daemon():
            pass
    else:
        with pytest.raises(Unavailable, match="name them by UUID"), daemon():
            pass
        assert control() == []


@pytest.fixture
def command():
    """Starts COMMAND in a group of its own, as a terminal does."""
    started = []

    def command():
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_ends_however_the_command_ends(control, command, number):
    process = command()
    assert process.stdout.readline() == "None\n"
    assert Path(control()[-1][1], "running").exists()
    os.killpg(process.pid, number)
    process.communicate(timeout=10)
    ended(control)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_daemon_that_was_starting_when_the_command_ended_ends_too(control, command, number, tmp_path):
    (tmp_path / "slow").write_text("1")
    process = command()
    wait_for(control)
    os.killpg(process.pid, number)
    process.communicate(timeout=10)
    ended(control)


def test_a_daemon_that_takes_too_long_to_start_is_done_without(control, tmp_path, monkeypatch):
    monkeypatch.setattr(mps, "START", 0.2)
    (tmp_path / "slow").write_text("2")
    with sharing(["cuda:0"], 4, 4) as why:
        assert why == "its daemon does not start in 0.2 s"
    ended(control)


@pytest.mark.parametrize("ours", [True, False])
def test_a_run_over_its_time_is_ended_by_mps_first(control, go, tmp_path, monkeypatch, ours):
    """Also by a daemon of the machine's, which no variable names."""
    theirs = tmp_path / "default"
    monkeypatch.setattr(mps, "DEFAULT", str(theirs))
    if not ours:
        theirs.mkdir()
        (theirs / "control").touch()
        (theirs / "running").touch()
    stuck = dataclasses.replace(spec(0, hangs=1), device="cuda")
    with sharing(["cuda:0"], 2, 2):
        assert (mps.PIPES in os.environ) is ours
        assert len(go([stuck], devices=("cuda:0",), slots=2, time_limit=1.0).failed) == 1
    (pid,) = pids(tmp_path)
    asked = (tmp_path / "told").read_text()
    assert f"terminate_client 1234 {pid} " in asked


@pytest.mark.parametrize("first", [True, False])
def test_workers_are_told_of_it_and_of_its_end(control, go, runs, first):
    """Whether the fork server was started before, or under a daemon that has ended since."""
    specs = [dataclasses.replace(spec(n + 10 * first, asks=mps.PIPES), device="cuda") for n in range(6)]

    def told(*chosen):
        go(chosen, devices=("cuda:0",), slots=2)
        return {(runs.folder(s.id) / "log.txt").read_text().split()[0] for s in chosen}

    if first:
        assert told(specs[0]) == {"None"}
    else:
        kill_forkserver()
    with sharing(["cuda:0"], 2, 2):
        assert told(*specs[1:4]) == {os.environ[mps.PIPES]}
    assert told(*specs[4:]) == {"None"}
