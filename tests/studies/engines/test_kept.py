"""A worker that does one run after another: a fresh process's bits, and nothing that a run leaves to the next."""

import dataclasses
import json
import os
import random
import signal
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from builders import run_spec
from fake_driver import leases
from fake_execute import executed, pids, spec
from queued import EXECUTE, want
from waiting import alive, wait_for

from hycon.model_file import ModelFile
from studies.engines import local
from studies.engines.child import Job, attempt
from studies.engines.fresh import put_back
from studies.engines.options import How
from studies.engines.queue_worker import Limits
from studies.engines.workers import spawn, start_forkserver, stop
from studies.store.curve import read_curve
from studies.store.run_store import RunStore

TIMES = ("seconds", "seconds_per_epoch", "test_seconds", "peak_memory_mib", "energy_joules", "started", "curve")
PATIENCE = 120.0  # seconds for a run; a busy machine takes its time


@pytest.fixture
def kept(go, monkeypatch):
    """run(...) with kept workers on the CPU, as it has them on a GPU."""
    monkeypatch.setattr(local, "KEEPING", frozenset({"cpu"}))
    return go


# ------------------------------------------------------------------------------------------------ bits


@pytest.fixture
def trained(corpora, tmp_path):
    """Does runs, one after the other in one worker; gives what the store has of each, without times."""
    workers = []

    def trained(name, *specs):
        store = RunStore(tmp_path / name)
        store.check_writable()
        how = How(data_root=str(corpora), preload=("torch", "studies.engines.one_run"))
        start_forkserver(how)
        worker = spawn(store, how, "cpu")
        workers.append(worker)
        for one in specs:
            worker.pipe.send(Job(one, "cpu", dict(os.environ), (), False, how.execute, False))
            told_last: float | None = 0.0
            while told_last is not None:  # before its end, what it took
                assert worker.pipe.poll(PATIENCE)
                told_last = worker.pipe.recv()
        return [told(store, one) for one in specs]

    yield trained
    stop(workers, [])


def told(store, one):
    """Its record, its predictions' bytes, and its log; of a failure why."""
    record = store.get(one.id)
    log = store.folder(one.id) / "log.txt"
    if record is None:
        return store.failed(one.id).reason
    arrays = {name: array.tobytes() for name, array in store.predictions(one.id).items()}
    losses = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in record.curve]
    same = {k: v for k, v in dataclasses.asdict(record).items() if k not in TIMES}
    return json.dumps(same, sort_keys=True), losses, arrays, log.read_text() if log.exists() else ""


def test_a_run_after_others_in_one_worker_has_the_bits_of_a_fresh_process(corpora, trained):
    bert = run_spec(corpora, "hycon", "bert", epochs=1)
    vectors = run_spec(corpora, "mfn", epochs=2)
    diverges = run_spec(corpora, "tfn", epochs=2, lr=1e30)
    other = dataclasses.replace(vectors, data="0" * 64)
    *_, first, second, third = trained("kept", diverges, other, vectors, bert, dataclasses.replace(vectors, seed=9))
    assert trained("alone", diverges)[0].startswith("non-finite loss")
    assert [first] == trained("a", vectors)
    assert [second] == trained("b", bert)
    assert [third] == trained("c", dataclasses.replace(vectors, seed=9))


def settings():
    """All that a run may change and that moves numbers, what is printed, or how the next run can be stopped."""
    cuda = torch.backends.cuda
    return {
        "dtype": torch.get_default_dtype(),
        "determinism": torch.get_deterministic_debug_mode(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "warn": torch.is_warn_always_enabled(),
        "tf32": (cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "flash": cuda.flash_sdp_enabled(),
        "efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cudnn attention": cuda.cudnn_sdp_enabled(),
        "draws": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "warnings": list(warnings.filters),
    }


def change_all():
    torch.manual_seed(3)
    torch.set_deterministic_debug_mode("error" if torch.get_deterministic_debug_mode() == 0 else "default")
    np.random.seed(3)
    random.seed(3)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_grad_enabled(False)
    torch.set_warn_always(True)
    torch.utils.deterministic.fill_uninitialized_memory = not torch.utils.deterministic.fill_uninitialized_memory
    for owner, name in (
        (torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "deterministic"),
    ):  # fmt: skip
        setattr(owner, name, not getattr(owner, name))
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        enabled = getattr(torch.backends.cuda, f"{name}_sdp_enabled")()
        getattr(torch.backends.cuda, f"enable_{name}_sdp")(not enabled)
    os.environ["KEPT_AFTER"] = "1"
    del os.environ["KEPT_BEFORE"]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("error")


def test_settings_of_pytorch_and_of_the_process_are_put_back(monkeypatch):
    monkeypatch.setenv("KEPT_BEFORE", "1")
    before = settings()
    with put_back():
        change_all()
        changed = settings()
    after = settings()
    assert [name for name in before if before[name] == changed[name]] == []
    assert [name for name in before if before[name] != after[name]] == []


# ------------------------------------------------------------------------------------------------ processes


def test_two_workers_do_all_runs(kept, tmp_path):
    assert len(kept([spec(n, sleep=0.05) for n in range(8)]).done) == 8
    assert len(set(pids(tmp_path))) == 2
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=2)


def test_on_a_gpu_without_a_switch(go, tmp_path):
    specs = [dataclasses.replace(spec(n, sleep=0.05), device="cuda") for n in range(8)]
    assert len(go(specs, devices=("cuda:0",), slots=2).done) == 8
    assert len(set(pids(tmp_path))) == 2


@pytest.mark.parametrize("devices", [("cpu",), ("cuda:0",)])
def test_one_at_a_time_each_run_has_a_process_of_its_own(kept, tmp_path, devices):
    """Its time is to be comparable with those of other records."""
    specs = [dataclasses.replace(spec(n), device=devices[0].partition(":")[0]) for n in range(3)]
    assert len(kept(specs, workers=1, devices=devices).done) == 3
    assert len(set(pids(tmp_path))) == 3


def test_a_worker_stays_on_its_device(go, runs, tmp_path):
    specs = [dataclasses.replace(spec(n, sleep=0.05), device="cuda") for n in range(8)]
    assert len(go(specs, devices=("cuda:0", "cuda:1")).done) == 8
    places = {(pid, runs.get(run).device) for run, pid in zip(executed(tmp_path), pids(tmp_path), strict=True)}
    assert {device for _, device in places} == {"cuda:0", "cuda:1"}
    assert len(places) == len(set(pids(tmp_path))) == 2


@pytest.mark.parametrize(
    "config, reason",
    [
        ({"killed": 2, "signal": int(signal.SIGSEGV)}, "killed by signal 11 (SIGSEGV)"),
        ({"vanishes": 2}, "its process ended with exit code 0 and without a record"),
        ({"hangs": 1}, "stopped: over the time limit of 1.5 s"),
        ({"breaks": 1}, "KeyError: 'weights'"),
        ({"exits": True}, "SystemExit: bye"),
    ],
)
def test_what_spoils_a_process_fails_its_run_only(kept, tmp_path, config, reason):
    specs = [spec(0), spec(1, **config), *(spec(n) for n in range(2, 7))]
    summary = kept(specs, workers=2, time_limit=1.5)
    assert summary.failed == [(specs[1], reason)]
    assert len(summary.done) == 6
    spoilt = {pid for run, pid in zip(executed(tmp_path), pids(tmp_path), strict=True) if run == specs[1].id}
    after = pids(tmp_path)[max(i for i, run in enumerate(executed(tmp_path)) if run == specs[1].id) + 1 :]
    assert not spoilt & set(after)


@pytest.mark.parametrize("config", [{"diverges": 1}, {"refuses": 1}])
def test_an_expected_failure_leaves_the_worker(kept, tmp_path, config):
    summary = kept([spec(0, **config), *(spec(n) for n in range(1, 6))])
    assert (len(summary.failed), len(summary.done)) == (1, 5)
    assert len(set(pids(tmp_path))) == 2


def test_out_of_memory_takes_its_worker_and_lowers_the_slots(kept, tmp_path):
    summary = kept([spec(n, sleep=0.3, fits=2) for n in range(6)], workers=4)
    assert (len(summary.done), summary.failed) == (6, [])
    retries = Counter(event.kind for event in kept.events)["retry"]
    assert retries
    assert len(set(pids(tmp_path))) >= 2 + retries


def test_each_run_has_its_own_log(kept, runs):
    specs = [spec(n, says=f"I am {n}") if n % 2 else spec(n) for n in range(6)]
    kept(specs)
    logs = [runs.folder(s.id) / "log.txt" for s in specs]
    assert [log.read_text() if log.exists() else "" for log in logs] == ["", "I am 1\n", "", "I am 3\n", "", "I am 5\n"]


def test_what_a_run_leaves_is_freed_behind_it_and_not_in_its_log(kept, runs, tmp_path):
    specs = [spec(n, litters=True, says=f"I am {n}") for n in range(4)]
    kept(specs)
    collected = (tmp_path / "collected").read_text().split()
    assert sorted(collected) == sorted(map(str, pids(tmp_path)))  # each in its own process
    assert [(runs.folder(s.id) / "log.txt").read_text() for s in specs] == [f"I am {n}\n" for n in range(4)]


def test_an_empty_log_is_taken_away(kept, runs):
    kept([spec(n) for n in range(2)])
    assert [(runs.folder(spec(n).id) / "log.txt").exists() for n in range(2)] == [False, False]


def test_a_model_of_one_s_own_is_its_worker_s_last(kept, tmp_path, monkeypatch):
    """What its file defines or changes could reach another run."""

    def unread(run, device, environment, models, *rest):
        return Job(run, device, environment, (), *rest)

    monkeypatch.setattr("studies.engines.run.own_files", lambda: (ModelFile("fake", "fake.py", b""),))
    monkeypatch.setattr(local, "Job", unread)
    assert len(kept([spec(n) for n in range(4)]).done) == 4
    assert len(set(pids(tmp_path))) == 4


def test_an_idle_worker_does_runs_on_its_own_device_only():
    class Idle:
        def __init__(self, device):
            self.device = device

        def alive(self):
            return True

    idle = [Idle("cuda:1"), Idle("cuda:0")]
    assert local._taken(idle, "cuda:0").device == "cuda:0"
    assert local._taken(idle, "cuda:0") is None
    assert [worker.device for worker in idle] == ["cuda:1"]


def test_its_first_epoch_is_told_once(runs, tmp_path):
    told = []
    asked = spec(0, epoch_at=0.0, takes=1.0)
    attempt(asked, runs, EXECUTE, str(tmp_path), "cpu", first_epoch=lambda: told.append(asked.id))
    assert told == [asked.id]
    assert [epoch["epoch"] for epoch in read_curve(runs, asked.id)] == [1, 2]


def test_nothing_is_left_to_the_next_run(kept, runs, tmp_path):
    specs = [spec(n, unsettles=1, asks="UNSETTLED") for n in range(6)]
    kept(specs)
    assert len(set(pids(tmp_path))) == 2
    told = {(runs.folder(s.id) / "log.txt").read_text() for s in specs}
    assert len(told) == 2  # each worker's
    assert not any(text.startswith("yes") for text in told)


def test_a_run_that_ignores_sigterm_does_not_teach_the_next_to(kept, tmp_path):
    kept([spec(n, deaf=n < 2, sleep=0.05) for n in range(4)])
    began = time.monotonic()
    assert len(kept([spec(n, sleep=0.05) for n in range(10, 14)]).done) == 4
    assert time.monotonic() - began < 5


def test_a_worker_that_dies_while_it_has_nothing_to_do_fails_no_run(kept, tmp_path, runs):
    """As the kernel may choose it when memory is short; the next run gets a new one."""
    taken = local._taken

    def killed_first(idle, device):
        for worker in idle:
            worker.process.kill()
            worker.process.join()
        return taken(idle, device)

    local._taken, before = killed_first, local._taken
    try:
        assert len(kept([spec(n, sleep=0.05) for n in range(6)]).done) == 6
    finally:
        local._taken = before
    assert Counter(event.kind for event in kept.events)["retry"] == 0
    assert len(set(pids(tmp_path))) == 6


def test_workers_that_were_dismissed_leave_no_handle(pull, runs, tmp_path, monkeypatch):
    """A pull worker dismisses one whenever its queue is empty for a moment."""
    monkeypatch.setattr(local, "KEEPING", frozenset({"cpu"}))
    handles = []

    def publish_the_next(event):
        handles.append(len(os.listdir("/proc/self/fd")))
        if event.kind == "done" and len(handles) < 24:
            want(runs, [spec(len(handles))])

    want(runs, [spec(0)])
    pull(slots=2, limits=Limits(idle=1.0), on_event=publish_the_next)
    assert len(set(pids(tmp_path))) == 12
    assert max(handles[12:]) <= max(handles[:12])


def test_no_lease_stays(kept, runs):
    kept([spec(n, killed=1) for n in range(3)])
    assert leases(runs) == []
