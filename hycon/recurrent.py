"""LSTMs over sequences of unequal length: an utterance's prediction never depends on how far its batch is padded."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

SEGMENTS = 5  # pieces the time axis is cut into on a CPU; each is one library call, so a few are enough


def last_hidden(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """(B, h): the top layer's hidden state at each sequence's own last step; no compute on padding.

    x: (B, T, d), padded on the right.  lengths: (B,) on the CPU.
    On a GPU the batch is packed. On a CPU the packed kernel is the slow one; there the sequences are sorted by length
    and the time axis is cut at a few lengths: each piece runs the rows that are still alive, with carried state.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    back = torch.argsort(order).to(x.device)
    ordered = x[order.to(x.device), : int(lengths.max())].transpose(0, 1)  # (T, B, d), time first
    if x.is_cuda:
        packed = pack_padded_sequence(ordered, lengths[order])
        return lstm(packed)[1][0][-1][back]
    return torch.cat(_staircase(lstm, ordered, lengths[order].tolist()))[back]


def _staircase(lstm: nn.LSTM, x: Tensor, lengths: list[int]) -> list[Tensor]:
    """`lengths` descend. Every cut ends where some sequences end; between cuts shorter ones run on, unread."""
    state: tuple[Tensor, Tensor] | None = None
    done: list[Tensor] = []
    alive, start = len(lengths), 0
    for cut in _cuts(lengths):
        ending = sum(1 for n in lengths[:alive] if n <= cut)
        out, state = lstm(x[start:cut, :alive], state)  # out: (t, alive, h)
        first = alive - ending
        rows = torch.arange(first, alive)
        steps = torch.tensor([n - 1 - start for n in lengths[first:alive]])
        done.insert(0, out[steps, rows])
        state = (state[0][:, :first].contiguous(), state[1][:, :first].contiguous())
        alive, start = first, cut
    return done


def _cuts(lengths: list[int]) -> list[int]:
    """At most SEGMENTS of the lengths that occur, the longest last, chosen so that the least padding is computed.

    Cost of a choice: sum over pieces of (piece's steps) x (rows alive in it); solved exactly by dynamic programming
    over the distinct lengths (at most 50 of them).
    """
    distinct = sorted(set(lengths))
    alive = [sum(1 for n in lengths if n > t) for t in [0, *distinct]]  # rows alive after each distinct length
    edges = [0, *distinct]
    best = [[float("inf")] * (SEGMENTS + 1) for _ in edges]
    came = [[0] * (SEGMENTS + 1) for _ in edges]
    best[0][0] = 0.0
    for j in range(1, len(edges)):
        for k in range(1, SEGMENTS + 1):
            for i in range(j):
                cost = best[i][k - 1] + (edges[j] - edges[i]) * alive[i]
                if cost < best[j][k]:
                    best[j][k], came[j][k] = cost, i
    k = min(range(1, SEGMENTS + 1), key=lambda k: best[-1][k])
    cuts, j = [], len(edges) - 1
    while j:
        cuts.append(edges[j])
        j, k = came[j][k], k - 1
    return cuts[::-1]
