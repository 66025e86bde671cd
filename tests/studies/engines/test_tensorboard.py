"""--log tensorboard: events follow from curve.jsonl, no point twice, and TensorBoard itself reads them."""

import sys
import time

import pytest
from builders import fill, spec
from commands import RUN, bench, places

from hycon.errors import UserError
from studies.engines import tensorboard as module
from studies.engines.options import EXECUTE
from studies.engines.queue import Entry, published
from studies.engines.tensorboard import EVENTS, Follower, check_log
from studies.store.curve import writing
from studies.store.run_store import RunStore

pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
EPOCH = {"epoch": 1, "train_loss": 2.0, "valid_loss": 1.0, "lr": 0.1, "seconds": 0.5}


def wanted(store, given):
    return published(store, [Entry(given, 0, EXECUTE, "data")])


def points(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(p.step, p.value) for p in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_epochs_appear_while_the_run_trains_and_once(runs, monkeypatch):
    monkeypatch.setattr(module, "EVERY", 0.01)
    given = spec()
    folder = runs.root / "tensorboard" / "mosi" / "HyCon-W-O-L_SCL" / given.id
    with wanted(runs, given), Follower(runs, lambda spec: "HyCon (W/O L_SCL)"), writing(runs, given.id) as on_epoch:
        on_epoch(EPOCH)
        deadline = time.monotonic() + 20
        while not ((folder / EVENTS).exists() and points(folder)) and time.monotonic() < deadline:
            time.sleep(0.01)  # the file is there before the epoch is in it
        assert points(folder)["loss/train"] == [(1, 2.0)]
        on_epoch({**EPOCH, "epoch": 2, "valid_loss": 0.5})
    assert points(folder)["loss/validation"] == [(1, 1.0), (2, 0.5)]
    before = (folder / EVENTS).read_bytes()
    with wanted(runs, given), Follower(runs, lambda spec: "HyCon (W/O L_SCL)"):
        pass
    assert (folder / EVENTS).read_bytes() == before


def test_a_new_attempt_s_shorter_curve_replaces_the_longer_one(runs):
    given = spec()
    for epochs in (3, 1):
        with wanted(runs, given), Follower(runs, lambda spec: "row"), writing(runs, given.id) as on_epoch:
            for number in range(1, epochs + 1):
                on_epoch({**EPOCH, "epoch": number})
    found = points(runs.root / "tensorboard" / "mosi" / "row" / given.id)
    assert [step for step, _ in found["learning rate"]] == [1]


def test_finished_runs_from_before_have_their_record_s_curve(runs):
    curve = [{"epoch": 1, "train_loss": 2.0, "valid_loss": 1.0}]
    study = fill(runs, [0.1, 0.2], curve=[curve, curve], started="2026-11-27T10:00:00+00:00", seconds_per_epoch=2.0)
    with Follower(runs, lambda spec: "EF-LSTM-GloVe" if spec.id in study.runs else None):
        pass
    assert len(list((runs.root / "tensorboard" / "mosi").iterdir())) == 1
    for run in study.runs:
        found = points(runs.root / "tensorboard" / "mosi" / "EF-LSTM-GloVe" / run)
        assert found == {"loss/train": [(1, 2.0)], "loss/validation": [(1, 1.0)]}


def test_a_link_is_not_followed(runs, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    runs.root.mkdir()
    (runs.root / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        RunStore(runs.root)


def test_the_command_writes_one_folder_a_run_by_row(capsys, tmp_path):
    command = [*RUN, *places(tmp_path), "--rows", "EF-LSTM-GloVe", "--trials", "1", "--executor", "inline"]
    assert bench(capsys, *command, "--seeds", "1")[0] == 0
    assert bench(capsys, *command, "--seeds", "2", "--log", "tensorboard")[0] == 0
    store = RunStore(tmp_path / "results")
    folders = (tmp_path / "results" / "tensorboard" / "synthetic" / "EF-LSTM-GloVe").iterdir()
    found = {folder.name: points(folder)["loss/validation"] for folder in folders}
    curves = {r.id: [(e["epoch"], pytest.approx(e["valid_loss"])) for e in r.curve] for r in store.records()}
    assert found == curves
    assert len(found) == 3


def test_mistakes(capsys, tmp_path, monkeypatch):
    code, _, err = bench(capsys, *RUN, *places(tmp_path), "--log", "tensorbord")
    assert (code, err.count("\n")) == (2, 1)
    assert "nearest: tensorboard" in err
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"needs its package: `pip install -e \"\.\[tensorboard\]\""):
        check_log("tensorboard")
    assert not (tmp_path / "results").exists()
