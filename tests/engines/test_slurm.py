"""The engine slurm on a real Slurm: bash tests/engines/setup.sh start FOLDER; export SLURM_CONF=FOLDER/slurm.conf."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from fake_execute import executed, spec
from waiting import wait_for as wait

from hycon.errors import UserError
from studies.engines import slurm
from studies.engines.options import Cluster
from studies.engines.run import run
from studies.store.database import storage_of
from studies.store.leases import MARK
from studies.store.run_store import RunStore

wait_for = partial(wait, seconds=60.0)
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

pytest.importorskip("submitit", reason="needs the extra slurm")
if shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
    pytest.skip("needs a Slurm: bash tests/engines/setup.sh start FOLDER", allow_module_level=True)
pytestmark = pytest.mark.engines

DRIVER = """
import sys
from fake_execute import spec
from studies.engines import slurm
from studies.engines.options import Cluster
from studies.engines.run import run
from studies.store.run_store import RunStore

slurm.POLL = 0.5
if __name__ == "__main__":
    run(eval(sys.argv[2]), RunStore(sys.argv[1] + "/results"), executor="slurm", workers=2, data_root=sys.argv[1],
        execute="fake_execute:execute", preload=(), cluster=Cluster(time=int(sys.argv[3])))
"""


@pytest.fixture(autouse=True)
def paths(monkeypatch, tmp_path):
    """Jobs inherit the environment of whoever submits them."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(slurm, "POLL", 0.5)
    yield
    subprocess.run(["scancel", "--name", slurm.job_name(RunStore(tmp_path / "results"))], check=True)


@pytest.fixture
def go(runs, tmp_path):
    def go(specs, cluster=None, **more):
        options = {"workers": 2, "execute": "fake_execute:execute", "data_root": tmp_path, "preload": (), **more}
        return run(specs, runs, executor="slurm", cluster=cluster or Cluster(time=5), **options)

    return go


@pytest.fixture
def start_driver(tmp_path):
    """A function that starts one; those that still run at the end of the test are killed."""
    drivers = []

    def start(specs, minutes=5):
        script = tmp_path / "driver.py"
        script.write_text(DRIVER)
        command = [sys.executable, script, tmp_path, specs, str(minutes)]
        drivers.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.kill()
        driver.wait()
        driver.stderr.close()


def logs(runs):
    return "\n".join(path.read_text() for path in sorted((runs.root / "slurm").glob("*.[oe]*")))


def test_jobs_do_the_runs_and_failures_are_told(go, runs, tmp_path):
    specs = [spec(n, diverges=int(n == 3)) for n in range(6)]
    summary = go(specs)
    assert len(summary.done) == 5, logs(runs)
    assert summary.failed == [(specs[3], "non-finite loss at epoch 3, step 17")]
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)
    assert list((runs.root / "queue").iterdir()) == list((runs.root / "leases").iterdir()) == []


# Jobs of one minute, workers of half of that, and 16 runs of 5 s for two of them: more than one generation.
LONG = "[spec(n, sleep=5) for n in range(16)]"


@pytest.fixture
def submitted(monkeypatch):
    """How many jobs the driver of this process submitted, each time."""
    counts = []
    submit = slurm._submit
    monkeypatch.setattr(slurm, "_submit", lambda e, count, *rest: (counts.append(count), submit(e, count, *rest)))
    return counts


def test_workers_that_reach_their_time_limit_requeue_themselves(go, runs, tmp_path, submitted):
    specs = eval(LONG)
    summary = go(specs, Cluster(time=1))
    assert len(summary.done) == 16, logs(runs)
    assert submitted == [2]  # those that wait to start again count as alive
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)


def test_they_go_on_when_the_driver_is_dead(runs, tmp_path, start_driver):
    specs = eval(LONG)
    driver = start_driver(LONG, minutes=1)
    wait_for(lambda: executed(tmp_path))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not all(runs.has(s.id) for s in specs)
    wait_for(lambda: all(runs.has(s.id) for s in specs), seconds=240)
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)
    assert re.findall(r"^requeued \d+_\d", logs(runs), re.MULTILINE)
    wait_for(lambda: list((runs.root / "queue").iterdir()) == [])


def test_workers_that_may_not_requeue_are_replaced(go, runs, tmp_path, submitted):
    specs = eval(LONG)
    summary = go(specs, Cluster(time=1, sbatch={"no-requeue": True}))
    assert len(summary.done) == 16, logs(runs)
    assert sum(submitted) > 2
    assert "not requeued: scontrol failed" in logs(runs)
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)


def test_a_time_limit_that_cuts_workers_loses_nothing(go, runs, tmp_path, submitted):
    """Workers that believe in 5 minutes and are killed by Slurm after one, in mid-run."""
    specs = [spec(n, sleep=50) for n in range(4)]  # the limit is looked at every 30 s: the second of each is cut
    cut = Cluster(time=5, setup=["unset SLURM_JOB_END_TIME"], sbatch={"time": 1})
    summary = go(specs, cut)
    assert {s.id for s in summary.done} == {s.id for s in specs}, logs(runs)
    assert "DUE TO TIME LIMIT" in logs(runs)
    assert sum(submitted) > 2
    assert list(runs.failures()) == list((runs.root / "leases").iterdir()) == []


def test_a_run_over_its_own_time_limit_is_stopped(go, runs, tmp_path):
    stuck = spec(0, hangs=1)
    summary = go([stuck, spec(1)], time_limit=15)
    assert (summary.done, summary.failed) == ([spec(1)], [(stuck, "stopped: over the time limit of 15 s")]), logs(runs)


def test_a_job_that_is_killed_in_mid_run_loses_nothing(runs, tmp_path, start_driver):
    driver = start_driver("[spec(n, sleep=2) for n in range(4)]")
    wait_for(lambda: executed(tmp_path))
    subprocess.run(["scancel", "--signal=KILL", "--full", "--name", slurm.job_name(runs)], check=True)
    assert driver.wait(timeout=120) == 0, driver.stderr.read()
    assert all(runs.has(spec(n, sleep=2).id) for n in range(4))
    assert list(runs.failures()) == []


def test_a_driver_that_is_killed_and_issued_again_shares_the_jobs(go, runs, tmp_path, start_driver):
    specs = [spec(n, sleep=1.5) for n in range(8)]
    driver = start_driver("[spec(n, sleep=1.5) for n in range(8)]")
    wait_for(lambda: len(executed(tmp_path)) >= 2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    summary = go(specs)
    assert len(summary.done) + len(summary.skipped) == 8
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)


def test_interrupting_the_driver_cancels_its_jobs(runs, tmp_path, start_driver):
    driver = start_driver("[spec(n, sleep=60) for n in range(4)]")
    wait_for(lambda: len(executed(tmp_path)) == 2)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=20) != 0
    wait_for(lambda: slurm.jobs(slurm.job_name(runs)) == [])
    wait_for(lambda: list((runs.root / "leases").iterdir()) == [])
    assert list((runs.root / "queue").iterdir()) == list(runs.failures()) == []


@pytest.mark.skipif("BENCH_TEST_POSTGRES" not in os.environ, reason="needs PostgreSQL: setup.sh starts it, too")
def test_jobs_find_the_leases_in_a_database_and_no_file_its_password(tmp_path):
    storage = storage_of(os.environ["BENCH_TEST_POSTGRES"])
    runs = RunStore(tmp_path / "results", storage=storage)
    specs = [spec(n) for n in range(6)]
    options = {"executor": "slurm", "workers": 2, "execute": "fake_execute:execute", "preload": ()}
    summary = run(specs, runs, data_root=tmp_path, cluster=Cluster(time=5), **options)
    assert len(summary.done) == 6, logs(runs)
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)
    assert [path.name for path in (runs.root / "leases").iterdir()] == [MARK]
    for path in runs.root.rglob("*"):
        assert path.is_dir() or storage.password.encode() not in path.read_bytes()


def test_an_option_that_slurm_refuses_is_a_sentence(go):
    with pytest.raises(UserError, match=r"Slurm did not take the workers: .*[Pp]artition"):
        go([spec(0)], Cluster(partition="nosuch"))
