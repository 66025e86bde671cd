"""Sequences of unequal length without padding: all rows one after the other, and where each utterance starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """N sequences over one pool of rows.

    rows: (R, ...) all rows, on the compute device.  starts: (N,) int64, on the same device.
    lengths: (N,) int64, always on the CPU, so that asking for the longest never waits for an accelerator.
    pad: the value that padding gets (0 for features, the tokenizer's pad id for tokens).
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor
    pad: float = 0.0

    @classmethod
    def from_offsets(cls, rows: Tensor, offsets: Tensor, pad: float = 0.0) -> Ragged:
        return cls(rows, offsets[:-1], offsets[1:] - offsets[:-1], pad)

    @classmethod
    def from_list(cls, sequences: list[Tensor], pad: float = 0.0) -> Ragged:
        lengths = torch.tensor([len(s) for s in sequences])
        return cls(torch.cat(sequences), lengths.cumsum(0) - lengths, lengths, pad)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def longest(self) -> int:
        return int(self.lengths.max())

    def take(self, index: Tensor) -> Ragged:
        """The sequences `index` (N',) on the CPU; no row is copied."""
        return replace(self, starts=self.starts[index.to(self.starts.device)], lengths=self.lengths[index])

    def slice(self, start: int, stop: int) -> Ragged:
        return replace(self, starts=self.starts[start:stop], lengths=self.lengths[start:stop])

    def crop(self, longest: int) -> Ragged:
        """The first `longest` rows of each sequence."""
        return replace(self, lengths=self.lengths.clamp(max=longest))

    def to(self, device: torch.device | str) -> Ragged:
        return replace(self, rows=self.rows.to(device), starts=self.starts.to(device))

    def device_lengths(self) -> Tensor:
        return self.lengths.to(self.rows.device, non_blocking=True)

    def mean(self) -> Tensor:
        """(N, ...): the mean of each sequence's rows, without padding any."""
        lengths = self.device_lengths()
        count, device = int(self.lengths.sum()), self.rows.device
        owner = torch.repeat_interleave(torch.arange(len(self), device=device), lengths, output_size=count)
        within = torch.arange(count, device=device) - (lengths.cumsum(0) - lengths)[owner]
        rows = self.rows[self.starts[owner] + within]
        total = rows.new_zeros(len(self), *rows.shape[1:]).index_add(0, owner, rows)
        return total / lengths.reshape(-1, *[1] * (rows.dim() - 1))

    def padded(self, length: int | None = None, side: str = "right") -> Tensor:
        """(N, length, ...) with padding on `side`; length defaults to the longest sequence."""
        length = self.longest if length is None else length
        position = torch.arange(length, device=self.rows.device)  # (T,)
        own = self.device_lengths().clamp(max=length)[:, None]  # (N, 1)
        inside = position < own if side == "right" else position >= length - own  # (N, T)
        row = self.starts[:, None] + (position if side == "right" else position - (length - own))
        out = self.rows[row.where(inside, self.starts[:, None])]  # (N, T, ...)
        return out.masked_fill(~inside.reshape(*inside.shape, *[1] * (out.dim() - 2)), self.pad)
