"""What a model outside the repository is held to in every forward pass. No test of ours has seen it, and two mistakes
give numbers that look right: a prediction of shape (B, 1) is broadcast against (B,) labels, and a forward pass that
reads the label predicts what it was given.

    hold(net, "my_model.py", emotions)     adds hooks; they move no bit of a model that does what it must
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.errors import UserError
from hycon.output import Output


def hold(net: nn.Module, path: str, emotions: int) -> nn.Module:
    """`net`, whose forward passes raise UserError for an output of another shape, and in evaluation for a prediction
    that rests on the label: there `batch.label` is NaN."""
    net.register_forward_pre_hook(_without_labels)
    net.register_forward_hook(partial(_check, path, emotions))
    return net


def relabelled(batch: Batch, value: float) -> Batch:
    """The batch with `value` in place of every label, in its videos too."""
    videos = batch.videos and replace(batch.videos, whole=relabelled(batch.videos.whole, value))
    return replace(batch, label=torch.full_like(batch.label, value, dtype=torch.float32), videos=videos)


def _without_labels(net: nn.Module, arguments: tuple[Batch, ...]) -> tuple[Batch, ...] | None:
    return None if net.training else (relabelled(arguments[0], float("nan")), *arguments[1:])


def _check(path: str, emotions: int, net: nn.Module, arguments: tuple[Batch, ...], output: Any) -> None:
    batch = arguments[0]
    if not isinstance(output, Output):
        raise UserError(f"{path}: forward returns a {type(output).__name__}, not a hycon.output.Output.")
    found, expected = tuple(output.prediction.shape), (len(batch), *((emotions, 2) if emotions else ()))
    if found != expected:
        raise UserError(
            f"{path}: the prediction of {len(batch)} utterances has shape {found}, not {expected}: "
            "as_prediction(raw, emotions) of hycon.output makes it of what a head gives."
        )
    if not net.training and _has_nan(output.prediction) and not _has_nan(_predicted(net, relabelled(batch, 0.0))):
        raise UserError(
            f"{path}: forward reads batch.label, which a prediction may not rest on: only the model's loss reads it."
        )


def _predicted(net: nn.Module, batch: Batch) -> Tensor:
    return net.forward(batch).prediction  # past the hooks


def _has_nan(prediction: Tensor) -> bool:
    return bool(prediction.isnan().any())
