"""The engine ray: a head and two more nodes as processes of their own on this machine. Needs the extra ray."""

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from builders import run_spec
from fake_execute import executed, pids, spec
from waiting import alive
from waiting import wait_for as wait

from studies.engines.child import attempt
from studies.engines.options import EXECUTE, Cluster
from studies.engines.run import run
from studies.store.record import RESULT
from studies.store.run_store import RunStore, checkpoint_epochs

wait_for = partial(wait, seconds=180.0)
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# By default a node waits 15 s for its agents to tell their ports and then gives up, too few on a busy machine: with
# ports that it knows it need not wait.
AGENTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port", "metrics-export-port")
SLOW = {"RAY_raylet_start_wait_time_s": "150", "RAY_worker_register_timeout_seconds": "180"}  # by default 30 and 60

MARK = "BENCH_TEST_RAY"

# Ray takes the token in ~/.ray where there is one, but not for a node that joins: so all get one, by the environment.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.engines

DRIVER = """
import sys
from fake_execute import spec
from studies.engines.options import Cluster
from studies.engines.run import run
from studies.store.run_store import RunStore

if __name__ == "__main__":
    events = []
    s = run(eval(sys.argv[2]), RunStore(sys.argv[1] + "/results"), executor="ray", workers=4, data_root=sys.argv[1],
            execute="fake_execute:execute", preload=(), cluster=Cluster(address=sys.argv[3], cpus=0.5))
    print(len(s.done), len(s.failed), len(s.skipped))
"""


def start_node(log, *options):
    """A node, in a process group of its own so that it can be killed as a machine would be; returns when it is up."""
    command: list = [Path(sys.executable).parent / "ray", "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    command += ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]  # 0: any free port
    command += [f"--{name}={port}" for name, port in zip(AGENTS, free_ports(len(AGENTS)), strict=True)]
    path = os.pathsep.join([str(ROOT), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    with open(log, "w") as handle:
        node = subprocess.Popen(
            [*command, *options], env={**os.environ, "PYTHONPATH": path, MARK: str(log.parent), **SLOW},
            start_new_session=True, stdout=handle, stderr=handle,
        )  # fmt: skip
    wait_for(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None)
    assert node.poll() is None, log.read_text()
    return node


def free_ports(count):
    """Held all at once, so that they differ; free from here on, as far as can be told."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("", 0))
        return [opened.getsockname()[1] for opened in sockets]


def kill_node(node):
    with contextlib.suppress(ProcessLookupError):  # killed by a test
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address, and the nodes, the head first. No process of the nodes outlives them."""
    [port], folder = free_ports(1), tmp_path_factory.mktemp("ray")
    address = f"127.0.0.1:{port}"
    nodes = []
    try:
        nodes.append(start_node(folder / "head", "--head", f"--port={port}", "--include-dashboard=false"))
        nodes += [start_node(folder / f"node{n}", f"--address={address}") for n in (1, 2)]
        yield address, nodes
    finally:
        for node in nodes:
            kill_node(node)
        wait_for(lambda: not marked(str(folder)), seconds=30)


def marked(folder):
    """Processes whose environment names the folder, as that of the nodes does."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{MARK}={folder}".encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


@pytest.fixture
def go(runs, tmp_path):
    def go(specs, cluster, **more):
        options = {"workers": 4, "execute": "fake_execute:execute", "data_root": tmp_path, "preload": (), **more}
        return run(specs, runs, executor="ray", cluster=cluster, **options)

    return go


@pytest.fixture
def start_driver(tmp_path):
    """A function that starts one; those that still run at the end of the test are killed."""
    drivers = []

    def start(specs, address):
        script = tmp_path / "driver.py"
        script.write_text(DRIVER)
        path = os.pathsep.join([str(ROOT), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        driver = subprocess.Popen(
            [sys.executable, script, tmp_path, specs, address], env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        drivers.append(driver)
        return driver

    yield start
    for driver in drivers:
        driver.kill()
        driver.wait()


def test_tasks_do_the_runs_and_failures_are_told(go, runs, tmp_path, cluster):
    specs = [spec(n, diverges=int(n == 3), killed=int(n == 4)) for n in range(6)]
    summary = go(specs, Cluster(address=cluster[0], cpus=0.5))
    assert {s.id for s in summary.done} == {specs[n].id for n in (0, 1, 2, 4, 5)}
    assert summary.failed == [(specs[3], "non-finite loss at epoch 3, step 17")]
    assert Counter(executed(tmp_path)) == {s.id: 2 if n == 4 else 1 for n, s in enumerate(specs)}
    assert list((runs.root / "leases").iterdir()) == []


def test_a_run_over_its_time_limit_is_stopped(go, tmp_path, cluster):
    stuck = spec(0, hangs=1)
    summary = go([stuck, spec(1)], Cluster(address=cluster[0], cpus=0.5), time_limit=15)
    assert (summary.done, summary.failed) == ([spec(1)], [(stuck, "stopped: over the time limit of 15 s")])
    assert not any(map(alive, pids(tmp_path)))


def test_a_driver_that_is_killed_is_issued_again(go, runs, tmp_path, cluster, start_driver):
    driver = start_driver("[spec(n, sleep=2) for n in range(6)]", cluster[0])
    wait_for(lambda: len(executed(tmp_path)) >= 2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    specs = [spec(n, sleep=2) for n in range(6)]
    summary = go(specs, Cluster(address=cluster[0], cpus=0.5))
    assert len(summary.done) + len(summary.skipped) == 6
    assert all(runs.has(s.id) for s in specs)


def test_interrupting_the_driver_stops_its_tasks(runs, tmp_path, cluster, start_driver):
    driver = start_driver("[spec(n, sleep=60) for n in range(4)]", cluster[0])
    wait_for(lambda: len(executed(tmp_path)) >= 2)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) != 0
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=30)
    assert list((runs.root / "queue").iterdir()) == list((runs.root / "leases").iterdir()) == []
    assert list(runs.failures()) == []


TRAINING = """
import json, sys
from pathlib import Path
from studies.engines.options import Cluster
from studies.engines.run import run
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

if __name__ == "__main__":
    folder, data, address = sys.argv[1:]
    specs = [RunSpec.from_dict(raw) for raw in json.loads(Path(folder, "specs.json").read_text())]
    s = run(specs, RunStore(folder + "/results"), executor="ray", workers=3, data_root=data, checkpoint_every=0.0,
            cluster=Cluster(address=address, cpus=1))
    print(len(s.done), len(s.failed), len(s.skipped))
"""


def test_a_training_on_a_node_that_is_killed_goes_on_elsewhere_with_the_same_bits(runs, tmp_path, cluster, corpora):
    """Each of the three nodes has a training; one node dies, and the cluster has it less afterwards."""
    address, nodes = cluster
    seeds = [dataclasses.replace(run_spec(corpora, "lf_lstm", epochs=400, patience=400), seed=n) for n in range(3)]
    (tmp_path / "specs.json").write_text(json.dumps([dataclasses.asdict(one) for one in seeds]))
    (tmp_path / "driver.py").write_text(TRAINING)
    command = [sys.executable, tmp_path / "driver.py", tmp_path, corpora, address]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    driver = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: driver.poll() is not None or all(checkpoint_epochs(runs, one.id) > 1 for one in seeds))
        kill_node(nodes[1])
        out, err = driver.communicate(timeout=300)
    finally:
        driver.kill()
        driver.wait()
    assert out == "3 0 0\n", err
    resumed = [one for one in seeds if runs.get(one.id).resumed]
    assert len(resumed) == 1
    whole = RunStore(tmp_path / "undisturbed")
    attempt(resumed[0], whole, EXECUTE, str(corpora), "cpu")
    for field in RESULT:
        assert getattr(runs.get(resumed[0].id), field) == getattr(whole.get(resumed[0].id), field), field


def test_a_node_that_is_killed_in_mid_run_loses_nothing(runs, tmp_path, cluster, start_driver):
    """Last: the cluster has a node less afterwards."""
    address, nodes = cluster
    driver = start_driver("[spec(n, sleep=3) for n in range(8)]", address)
    wait_for(lambda: len(executed(tmp_path)) >= 4)
    kill_node(nodes[2])
    out, err = driver.communicate(timeout=240)
    assert out == "8 0 0\n", err
    assert all(runs.has(spec(n, sleep=3).id) for n in range(8))


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:9"])  # no address; nobody answers, for 40 s
def test_no_such_cluster_is_a_sentence(runs, tmp_path, address, start_driver):
    driver = start_driver("[spec(0)]", address)
    _, err = driver.communicate(timeout=120)
    assert f"UserError: Ray cannot be used ({address}): " in err
    assert runs.failed(spec(0).id) is None
