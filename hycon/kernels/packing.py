"""Packed order: the steps of B sequences of unequal length as R rows without padding.

All first steps come first, then all second steps, and so on; within a step, longer sequences before shorter ones. So
the sequences that still run at a step are the first of those that ran at the step before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from hycon.data.ragged import Both, Ragged, first_rows
from hycon.kernels.padding import pick


@dataclass(frozen=True)
class Packing:
    """Where each step of B sequences lies. All indices are int64 on one device.

    sizes: how many sequences have a first, a second, ... step.  counts: (T,) the same.  sequence, step: (R,) whose row
    it is, and which of that sequence's steps.  last: (B,) the row of each sequence's last step.
    """

    sizes: list[int]
    counts: Tensor
    sequence: Tensor
    step: Tensor
    last: Tensor

    @property
    def first(self) -> Tensor:
        """(B,) the sequence of each row of the first step: sequences from the longest to the shortest."""
        return self.sequence[: self.sizes[0]]

    def rows(self, x: Ragged | Tensor) -> Tensor:
        """(R, ...) the steps of `x`: Ragged, or (B, T, ...) padded on the right."""
        if isinstance(x, Ragged):
            return x.rows.index_select(0, x.starts[self.sequence] + self.step)
        return x[self.sequence, self.step]

    def last_rows(self, rows: Tensor) -> Tensor:
        """(R, d) -> (B, d): the row of each sequence's last step. On a GPU the way back is a selection and a product,
        where PyTorch's own sorts."""
        if not rows.is_cuda:
            return rows[self.last]
        return pick(rows[None], self.last, self.sequence, self._is_last)[0]

    @cached_property
    def _is_last(self) -> Tensor:
        """(R, 1) 1 at the last step of a sequence, 0 elsewhere."""
        row = torch.arange(len(self.sequence), device=self.last.device)
        return (row == self.last[self.sequence])[:, None].float()

    def step_before(self, rows: Tensor) -> Tensor:
        """(R, ...) -> (R - B, ...): for each row but those of first steps, the row of its sequence's step before."""
        if self._before is None:
            return rows[: len(rows) - self.sizes[0]]
        return rows.index_select(0, self._before)

    def shifted(self, rows: Tensor) -> Tensor:
        """(R, d) -> (R, d): each row's row of the step before, zeros at first steps."""
        return F.pad(self.step_before(rows), (0, 0, self.sizes[0], 0))

    @cached_property
    def _before(self) -> Tensor | None:
        """(R - B,) where `step_before` finds them; None where all are equally long: then always B rows up."""
        if self.sizes[0] == self.sizes[-1]:
            return None
        first, step = self.sizes[0], self.step[self.sizes[0] :]
        return torch.arange(first, first + len(step), device=step.device) - self.counts[step - 1]


def pack(lengths: Both) -> Packing:
    """The packing of sequences with these lengths, (B,), each at least 1; its indices are on the lengths' device."""
    longest, own, device = lengths.largest, lengths.device, lengths.device.device
    steps = torch.arange(longest)
    sizes = (steps[:, None] < lengths.host).sum(1)  # (T,)
    counts, step = sizes, steps
    if device.type != "cpu":  # computed there once more: no upload
        step = torch.arange(longest, device=device)
        counts = (step[:, None] < own).sum(1)
    before, total = first_rows(counts), lengths.total
    step = torch.repeat_interleave(step, counts, output_size=total)
    order = torch.argsort(own, descending=True, stable=True)
    sequence = order[torch.arange(total, device=device) - before[step]]
    return Packing(sizes.tolist(), counts, sequence, step, before[own - 1] + torch.argsort(order))
