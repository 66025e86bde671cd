"""Options of clusters, and the engines slurm and ray without a Slurm or a Ray: what they ask for, their mistakes."""

import sys
import types
from types import SimpleNamespace

import pytest
from fake_execute import executed, spec

from hycon.errors import UserError
from studies.cli import main
from studies.engines import queue, ray, slurm
from studies.engines.backlog import Backlog, Summary
from studies.engines.options import Cluster, How, gpus_amiss, read_cluster
from studies.engines.queue_worker import Limits, work
from studies.engines.run import run
from studies.store.run_store import RunStore

FILE = """
partition = "gpu"
time = 120
gpus = 2
python = "apptainer exec --nv suite.sif python3"
setup = ["module load cuda"]

[sbatch]
reservation = "night"
"""


def how(**cluster):
    return How(workers=4, execute="fake_execute:execute", data_root="/data", cluster=Cluster(**cluster))


# ------------------------------------------------------------------------------------------------ options


def test_a_dry_run_shows_what_slurm_is_asked_for(tmp_path, capsys):
    (tmp_path / "lab.toml").write_text(FILE)
    where = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    command = ["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", *where, "--dry-run"]
    asked = ["--executor", "slurm", "--workers", "16", "--cluster", str(tmp_path / "lab.toml")]
    assert main([*command, *asked]) == 0
    out = capsys.readouterr().out
    assert "Slurm: up to 16 jobs at a time, each a worker, submitted with" in out
    given = "--time=120 --cpus-per-task=1 --gpus-per-node=2 --partition=gpu --reservation=night --requeue"
    assert given in out
    assert "Before a worker starts:\n  module load cuda\n" in out
    assert not (tmp_path / "results" / "slurm").exists()
    assert main([*command, *asked, "--slots", "3"]) == 0
    assert "each a worker (3 runs on each device), submitted with" in capsys.readouterr().out
    assert main(command) == 0
    assert "Slurm" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, said",
    [
        (["--cluster-set", "gpus=1"], "bench: workers ask for a GPU, but the runs are for cpu"),
        (["--devices", "cuda"], "bench: the runs are for GPUs, but no worker asks for one"),
        (["--devices", "cuda", "--cluster-set", "gpus=1"], ""),
        ([], ""),
    ],
)
@pytest.mark.parametrize("executor", ["slurm", "ray"])
def test_gpus_that_no_run_uses_and_runs_without_one_are_told(tmp_path, capsys, executor, options, said):
    where = ["--data", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    command = ["run", "table1", "--profile", "demo", "--rows", "EF-LSTM-GloVe", *where, "--dry-run"]
    assert main([*command, "--executor", executor, *options]) == 0
    err = capsys.readouterr().err
    assert said in err
    assert ("GPU" in err) == bool(said)


def test_gpus_may_be_asked_for_in_words_of_sbatch():
    asked = Cluster(sbatch={"gres": "gpu:a100:1"})
    assert gpus_amiss(How(devices=("cuda",), cluster=asked)) == ""
    assert "--devices cuda" in gpus_amiss(How(cluster=asked))


def test_the_file_and_what_is_given_over_it(tmp_path):
    (tmp_path / "lab.toml").write_text(FILE)
    found = read_cluster(str(tmp_path / "lab.toml"), {"time": 30, "account": "abc"})
    assert (found.partition, found.time, found.gpus, found.account) == ("gpu", 30, 2, "abc")
    assert (found.sbatch, found.setup, found.cpus) == ({"reservation": "night"}, ["module load cuda"], 1)
    assert read_cluster() == Cluster()


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("partion = 'gpu'", "Unknown key 'partion' in .*lab.toml; nearest: partition"),
        ("time = '2h'", "time is '2h'; expected a whole number"),
        ("time = 0", "time is 0; expected a whole number >= 1"),
        ("cpus = true", "cpus is True"),
        ("gpus = -1", "gpus is -1; expected a number >= 0"),
        ("slots = 0", "slots is 0; expected a number of at least 1, or auto"),
        ('time = "2:00:00"', "time is '2:00:00'; expected a whole number, got a text; time is in minutes"),
        ("slots = true", "slots is True; expected a number"),
        ("setup = [1]", "setup is .*expected a text, got a whole number"),
        ("time = ", "no TOML file"),
        ("time = " + 3000 * "[", "no TOML file"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, sentence):
    (tmp_path / "lab.toml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_cluster(str(tmp_path / "lab.toml"))


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--cluster-set", "time=3"], "are for ray and slurm, not for local"),
        (["--executor", "slurm", "--cluster", "nowhere.toml"], "Cannot read nowhere.toml"),
        (["--executor", "slurm", "--cluster-set", "tme=3"], "Unknown key 'tme' in --cluster-set"),
        (["--executor", "ray", "--cluster-set", "time"], "KEY=VALUE"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, capsys, options, sentence):
    places = ["--results", str(tmp_path / "r"), "--data", str(tmp_path / "d")]
    assert main(["run", "table1", "--profile", "demo", "--rows", "TFN-GloVe", *places, *options]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ slurm


def test_what_sbatch_is_asked_for(tmp_path):
    (tmp_path / "lab.toml").write_text(FILE)
    assert slurm.parameters(read_cluster(str(tmp_path / "lab.toml"), {"memory": 16, "cpus": 1.5}), "bench-x") == {
        "name": "bench-x",
        "timeout_min": 120,
        "cpus_per_task": 2,
        "gpus_per_node": 2,
        "mem_gb": 16,
        "slurm_partition": "gpu",
        "slurm_setup": ["module load cuda"],
        "slurm_additional_parameters": {"reservation": "night", "requeue": True},
        "slurm_use_srun": False,
    }
    refused = slurm.parameters(Cluster(sbatch={"no_requeue": True}), "x")
    assert refused["slurm_additional_parameters"] == {"no-requeue": True}


def test_the_devices_and_the_time_of_a_job(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    gpu = How(devices=("cuda",), cluster=Cluster(gpus=2))
    assert slurm.devices_in_job(gpu) == ["cuda:0", "cuda:1"]
    assert slurm.devices_in_job(how(gpus=2)) == ["cpu"]
    assert slurm.seconds_left(2) == 90.0
    monkeypatch.setattr(slurm.time, "time", lambda: 1000.0)
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1100")
    assert slurm.seconds_left(60) == 70.0


@pytest.mark.parametrize(
    "end, entries, done, failed, again",
    [
        ("time", {"a": 1}, [1], [], True),
        ("time", {"a": 1}, [], [1], True),
        ("time", {"a": 1}, [], [], False),  # it would do no better next time
        ("time", {}, [1], [], False),
        ("idle", {"a": 1}, [1], [], False),
    ],
)
def test_a_worker_is_requeued_while_that_leads_anywhere(end, entries, done, failed, again):
    pull = types.SimpleNamespace(end=end, entries=entries, done=done, failed=failed, brought_on=[])
    assert slurm.wants_requeue(pull) is again


def test_a_worker_requeues_its_own_member_of_the_array_and_may_be_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho $@ >>$0.log\n[ $2 = 7_3 ] || { echo disabled >&2; exit 1; }\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    slurm.requeue()
    assert "not requeued: scontrol failed: disabled" in capsys.readouterr().out
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    slurm.requeue()
    assert (tmp_path / "scontrol.log").read_text() == "requeue 7\nrequeue 7_3\n"


def test_one_name_a_results_folder(runs, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert slurm.job_name(runs) == slurm.job_name(RunStore(tmp_path / "link" / "results"))
    assert slurm.job_name(runs) != slurm.job_name(RunStore(tmp_path / "other"))


class Executor:
    """Stands in for submitit's: what is submitted is done at once, as far as `works`."""

    def __init__(self, runs, works=True):
        self.runs, self.works, self.submitted = runs, works, []

    def map_array(self, function, roots, hows, storages):
        assert function is slurm.pull_worker
        assert (set(roots), set(storages)) == ({str(self.runs.root)}, {None})
        self.submitted.append(len(roots))
        if self.works:
            limits = Limits(idle=0, once=len(self.submitted) == 1)
            work(self.runs, limits=limits, execute=hows[0].execute, preload=(), poll=0.05)


@pytest.fixture
def go(runs, tmp_path, monkeypatch):
    def go(specs, executor, alive=0, **cluster):
        monkeypatch.setattr(slurm, "_executor", lambda *_: executor)
        monkeypatch.setattr(slurm, "jobs", lambda name: ["7"] * alive)
        monkeypatch.setattr(slurm, "POLL", 0.01)
        return run(
            specs, runs, executor="slurm", workers=4, execute="fake_execute:execute", data_root=tmp_path,
            cluster=Cluster(**cluster),
        )  # fmt: skip

    return go


def test_workers_are_replaced_while_runs_remain(go, runs, tmp_path):
    executor = Executor(runs)
    assert len(go([spec(n) for n in range(5)], executor, slots=2).done) == 5
    assert executor.submitted == [3, 2]  # for 5 runs, two at a time each; then for the 4 that are left
    assert len(set(executed(tmp_path))) == 5
    assert queue.waiting(runs) == set()


def test_workers_that_never_do_anything_are_told_of(go, runs):
    executor = Executor(runs, works=False)
    with pytest.raises(UserError, match=r"3 times workers ended and no run with them: see .*slurm"):
        go([spec(0)], executor)
    assert executor.submitted == [1, 1, 1]
    assert queue.waiting(runs) == set()


def test_workers_that_end_one_by_one_are_not_replaced_for_ever(go, runs, monkeypatch):
    """As where no node has the corpus: some other worker of the array lives whenever one is looked for."""
    executor, given = Executor(runs, works=False), slurm._submit

    def submit(executor, *rest):
        assert len(executor.submitted) < 20
        given(executor, *rest)

    monkeypatch.setattr(slurm, "_submit", submit)
    with pytest.raises(UserError, match="3 times workers ended and no run with them"):
        go([spec(n) for n in range(5)], executor, alive=1)
    assert executor.submitted == [3, 3, 3, 3]


def entries(attempts):
    return {spec(0).id: queue.Entry(spec(0), attempts, "fake_execute:execute", "data")}


def test_what_another_driver_took_away_is_published_again(runs):
    backlog = Backlog(runs, [spec(0)], entries(2), Summary(), lambda event: None)
    slurm._publish_again(backlog)
    assert queue.read(runs, spec(0).id).attempts == 2


def test_without_slurm_or_submitit(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="needs submitit: `pip install"):
        slurm._executor(runs, Cluster(), "x")
    monkeypatch.setitem(sys.modules, "submitit", types.ModuleType("submitit"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs squeue, which is not here"):
        slurm._executor(runs, Cluster(), "x")


# ------------------------------------------------------------------------------------------------ what others ended


def test_observing_does_not_take_a_run_for_failed_that_is_tried_once_more(runs):
    summary = Summary()
    backlog = Backlog(runs, [spec(0)], entries(0), summary, lambda event: None)
    lease = runs.claim(spec(0).id)
    runs.put_failed(spec(0), "killed")
    backlog.observe()
    assert backlog.pending == [spec(0)]
    lease.release()
    backlog.observe()
    assert (backlog.pending, summary.failed) == ([], [(spec(0), "killed")])


# ------------------------------------------------------------------------------------------------ ray


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="needs Ray: `pip install"):
        ray._connect(None)


@pytest.mark.parametrize(
    ("given", "environment", "used"),
    [
        (None, None, "local"),
        (None, "10.0.0.2:6379", "10.0.0.2:6379"),
        ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.1:6379"),
    ],
)
def test_without_an_address_ray_starts_here_and_looks_for_no_older_cluster(monkeypatch, given, environment, used):
    """Ray's own default is the cluster that it last saw on this machine, for which it waits many minutes if it died."""
    seen = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda address, **_: seen.append(address))
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "1")  # so that what is set here goes with this test
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    assert ray._connect(given) == (fake, True)
    assert seen == [used]


def test_a_task_does_one_run(runs, tmp_path):
    task = How(workers=8, devices=("cuda:3",), execute="fake_execute:execute", data_root=tmp_path)
    ray.run_one(spec(0), str(runs.root), 0, task, 60.0)
    assert runs.has(spec(0).id)
    assert list((runs.root / "leases").iterdir()) == []
