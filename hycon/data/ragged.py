"""Sequences of unequal length without padding: all rows one after the other, and where each utterance starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Both:
    """The same (N,) integers twice: host, on the CPU, from which the sizes of tensors follow without waiting for an
    accelerator, and device, from which whatever is computed there follows without an upload."""

    host: Tensor
    device: Tensor

    @classmethod
    def of(cls, host: Tensor, device: torch.device | str = "cpu") -> Both:
        """Uploads, without waiting. On a CPU both are one tensor."""
        return cls(host, upload(host, device))

    def __len__(self) -> int:
        return len(self.host)

    @property
    def largest(self) -> int:
        return int(self.host.max())

    @property
    def total(self) -> int:
        return int(self.host.sum())

    def to(self, device: torch.device | str) -> Both:
        return replace(self, device=upload(self.device, device))

    def take(self, index: Both) -> Both:
        return self.map(lambda x, i: x[i], index)

    def slice(self, start: int, stop: int) -> Both:
        return self.map(lambda x: x[start:stop])

    def map(self, function: Callable[..., Tensor], *others: Both) -> Both:
        """What `function` makes of each side; on a CPU it is called once."""
        host = function(self.host, *(x.host for x in others))
        if self.device is self.host and all(x.device is x.host for x in others):
            return Both(host, host)
        return Both(host, function(self.device, *(x.device for x in others)))


def upload(x: Tensor, device: torch.device | str) -> Tensor:
    """x on `device`; the host does not wait, as a copy from pinned memory runs beside it."""
    if torch.device(device).type == "cuda" and x.device.type == "cpu":
        x = x.pin_memory()
    return x.to(device, non_blocking=True)


@dataclass(frozen=True)
class Ragged:
    """N sequences over one pool of rows.

    rows: (R, ...) all rows, on the compute device.  starts: (N,) int64, on the same device.
    lengths: (N,) int64, always on the CPU, so that asking for the longest never waits for an accelerator.
    pad: the value that padding gets (0 for features, the tokenizer's pad id for tokens).
    own: the lengths on the compute device; None: not there yet.
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor
    pad: float = 0.0
    own: Tensor | None = None

    @classmethod
    def from_offsets(cls, rows: Tensor, offsets: Tensor, pad: float = 0.0) -> Ragged:
        return cls(rows, offsets[:-1], offsets[1:] - offsets[:-1], pad)

    @classmethod
    def from_list(cls, sequences: list[Tensor], pad: float = 0.0) -> Ragged:
        lengths = torch.tensor([len(s) for s in sequences])
        return cls(torch.cat(sequences), lengths.cumsum(0) - lengths, lengths, pad)

    @classmethod
    def from_padded(cls, x: Tensor, lengths: Both) -> Ragged:
        """x: (N, T, ...) padded on the right."""
        starts = torch.arange(len(x), device=x.device) * x.shape[1]
        return cls(x.flatten(0, 1), starts, lengths.host, own=lengths.device)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def longest(self) -> int:
        return int(self.lengths.max())

    @property
    def both(self) -> Both:
        return Both(self.lengths, self.device_lengths())

    def device_lengths(self) -> Tensor:
        return upload(self.lengths, self.rows.device) if self.own is None else self.own

    def _of_lengths(self, lengths: Both, starts: Tensor) -> Ragged:
        return replace(self, starts=starts, lengths=lengths.host, own=lengths.device)

    def take(self, index: Tensor | Both) -> Ragged:
        """The sequences `index` (N',); no row is copied. An index on the CPU alone is uploaded."""
        index = index if isinstance(index, Both) else Both.of(index, self.starts.device)
        return self._of_lengths(self.both.take(index), self.starts[index.device])

    def slice(self, start: int, stop: int) -> Ragged:
        return self._of_lengths(self.both.slice(start, stop), self.starts[start:stop])

    def crop(self, longest: int) -> Ragged:
        """The first `longest` rows of each sequence."""
        return self._of_lengths(self.both.map(lambda x: x.clamp(max=longest)), self.starts)

    def to(self, device: torch.device | str) -> Ragged:
        """On `device`, lengths too."""
        rows, starts = self.rows.to(device), self.starts.to(device)
        return replace(self, rows=rows, starts=starts, own=self.lengths.to(device))

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


def longest_first(lengths: Both) -> Both:
    """(N,) the sequences from the longest to the shortest, those of one length in their order."""
    return lengths.map(lambda x: torch.argsort(x, descending=True, stable=True))


def first_rows(lengths: Tensor) -> Tensor:
    """(N,) where each sequence's rows start, if they follow one another."""
    return lengths.cumsum(0) - lengths


def each_step(x: Tensor, lengths: Both) -> Tensor:
    """(R,): x (N,) of each sequence, on the lengths' device, for each of its steps."""
    return torch.repeat_interleave(x, lengths.device, output_size=lengths.total)


def steps_of(lengths: Both) -> Tensor:
    """(R,): 0, 1, ... for each sequence."""
    return torch.arange(lengths.total, device=lengths.device.device) - each_step(first_rows(lengths.device), lengths)


@dataclass(frozen=True)
class Places:
    """Of the rows of N sequences, one sequence after the other, (R,): whose row it is, which of its steps."""

    owner: Tensor
    step: Tensor

    @classmethod
    def of(cls, lengths: Both) -> Places:
        device = lengths.device.device
        owner = each_step(torch.arange(len(lengths), device=device), lengths)
        return cls(owner, torch.arange(lengths.total, device=device) - first_rows(lengths.device)[owner])


def rows_in_order(sequences: Ragged, places: Places | None = None) -> Tensor:
    """(R, ...): the rows of the sequences, one sequence after the other.  places: theirs, where they are known."""
    places = places or Places.of(sequences.both)
    return sequences.rows.index_select(0, sequences.starts[places.owner] + places.step)
