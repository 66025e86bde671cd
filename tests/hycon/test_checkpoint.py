"""A training that was cut goes on from its checkpoint with the same bits, or begins again and says why."""

from __future__ import annotations

import errno
import json
from functools import partial
from itertools import pairwise

import pytest
import torch
from builders import run_spec
from safetensors.torch import load_file, save_file
from scripted_model import Scripted

from hycon import checkpoint
from hycon.checkpoint import STATE, Checkpoints
from hycon.data import load
from hycon.data.batch import Batch, Layout
from hycon.data.prepare import prepare
from hycon.data.ragged import Ragged
from hycon.kernels.optim import RULES
from hycon.pretrained import load_tokenizer
from hycon.train import Training, fit, seed_everything
from studies.engines.one_run import weights_sha256
from studies.registry import build_model

IDENTITY = {"run": "r", "device": "cpu"}
ROWS = [
    ("lf_lstm", "glove", {"optimizer": "adam"}),
    ("tfn", "glove", {"optimizer": "adamw"}),  # batch norm's buffers
    ("qmf", "glove", {"optimizer": "rmsprop", "lr": 1e-3}),
    ("hycon", "bert", {"warmup": 0.3, "lr": 1e-3, "head_lr": 2e-3}),  # three losses; a schedule
    ("mag", "xlnet", {"lr": 1e-3}),
]


def batch_of(labels) -> Batch:
    rows = Ragged.from_list([torch.ones(1, 1) for _ in labels])
    return Batch(rows, rows, rows, torch.tensor(labels), Layout({"text": 9, "audio": 9, "vision": 9}))


class Cut(Exception):
    pass


@pytest.fixture
def training(corpora, request):
    """train(cut=epochs or None, checkpoints=...) -> (hash of the weights, what was found, the epochs told)."""
    name, text, options = getattr(request, "param", ROWS[0])
    spec = run_spec(corpora, name, text, epochs=6, patience=9, **options)
    tokenizer = load_tokenizer(text, spec.encoder) if spec.encoder else None
    batches = prepare(load("small", corpora), text, tokenizer=tokenizer)

    def train(cut=None, checkpoints=None):
        seed_everything(7)
        width = 32 if spec.encoder else batches["train"].text.rows.shape[1]
        dims = {"text": width, **{m: getattr(batches["train"], m).rows.shape[1] for m in ("audio", "vision")}}
        model = build_model(name, text=text, dims=dims, encoder=spec.encoder, **spec.config)
        told = []

        def on_epoch(entry):
            told.append({key: value for key, value in entry.items() if key != "seconds"})
            if entry["epoch"] == cut:
                torch.manual_seed(99)
                raise Cut

        given = Training(**spec.training)
        try:
            fitted = fit(
                model, batches["train"], batches["valid"], given, seed=3, on_epoch=on_epoch, checkpoints=checkpoints
            )
        except Cut:
            return None
        return weights_sha256(model), (fitted.best_epoch, fitted.valid_loss, fitted.curve), told

    return train


def keeping(folder, **changes) -> Checkpoints:
    said: list[str] = []
    kept = Checkpoints(folder, 0.0, {**IDENTITY, **changes}, said.append)
    kept.said = said
    return kept


@pytest.mark.parametrize("training", ROWS, indirect=True, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_training_that_is_cut_twice_ends_with_the_same_bits(training, tmp_path):
    undisturbed = training()
    assert training(cut=2, checkpoints=keeping(tmp_path)) is None
    assert training(cut=4, checkpoints=keeping(tmp_path)) is None
    last = keeping(tmp_path)
    assert training(checkpoints=last) == undisturbed
    assert last.resumed == [1, 3]  # cut within an epoch, before its checkpoint
    assert last.said == ["Going on after epoch 3, from a checkpoint."]


def test_keeping_checkpoints_moves_no_bit(training, tmp_path):
    assert training(checkpoints=keeping(tmp_path)) == training()


def test_every_optimiser_has_a_row():
    assert {options.get("optimizer", "adam") for _, _, options in ROWS} | {"adamw"} == set(RULES)


def test_a_checkpoint_comes_at_the_end_of_an_epoch_once_it_is_due(training, tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 40))
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: float(next(now)))
    kept, epochs, save = Checkpoints(tmp_path, 100.0, IDENTITY, print, _written=-40.0), [], Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, so_far, *rest: (epochs.append(so_far.epoch), save(self, so_far, *rest))
    )
    training(checkpoints=kept)
    assert epochs == [3, 6]  # 40 s an epoch and 40 s for a look


def test_only_the_newest_tensors_stay(training, tmp_path):
    training(cut=5, checkpoints=keeping(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-4.safetensors", STATE]


# ------------------------------------------------------------------------------------------------- what does not fit


def flip(folder):
    (path,) = folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def state(folder, **changes):
    path = folder / STATE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def other_tensors(folder):
    """With a sha256 that is theirs."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if name.startswith("optimizer."))
    save_file({**tensors, name: torch.zeros(3, 3, 3)}, path)
    state(folder, sha256=checkpoint.sha256_file(path))


def link(folder):
    (path,) = folder.glob("*.safetensors")
    path.rename(folder / "elsewhere")
    path.symlink_to(folder / "elsewhere")


def other_generator(folder):
    """A state that no generator takes, with a sha256 that is its own."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    save_file({**tensors, "generator.order": tensors["generator.order"].fill_(255)}, path)
    state(folder, sha256=checkpoint.sha256_file(path))


def outside(folder):
    (path,) = folder.glob("*.safetensors")
    (folder.parent / "outside").mkdir(exist_ok=True)
    path.rename(folder.parent / "outside" / path.name)
    state(folder, tensors=f"../outside/{path.name}")


DAMAGE = {
    "its generator order: Invalid": other_generator,
    "its file names tensors elsewhere": outside,
    "maximum recursion": lambda folder: (folder / STATE).write_text("[" * 200_000),
    "Expected `int`": lambda folder: state(folder, resumed=["x"]),
    "its epochs do not fit": lambda folder: state(folder, epochs=[{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]),
    "Number out of range": lambda folder: state(folder, seconds=10**400),
    "its tensors do not have their sha256": flip,
    "its optimiser's state has another": other_tensors,
    "its tensors are not there": link,
    "its file is not of this suite's format": lambda folder: state(folder, format=2),
    "its epochs do not fit together": lambda folder: state(folder, best_epoch=9),
    "Expected `float`": lambda folder: state(folder, seconds="long"),
    "it has no epoch": lambda folder: (folder / STATE).write_text(json.dumps({"format": 1, "identity": IDENTITY})),
    "it was made with another run": lambda folder: state(folder, identity={**IDENTITY, "run": "s"}),
    "it was made with another identity": lambda folder: state(folder, identity={**IDENTITY, "identity": 1}),
    "Expecting": lambda folder: (folder / STATE).write_text('{"format": 1'),
}  # fmt: skip


@pytest.mark.parametrize("said", DAMAGE)
def test_what_does_not_fit_is_said_and_training_begins_again(training, tmp_path, said):
    undisturbed = training()
    training(cut=4, checkpoints=keeping(tmp_path))
    DAMAGE[said](tmp_path)
    again = keeping(tmp_path)
    assert training(checkpoints=again) == undisturbed
    assert again.resumed == []
    assert again.said[0].startswith(f"The checkpoint in {tmp_path} is not used (")
    assert said in again.said[0]
    assert again.said[0].endswith("): training begins again.")


def test_a_folder_that_is_a_link_is_not_written_through(training, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "outside")
    kept = keeping(tmp_path / "run")
    training(checkpoints=kept)
    assert list((tmp_path / "outside").iterdir()) == []
    assert kept.said[0] == "No checkpoint after epoch 1: its folder is a link."


def test_a_full_disk_costs_a_checkpoint_and_no_run(training, tmp_path, monkeypatch):
    undisturbed, write = training(), checkpoint._write_tensors

    def full(path, tensors):
        if path.name != "checkpoint-1.safetensors":
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, tensors)

    monkeypatch.setattr(checkpoint, "_write_tensors", full)
    kept = keeping(tmp_path)
    assert training(checkpoints=kept) == undisturbed
    assert kept.said == [f"No checkpoint after epoch {n}: No space left on device." for n in range(2, 7)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1.safetensors", STATE]
    monkeypatch.undo()
    again = keeping(tmp_path)
    assert training(checkpoints=again) == undisturbed
    assert again.resumed == [1]


def test_a_kill_between_the_two_files_leaves_the_checkpoint_before(training, tmp_path, monkeypatch):
    undisturbed = training()
    training(cut=3, checkpoints=keeping(tmp_path))
    monkeypatch.setattr(checkpoint, "write_atomic", lambda *_: (_ for _ in ()).throw(Cut()))
    assert training(checkpoints=keeping(tmp_path)) is None
    monkeypatch.undo()
    again = keeping(tmp_path)
    assert training(checkpoints=again) == undisturbed
    assert again.resumed == [2]


def test_the_seconds_of_all_processes_are_added(training, tmp_path):
    training(cut=4, checkpoints=keeping(tmp_path))
    before = json.loads((tmp_path / STATE).read_text())
    kept = keeping(tmp_path)
    training(checkpoints=kept)
    after = json.loads((tmp_path / STATE).read_text())
    assert after["seconds"] > before["seconds"] > 0
    seconds = [entry["seconds"] for entry in after["epochs"]]
    assert all(a < b for a, b in pairwise(seconds))


@pytest.mark.parametrize("cut", [3, 4])  # the best epoch is the checkpoint's own, or one before it
def test_the_best_epoch_before_the_cut_is_what_is_left(tmp_path, cut):
    """Of a model that is best in epoch 2 and whose weights move in every epoch."""
    batch = batch_of([1.0, 2.0])

    def on_epoch(entry, at=None):
        if entry["epoch"] == at:
            raise Cut

    def train(at=None, checkpoints=None):
        model = Scripted([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
        given = Training(lr=0.1, epochs=6)
        told = partial(on_epoch, at=at)
        return model, fit(model, batch, batch_of([0.0]), given, seed=0, on_epoch=told, checkpoints=checkpoints)

    undisturbed, _ = train()
    with pytest.raises(Cut):
        train(at=cut, checkpoints=keeping(tmp_path))
    again = keeping(tmp_path)
    model, fitted = train(checkpoints=again)
    assert again.resumed == [cut - 1]
    assert fitted.best_epoch == 2
    assert weights_sha256(model) == weights_sha256(undisturbed)
