"""Rows of sequences of unequal length in packed order: all first steps, all second steps, ..., longer sequences
first."""

from __future__ import annotations

import torch
from torch import Tensor

from hycon.data.ragged import Ragged


def packed_order(lengths: Tensor) -> tuple[list[int], Tensor, Tensor, Tensor]:
    """Rows in packed order: all first steps, all second steps, ..., longer sequences first.

    lengths: (B,). Returns sizes (sequences alive at each step), sequence (R,) and step (R,) of each packed row, and
    last (B,), the packed row where each sequence ends.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    ordered = lengths[order]
    alive = torch.arange(int(ordered[0]))[:, None] < ordered  # (T, B)
    step, rank = alive.nonzero(as_tuple=True)
    sizes = alive.sum(1)
    last = torch.empty_like(order)
    last[order] = (sizes.cumsum(0) - sizes)[ordered - 1] + torch.arange(len(ordered))
    return sizes.tolist(), order[rank], step, last


def packed_rows(sequences: Ragged, sequence: Tensor, step: Tensor) -> Tensor:
    """(R, ...): the rows of `sequences` in packed order; `sequence` and `step` as `packed_order` gives them."""
    device = sequences.rows.device
    own, step = (i.to(device, non_blocking=True) for i in (sequence, step))
    return sequences.rows.index_select(0, sequences.starts[own] + step)


def rows_before(sizes: list[int], device: torch.device) -> Tensor | None:
    """(R - sizes[0],): for each packed row but the first steps', where the same sequence's step before is; None where
    no sequence ends early: then it is always sizes[0] rows up."""
    first = sizes[0]
    if first == sizes[-1]:
        return None
    counts = torch.tensor(sizes)
    before = torch.arange(first, sum(sizes)) - torch.repeat_interleave(counts[:-1], counts[1:])
    return before.to(device, non_blocking=True)


def step_before(rows: Tensor, first: int, before: Tensor | None) -> Tensor:
    """(R, ...) -> (R - first, ...): the row of the step before. first: sizes[0].  before: as `rows_before` gives it."""
    return rows[: len(rows) - first] if before is None else rows.index_select(0, before)
