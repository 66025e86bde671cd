"""The run store: whole or not there, first record wins, damage is told."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_execute import spec

from hycon.errors import UserError
from hycon.files import temporary, write_atomic
from studies.engines.child import _append
from studies.store.arrays import npz_bytes
from studies.store.record import RECORD_VERSION, RESULT, RunRecord
from studies.store.run_store import FOLDERS, PREDICTIONS, RunStore

ARRAYS = {"valid_prediction": np.arange(4, dtype=np.float32), "valid_id": np.array(["a", "b", "c", "ä"])}


def record(number=0, loss=0.5, **more):
    return RunRecord(spec(number), "done", valid_loss=loss, metrics={"test": {"paper": {"mae": loss}}}, **more)


def files(runs, run_id):
    return sorted(p.name for p in runs.folder(run_id).iterdir())


# ------------------------------------------------------------------------------------------------ records


def test_put_and_get(runs):
    stored = runs.put(record(), ARRAYS)
    again = RunStore(runs.root).get(stored.id)
    assert again == stored
    assert again.attempts == 1
    assert files(runs, stored.id) == ["predictions.npz", "record.json"]
    arrays = runs.predictions(stored.id)
    assert set(arrays) == set(ARRAYS)
    assert all((arrays[k] == ARRAYS[k]).all() and arrays[k].dtype == ARRAYS[k].dtype for k in ARRAYS)


def test_nothing_there(runs):
    assert runs.get("0" * 16) is None
    assert not runs.has("0" * 16)
    assert runs.failed("0" * 16) is None
    assert list(runs.records()) == []
    with pytest.raises(UserError, match="no finished run"):
        runs.predictions("0" * 16)


def test_first_record_wins(runs):
    first = runs.put(record(loss=0.5), ARRAYS)
    second = runs.put(record(loss=0.4), {"valid_prediction": np.zeros(9)})
    assert second == first == runs.get(first.id)
    assert len(runs.predictions(first.id)["valid_prediction"]) == 4


def test_records_in_order_of_ids(runs):
    for number in range(5):
        runs.put(record(number), {})
    found = [r.id for r in runs.records()]
    assert found == sorted(spec(n).id for n in range(5))


def test_failures_count_attempts_and_end_with_a_record(runs):
    for reason in ("non-finite loss at epoch 1, step 2", "killed by signal 9"):
        runs.put_failed(spec(), reason, seconds=1.5)
    failed = runs.failed(spec().id)
    assert (failed.status, failed.reason, failed.attempts, failed.seconds) == ("failed", "killed by signal 9", 2, 1.5)
    assert [r.id for r in runs.failures()] == [spec().id]
    assert not runs.has(spec().id)
    assert runs.put(record(), ARRAYS).attempts == 3
    assert runs.failed(spec().id) is None
    assert list(runs.failures()) == []
    assert files(runs, spec().id) == ["predictions.npz", "record.json"]


def test_a_reason_may_name_a_file_whose_name_is_no_text(runs):
    """Python keeps odd bytes of names as letters that no UTF-8 can hold."""
    runs.put_failed(spec(), "no file /data/\udcff\u03b2")
    assert runs.failed(spec().id).reason == "no file /data/?\u03b2"
    _append(runs.folder(spec().id) / "log.txt", "no file /data/\udcff\u03b2")
    assert (runs.folder(spec().id) / "log.txt").read_text("utf-8") == "no file /data/\\udcff\u03b2"


def test_a_second_worker_leaves_no_checkpoint(runs):
    runs.put(record(), ARRAYS)
    for name in ("checkpoint.json", "checkpoint-9.safetensors"):
        (runs.folder(spec().id) / name).write_bytes(b"state")
    runs.put(record(), ARRAYS)
    assert files(runs, spec().id) == ["predictions.npz", "record.json"]


def test_undefined_metrics_become_null(runs):
    undefined = {"test": {"paper": {"corr": float("nan"), "mae": 0.5}}}
    stored = runs.put(dataclasses.replace(record(), metrics=undefined), {})
    text = (runs.folder(stored.id) / "record.json").read_text()
    assert "NaN" not in text
    assert runs.get(stored.id).metrics["test"]["paper"] == {"corr": None, "mae": 0.5}


def test_predictions_are_the_same_bytes_at_any_time(monkeypatch):
    first = npz_bytes(ARRAYS)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert npz_bytes(dict(reversed(ARRAYS.items()))) == first


def test_no_pickles_in_predictions(runs):
    with pytest.raises(TypeError, match="Python objects"):
        runs.put(record(), {"x": np.array([{}], dtype=object)})
    assert not runs.has(record().id)


# ------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"id": 1}', b'{"spec": {"model": "x"}}'],
)
def test_damaged_record_counts_as_not_done_and_is_told(runs, content):
    good, bad = runs.put(record(0), ARRAYS), runs.put(record(1), ARRAYS)
    (runs.folder(bad.id) / "record.json").write_bytes(content)
    assert not runs.has(bad.id)
    assert [r.id for r in runs.records()] == [good.id]
    (damage,) = runs.damaged()
    assert (damage.run, damage.path) == (bad.id, runs.folder(bad.id) / "record.json")
    assert f"{damage.path} is damaged ({damage.reason})" in str(damage)
    assert runs.put(record(1), ARRAYS) == bad == runs.get(bad.id)
    assert not runs.damaged()


def test_record_of_another_run_is_damage(runs):
    one, two = runs.put(record(0), {}), runs.put(record(1), {})
    (runs.folder(two.id) / "record.json").write_bytes((runs.folder(one.id) / "record.json").read_bytes())
    assert not runs.has(two.id)
    edited = json.loads((runs.folder(one.id) / "record.json").read_text())
    edited["spec"]["seed"] = 99
    (runs.folder(one.id) / "record.json").write_text(json.dumps(edited))
    assert not runs.has(one.id)


@pytest.mark.parametrize("name", RESULT)
def test_a_record_without_one_of_its_results_is_damage(runs, name):
    """A default in its place would be a measurement that was never made."""
    stored = runs.put(record(), ARRAYS)
    path = runs.folder(stored.id) / "record.json"
    raw = json.loads(path.read_text())
    del raw[name]
    path.write_text(json.dumps(raw))
    assert not runs.has(stored.id)
    assert runs.damage(stored.id).reason == f"it has no {name}"


def test_a_failure_in_place_of_a_record_is_damage(runs):
    stored = runs.put(record(), ARRAYS)
    path = runs.folder(stored.id) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed"}))
    assert not runs.has(stored.id)
    assert runs.damage(stored.id).reason == "it is not the record of this run"


def test_predictions_that_are_not_a_record_s_are_not_adopted(runs):
    stored = runs.put(record(), ARRAYS)
    folder = runs.folder(stored.id)
    content, right = (folder / "record.json").read_bytes(), (folder / "predictions.npz").read_bytes()
    (folder / "predictions.npz").unlink()
    runs.adopt(stored.id, content, {PREDICTIONS: npz_bytes({"valid_prediction": np.ones(4)})})
    assert not runs.has_predictions(stored.id)
    runs.adopt(stored.id, content, {PREDICTIONS: right})
    assert (folder / "predictions.npz").read_bytes() == right


def test_arrays_of_different_utterances_are_refused(runs):
    """As long as a reader needs them together."""
    odd = {"test_prediction": np.zeros(3), "test_label": np.zeros(4), "test_id": np.array(list("abcd"))}
    stored = runs.put(record(), odd)
    assert len(runs.predictions(stored.id)["test_label"]) == 4
    with pytest.raises(UserError, match="the arrays of test are not of the same utterances"):
        runs.predictions(stored.id, tuple(odd))


def test_changed_predictions_are_refused(runs):
    stored = runs.put(record(), ARRAYS)
    path = runs.folder(stored.id) / "predictions.npz"
    path.write_bytes(npz_bytes({"valid_prediction": np.ones(4)}))
    with pytest.raises(UserError, match="sha256"):
        runs.predictions(stored.id)
    path.unlink()
    with pytest.raises(UserError, match="Cannot read"):
        runs.predictions(stored.id)


def test_newer_version_is_refused(runs):
    stored = runs.put(record(), {})
    path = runs.folder(stored.id) / "record.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, "record_version": RECORD_VERSION + 1, "news": 1}))
    for use in (lambda: runs.get(stored.id), lambda: list(runs.records()), lambda: runs.put(record(), {})):
        with pytest.raises(UserError, match="newer version"):
            use()


def test_field_of_an_older_version_is_ignored(runs):
    stored = runs.put(record(), {})
    path = runs.folder(stored.id) / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "gone": 1}))
    assert runs.get(stored.id) == stored


# ------------------------------------------------------------------------------------------------ disks


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("call", ["replace", "fsync", "mkdir"])
def test_full_or_read_only_disk_is_one_sentence_and_leaves_nothing(runs, monkeypatch, code, call):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    if call != "mkdir":
        (runs.root / "runs").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        for use in (runs.check_writable, lambda: runs.put(record(), ARRAYS), lambda: runs.put_failed(spec(), "x")):
            with pytest.raises(UserError, match="Cannot write to") as caught:
                use()
            assert os.strerror(code) in str(caught.value)
    left = [p for p in runs.root.rglob("*") if p.is_file()]
    assert left == []
    assert not runs.has(spec().id)


def test_failure_between_predictions_and_record_is_not_done(runs, monkeypatch):
    real = os.replace

    def fail_for_record(source, target):
        if Path(target).name == "record.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail_for_record)
        with pytest.raises(UserError, match="No space left"):
            runs.put(record(), ARRAYS)
    assert files(runs, spec().id) == ["predictions.npz"]
    assert not runs.has(spec().id)
    assert runs.put(record(), {"valid_prediction": np.ones(2)}) == runs.get(spec().id)
    assert len(runs.predictions(spec().id)["valid_prediction"]) == 2


def test_results_folder_that_is_a_file(tmp_path):
    (tmp_path / "results").write_text("")
    runs = RunStore(tmp_path / "results")
    with pytest.raises(UserError, match="Cannot write"):
        runs.check_writable()
    with pytest.raises(UserError, match="Cannot write"):
        runs.claim("a")


KILLED = """
import sys; from pathlib import Path; from studies.store.run_store import write_atomic
path, n = Path(sys.argv[1]), 0
while True:
    n += 1
    write_atomic(path, (str(n % 10) * 20000).encode())
    if n == 1: print("going", flush=True)
"""


def test_kill_never_leaves_a_torn_file(tmp_path):
    path = tmp_path / "record.json"
    for pause in (0.0, 0.003, 0.007, 0.011):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(pause)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        assert len(content) == 20000
        assert len(set(content)) == 1


def test_stray_temporary_files_are_swept(runs):
    folder = runs.folder(spec().id)
    folder.mkdir(parents=True)
    (folder / ".record.json.0123.tmp").write_text("half")
    runs.put(record(), {})
    assert list(folder.glob(".*")) == []


LEFT = """
import sys
from pathlib import Path
from hycon.files import temporary

for folder in sys.argv[1:]:
    Path(folder).mkdir(parents=True, exist_ok=True)
    temporary(Path(folder) / "x.json").write_text("half")
"""


def test_what_dead_processes_left_is_swept_everywhere_and_no_more(runs):
    folders = [runs.root, *(runs.root / name for name in FOLDERS), runs.root / "corpora" / "mosi"]
    subprocess.run([sys.executable, "-c", LEFT, *folders], check=True)
    living = temporary(runs.root / "queue" / "y.json")
    living.write_text("half")
    runs.sweep()
    assert [path for path in runs.root.rglob(".*")] == [living]


def test_write_atomic_keeps_the_old_content_on_failure(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_concurrent_writers_of_one_run_leave_a_consistent_pair(runs):
    def finish(k):
        runs_of_thread = RunStore(runs.root)
        for number in range(10):
            runs_of_thread.put(record(number, loss=float(k)), {"valid_prediction": np.full(100, k)})

    threads = [threading.Thread(target=finish, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(list(runs.records())) == 10
    for stored in runs.records():
        assert (runs.predictions(stored.id)["valid_prediction"] == stored.valid_loss).all()
