"""Rows of utterances one after the other, (R, d), and chunks of them padded to a common length for attention.

What is done to each row alone (projections, norms, feed-forward) runs over exactly the R rows; only attention sees
padding: utterances of like length, a few at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hycon.data.ragged import Ragged

CHUNK = {"cpu": 4, "cuda": 64}  # utterances whose attention is computed together
HALVED = 24  # queries from which on the earlier half, behind a future mask, is a block of its own


def first_rows(lengths: Tensor) -> Tensor:
    """(B,) where each utterance's rows start."""
    return lengths.cumsum(0) - lengths


def each_step(x: Tensor, lengths: Tensor, device: torch.device) -> Tensor:
    """(R,): x (B,) of each utterance, for each of its steps. lengths: (B,) on the CPU, so that R is known at once."""
    own = lengths.to(device, non_blocking=True)
    return torch.repeat_interleave(x.to(device, non_blocking=True), own, output_size=int(lengths.sum()))


def steps_of(lengths: Tensor, device: torch.device) -> Tensor:
    """(R,): 0, 1, ... for each utterance."""
    return torch.arange(int(lengths.sum()), device=device) - each_step(first_rows(lengths), lengths, device)


def rows_in_order(sequences: Ragged) -> Tensor:
    """(R, ...): the rows of the sequences, one sequence after the other."""
    lengths, device = sequences.lengths, sequences.rows.device
    return sequences.rows.index_select(0, each_step(sequences.starts, lengths, device) + steps_of(lengths, device))


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


@dataclass(frozen=True)
class Chunk:
    """Utterances whose attention is computed together: their queries (b, T), their keys (b, S).

    bias: (b, 1, T, S), -inf where a query may not look, else 0.  blocks: (first query, after the last, keys they see).
    """

    queries: Padding
    keys: Padding
    bias: Tensor
    blocks: tuple[tuple[int, int, int], ...]


Plan = list[Chunk]


def make_plan(queries: Tensor, keys: Tensor, future_mask: bool, device: torch.device) -> Plan:
    """queries, keys: (B,) lengths on the CPU, longest first. An utterance's query sees its keys; with the future mask
    query i sees key j <= i + |difference of the two lengths|, as MulT's code has it."""
    size = CHUNK.get(device.type, 64)
    plan, begin, first = [], 0, 0  # rows of queries, of keys before the chunk
    for own, seen in zip(queries.split(size), keys.split(size), strict=True):
        steps, others = int(own.max()), int(seen.max())
        blocks: tuple[tuple[int, int, int], ...] = ((0, steps, others),)
        if future_mask and steps >= HALVED:
            half = steps // 2
            reach = half + int((seen - own).abs().max())
            if reach < others:
                blocks = ((0, half, reach), (half, steps, others))
        of_queries, of_keys = _padding(own, begin, device), _padding(seen, first, device)
        plan.append(Chunk(of_queries, of_keys, _bias(own, seen, future_mask, device), blocks))
        begin, first = of_queries.rows.stop, of_keys.rows.stop
    return plan


def _bias(queries: Tensor, keys: Tensor, future_mask: bool, device: torch.device) -> Tensor:
    """(b, 1, T, S), as Chunk has it, made on the device from the (b,) lengths: it may be large."""
    steps, others = int(queries.max()), int(keys.max())
    own, seen = (x.to(device, non_blocking=True)[:, None, None, None] for x in (queries, keys))
    key = torch.arange(others, device=device)
    visible = key < seen  # (b, 1, 1, S)
    if future_mask:
        visible = visible & (key <= torch.arange(steps, device=device)[:, None] + (seen - own).abs())
    bias = torch.zeros(visible.shape, device=device).masked_fill_(~visible, float("-inf"))
    return bias.expand(-1, -1, steps, -1)


def _padding(lengths: Tensor, start: int, device: torch.device) -> Padding:
    count, longest, total = len(lengths), int(lengths.max()), int(lengths.sum())
    rows = slice(start, start + total)
    if int(lengths.min()) == longest:
        return Padding(rows, (count, longest))
    lengths = lengths.to(device, non_blocking=True)
    first, step = first_rows(lengths), torch.arange(longest, device=device)
    inside = step < lengths[:, None]  # (b, T)
    index = (first[:, None] + step).masked_fill_(~inside, 0).flatten()
    ahead = torch.arange(count, device=device) * longest - first  # a row's place, less the row
    real = torch.arange(total, device=device) + torch.repeat_interleave(ahead, lengths, output_size=total)
    return Padding(rows, (count, longest), index, real, inside.flatten()[:, None].float())


def last_step(plan: Plan, queries: Tensor) -> Plan:
    """The same, for the last query of each utterance alone: (P, B, d) instead of all rows."""
    out, begin = [], 0
    for chunk in plan:
        count = chunk.queries.shape[0]
        last = (queries[begin : begin + count] - 1).to(chunk.bias.device, non_blocking=True)
        bias = chunk.bias[torch.arange(count, device=last.device), :, last][:, :, None]
        own = Padding(slice(begin, begin + count), (count, 1))
        out.append(replace(chunk, queries=own, bias=bias, blocks=((0, 1, bias.shape[3]),)))
        begin += count
    return out
