"""What every model returns, and the task losses that training and selection use."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Output:
    """prediction: (B,) sentiment, or (B, E, 2) logits, two per emotion.

    representations: {"text": (B, d), "audio": (B, d), "vision": (B, d)} for models that have them, else None.
    multimodal: (B, width) what the predictor reads; Fig. 4 plots it.
    parts: {name: (B, ...)} what the model's own `loss` reads beside these, and nothing else does.
    """

    prediction: Tensor
    representations: dict[str, Tensor] | None = None
    multimodal: Tensor | None = None
    parts: dict[str, Tensor] | None = None


def outputs(emotions: int) -> int:
    """How many numbers a head gives: 1 for sentiment, 2 per emotion (MulT's IEMOCAP head)."""
    return 2 * emotions or 1


def as_prediction(raw: Tensor, emotions: int) -> Tensor:
    """(B, outputs) -> (B,) or (B, E, 2)."""
    return raw.unflatten(1, (emotions, 2)) if emotions else raw[:, 0]


def task_loss(prediction: Tensor, label: Tensor, kind: str = "l1") -> Tensor:
    """Mean over utterances: "l1" (eq. 2) or "mse" for sentiment; cross-entropy per emotion for (B, E, 2) logits."""
    if prediction.dim() == 3:
        return F.cross_entropy(prediction.flatten(0, 1).float(), label.flatten())
    difference = prediction.float() - label
    return difference.square().mean() if kind == "mse" else difference.abs().mean()
