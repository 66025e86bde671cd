"""Linear layers that read the same input as one product on a GPU: the queries, keys and values of a text encoder.

    join_linears(bert)          # the same parameters under the same names, the same numbers but for rounding

Inside the library transformers an attention layer calls its three Linears one after the other. Here the first of them
computes all three, and the others give what it has found for them. On a CPU each computes its own.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES = ("query", "key", "value")  # as BERT, ELECTRA and RoBERTa have them


class First(nn.Linear):
    """others: the Linears that are called after it with the same input.  layers: the First of each layer, in the order
    of the layers; the first of them joins the weights of all, in one copy. Both are lists, so that what they hold stays
    where it is in the model."""

    others: list[Later]
    layers: list[First]
    joined: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if not x.is_cuda:
            return super().forward(x)
        if self is self.layers[0]:
            _join(self.layers)
        assert self.joined is not None
        (weight, bias), self.joined = self.joined, None
        first, *rest = F.linear(x, weight, bias).chunk(len(NAMES), -1)
        for own, found in zip(self.others, rest, strict=True):
            own.found = (x, found)
        return first


def _join(layers: list[First]) -> None:
    linears = [own for first in layers for own in (first, *first.others)]
    weights = torch.cat([own.weight for own in linears]).chunk(len(layers))
    biases = torch.cat([own.bias for own in linears]).chunk(len(layers))
    for first, weight, bias in zip(layers, weights, biases, strict=True):
        first.joined = (weight, bias)


class Later(nn.Linear):
    """found: an input and what it gives, until it is asked for."""

    found: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        found, self.found = self.found, None
        if found is not None and found[0] is x:
            return found[1]
        return super().forward(x)


def join_linears(module: nn.Module) -> None:
    """Make it so wherever `module` has three plain Linears of one shape with biases called NAMES, in place."""
    layers: list[First] = []
    for child in module.modules():
        linears: list[Any] = [getattr(child, name, None) for name in NAMES]
        if not all(type(own) is nn.Linear and own.bias is not None for own in linears):
            continue
        shapes = {own.weight.shape for own in (*linears, *layers[:1])}
        if len(shapes) > 1:
            continue
        first, *others = linears
        for own in others:
            own.__class__ = Later
        first.__class__, first.others, first.layers = First, others, layers
        layers.append(first)
