"""The training loop, on models whose every number is known beforehand."""

import dataclasses
import os
from types import SimpleNamespace

import pytest
import torch
from scripted_model import Scripted
from torch import nn

import hycon.train
from hycon.data.batch import Batch, Layout
from hycon.data.ragged import Ragged
from hycon.errors import NonFiniteLoss, UserError
from hycon.output import Output
from hycon.text import PretrainedText
from hycon.train import Training, fit, learning_rate_factors, predict, seed_everything, validation_loss
from studies.registry import build_model


def batch_of(labels, lengths=None):
    """Text row = the utterance's index, so that a model can tell which ones it sees."""
    lengths = lengths or [1] * len(labels)
    text = Ragged.from_list([torch.full((n, 1), float(i)) for i, n in enumerate(lengths)])
    other = Ragged.from_list([torch.ones(n, 1) for n in lengths])
    layout = Layout({"text": 9, "audio": 9, "vision": 9})
    return Batch(text, other, other, torch.tensor(labels, dtype=torch.float32), layout)


class Recorder(nn.Module):
    """A line through the utterances' indices; keeps what it was shown in training."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.seen = []

    def forward(self, batch):
        index = batch.text.padded()[:, 0]
        if self.training:
            self.seen.append(index[:, 0].int().tolist())
        return Output(self.line(index)[:, 0])


def train_scripted(script, **options):
    model = Scripted(script)
    training = Training(lr=0.1, epochs=len(script), **options)
    fitted = fit(model, batch_of([1.0, 2.0]), batch_of([0.0, 0.0, 0.0]), training, seed=0)
    return model, fitted


# ------------------------------------------------------------------------------------------------- best epoch


def test_leaves_the_model_with_its_best_epoch():
    model, fitted = train_scripted([5.0, 3.0, 4.0, 2.0, 6.0, 7.0])
    assert (fitted.best_epoch, fitted.valid_loss) == (4, 2.0)
    assert int(model.epoch) == 4  # buffers as well as weights
    assert [e["epoch"] for e in fitted.curve] == [1, 2, 3, 4, 5, 6]
    assert [e["valid_loss"] for e in fitted.curve] == [5.0, 3.0, 4.0, 2.0, 6.0, 7.0]
    assert fitted.seconds > 0


def test_the_first_of_equal_epochs_is_best():
    assert train_scripted([3.0, 2.0, 2.0, 2.0])[1].best_epoch == 2


@pytest.mark.parametrize(
    ("patience", "epochs"),
    [(1, 3), (2, 6), (3, 8), (9, 8)],  # epochs run of the script below
)
def test_stops_after_patience_epochs_without_a_better_one(patience, epochs):
    _, fitted = train_scripted([5.0, 4.0, 4.5, 3.0, 3.0, 3.1, 2.9, 8.0], patience=patience)
    assert len(fitted.curve) == epochs


def test_selection_by_mean_squared_error():
    class TwoPredictions(Scripted):
        def forward(self, batch):
            return super().forward(batch) if self.training else Output(self.script[self.epoch - 1])

    chosen = {}
    for selection in ("loss", "mse"):
        model = TwoPredictions([[1.0, 1.0], [0.0, 1.8]])  # absolute errors 1 and 0.9, squares 1 and 1.62
        training = Training(lr=0.1, epochs=2, selection=selection)
        chosen[selection] = fit(model, batch_of([1.0]), batch_of([0.0, 0.0]), training, seed=0).best_epoch
    assert chosen == {"loss": 2, "mse": 1}


def test_progress_is_told_epoch_by_epoch():
    told = []
    fitted = fit(
        Scripted([2.0, 1.0]),
        batch_of([1.0]),
        batch_of([0.0]),
        Training(lr=0.1, epochs=2),
        seed=0,
        on_epoch=told.append,
    )
    assert [{key: one[key] for key in ("epoch", "train_loss", "valid_loss")} for one in told] == fitted.curve
    assert set(told[0]) == {"epoch", "train_loss", "valid_loss", "lr", "seconds"}
    assert 0 < told[0]["seconds"] <= told[1]["seconds"] <= fitted.seconds


def test_progress_tells_the_learning_rate_of_an_epoch_s_last_step():
    told = []
    training = Training(lr=0.1, epochs=4, warmup=0.5)
    fit(Scripted([4.0, 3.0, 2.0, 1.0]), batch_of([1.0]), batch_of([0.0]), training, seed=0, on_epoch=told.append)
    assert [one["lr"] for one in told] == pytest.approx([0.0, 0.05, 0.1, 0.05])


# ------------------------------------------------------------------------------------------------- validation


def test_validation_loss_depends_on_nothing_but_the_split(batches, monkeypatch):
    split = batches("small", "glove")["train"]
    torch.manual_seed(0)
    net = build_model("tfn", text="glove", dims={"text": split.text.rows.shape[1], "audio": 8, "vision": 6})
    training = Training(lr=0.1)
    losses = set()
    for _ in range(5):
        net.train()
        losses.add(validation_loss(net, split, training))
        torch.rand(3)
    assert len(losses) == 1
    whole = losses.pop()
    for rows in (1, 7, 39):  # 40 utterances: 5 batches of 7 and one of 5; 39 and 1
        monkeypatch.setattr(hycon.train, "EVAL_ROWS", rows)
        assert validation_loss(net, split, training) == pytest.approx(whole, rel=1e-5)
    assert validation_loss(net, split.take(torch.randperm(len(split))), training) == pytest.approx(whole, rel=1e-5)


def test_validation_loss_is_no_mean_of_batch_means(monkeypatch):
    monkeypatch.setattr(hycon.train, "EVAL_ROWS", 2)
    model = Scripted([1.0]).train()
    model(batch_of([0.0]))
    assert validation_loss(model, batch_of([1.0, 1.0, 4.0]), Training(lr=0.1)) == 1.0  # not (0 + 3) / 2


def test_predictions_come_in_the_split_s_order(monkeypatch):
    monkeypatch.setattr(hycon.train, "EVAL_ROWS", 3)
    model = Recorder()
    with torch.no_grad():
        model.line.weight.fill_(1.0)
        model.line.bias.zero_()
    found = predict(model, batch_of([0.0] * 8, lengths=[3, 1, 4, 1, 5, 9, 2, 6]))
    assert found.tolist() == list(range(8))


# ------------------------------------------------------------------------------------------------- an epoch


def test_every_utterance_once_an_epoch_and_a_last_batch_of_one():
    model = Recorder()
    data = batch_of([0.5 * i for i in range(9)])
    fit(model, data, data, Training(lr=0.01, batch_size=4, epochs=2, patience=5), seed=3)
    assert [len(seen) for seen in model.seen] == [4, 4, 1, 4, 4, 1]
    first, second = ([i for batch in batches for i in batch] for batches in (model.seen[:3], model.seen[3:]))
    assert sorted(first) == sorted(second) == list(range(9))
    assert first != second


def test_the_order_follows_from_the_seed_alone():
    def order(seed, state):
        torch.manual_seed(state)
        model, data = Recorder(), batch_of([1.0] * 9)
        fit(model, data, data, Training(lr=0.01, batch_size=4, epochs=2), seed=seed)
        return model.seen

    assert order(1, state=5) == order(1, state=6)
    assert order(1, state=5) != order(2, state=5)


def test_train_loss_is_the_mean_over_steps():
    class Constant(Scripted):
        def loss(self, output, batch, kind):
            return output.prediction.sum() * 0 + batch.label.mean()

    data = batch_of([0.0, 6.0, 3.0])
    model = Constant([0.0] * 9)
    fitted = fit(model, data, data, Training(lr=0.1, batch_size=2, epochs=1), seed=0)
    left = {tuple(sorted(s)) for s in [(0.0, 6.0), (0.0, 3.0), (3.0, 6.0)]}
    means = {(sum(pair) / 2 + (9.0 - sum(pair))) / 2 for pair in left}
    assert fitted.curve[0]["train_loss"] in means


# ------------------------------------------------------------------------------------------------- divergence


class Diverging(Scripted):
    """NaN from the given training step on, or in evaluation."""

    def __init__(self, step, where="train", value=float("nan")):
        super().__init__([1.0] * 99)
        self.step, self.where, self.value = step, where, value

    def forward(self, batch):
        output = super().forward(batch)
        bad = self.epoch >= self.step and self.training == (self.where == "train")
        return Output(output.prediction + self.value) if bad else output


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("at", "epoch", "step"), [(1, 1, 1), (3, 1, 3), (5, 1, 5), (6, 2, 1), (14, 3, 4)])
def test_a_non_finite_loss_names_its_first_step(at, epoch, step, value):
    data = batch_of([1.0] * 10)
    with pytest.raises(NonFiniteLoss, match=f"non-finite loss at epoch {epoch}, step {step}$"):
        fit(Diverging(at, value=value), data, data, Training(lr=0.1, batch_size=2, epochs=9), seed=0)


def test_a_non_finite_validation_loss_is_no_number_either():
    data = batch_of([1.0] * 10)
    with pytest.raises(NonFiniteLoss, match="epoch 2, step 5"):
        fit(Diverging(10, "eval"), data, data, Training(lr=0.1, batch_size=2, epochs=9), seed=0)


# ------------------------------------------------------------------------------------------------- optimisation


class Steep(nn.Module):
    def __init__(self, slope=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))
        self.slope = slope

    def forward(self, batch):
        return Output(self.slope * self.weight.sum().expand(len(batch)))


@pytest.mark.parametrize("clip", [None, 0.5, 1e6])
def test_clipping(clip):
    model = Steep(1000.0)
    data = batch_of([0.0] * 4)
    fit(model, data, data, Training(lr=1e-9, batch_size=4, epochs=1, clip=clip), seed=0)
    norm = float(model.weight.grad.norm())
    assert norm == pytest.approx(0.5 if clip == 0.5 else 1000 * 2**0.5, rel=1e-4)


def test_warm_up_rises_and_then_falls_to_nothing():
    def rates(warmup, total):
        return [2.0 * factor for factor in learning_rate_factors(Training(lr=2.0, warmup=warmup), total)]

    assert rates(0.0, 4) == [2.0] * 4
    assert rates(0.25, 8) == pytest.approx([0.0, 1.0, *(2 * k / 6 for k in (6, 5, 4, 3, 2, 1))])
    assert rates(1e-9, 3) == pytest.approx([2.0, 4 / 3, 2 / 3])
    assert rates(1.0, 4) == pytest.approx([0.0, 0.5, 1.0, 1.5])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop"])
def test_optimizers_descend(optimizer):
    model = Steep()
    data = batch_of([0.0] * 4)
    training = Training(lr=0.1, batch_size=4, epochs=15, optimizer=optimizer, patience=99)
    fitted = fit(model, data, data, training, seed=0)
    assert fitted.valid_loss < 5.0 < fitted.curve[0]["train_loss"]


def test_weight_decay_of_adamw_is_decoupled():
    class Flat(Steep):
        def forward(self, batch):
            return Output(0.0 * self.weight.sum().expand(len(batch)))

    def trained(optimizer):
        model, data = Flat(), batch_of([1.0])
        fit(model, data, data, Training(lr=0.1, epochs=1, optimizer=optimizer, weight_decay=0.5), seed=0)
        return model.weight.tolist()

    assert trained("adamw") == pytest.approx([3 * 0.95, 4 * 0.95])  # w (1 - lr * decay), without any gradient
    assert trained("adam") == pytest.approx([2.9, 3.9], abs=1e-4)  # the decay is a gradient: a step of lr


def test_a_model_may_group_its_parameters():
    class Grouped(Steep):
        def param_groups(self, training):
            return [{"params": [self.weight], "lr": training.lr * 0}]

    model, data = Grouped(), batch_of([0.0])
    fit(model, data, data, Training(lr=1.0, epochs=2), seed=0)
    assert model.weight.tolist() == [3.0, 4.0]


class Tuned(nn.Module):
    """A pretrained encoder of one weight, and a layer beside it."""

    def __init__(self):
        super().__init__()
        encoder = nn.Linear(1, 1, bias=False)
        encoder.config = SimpleNamespace(model_type="bert")
        self.text = PretrainedText(encoder, "bert")
        self.line = nn.Linear(1, 1, bias=False)

    def forward(self, batch):
        index = batch.text.padded()[:, 0]
        return Output((self.text.model(index) + self.line(index))[:, 0])


@pytest.mark.parametrize(("head_lr", "moved"), [(None, 0.01), (0.5, 0.5)])
def test_a_learning_rate_of_the_layers_beside_the_encoder(head_lr, moved):
    """Adam's first step is the learning rate."""
    model, data = Tuned(), batch_of([0.0, 9.0])
    before = model.text.model.weight.item(), model.line.weight.item()
    fit(model, data, data, Training(lr=0.01, head_lr=head_lr, epochs=1), seed=0)
    after = model.text.model.weight.item(), model.line.weight.item()
    assert abs(after[0] - before[0]) == pytest.approx(0.01, rel=1e-3)
    assert abs(after[1] - before[1]) == pytest.approx(moved, rel=1e-3)


def test_a_group_s_own_learning_rate_is_above_that_of_the_layers():
    class Grouped(Tuned):
        def param_groups(self, training):
            return [{"params": [self.line.weight], "lr": 0.2}, {"params": self.text.parameters()}]

    model, data = Grouped(), batch_of([0.0, 9.0])
    before = model.line.weight.item()
    fit(model, data, data, Training(lr=0.01, head_lr=0.5, epochs=1), seed=0)
    assert abs(model.line.weight.item() - before) == pytest.approx(0.2, rel=1e-3)


def test_a_group_s_own_epsilon():
    class Grouped(Steep):
        def param_groups(self, training):
            return [{"params": [self.weight], "eps": 1e9}]

    model, data = Grouped(), batch_of([0.0])
    fit(model, data, data, Training(lr=1.0, epochs=1), seed=0)
    assert model.weight.tolist() == pytest.approx([3.0, 4.0], abs=1e-6)


def test_frozen_parameters_stay():
    model, data = Recorder(), batch_of([1.0] * 4)
    model.line.weight.requires_grad_(False)
    before = model.line.weight.clone(), model.line.bias.clone()
    fit(model, data, data, Training(lr=0.1, epochs=2), seed=0)
    assert torch.equal(model.line.weight, before[0])
    assert not torch.equal(model.line.bias, before[1])


def test_loss_of_the_training_is_used_where_the_model_has_none():
    losses = {}
    for loss in ("l1", "mse"):
        data = batch_of([0.0])
        losses[loss] = fit(Steep(), data, data, Training(lr=1e-9, epochs=1, loss=loss), seed=0).curve[0]["train_loss"]
    assert losses == pytest.approx({"l1": 7.0, "mse": 49.0})


# ------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("optimizer", "sgd", "rmsprop"),
        ("loss", "huber", "mse"),
        ("selection", "acc2", "mse"),
        ("scale", "minmax", "standard"),
        ("precision", "fp16", "bf16"),
        ("batch_size", 0, "batch_size"),
        ("epochs", 0, "epochs"),
        ("lr", 0.0, "lr"),
        ("lr", float("nan"), "lr"),
        ("lr", float("inf"), "lr"),
        ("patience", 0, "patience"),
        ("clip", 0.0, "clip"),
        ("clip", -1.0, "clip"),
        ("warmup", 1.5, "warmup"),
        ("weight_decay", -0.1, "weight_decay"),
    ],
)
def test_impossible_training_is_refused(option, value, said):
    with pytest.raises(UserError, match=said):
        Training(**{"lr": 0.1, option: value})


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_only_deterministic_operations_are_allowed(device, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is as before afterwards
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cuda.enable_cudnn_sdp(True)
    seed_everything(3, device)
    assert torch.get_deterministic_debug_mode() == 2  # "error"
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.backends.cudnn.allow_tf32
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if device != "cpu" else None)


def test_training_is_never_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Training(lr=0.1).lr = 0.2
