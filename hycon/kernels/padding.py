"""Rows of utterances one after the other, (R, d), and chunks of them padded to a common length for attention.

What is done to each row alone (projections, norms, feed-forward) runs over exactly the R rows; only attention sees
padding: utterances of like length, a few at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hycon.data.ragged import Both, first_rows, longest_first

CHUNK = {"cpu": 4, "cuda": 64}  # utterances whose attention is computed together
HALVED = 24  # queries from which on the earlier half, behind a future mask, is a block of its own


@dataclass(frozen=True)
class Padding:
    """b utterances padded to T.

    rows: theirs among all rows.  shape: (b, T).  The others are None where all utterances are T long.
    index: (b * T,) the row of each place, any row for a place of padding.  real: (n,) the place of each row.
    inside: (b * T, 1) 1 for places with a row, 0 for padding.
    """

    rows: slice
    shape: tuple[int, int]
    index: Tensor | None = None
    real: Tensor | None = None
    inside: Tensor | None = None

    def pad(self, x: Tensor, heads: int, zero: bool = False) -> Tensor:
        """(P, R, d) -> (P, b, T, heads, d / heads). zero: padding is zeros, not some other row."""
        x = x[:, self.rows]
        if self.index is not None:
            x = x.index_select(1, self.index)
            if zero and self.inside is not None:
                x = x * self.inside
        return x.reshape(len(x), *self.shape, heads, -1)

    def unpad(self, x: Tensor, out: Tensor) -> None:
        """(P, b, T, heads, d / heads) -> its rows of `out` (P, R, d)."""
        own = out[:, self.rows]
        if self.real is None:
            own.unflatten(1, self.shape).unflatten(-1, x.shape[3:]).copy_(x)
        else:
            own.copy_(x.reshape(len(out), -1, out.shape[2]).index_select(1, self.real))


def chunk_order(lengths: Both) -> Both | None:
    """(B,) the order in which utterances are to lie, or None for any, as a GPU has them all in one chunk."""
    device = lengths.device.device.type
    return None if device != "cpu" and len(lengths) <= CHUNK.get(device, 64) else longest_first(lengths)


def last_rows(x: Tensor, lengths: Both, owner: Tensor) -> Tensor:
    """(P, R, d) -> (P, B, d): the last row of each utterance.  owner: (R,) whose row each is."""
    rows = lengths.device.cumsum(0) - 1
    if x.device.type == "cpu":
        return x[:, rows]
    there = torch.arange(x.shape[1], device=x.device) == rows[owner]
    return pick(x, rows, owner, there[:, None])


def padded_rows(x: Tensor, padding: Padding) -> Tensor:
    """(P, R, d) -> (P, b, T, d), any row at padding. No gradient comes from there: attention hides padded keys, and
    `real_rows` leaves padded queries out."""
    x = x if padding.rows == slice(0, x.shape[1]) else x[:, padding.rows]
    if padding.index is not None:
        x = pick(x, padding.index, padding.real, None)
    return x.unflatten(1, padding.shape)


def real_rows(x: Tensor, padding: Padding) -> Tensor:
    """(P, b, T, d) -> (P, n, d), in order."""
    x = x.flatten(1, 2)
    return x if padding.real is None else pick(x, padding.real, padding.index, padding.inside)


def plain_pick(x: Tensor, index: Tensor) -> Tensor:
    """What `_Pick` computes; on the way back PyTorch adds up."""
    return x.index_select(1, index)


def pick(x: Tensor, index: Tensor, back: Tensor | None, there: Tensor | None) -> Tensor:
    """`plain_pick` for a GPU, of rows that are picked at most once.  back: for each row of x, which of the picked ones
    it is, any where it is none.  there: 1 where it is one, 0 elsewhere; None: all are."""
    return _Pick.apply(x, index, back, there)  # type: ignore[no-any-return]


class _Pick(torch.autograd.Function):
    """x.index_select(1, index) for rows picked at most once: so the gradient is picked too, by `back`, times `there`
    where some rows were not. PyTorch's own adds up, which takes a GPU a sort if it is to be deterministic."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, there: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.back, ctx.there = back, there
        return plain_pick(x, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        found = grad.index_select(1, ctx.back)
        return found if ctx.there is None else found * ctx.there.to(grad.dtype), None, None, None


@dataclass(frozen=True)
class Chunk:
    """Utterances whose attention is computed together: their queries (b, T), their keys (b, S).

    bias: (b, 1, T, S), -inf where a query may not look, else 0.  blocks: (first query, after the last, keys they see).
    """

    queries: Padding
    keys: Padding
    bias: Tensor
    blocks: tuple[tuple[int, int, int], ...]
    masks: dict[tuple[int, torch.dtype], Tensor] = field(default_factory=dict, repr=False)

    def mask(self, encoders: int, dtype: torch.dtype) -> Tensor:
        """(encoders * b, 1, T, S): `bias` for each encoder, made once for all layers. Its rows start at multiples of 8
        elements, as PyTorch's fused attention has them; else each layer would copy it."""
        if (encoders, dtype) not in self.masks:
            utterances, _, steps, others = self.bias.shape
            wide = self.bias.new_zeros(encoders, utterances, 1, steps, -(-others // 8) * 8, dtype=dtype)
            wide[..., :others] = self.bias
            self.masks[encoders, dtype] = wide.flatten(0, 1)[..., :others]
        return self.masks[encoders, dtype]


Plan = list[Chunk]


def make_plan(queries: Both, keys: Both, future_mask: bool) -> Plan:
    """queries, keys: (B,) lengths, longest first. An utterance's query sees its keys; with the future mask query i sees
    key j <= i + |difference of the two lengths|, as MulT's code has it."""
    size = CHUNK.get(queries.device.device.type, 64)
    plan, begin, first = [], 0, 0  # rows of queries, of keys before the chunk
    for start in range(0, len(queries), size):
        own, seen = (lengths.slice(start, start + size) for lengths in (queries, keys))
        steps, others = own.largest, seen.largest
        blocks: tuple[tuple[int, int, int], ...] = ((0, steps, others),)
        if future_mask and steps >= HALVED:
            half = steps // 2
            reach = half + int((seen.host - own.host).abs().max())
            if reach < others:
                blocks = ((0, half, reach), (half, steps, others))
        of_queries, of_keys = _padding(own, begin), _padding(seen, first)
        plan.append(Chunk(of_queries, of_keys, _bias(own, seen, future_mask), blocks))
        begin, first = of_queries.rows.stop, of_keys.rows.stop
    return plan


def _bias(queries: Both, keys: Both, future_mask: bool) -> Tensor:
    """(b, 1, T, S), as Chunk has it, made on the device from the (b,) lengths: it may be large."""
    steps, others, device = queries.largest, keys.largest, queries.device.device
    own, seen = (x.device[:, None, None, None] for x in (queries, keys))
    key = torch.arange(others, device=device)
    visible = key < seen  # (b, 1, 1, S)
    if future_mask:
        visible = visible & (key <= torch.arange(steps, device=device)[:, None] + (seen - own).abs())
    bias = torch.zeros(visible.shape, device=device).masked_fill_(~visible, float("-inf"))
    return bias.expand(-1, -1, steps, -1)


def _padding(lengths: Both, start: int) -> Padding:
    count, longest, total = len(lengths), lengths.largest, lengths.total
    rows = slice(start, start + total)
    if int(lengths.host.min()) == longest:
        return Padding(rows, (count, longest))
    own, device = lengths.device, lengths.device.device
    first, step = first_rows(own), torch.arange(longest, device=device)
    inside = step < own[:, None]  # (b, T)
    index = (first[:, None] + step).masked_fill_(~inside, 0).flatten()
    ahead = torch.arange(count, device=device) * longest - first  # a row's place, less the row
    real = torch.arange(total, device=device) + torch.repeat_interleave(ahead, own, output_size=total)
    return Padding(rows, (count, longest), index, real, inside.flatten()[:, None].float())


def last_step(plan: Plan, queries: Both) -> Plan:
    """The same, for the last query of each utterance alone: (P, B, d) instead of all rows."""
    out, begin = [], 0
    for chunk in plan:
        count = chunk.queries.shape[0]
        last = queries.device[begin : begin + count] - 1
        bias = chunk.bias[torch.arange(count, device=last.device), :, last][:, :, None]
        own = Padding(slice(begin, begin + count), (count, 1))
        out.append(Chunk(own, chunk.keys, bias, ((0, 1, bias.shape[3]),)))
        begin += count
    return out
