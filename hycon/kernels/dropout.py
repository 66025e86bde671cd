"""Dropout with cheap random bits.

On a CPU drawing the mask is what dropout costs: torch draws one Bernoulli variable an element. Here one 64-bit draw
serves four elements, 16 bits each, so that a probability is exact to 1/65536 (the kept values are divided by the
probability that was realised, so the expectation is exact). On an accelerator torch's own dropout runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """`torch.nn.functional.dropout`, from the default generator, four elements a draw on the CPU."""
    if not training or p <= 0:
        return x
    if x.device.type != "cpu" or p >= 1:
        return F.dropout(x, p)
    kept, scale = keep_mask(x.shape, p)
    return x * kept.to(x.dtype).mul_(scale)


def keep_mask(shape: Sequence[int], p: float) -> tuple[Tensor, float]:
    """On the CPU: int16 that are 0 with probability p (exact to 1/65536) and else 1, and 1 / (share kept).

    Integers, because torch turns booleans into numbers one at a time (benchmarks/README.md).
    """
    count = math.prod(shape)
    dropped = round(p * 65536)
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    return bits.ge_(dropped - 32768).view(shape), 65536 / (65536 - dropped)


class Dropout(nn.Dropout):
    """`nn.Dropout` by `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


def replace_dropout(module: nn.Module) -> None:
    """Make every nn.Dropout inside `module` (a pretrained encoder, say) one of ours."""
    for name, child in module.named_children():
        if type(child) is nn.Dropout:
            setattr(module, name, Dropout(child.p))
        else:
            replace_dropout(child)
