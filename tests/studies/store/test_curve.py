"""runs/<id>/curve.jsonl: written while a run trains, readable whatever ends it, and without effect on anything else."""

import json
import os

import pytest
from builders import run_spec, spec

from studies.engines.child import attempt
from studies.engines.options import EXECUTE
from studies.engines.run import run
from studies.store.curve import read_curve, writing
from studies.trust.doctor import examine

EPOCH = {"epoch": 1, "train_loss": 2.0, "valid_loss": 1.0, "lr": 0.1, "seconds": 0.5}


def test_a_line_can_be_read_as_soon_as_its_epoch_has_ended(runs):
    with writing(runs, "a" * 16) as on_epoch:
        for number in (1, 2):
            on_epoch({**EPOCH, "epoch": number})
            assert [epoch["epoch"] for epoch in read_curve(runs, "a" * 16)] == list(range(1, number + 1))


def test_a_run_that_crashes_leaves_its_epochs_and_the_next_attempt_begins_anew(runs):
    with pytest.raises(RuntimeError), writing(runs, "a" * 16) as on_epoch:
        on_epoch(EPOCH)
        raise RuntimeError
    assert [epoch["valid_loss"] for epoch in read_curve(runs, "a" * 16)] == [1.0]
    with writing(runs, "a" * 16) as on_epoch:
        on_epoch({**EPOCH, "valid_loss": 3.0})
    assert [epoch["valid_loss"] for epoch in read_curve(runs, "a" * 16)] == [3.0]


def test_a_torn_line_is_left_out(runs):
    with writing(runs, "a" * 16) as on_epoch:
        on_epoch(EPOCH)
    with open(runs.folder("a" * 16) / "curve.jsonl", "a") as handle:
        handle.write('{"epoch": 2, "train_l')
    assert len(read_curve(runs, "a" * 16)) == 1


def test_no_epoch_no_file(runs):
    with writing(runs, "a" * 16):
        pass
    assert list(runs.folder("a" * 16).iterdir()) == []
    assert read_curve(runs, "a" * 16) == []


def test_what_cannot_be_written_stops_no_run(runs, tmp_path):
    runs.folder("a" * 16).mkdir(parents=True)
    (runs.folder("a" * 16) / "curve.jsonl").symlink_to(tmp_path / "elsewhere")
    with writing(runs, "a" * 16) as on_epoch:
        on_epoch(EPOCH)
    assert not (tmp_path / "elsewhere").exists()
    assert read_curve(runs, "a" * 16) == []


def test_a_run_leaves_its_curve_beside_the_same_record_as_without(runs, corpora, monkeypatch):
    """The file's losses are the record's, bit for bit; doctor knows the file; writing it moves nothing."""
    given = run_spec(corpora, epochs=3)
    attempt(given, runs, EXECUTE, str(corpora), "cpu")
    record = runs.get(given.id)
    lines = (runs.folder(given.id) / "curve.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert [{key: one[key] for key in record.curve[0]} for one in written] == record.curve
    assert all(set(one) == {"epoch", "train_loss", "valid_loss", "lr", "seconds", "time"} for one in written)
    assert examine(runs) == []
    from studies.engines.one_run import execute

    plain, _ = execute(given, data_root=str(corpora))
    assert (plain.weights_sha256, plain.curve) == (record.weights_sha256, record.curve)


def test_every_engine_s_runs_leave_one(runs, corpora):
    given = run_spec(corpora, epochs=2)
    run([given], runs, executor="local", data_root=corpora)
    assert [epoch["epoch"] for epoch in read_curve(runs, given.id)] == [1, 2]


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_in_its_place_is_not_waited_for(runs):
    folder = runs.folder(spec().id)
    folder.mkdir(parents=True)
    os.mkfifo(folder / "curve.jsonl")
    with writing(runs, spec().id) as on_epoch:
        on_epoch(EPOCH)
    assert read_curve(runs, spec().id) == []
