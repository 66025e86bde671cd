"""Which runs share a device, and what happens when their memory runs out; no GPU is needed."""

import dataclasses
import os
import time
from collections import Counter

import pytest
import torch
from fake_execute import executed, spec

from hycon.errors import UserError
from studies.cli import main
from studies.engines import machine, options, slots
from studies.engines.child import OutOfMemory, attempt
from studies.engines.history import History
from studies.engines.options import How, parse_slots, read_cluster, workers_for
from studies.engines.queue import Entry, publish
from studies.engines.queue_worker import Limits, work
from studies.engines.run import run
from studies.engines.slots import CONTEXT, GUESS, MARGIN, SHARE, Slots, budget, fit, slots_for
from studies.store.record import RunRecord, RunSpec

EXECUTE = "fake_execute:execute"


@pytest.fixture
def go(tmp_path, runs):
    """run(...) with the fake execute; its events are in go.events, the most runs at a time on a device in go.most."""

    def go(specs, workers=3, **more):
        go.events, go.most, running = [], Counter(), {}

        def heard(event):
            go.events.append(event)
            if event.kind == "start":
                running[event.spec.id] = event.device
            elif event.kind != "retry":
                running.pop(event.spec.id, None)
            go.most |= Counter(running.values())

        options = {"execute": EXECUTE, "data_root": tmp_path, "preload": (), "on_event": heard, **more}
        return run(specs, runs, workers=workers, **options)

    return go


def like(model="fake", number=0, device="cpu", encoder=None, **config) -> RunSpec:
    return dataclasses.replace(spec(number, **config), model=model, device=device, encoder=encoder)


def took(mib, **what) -> RunRecord:
    return RunRecord(like(**what), "done", peak_memory_mib=mib)


# ------------------------------------------------------------------------------------------------ what fits


def test_runs_share_a_device_as_far_as_their_history_fit():
    history = History([took(100), took(300, number=1), took(50, model="small")])
    assert budget(like(number=9), history) == MARGIN * 300
    assert budget(like("small", device="cuda"), history) is None  # measured on the CPU only
    assert budget(like("new"), history) is None  # nothing is guessed on a CPU, where the kernel kills
    two = 2 * MARGIN * 300 / SHARE
    assert fit([like(), like(number=1)], two + 1, history)
    assert not fit([like(), like(number=1)], two - 1, history)
    assert fit([like(), like("small")], MARGIN * 350 / SHARE + 1, history)


def test_a_gpu_also_holds_a_context_for_each_process():
    assert budget(like(device="cuda"), History([took(100, device="cuda")])) == MARGIN * 100 + CONTEXT


def test_what_nothing_is_known_of_is_alone():
    history = History([took(1), RunRecord(like("failed"), "failed", peak_memory_mib=1.0), took(None, model="untold")])
    for unknown in ("failed", "untold", "new"):
        assert not fit([like(), like(unknown)], 1e9, history)
        assert not fit([like(unknown), like()], 1e9, history)
        assert fit([like(unknown)], 1.0, history)


BERT = {"encoder": {"name": "bert", "sha256": "0"}, "device": "cuda"}


def test_runs_that_fine_tune_an_encoder_share_a_gpu_by_what_they_reserved():
    """HyCon-BERT reserves 4,288 MiB on an H200 of 143,156 (results/gpu/nvidia-h200.md)."""
    history = History([took(4288, **BERT)])
    runs = [like(number=n, **BERT) for n in range(30)]
    assert fit(runs[:16], 143156, history)
    assert fit(runs[:22], 143156, history)
    assert not fit(runs[:23], 143156, history)
    assert not fit(runs[:2], 12000, history)


def test_a_model_that_has_not_been_measured_is_guessed_by_its_front_end_on_a_gpu():
    history = History([took(100, device="cuda"), took(4000, **BERT), took(4500, **{**BERT, "model": "other"})])
    assert budget(like("new", **BERT), history) == MARGIN * GUESS * 4500 + CONTEXT
    assert budget(like("new", device="cuda"), history) == MARGIN * GUESS * 100 + CONTEXT
    assert budget(like("new", device="cuda", encoder={"name": "roberta", "sha256": "1"}), history) is None


def test_free_devices_are_the_least_busy_ones_first():
    found = Slots(4, {"cuda:0": 2, "cuda:1": 2})
    for number, free in enumerate((["cuda:0", "cuda:1"], ["cuda:1", "cuda:0"], ["cuda:0", "cuda:1"], ["cuda:1"])):
        assert found.free() == free
        found.enter(spec(number), free[0])
    assert found.free() == []
    found.leave(spec(1))
    assert found.free() == ["cuda:1"]
    found.workers = 3
    assert found.free() == []


def test_out_of_memory_leaves_one_fewer_than_there_were():
    found = Slots(8, {"cuda:0": 4, "cuda:1": 4})
    for number in range(5):
        found.enter(spec(number), f"cuda:{number // 3}")  # three on the first, two on the second
    found.leave(spec(0))
    assert found.lower(spec(1), host=False) == "2 others ran beside it, from here on at most 2 at a time on cuda:0"
    assert found.lower(spec(2), host=False) is not None  # the same lack of memory: not counted twice
    assert (found.limits, found.workers) == ({"cuda:0": 2, "cuda:1": 4}, 8)
    assert found.lower(spec(3), host=True) == "4 others ran beside it, from here on at most 4 at a time"
    assert (found.limits, found.workers) == ({"cuda:0": 2, "cuda:1": 4}, 4)


def test_alone_there_is_nothing_to_lower():
    found = Slots(8, {"cuda:0": 4, "cuda:1": 4})
    found.enter(spec(0), "cuda:0")
    found.enter(spec(1), "cuda:1")
    assert found.lower(spec(0), host=False) is None
    assert found.limits["cuda:0"] == 4
    assert found.lower(spec(0), host=True) == "1 other ran beside it, from here on at most 1 at a time"


# ------------------------------------------------------------------------------------------------ what was asked for


def how(workers=1, devices=("cpu",), slots=None):
    return How(workers=workers, devices=devices, slots=slots)


def test_slots_and_workers(monkeypatch):
    monkeypatch.setattr(options, "processors", lambda: 6)
    monkeypatch.setattr(slots, "free_memory", {"cuda:0": 100.0, "cuda:1": 200.0}.get)
    two = ("cuda:0", "cuda:1")
    assert slots_for(how(3, two), History(), {}).limits == {"cuda:0": 2, "cuda:1": 1}
    assert slots_for(how(3, two, 2), History(), {}).limits == {"cuda:0": 2, "cuda:1": 2}
    automatic = slots_for(how(3, two, "auto"), History([took(100)]), {})
    assert (automatic.limits, automatic.memory) == ({"cuda:0": 3, "cuda:1": 3}, {"cuda:0": 100.0, "cuda:1": 200.0})
    assert budget(like(), automatic.history) is not None
    assert [workers_for(None, given, two) for given in (None, 2, "auto")] == [2, 4, 6]
    assert workers_for(5, 2, two) == 5
    assert (parse_slots(None), parse_slots("3"), parse_slots("auto")) == (None, 3, "auto")


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--slots", "0"], "--slots is 0; expected a number of at least 1, or auto"),
        (["--slots", "all"], "--slots is all"),
        (["--slots", "2", "--executor", "inline"], "not for inline: it does one run at a time"),
        (["--slots", "2", "--executor", "ray"], "not for ray: lower what each run gets"),
        (["--executor", "slurm", "--cluster-set", "slots=many"], "slots is many; expected a number of at"),
    ],
)
def test_mistakes(tmp_path, capsys, options, sentence):
    places = ["--results", str(tmp_path / "r"), "--data", str(tmp_path / "d"), "--dry-run"]
    assert main(["run", "table1", "--profile", "demo", "--rows", "TFN-GloVe", *places, *options]) == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_slurms_workers_take_auto_too():
    assert read_cluster(None, {"slots": "auto"}).slots == "auto"


# ------------------------------------------------------------------------------------------------ the machine


def test_free_memory_of_this_machine():
    assert 10 < machine.free_memory("cpu") < 2**30
    assert machine.processors() >= 1


@pytest.mark.parametrize(
    "groups, files, mib",
    [
        ("0::/\n", {}, 2000),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": str(500 * 2**20)}, 500),
        ("5:cpu:/a\n4:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(300 * 2**20)}, 300),
        ("0::/\n", {"memory.max": str(9000 * 2**20)}, 2000),
    ],
)
def test_a_jobs_own_limit_counts(tmp_path, groups, files, mib):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable: {2000 * 1024} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    assert machine._host_memory(tmp_path) == mib * 2**20


def own_memory(device):
    return {"cuda:1": 3 * 2**30}[device] + 2**20 * int(os.environ["ASKED"])


def dies(device):
    os._exit(1)


def test_a_gpu_is_asked_by_another_process(monkeypatch):
    monkeypatch.setattr(machine, "memory_of", own_memory)
    for number in ("1", "2"):  # with this process's environment as it is now
        monkeypatch.setenv("ASKED", number)
        assert machine.free_memory("cuda:1") == 3072 + int(number)
    with pytest.raises(UserError, match=r"^The memory of cuda:0 cannot be read \(KeyError: 'cuda:0'\): give --slots a"):
        machine.free_memory("cuda:0")
    monkeypatch.setattr(machine, "memory_of", dies)
    with pytest.raises(UserError, match=r"cannot be read \(no answer\)"):
        machine.free_memory("cuda:1")
    monkeypatch.setattr(machine, "memory_of", time.sleep)
    monkeypatch.setattr(machine, "PATIENCE", 0.1)
    with pytest.raises(UserError, match=r"cannot be read \(no answer within 0.1 s\)"):
        machine.free_memory(60)


def kind_of_gpu(device):
    return {"cuda:0": "NVIDIA A100", "cuda:1": "NVIDIA V100", "cuda:2": "NVIDIA A100"}[device]


def test_gpus_of_two_kinds_are_told(monkeypatch):
    monkeypatch.setattr(machine, "name_of", kind_of_gpu)
    assert machine.unlike_gpus(("cuda:0", "cuda:1", "cuda:0")) == "cuda:0 is NVIDIA A100, cuda:1 is NVIDIA V100"
    assert machine.unlike_gpus(("cuda:0", "cuda:2")) == ""
    assert machine.unlike_gpus(("cuda:0", "cuda:9")) == ""  # the other tells nothing: its absence is another message
    monkeypatch.setattr(machine, "name_of", dies)
    assert machine.unlike_gpus(("cpu",)) == machine.unlike_gpus(("cuda:0", "cpu")) == ""  # nobody is asked


def test_a_machine_without_a_gpu_says_so():
    """In the words of PyTorch, which has no CUDA, or finds no GPU."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"The memory of cuda:0 cannot be read \(\w+Error: .+\): give --slots a number"):
        machine.free_memory("cuda:0")


# ------------------------------------------------------------------------------------------------ with processes


def test_slots_bound_each_device_and_workers_all(go):
    specs = [like(number=n, device="cuda", sleep=0.1) for n in range(8)]
    go(specs, workers=3, devices=("cuda:0", "cuda:1"), slots=2)
    assert go.most == {"cuda:0": 2, "cuda:1": 1}


def test_auto_measures_one_and_then_shares(go, monkeypatch):
    monkeypatch.setattr(slots, "free_memory", lambda device: 100 * MARGIN * 2.5 / SHARE)
    specs = [like(number=n, sleep=0.15, mib=100.0) for n in range(5)]
    assert len(go(specs, workers=4, slots="auto").done) == 5
    assert [e.kind for e in go.events[:2]] == ["start", "done"]
    assert go.most == {"cpu": 2}
    go([like(number=n, sleep=0.15, mib=100.0) for n in (8, 9)], slots="auto")
    assert go.most == {"cpu": 2}  # known from the records, from the start


def test_sixteen_start_at_once_on_one_card(go):
    go([like(number=n, sleep=1.0, **BERT) for n in range(20)], workers=16, devices=("cuda:0",), slots=16)
    assert go.most == {"cuda:0": 16}


def test_auto_starts_others_when_the_first_has_had_an_epoch(go, monkeypatch):
    """They need not wait for its end."""
    monkeypatch.setattr(slots, "free_memory", lambda device: 143156.0)
    specs = [like(number=n, sleep=2.0, epoch_at=0.2, takes=4288.0, **BERT) for n in range(16)]
    began = time.monotonic()
    assert len(go(specs, workers=16, devices=("cuda:0",), slots="auto").done) == 16
    assert [e.kind for e in go.events[:16]] == ["start"] * 16
    assert go.most == {"cuda:0": 16}
    assert time.monotonic() - began < 20


def test_auto_leaves_out_what_does_not_fit_by_the_first_epoch(go, monkeypatch):
    monkeypatch.setattr(slots, "free_memory", lambda device: 3 * (MARGIN * 4288 + CONTEXT) / SHARE + 1)
    specs = [like(number=n, sleep=0.5, epoch_at=0.1, takes=4288.0, **BERT) for n in range(8)]
    assert len(go(specs, workers=8, devices=("cuda:0",), slots="auto").done) == 8
    assert go.most == {"cuda:0": 3}


def test_out_of_memory_beside_others_is_tried_again_beside_fewer(go, runs, tmp_path):
    specs = [spec(n, sleep=0.3, fits=2) for n in range(6)]
    summary = go(specs, workers=4)
    assert (len(summary.done), summary.failed) == (6, [])
    told = [e for e in go.events if e.kind == "retry"]
    assert told
    assert all("out of memory: MemoryError: Unable to allocate 8 GiB" in e.reason for e in told)
    assert "others ran beside it, from here on at most" in told[0].reason
    records = [runs.get(s.id) for s in specs]
    assert sorted(r for record in records for r in record.failures) == sorted(e.reason for e in told)
    assert all(record.attempts == 1 + len(record.failures) for record in records)
    assert all(record.notes == [] for record in records)
    assert len(executed(tmp_path)) == 6 + len(told)
    ends = [e.kind for e in go.events]
    assert "retry" not in ends[len(ends) - ends[::-1].index("retry") :]
    assert list((runs.root / "leases").iterdir()) == []


def test_the_commands_next_runs_start_with_what_was_left(go):
    first = go([spec(n, sleep=0.3, fits=2) for n in range(3)])
    assert first.lowered == {"": 2}
    second = go([spec(n, sleep=0.2) for n in range(3, 7)], lowered=first.lowered)
    assert go.most == {"cpu": 2}
    assert go([spec(0)], lowered=second.lowered).lowered == {"": 2}  # nothing to do, nothing forgotten


def test_of_a_gpu_lowers_that_gpu_only(go, runs):
    tight = [like(number=n, device="cuda", sleep=0.3, fits=1) for n in range(4)]
    assert len(go(tight, workers=4, devices=("cuda:0", "cuda:1")).done) == 4
    said = {reason.rpartition("; ")[2] for s in tight for reason in runs.get(s.id).failures}
    assert said
    assert said <= {f"1 other ran beside it, from here on at most 1 at a time on cuda:{n}" for n in range(2)}


def test_alone_it_is_a_failure_with_its_reason(go, runs, tmp_path):
    wide = spec(0, fits=0, sleep=0.1)
    summary = go([wide], workers=3)
    reason = "out of memory: MemoryError: Unable to allocate 8 GiB; nothing ran beside it"
    assert summary.failed == [(wide, reason)]
    assert runs.failed(wide.id).reason == reason
    assert executed(tmp_path) == [wide.id]
    assert "MemoryError" in (runs.folder(wide.id) / "log.txt").read_text()


def test_beside_others_and_then_alone(go, runs):
    wide = spec(0, fits=0, sleep=0.2)
    assert go([wide, spec(1, sleep=0.4)], workers=2).failed[0][0] == wide
    failure = runs.failed(wide.id)
    assert failure.attempts == 2
    assert failure.reason.endswith("; nothing ran beside it")
    assert failure.failures[0].endswith("; 1 other ran beside it, from here on at most 1 at a time")


def test_a_kill_beside_others_lowers_the_number_too(go):
    go([spec(0, killed=1, sleep=0.1), *(spec(n, sleep=0.3) for n in range(1, 6))], workers=3)
    lowered = next(i for i, e in enumerate(go.events) if e.kind == "retry")
    assert "2 others ran beside it, from here on at most 2 at a time" in go.events[lowered].reason
    running = 3
    for event in go.events[lowered:]:
        running += {"start": 1, "done": -1}.get(event.kind, 0)
        assert event.kind != "start" or running <= 2


def test_inline_it_is_a_failure(go, runs):
    wide = spec(0, fits=0, sleep=0.1)
    summary = go([wide, spec(1)], executor="inline", workers=1)
    assert summary.failed == [(wide, "out of memory: MemoryError: Unable to allocate 8 GiB")]
    assert runs.failed(wide.id).attempts == 1
    assert summary.done == [spec(1)]


def test_a_worker_lowers_its_slots(runs, tmp_path):
    publish(runs, [Entry(spec(n, sleep=0.3, fits=1), 0, EXECUTE, str(tmp_path)) for n in range(3)])
    events = []
    pull = work(
        runs, slots="auto", limits=Limits(idle=0), poll=0.05, execute=EXECUTE, preload=(), on_event=events.append
    )
    assert (len(pull.done), pull.failed) == (3, [])
    events.clear()
    publish(runs, [Entry(spec(n, sleep=0.3, fits=1), 0, EXECUTE, str(tmp_path)) for n in range(3, 6)])
    pull = work(runs, slots=3, limits=Limits(idle=0), poll=0.05, execute=EXECUTE, preload=(), on_event=events.append)
    assert len(pull.done) == 3
    assert "retry" in [e.kind for e in events]


@pytest.mark.parametrize(
    "error, host",
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), False),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling"), False),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_NOT_INITIALIZED, when calling"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), True),
    ],
)
def test_what_counts_as_out_of_memory(runs, tmp_path, monkeypatch, error, host):
    def execute(*_, **__):
        raise error

    monkeypatch.setattr("fake_execute.execute", execute)
    with pytest.raises(OutOfMemory) as caught:
        attempt(spec(0), runs, EXECUTE, str(tmp_path), "cpu")
    assert caught.value.host is host
    assert runs.failed(spec(0).id) is None


@pytest.mark.parametrize(
    "said", ["CUDNN_STATUS_EXECUTION_FAILED", "CUBLAS_STATUS_INVALID_VALUE", "CUDA error: misaligned"]
)
def test_other_errors_of_a_gpu_are_none(runs, tmp_path, monkeypatch, said):
    def execute(*_, **__):
        raise RuntimeError(said)

    monkeypatch.setattr("fake_execute.execute", execute)
    attempt(spec(0), runs, EXECUTE, str(tmp_path), "cpu")
    assert runs.failed(spec(0).id).reason == f"RuntimeError: {said}"


def test_pytorchs_own_errors_count(runs, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")

    def execute(*_, **__):
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr("fake_execute.execute", execute)
    with pytest.raises(OutOfMemory) as caught:
        attempt(spec(0), runs, EXECUTE, str(tmp_path), "cpu")
    assert caught.value.host
    monkeypatch.setattr(
        "fake_execute.execute", lambda *_, **__: exec("raise torch.OutOfMemoryError('x')", {"torch": torch})
    )
    with pytest.raises(OutOfMemory) as caught:
        attempt(spec(0), runs, EXECUTE, str(tmp_path), "cuda:0")
    assert not caught.value.host
