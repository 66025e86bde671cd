"""Attention of one encoder over rows without padding, on a CPU, in a few large operations a layer.

Heads are gathered from all rows at once, padded and head by head; then a few sentences of like length at a time are
multiplied; what comes out is gathered back. `hycon.kernels.attention` pads each few sentences apart, which for wide
heads and few rows costs more than its products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hycon.kernels.dropout import keep_mask

CHUNK = 4  # sentences that are multiplied together; measured (benchmarks/README.md)


@dataclass(frozen=True)
class Gather:
    """From rows (R, heads * w), seen as (R * heads, w), to N places, chunk after chunk (b, heads, T).

    index: (N,) what lies at each place, anything at padding.  back: (R * heads,) the place of each.
    inside: (N, 1) 1 at a place with a row, 0 at padding.
    """

    index: Tensor
    back: Tensor
    inside: Tensor

    def pad(self, x: Tensor, heads: int) -> Tensor:
        """(R, d) -> (N, w)."""
        return x.reshape(len(x) * heads, -1).index_select(0, self.index)

    def unpad(self, x: Tensor, heads: int) -> Tensor:
        """(N, w) -> (R, d)."""
        return x.index_select(0, self.back).view(-1, heads * x.shape[1])


@dataclass(frozen=True)
class Block:
    """Of a chunk: where its queries, keys and weights lie among all of them; their sizes (b * heads, T, S).

    bias: (b, 1, 1, S), -inf at padding, else 0.
    """

    queries: slice
    keys: slice
    weights: slice
    shape: tuple[int, int, int]
    bias: Tensor

    def of_queries(self, x: Tensor) -> Tensor:
        """(N, w) -> (b * heads, T, w)."""
        return x[self.queries].view(*self.shape[:2], -1)

    def of_keys(self, x: Tensor) -> Tensor:
        """(N, w) -> (b * heads, S, w)."""
        return x[self.keys].view(self.shape[0], self.shape[2], -1)

    def of_weights(self, x: Tensor) -> Tensor:
        """(n,) -> (b * heads, T, S)."""
        return x[self.weights].view(self.shape)


@dataclass(frozen=True)
class Plan:
    heads: int
    queries: Gather
    keys: Gather
    blocks: tuple[Block, ...]


def gathered_plan(lengths: Tensor, extra: int, heads: int, extra_only: bool) -> Plan:
    """lengths: (B,) of sentences, longest first, on the CPU; their R rows lie one sentence after the other.

    Queries: these rows and then `extra` of each sentence, or, `extra_only`, the latter alone. All of a sentence see its
    own rows.
    """
    first, total = lengths.cumsum(0) - lengths, 0 if extra_only else int(lengths.sum())
    extras = total + torch.arange(len(lengths) * extra).view(len(lengths), extra)
    own, seen, blocks = [], [], []
    at = [0, 0, 0]
    for some in torch.arange(len(lengths)).split(CHUNK):
        step = torch.arange(int(lengths[some].max()))
        inside = step < lengths[some, None]  # (b, S)
        rows = (first[some, None] + step).where(inside, 0)
        asked = extras[some]
        seen.append((rows, inside))
        if extra_only:
            own.append((asked, torch.ones_like(asked, dtype=torch.bool)))
        else:
            there = torch.cat([inside, torch.ones_like(asked, dtype=torch.bool)], 1)
            own.append((torch.cat([rows, asked], 1), there))
        count, t, s = len(some) * heads, own[-1][0].shape[1], len(step)
        ends = [a + n for a, n in zip(at, (count * t, count * s, count * t * s), strict=True)]
        bias = torch.zeros(inside.shape).masked_fill_(~inside, float("-inf"))[:, None, None]
        lies = [slice(*both) for both in zip(at, ends, strict=True)]
        blocks.append(Block(lies[0], lies[1], lies[2], (count, t, s), bias))
        at = ends
    return Plan(heads, _gather(own, heads), _gather(seen, heads), tuple(blocks))


def _gather(chunks: list[tuple[Tensor, Tensor]], heads: int) -> Gather:
    """chunks: rows (b, T), and which of them are no padding."""
    head = torch.arange(heads)[:, None]
    index = torch.cat([(rows[:, None] * heads + head).flatten() for rows, _ in chunks])
    inside = torch.cat([there[:, None].expand(-1, heads, -1).flatten() for _, there in chunks])
    places = inside.nonzero().flatten()
    return Gather(index, places[index[places].argsort()], inside[:, None].float())


def gathered_attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, p: float) -> Tensor:
    """q (R', d), k, v (R, d) -> (R', d), in float32 under autocast.  p: dropout, 0 in evaluation."""
    return _Attention.apply(q, k, v, plan, p)


def plain_gathered_attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, p: float) -> Tensor:
    """The same by PyTorch's attention, a call a chunk."""
    own, keys, values = plan.queries.pad(q, plan.heads), plan.keys.pad(k, plan.heads), plan.keys.pad(v, plan.heads)
    mixed = []
    for block in plan.blocks:
        parts = block.of_queries(own), block.of_keys(keys), block.of_keys(values)
        heads_apart = (x.unflatten(0, (len(block.bias), -1)) for x in parts)
        bias = block.bias.to(q.dtype)
        mixed.append(F.scaled_dot_product_attention(*heads_apart, attn_mask=bias, dropout_p=p).flatten(0, 2))  # type: ignore[misc,arg-type]
    return plan.queries.unpad(torch.cat(mixed), plan.heads)


class _Attention(torch.autograd.Function):
    """weights: of all chunks in one tensor; dropped: those that dropout keeps, the others 0."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, p: float) -> Tensor:
        ctx.plan, ctx.scale, ctx.kept = plan, (q.shape[1] // plan.heads) ** -0.5, 1.0
        own, keys, values = plan.queries.pad(q, plan.heads), plan.keys.pad(k, plan.heads), plan.keys.pad(v, plan.heads)
        own *= ctx.scale
        dropped = weights = own.new_empty(plan.blocks[-1].weights.stop)
        for block in plan.blocks:
            scores = torch.bmm(block.of_queries(own), block.of_keys(keys).transpose(1, 2))
            scores.view(len(block.bias), -1, *block.shape[1:]).add_(block.bias)
            torch.softmax(scores, -1, out=block.of_weights(weights))
        if p > 0:
            kept, ctx.kept = keep_mask(weights.shape, p)
            dropped = weights * kept
        mixed = torch.empty_like(own)
        for block in plan.blocks:
            torch.bmm(block.of_weights(dropped), block.of_keys(values), out=block.of_queries(mixed))
        ctx.save_for_backward(own, keys, values, mixed, weights, dropped)
        return plan.queries.unpad(mixed, plan.heads).mul_(ctx.kept)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        plan, (own, keys, values, mixed, weights, dropped) = ctx.plan, ctx.saved_tensors
        grad = plan.queries.pad(grad, plan.heads).mul_(plan.queries.inside * ctx.kept)
        # the sum over keys of weight * d(weight), which the softmax subtracts, is that of output * d(output)
        common = (grad * mixed).sum(1)
        d_scores, d_own, d_keys, d_values = map(torch.empty_like, (weights, own, keys, values))
        for block in plan.blocks:
            g, d = block.of_queries(grad), block.of_weights(d_scores)
            torch.bmm(block.of_weights(dropped).transpose(1, 2), g, out=block.of_keys(d_values))
            torch.bmm(g, block.of_keys(values).transpose(1, 2), out=d)
            d.mul_(block.of_weights(dropped)).addcmul_(block.of_weights(weights), block.of_queries(common), value=-1)
            torch.bmm(d, block.of_keys(keys), out=block.of_queries(d_own))
            torch.bmm(d.transpose(1, 2), block.of_queries(own), out=block.of_keys(d_keys))
        dq = plan.queries.unpad(d_own, plan.heads).mul_(ctx.scale)
        return dq, plan.keys.unpad(d_keys, plan.heads), plan.keys.unpad(d_values, plan.heads), None, None
