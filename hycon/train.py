"""The only training loop.

`fit` sees the train and validation splits, never the test split. The best epoch is chosen by the task loss over the
whole validation split, evaluated at once, so that it depends neither on the order nor on the size of batches.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from hycon.checkpoint import Checkpoints, Progress
from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.prepare import SCALES, permuted_modalities
from hycon.data.ragged import longest_first
from hycon.errors import NonFiniteLoss, UserError
from hycon.kernels.optim import RULES, Optimizer
from hycon.output import task_loss
from hycon.precision import PRECISIONS, autocast, check_trainable, products
from hycon.text import PretrainedText

# The budget of every model, here and nowhere else: sec. 4.5.8 speaks of "the same number of epochs". A model's TRAINING
# holds only what its source adds. The epoch that is best on validation is kept.
# At most. tokens: lineage (MIB, MCL). vectors: the most in Gkoumas et al.'s configurations (EF-LSTM, LF-LSTM, LMF; the
# others 40 or fewer).
EPOCHS = {"tokens": 50, "vectors": 100}
PATIENCE = 20  # epochs without a better validation loss before stopping; LMF's and TFN's code
EVAL_ROWS = 128  # utterances per forward pass in evaluation; no number depends on it beyond rounding


@dataclass(frozen=True)
class Training:
    """How a model is trained. Together with the model's Config it is a run's whole configuration.

    epochs: `studies.registry.resolve` puts those of the model's form here.  head_lr: of the layers beside a pretrained
    text encoder; None: lr. (The lineage's MIB gives audio, vision and fusion twice the encoder's rate, MCL one to all.)
    """

    lr: float
    head_lr: float | None = None
    batch_size: int = 32
    epochs: int = EPOCHS["tokens"]
    patience: int = PATIENCE
    optimizer: str = "adam"
    weight_decay: float = 0.0
    clip: float | None = None  # largest gradient norm
    warmup: float = 0.0  # share of all steps over which the learning rate rises; then it falls linearly to 0
    loss: str = "l1"  # eq. 2; "mse"
    selection: str = "loss"  # the task loss on validation; "mse" as in the authors' sibling code
    scale: str = "none"  # by train statistics: "standard" (audio and vision), "maxabs" (vision)
    precision: str = "fp32"  # "tf32", "bf16": hycon/precision.py
    permuted: str = later("")  # a control: modalities that come from other utterances (hycon.data.prepare.permute)

    def __post_init__(self) -> None:
        permuted_modalities(self.permuted)
        for name, allowed in (
            ("optimizer", tuple(RULES)),
            ("loss", ("l1", "mse")),
            ("selection", ("loss", "mse")),
            ("scale", SCALES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in allowed:
                raise UserError(f"training.{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}.")
        for name, holds, expected in (
            ("lr", 0 < self.lr < math.inf, "a number above 0"),
            ("head_lr", self.head_lr is None or 0 < self.head_lr < math.inf, "a number above 0, or None"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("epochs", self.epochs >= 1, "at least 1"),
            ("patience", self.patience >= 1, "at least 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0"),
            ("clip", self.clip is None or self.clip > 0, "a number above 0, or None"),
            ("warmup", 0 <= self.warmup <= 1, "a share of all steps, from 0 to 1"),
        ):
            if not holds:
                raise UserError(f"training.{name} is {getattr(self, name)}; expected {expected}.")


@dataclass(frozen=True)
class Fitted:
    """What `fit` found; the model is left with the weights of `best_epoch`. curve: one dict an epoch, from 1."""

    best_epoch: int
    valid_loss: float
    curve: list[dict[str, float]]
    seconds: float


def fit(
    model: nn.Module,
    train: Batch,
    valid: Batch,
    training: Training,
    *,
    seed: int,
    on_epoch: Callable[[dict[str, float]], Any] | None = None,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train `model` (on the batches' device) and leave it with its best epoch's weights.

    A model that keeps something by utterance is shown the train split first: `prepare_training(train)`.

    seed: of the batch order; the caller seeds initialisation and dropout (`seed_everything`).
    on_epoch: told the curve's entry of each epoch, with lr (`training.lr` as scheduled for its last step) and seconds
    (since training began).  checkpoints: where a long training is kept; one that was cut goes on from there, with the
    same bits, and its earlier epochs are told again.
    Raises NonFiniteLoss at the end of the first epoch that has one, and UserError where the device has no TF32 and
    `training` wants it.
    """
    check_trainable(training.precision, train.label.device)
    if prepare := getattr(model, "prepare_training", None):
        prepare(train)
    optimizer = _optimizer(model, training)
    steps = -(-len(train) // training.batch_size)
    order = torch.Generator().manual_seed(seed)
    so_far = checkpoints.load(model, optimizer, order) if checkpoints else Progress()
    factors = islice(learning_rate_factors(training, steps * training.epochs), steps * so_far.epoch, None)
    started = time.perf_counter() - so_far.seconds
    tell = on_epoch or (lambda entry: None)
    for entry in so_far.epochs:
        tell(entry)
    while so_far.epoch < training.epochs and so_far.epoch - so_far.best_epoch < training.patience:
        so_far.epoch += 1
        shuffled = train.take(torch.randperm(len(train), generator=order))
        with products(training.precision):
            train_loss, factor = _train_epoch(model, shuffled, training, optimizer, factors, so_far.epoch)
        loss = validation_loss(model, valid, training)
        if not math.isfinite(loss):
            raise NonFiniteLoss(so_far.epoch, steps)
        if loss < so_far.best_loss:
            so_far.best_loss, so_far.best_epoch = loss, so_far.epoch
            so_far.best = _copy(model.state_dict(), so_far.best)
        so_far.seconds = time.perf_counter() - started
        so_far.epochs.append(
            {
                "epoch": so_far.epoch,
                "train_loss": train_loss,
                "valid_loss": loss,
                "lr": training.lr * factor,
                "seconds": so_far.seconds,
            }
        )
        tell(so_far.epochs[-1])
        if checkpoints and checkpoints.due():
            checkpoints.save(so_far, model, optimizer, order)
    model.load_state_dict(so_far.best)
    curve = [{key: entry[key] for key in ("epoch", "train_loss", "valid_loss")} for entry in so_far.epochs]
    return Fitted(so_far.best_epoch, so_far.best_loss, curve, time.perf_counter() - started)


def _copy(weights: dict[str, Tensor], into: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of `weights`, in the memory of an earlier one where there is one."""
    for name, value in weights.items():
        if name in into:
            into[name].copy_(value)
        else:
            into[name] = value.detach().clone()
    return into


def _train_epoch(
    model: Any, shuffled: Batch, training: Training, optimizer: Optimizer, factors: Iterator[float], epoch: int
) -> tuple[float, float]:
    """Mean loss of the epoch, and the learning rate's factor at its last step. The host waits for the device once, at
    the epoch's end."""
    model.train()
    losses: list[Tensor] = []
    compute_loss = getattr(model, "loss", None)
    for start in range(0, len(shuffled), training.batch_size):
        batch = shuffled.slice(start, min(start + training.batch_size, len(shuffled)))
        with autocast(training.precision, batch.label.device):
            output = model(batch)
            if compute_loss:
                loss = compute_loss(output, batch, training.loss)
            else:
                loss = task_loss(output.prediction, batch.label, training.loss)
        optimizer.zero_grad()
        loss.backward()
        if training.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        factor = next(factors)
        optimizer.step(factor)
        losses.append(loss.detach())
    values = torch.stack(losses).float().cpu()
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        raise NonFiniteLoss(epoch, int(bad[0]) + 1)
    return float(values.mean()), factor


def validation_loss(model: nn.Module, valid: Batch, training: Training) -> float:
    """The task loss over the whole split at once: repeatable to the bit, whatever the order of batches."""
    kind = "mse" if training.selection == "mse" else training.loss
    return float(task_loss(predict(model, valid, training.precision), valid.label, kind))


def predict(model: nn.Module, split: Batch, precision: str = "fp32") -> Tensor:
    """(N,) or (N, E, 2) predictions of a whole split, in its order."""
    return evaluate(model, split, precision)[0]


@torch.inference_mode()
def evaluate(
    model: nn.Module, split: Batch, precision: str = "fp32", *, widest: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Predictions (N,) or (N, E, 2) of a whole split, in its order, and the multimodal representation (N, width) that
    they were read off; None where the model has none or it is wider than `widest`.

    Sentences of like length are computed together.
    """
    model.eval()
    order = longest_first(split.text.both)
    ordered = split.take(order)
    predictions, representations = [], []
    for start in range(0, len(split), EVAL_ROWS):
        batch = ordered.slice(start, min(start + EVAL_ROWS, len(split)))
        with products(precision), autocast(precision, batch.label.device):
            output = model(batch)
        predictions.append(output.prediction.float())
        if output.multimodal is not None and output.multimodal.shape[1] <= widest:
            representations.append(output.multimodal.float())
    back = torch.argsort(order.device)
    return torch.cat(predictions)[back], torch.cat(representations)[back] if representations else None


def seed_everything(seed: int, device: torch.device | str = "cpu") -> None:
    """Seed initialisation and dropout, and allow deterministic kernels only.

    An operation that has none raises a RuntimeError from then on. Where PyTorch is only to warn, the backward pass of
    its memory-efficient attention stays non-deterministic on CUDA, although it has a deterministic form.
    """
    if torch.device(device).type == "cuda":
        # PyTorch before 2.13 refuses deterministic products without it; read when the process first uses cuBLAS
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    # `torch.use_deterministic_algorithms` does the same, and imports torch._dynamo for it
    torch.set_deterministic_debug_mode("error")
    torch.backends.cuda.enable_cudnn_sdp(False)  # no deterministic backward pass
    # a check that costs a pass over every new tensor
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.allow_tf32 = False  # but for a run that asks for it: hycon/precision.py
    torch.backends.cudnn.allow_tf32 = False


def _optimizer(model: nn.Module, training: Training) -> Optimizer:
    """A model may group its parameters by `param_groups(training)`: dicts as `Optimizer` takes them."""
    grouped = getattr(model, "param_groups", None)
    groups = grouped(training) if grouped else [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if training.head_lr is not None:
        encoders = (m for m in model.modules() if isinstance(m, PretrainedText))
        pretrained = {id(p) for encoder in encoders for p in encoder.parameters()}
        groups = [part for group in groups for part in _by_origin(group, pretrained, training.head_lr)]
    return Optimizer(training.optimizer, groups, lr=training.lr, weight_decay=training.weight_decay)


def _by_origin(group: dict[str, Any], pretrained: set[int], head_lr: float) -> list[dict[str, Any]]:
    """The pretrained parameters of a group, and the others with `head_lr` where the group has no rate of its own."""
    known = [p for p in group["params"] if id(p) in pretrained]
    fresh = [p for p in group["params"] if id(p) not in pretrained]
    return [{**group, "params": known}, {"lr": head_lr, **group, "params": fresh}]


def learning_rate_factors(training: Training, total: int) -> Iterator[float]:
    """For each of `total` steps. With warmup they rise linearly from 0, so that the first step changes no weight, and
    then fall linearly to 0: transformers' linear schedule."""
    rise = int(training.warmup * total)
    for step in range(total):
        if training.warmup == 0:
            yield 1.0
        else:
            yield step / rise if step < rise else (total - step) / (total - rise)
