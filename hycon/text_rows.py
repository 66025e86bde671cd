"""BERT's layers over rows without padding: every linear layer and norm sees real tokens alone, as many as a batch has.

Padding is inside attention only, a few sentences of like length at a time (hycon/kernels/padding.py). The layers are
those of the library transformers, called part by part, so that weights, names and dropout are theirs. On one core of an
AMD EPYC a training step of HyCon-BERT on CMU-MOSI's lengths takes a quarter less than with padded chunks
(benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hycon.data.ragged import Both
from hycon.kernels.attention import attention
from hycon.kernels.padding import Plan, make_plan


@dataclass(frozen=True)
class Places:
    """Where the rows lie: R real tokens, sentence by sentence and longest first, then `queries` nominal positions of
    each sentence, which see its real tokens and are seen by none.

    real: R.  plan, extra: of the real tokens' attention and of the others'; extra is None where there are none.
    """

    real: int
    plan: Plan
    extra: Plan | None

    @classmethod
    def of(cls, lengths: Both, queries: int) -> Places:
        """lengths: (B,), longest first."""
        asked = lengths.map(lambda x: torch.full_like(x, queries))
        extra = make_plan(asked, lengths, False) if queries else None
        return cls(lengths.total, make_plan(lengths, lengths, False), extra)


def encode(
    layers: nn.ModuleList, x: Tensor, places: Places, change: Callable[[int, Tensor], Tensor], queried_only: bool
) -> Tensor:
    """x: (R + B Q, D) what the first layer reads -> (R + B Q, D), or (B Q, D), the last layer's of the queries alone.

    change: (layer, its input) -> its input.
    """
    for number, layer in enumerate(layers):
        x = change(number, x)
        last = queried_only and number == len(layers) - 1
        x = _layer(layer, x, places, places.real if last else 0)
    return x


def _layer(layer: Any, x: Tensor, places: Places, first: int) -> Tensor:
    """The rows of `x` from `first` on, after the layer."""
    inside = layer.attention.self
    heads, p = inside.num_attention_heads, (inside.dropout.p if inside.training else 0.0,)
    seen, own = x[: places.real], x[first:]
    q, k, v = inside.query(own)[None], inside.key(seen)[None], inside.value(seen)[None]
    parts, of_real = [], places.real - first
    if of_real:
        parts.append(attention(q[:, :of_real], k, v, places.plan, heads, p))
    if places.extra is not None:
        parts.append(attention(q[:, of_real:], k, v, places.extra, heads, p))
    mixed = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    own = layer.attention.output(mixed[0], own)
    return layer.output(layer.intermediate(own), own)
