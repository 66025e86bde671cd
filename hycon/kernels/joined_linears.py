"""Linear layers that read the same input as one product on a GPU: the queries, keys and values of a text encoder.

    join_linears(bert)          # the same parameters under the same names, the same numbers but for rounding

Inside the library transformers an attention layer calls its three Linears one after the other. Here the first of them
computes all three, and the others give what it has found for them. On a CPU each computes its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES = ("query", "key", "value")  # as BERT, ELECTRA and RoBERTa have them


class First(nn.Linear):
    """others: the Linears that are called after it with the same input; a list, so that they stay where they are."""

    others: list[Later]

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if not x.is_cuda:
            return super().forward(x)
        linears = [self, *self.others]
        weight, bias = torch.cat([own.weight for own in linears]), torch.cat([own.bias for own in linears])
        first, *rest = F.linear(x, weight, bias).split([own.out_features for own in linears], -1)
        for own, found in zip(self.others, rest, strict=True):
            own.found = (x, found)
        return first


class Later(nn.Linear):
    """found: an input and what it gives, until it is asked for."""

    found: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        found, self.found = self.found, None
        if found is not None and found[0] is x:
            return found[1]
        return super().forward(x)


def join_linears(module: nn.Module) -> None:
    """Make it so wherever `module` has three plain Linears with biases called NAMES, in place."""
    for child in module.modules():
        linears = [getattr(child, name, None) for name in NAMES]
        if not all(type(own) is nn.Linear and own.bias is not None for own in linears):
            continue
        first, *others = linears
        for own in others:
            own.__class__ = Later
        first.__class__, first.others = First, others
