"""BERT's layers over rows without padding: every linear layer and norm sees real tokens alone, as many as a batch has.

Padding is inside attention only, a few sentences of like length at a time. The layers are those of the library
transformers, called part by part, so that weights, names and dropout are theirs. On one core of an AMD EPYC a training
step of HyCon-BERT on CMU-MOSI's lengths takes a quarter less than with padded chunks (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hycon.data.ragged import Both
from hycon.kernels.attention import attention
from hycon.kernels.gathered_attention import gathered_attention, gathered_plan
from hycon.kernels.padding import make_plan

Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]  # queries (R', D), keys, values (R, D), dropout -> (R', D)


def encode(
    layers: Any, x: Tensor, lengths: Both, queries: int, change: Callable[[int, Tensor], Tensor], queried_only: bool
) -> Tensor:
    """x: (R + B Q, D) what the first layer reads -> (R + B Q, D), or (B Q, D), the last layer's of the queries alone.

    The rows are R real tokens, sentence by sentence and longest first, then Q = `queries` nominal positions of each
    sentence, which see its real tokens and are seen by none.
    lengths: (B,) of real tokens.  change: (layer, its input) -> its input.
    """
    heads = layers[0].attention.self.num_attention_heads
    attend = (_joint if torch.is_autocast_enabled("cpu") else _apart)(lengths, queries, heads)
    for number, layer in enumerate(layers):
        x = change(number, x)
        last = queried_only and number == len(layers) - 1
        x = _layer(layer, x, lengths.total, lengths.total if last else 0, attend)
    return x


def _layer(layer: Any, x: Tensor, real: int, first: int, attend: Attend) -> Tensor:
    """The rows of `x` from `first` on, after the layer."""
    inside = layer.attention.self
    seen, own = x[:real], x[first:]
    q, k, v = inside.query(own), inside.key(seen), inside.value(seen)
    mixed = attend(q, k, v, inside.dropout.p if inside.training else 0.0)
    own = layer.attention.output(mixed, own)
    return layer.output(layer.intermediate(own), own)


def _apart(lengths: Both, queries: int, heads: int) -> Attend:
    """fp32's: the real tokens' attention, then the others', by hycon/kernels/attention.py."""
    plan, extra = make_plan(lengths, lengths, False), None
    if queries:
        extra = make_plan(lengths.map(lambda x: torch.full_like(x, queries)), lengths, False)

    def attend(q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        q, k, v = q[None], k[None], v[None]
        parts, of_real = [], q.shape[1] - len(lengths) * queries
        if of_real:
            parts.append(attention(q[:, :of_real], k, v, plan, heads, (p,)))
        if extra is not None:
            parts.append(attention(q[:, of_real:], k, v, extra, heads, (p,)))
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1))[0]

    return attend


def _joint(lengths: Both, queries: int, heads: int) -> Attend:
    """bf16's: both together, in half the time (hycon/kernels/gathered_attention.py). Its dropout is drawn in another
    order and it rounds otherwise, so records tell the two apart (studies/engines/one_run.py)."""
    every = gathered_plan(lengths.host, queries, heads, False)
    extra = gathered_plan(lengths.host, queries, heads, True) if queries else every

    def attend(q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
        return gathered_attention(q, k, v, every if len(q) > len(lengths) * queries else extra, p)

    return attend
