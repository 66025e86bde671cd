"""Attention of one encoder over rows without padding, on a CPU, in a few large operations a layer.

Heads are gathered from all rows at once, padded and head by head; then a few sentences of like length at a time are
multiplied; what comes out is gathered back. `hycon.kernels.attention` pads each few sentences apart, which for wide
heads and few rows costs more than its products.
"""

from __future__ import annotations

from collections.abc import Iterator
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


@dataclass(frozen=True)
class Plan:
    heads: int
    queries: Gather
    keys: Gather
    blocks: tuple[Block, ...]


def make_plan(lengths: Tensor, extra: int, heads: int, extra_only: bool) -> Plan:
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
        blocks.append(Block(*map(slice, at, ends), (count, t, s), bias))
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
        sizes = len(block.bias), plan.heads
        padded = (x.view(*sizes, -1, x.shape[1]) for x in (own[block.queries], keys[block.keys], values[block.keys]))
        found = F.scaled_dot_product_attention(*padded, attn_mask=block.bias.to(q.dtype), dropout_p=p)
        mixed.append(found.flatten(0, 2))
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
        for block, w, x, key in _blocks(plan, weights, own, keys):
            scores = torch.bmm(x, key.transpose(1, 2))
            scores.view(len(block.bias), -1, *scores.shape[1:]).add_(block.bias)
            torch.softmax(scores, -1, out=w)
        if p > 0:
            kept, ctx.kept = keep_mask(weights.shape, p)
            dropped = weights * kept
        mixed = torch.empty_like(own)
        for _, w, y, value in _blocks(plan, dropped, mixed, values):
            torch.bmm(w, value, out=y)
        ctx.save_for_backward(own, keys, values, mixed, weights, dropped)
        return plan.queries.unpad(mixed, plan.heads).mul_(ctx.kept)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        plan, (own, keys, values, mixed, weights, dropped) = ctx.plan, ctx.saved_tensors
        grad = plan.queries.pad(grad, plan.heads).mul_(plan.queries.inside * ctx.kept)
        # the sum over keys of weight * d(weight), which the softmax subtracts, is that of output * d(output)
        common = (grad * mixed).sum(1, keepdim=True)
        d_scores, d_own = torch.empty_like(weights), torch.empty_like(own)
        d_keys, d_values = torch.empty_like(keys), torch.empty_like(values)
        for _, d, g, value in _blocks(plan, d_scores, grad, values):
            torch.bmm(g, value.transpose(1, 2), out=d)
        d_scores.mul_(dropped)
        for block, d, x, key in _blocks(plan, d_scores, own, keys):
            (n, t, s), of_keys = block.shape, (block.shape[0], block.shape[2], -1)
            w, lost = weights[block.weights].view(n, t, s), common[block.queries].view(n, t, 1)
            d.addcmul_(w, lost, value=-1)
            g = grad[block.queries].view(n, t, -1)
            torch.bmm(d, key, out=d_own[block.queries].view(n, t, -1))
            torch.bmm(d.transpose(1, 2), x, out=d_keys[block.keys].view(of_keys))
            w = dropped[block.weights].view(n, t, s)
            torch.bmm(w.transpose(1, 2), g, out=d_values[block.keys].view(of_keys))
        dq = plan.queries.unpad(d_own, plan.heads).mul_(ctx.scale)
        return dq, plan.keys.unpad(d_keys, plan.heads), plan.keys.unpad(d_values, plan.heads), None, None


def _blocks(plan: Plan, weights: Tensor, own: Tensor, seen: Tensor) -> Iterator[tuple[Block, Tensor, Tensor, Tensor]]:
    """Of each block: it, its weights (n, T, S), its part (n, T, w) of `own`, its part (n, S, w) of `seen`."""
    for block in plan.blocks:
        n, t, s = block.shape
        yield (
            block,
            weights[block.weights].view(n, t, s),
            own[block.queries].view(n, t, -1),
            seen[block.keys].view(n, s, -1),
        )
