"""Pull workers with real processes: they take what is published, once, and leave nothing behind."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from builders import run_spec
from fake_execute import executed, pids, spec
from queued import ARRAYS, EXECUTE, left, record, want
from waiting import alive
from waiting import wait_for as wait

from hycon.errors import UserError
from hycon.saved import WEIGHTS, digest_in
from studies.cli import main
from studies.engines import queue_worker
from studies.engines.queue_worker import Limits, work
from studies.engines.run import run
from studies.registry import literal
from studies.store.record import RunSpec
from studies.store.run_store import RunStore

wait_for = partial(wait, seconds=20.0)
HERE = Path(__file__).parents[2]  # of the helpers


# ------------------------------------------------------------------------------------------------ taking runs


def test_it_does_what_is_in_the_queue_and_takes_it_away(pull, runs, tmp_path):
    specs = [spec(n) for n in range(4)]
    want(runs, specs)
    done = pull(slots=2)
    assert {s.id for s in done.done} == {s.id for s in specs} == set(executed(tmp_path))
    assert all(runs.has(s.id) for s in specs)
    assert Counter(e.kind for e in pull.events) == {"start": 4, "done": 4}
    assert done.end == "idle"
    assert len(set(pids(tmp_path)) | {os.getpid()}) == 5
    assert left(runs) == left(runs, "leases") == []


def test_a_record_is_the_same_whoever_made_it(pull, runs, tmp_path):
    want(runs, [spec(3)])
    pull()
    other = RunStore(tmp_path / "other")
    run([spec(3)], other, executor="inline", execute=EXECUTE, data_root=tmp_path)
    files = ("record.json", "predictions.npz")
    assert [(runs.folder(spec(3).id) / f).read_bytes() for f in files] == [
        (other.folder(spec(3).id) / f).read_bytes() for f in files
    ]


def test_what_has_ended_since_it_was_published_is_not_done_again(pull, runs, tmp_path):
    ended, failed, again = spec(0), spec(1), spec(2)
    want(runs, [ended, failed])
    runs.put(record(ended), ARRAYS)
    runs.put_failed(failed, "by someone")
    runs.put_failed(again, "by someone")
    want(runs, [again], attempts=1)  # as a driver publishes it that was issued after the failure
    assert pull().done == [again]
    assert executed(tmp_path) == [again.id]
    assert left(runs) == []


def test_what_fails_is_told_and_not_tried_for_ever(pull, runs, tmp_path):
    bad, mortal = spec(0, breaks=9), spec(1, killed=9)
    want(runs, [bad, mortal])
    done = pull()
    assert dict((s.id, r) for s, r in done.failed) == {
        bad.id: "KeyError: 'weights'",
        mortal.id: "killed by signal 9 (out of memory?)",
    }
    assert Counter(executed(tmp_path)) == {bad.id: 1, mortal.id: 2}
    assert left(runs) == left(runs, "leases") == []


def test_what_it_cannot_do_is_left(pull, runs, tmp_path):
    other = dataclasses.replace(spec(0), device="cuda")
    want(runs, [other])
    want(runs, [spec(1)], execute="os:system")
    (runs.root / "queue" / "0123456789abcdef.json").write_text('{"spec": {"model": "from the future"}}')
    (runs.root / "queue" / f"{spec(5).id}.json").write_bytes((runs.root / "queue" / f"{other.id}.json").read_bytes())
    done = pull()
    assert sorted(done.refused.values()) == ["it is for cuda", "it is for os:system"]
    assert (done.done, executed(tmp_path), len(left(runs))) == ([], [], 4)


def test_a_corpus_that_is_not_there_is_no_failure_of_the_runs(pull, runs, tmp_path):
    want(runs, [spec(0)], execute=queue_worker.EXECUTE)
    done = pull(execute=queue_worker.EXECUTE)
    assert list(done.refused.values()) == [f"corpus 'toy' is not in {tmp_path}"]
    assert (runs.failed(spec(0).id), len(left(runs))) == (None, 1)


def test_runs_of_another_protocol_are_left_to_workers_with_its_code(pull, runs, tmp_path):
    """A worker that was started before the code was brought up to date, or on a machine with another checkout."""
    newer = dataclasses.replace(spec(0), suite=RunSpec.suite + 1)
    want(runs, [newer])
    (why,) = pull().refused.values()
    assert why == f"it is of version {newer.suite} of the suite, this code has {RunSpec.suite}"
    assert (runs.failed(newer.id), executed(tmp_path), len(left(runs))) == (None, [], 1)


def test_runs_of_a_model_that_this_code_does_not_have_are_left():
    def why(**changes):
        return queue_worker.other_version(dataclasses.replace(spec(0), **changes))

    assert why() == "this code has no model fake"
    assert why(model="tfn", version=99) == f"it is of version 99 of tfn, this code has {literal('tfn', 'VERSION')}"
    assert why(model="tfn", version=literal("tfn", "VERSION")) is None
    assert why(source="0" * 64) is None  # of which `missing_model` tells


def test_a_worker_leaves_a_run_of_another_version_of_a_model(pull, runs, tmp_path):
    from hycon.data.importers.synthetic import synthesize

    held = synthesize("toy", tmp_path, sizes={"train": 4, "valid": 4, "test": 4}).sha256
    wanted = dataclasses.replace(spec(0), model="tfn", version=99, data=held)
    want(runs, [wanted], execute=queue_worker.EXECUTE)
    (why,) = pull(execute=queue_worker.EXECUTE).refused.values()
    assert why.startswith("it is of version 99 of tfn")
    assert (runs.failed(wanted.id), len(left(runs))) == (None, 1)


def test_a_corpus_of_other_content_is_refused(tmp_path):
    from hycon.data.importers.synthetic import synthesize

    held = synthesize("tiny", tmp_path, sizes={"train": 4, "valid": 4, "test": 4}).sha256
    assert queue_worker.missing_corpus("tiny", held, str(tmp_path)) is None
    assert "holds other data" in queue_worker.missing_corpus("tiny", "0" * 64, str(tmp_path))


def test_an_encoder_that_is_not_there_is_no_failure_of_the_runs(pull, runs, tmp_path, monkeypatch):
    """Nothing is fetched, whatever its name, and a folder of its name is not taken for it."""
    import huggingface_hub

    from hycon.data.importers.synthetic import synthesize

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: asked.append(options) or 1 / 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    held = synthesize("toy", tmp_path, sizes={"train": 4, "valid": 4, "test": 4}).sha256
    encoder = {"name": "tiny", "sha256": "0" * 64, "rule": "2"}
    wanted = dataclasses.replace(spec(0), data=held, text="bert", encoder=encoder)
    want(runs, [wanted], execute=queue_worker.EXECUTE)
    done = pull(execute=queue_worker.EXECUTE)
    assert [why[:36] for why in done.refused.values()] == ["There is no text encoder 'tiny' with"]
    assert (runs.failed(wanted.id), len(left(runs))) == (None, 1)
    assert all(options["local_files_only"] for options in asked)


def test_a_worker_measures_robustness_and_keeps_weights_for_the_runs_that_want_it(pull, runs, corpora):
    plain, wanted = (run_spec(corpora, "ef_lstm", epochs=1, seed=seed) for seed in (1, 2))
    want(runs, [plain], execute=queue_worker.EXECUTE, data=corpora)
    want(runs, [wanted], execute=queue_worker.ROBUST, keep_weights=True, data=corpora)
    done = pull(execute=queue_worker.EXECUTE, data_root=None)
    assert (len(done.done), done.failed, done.refused) == (2, [], {})
    assert [runs.get(s.id).robust for s in (plain, wanted)] == [False, True]
    kept = [
        digest_in(runs.folder(s.id) / WEIGHTS) if (runs.folder(s.id) / WEIGHTS).exists() else None
        for s in (plain, wanted)
    ]
    assert kept == [None, runs.get(wanted.id).weights_sha256]


def test_once(pull, runs):
    want(runs, [spec(n) for n in range(3)])
    done = pull(limits=Limits(idle=30, once=True), slots=2)
    assert (len(done.done), done.end, len(left(runs))) == (1, "once", 2)


def test_it_waits_for_more(pull, runs):
    thread = threading.Timer(0.6, want, (runs, [spec(0)]))
    thread.start()
    began = time.monotonic()
    assert pull(limits=Limits(idle=1.5)).done == [spec(0)]
    assert 2.0 < time.monotonic() - began < 10


def test_what_the_driver_takes_back_is_not_started(pull, runs, tmp_path):
    first, second = spec(0, sleep=0.3), spec(1, sleep=0.3)
    want(runs, [first, second])

    def cancel(event):
        if event.kind == "start":
            for path in (runs.root / "queue").iterdir():
                path.unlink()

    assert len(pull(on_event=cancel).done) == 1
    assert len(executed(tmp_path)) == 1


# ------------------------------------------------------------------------------------------------ many, and deaths

WORKER = """
import sys
from studies.engines.queue_worker import Limits, work
from studies.store.run_store import RunStore

if __name__ == "__main__":
    try:
        done = work(RunStore(sys.argv[1]), slots=2, limits=Limits(idle=float(sys.argv[2])), poll=0.1, preload=(),
                    execute="fake_execute:execute")
    except KeyboardInterrupt:
        sys.exit(130)
    print(len(done.done))
"""


def start(runs, tmp_path, idle=1):
    script = tmp_path / "pull_worker.py"
    script.write_text(WORKER)
    return subprocess.Popen(
        [sys.executable, script, runs.root, str(idle)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, HERE)))},
    )  # fmt: skip


def test_two_workers_and_a_driver_share_the_work(runs, tmp_path):
    specs = [spec(n, sleep=0.15) for n in range(24)]
    workers = [start(runs, tmp_path, idle=1) for _ in range(2)]
    wait_for(lambda: all(alive(w.pid) for w in workers))
    summary = run(specs, runs, workers=1, execute=EXECUTE, data_root=tmp_path, preload=())
    outs = [worker.communicate(timeout=30) for worker in workers]
    assert [err for _, err in outs] == ["", ""]
    assert len(summary.done) == 24
    assert Counter(executed(tmp_path)) == dict.fromkeys([s.id for s in specs], 1)
    assert left(runs) == left(runs, "leases") == []


def test_kill_9_of_a_worker_loses_nothing(pull, runs, tmp_path):
    want(runs, [spec(n, sleep=0.4) for n in range(4)])
    worker = start(runs, tmp_path)
    wait_for(lambda: len(executed(tmp_path)) >= 2)
    os.kill(worker.pid, signal.SIGKILL)
    worker.communicate()
    wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=2)
    pull(slots=2)
    assert all(runs.has(spec(n, sleep=0.4).id) for n in range(4))
    assert left(runs) == left(runs, "leases") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_frees_what_it_had_begun(runs, tmp_path, number):
    want(runs, [spec(n, sleep=60) for n in range(3)])
    worker = start(runs, tmp_path)
    wait_for(lambda: len(executed(tmp_path)) == 2)
    began = time.monotonic()
    os.kill(worker.pid, number)
    assert worker.communicate(timeout=10) == ("", "")
    assert (worker.returncode, time.monotonic() - began < 5) == (130, True)
    assert not any(map(alive, pids(tmp_path)))
    assert (len(left(runs)), left(runs, "leases"), list(runs.failures())) == (3, [], [])


# ------------------------------------------------------------------------------------------------ the command


def test_the_command(runs, tmp_path, capsys):
    want(runs, [spec(0)], execute=queue_worker.EXECUTE)
    want(runs, [spec(1)], execute=queue_worker.EXECUTE)
    runs.put(record(spec(1)), ARRAYS)
    assert main(["worker", "--results", str(runs.root), "--data", str(tmp_path), "--idle", "0"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "0 runs done; nothing left to take, 0 in the queue\n"
        f"1 not taken: corpus 'toy' is not in {tmp_path}\n"
    )  # fmt: skip
    assert err == ""
    assert left(runs) == [f"{spec(0).id}.json"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--slots", "0"], "--slots is 0"),
        (["--time", "0"], "--time is 0"),
        (["--idle", "-1"], "--idle is -1"),
        (["--devices", "gpu"], "Unknown device 'gpu'"),
        (["--results", "nowhere"], "is not there"),
    ],
)
def test_mistakes(runs, tmp_path, capsys, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    runs.check_writable()
    assert main(["worker", "--results", str(runs.root), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert left(runs) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(runs):
    runs.root.write_text("a file")
    with pytest.raises(UserError, match="Cannot"):
        work(runs, limits=Limits(idle=0))
