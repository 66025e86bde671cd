"""A convolution over the steps of each utterance by itself, on rows without padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hycon.data.ragged import Both, each_step, first_rows, steps_of


def convolve(rows: Tensor, lengths: Both, weight: Tensor, same_length: bool) -> tuple[Tensor, Both]:
    """Conv1d without bias: rows (R, in), lengths (B,), weight (d, in, k) -> rows (R', d), lengths (B,).

    lengths: of the utterances, whose rows follow one another.  same_length: zeros on both sides. Otherwise k - 1 steps
    fewer, and one at least.

    The fast body runs on every device: one product for all rows, then a sum over what rows give to their neighbours.
    """
    kernel, device = weight.shape[2], rows.device
    if kernel == 1:
        return rows @ weight[:, :, 0].t(), lengths
    out = lengths if same_length else lengths.map(lambda n: (n - kernel + 1).clamp(min=1))
    tap = torch.arange(kernel, device=device)
    place = steps_of(out)[:, None] + tap - ((kernel - 1) // 2 if same_length else 0)  # (R', k)
    own, start = (each_step(x, out)[:, None] for x in (lengths.device, first_rows(lengths.device)))
    index = (start + place).masked_fill_((place < 0) | (place >= own), len(rows))
    # what each row gives to each of k places, and a row of zeros for what is beyond the ends
    given = F.pad(rows @ weight.permute(1, 2, 0).flatten(1), (0, 0, 0, 1)).unflatten(1, (kernel, -1))  # (R + 1, k, d)
    return given[index, tap].sum(1), out


def plain_convolve(rows: Tensor, lengths: Both, weight: Tensor, same_length: bool) -> tuple[Tensor, Both]:
    """`convolve` in ordinary PyTorch, one utterance after the other."""
    kernel, convolved = weight.shape[2], []
    for x in rows.split(lengths.host.tolist()):
        ends = ((kernel - 1) // 2, kernel // 2) if same_length else (0, max(0, kernel - len(x)))
        convolved.append(F.conv1d(F.pad(x.t(), ends)[None], weight)[0].t())
    return torch.cat(convolved), Both.of(torch.tensor([len(x) for x in convolved]), rows.device)
