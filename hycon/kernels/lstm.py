"""LSTMs over sequences of unequal length: an utterance's prediction never depends on how far its batch is padded.

On a CPU an LSTM runs over packed rows by our own autograd function: the input products of all steps in one matrix
product, then one small product a step over the sequences still alive; the backward pass is written out, and the
gradient of an input that nobody asks for is not computed. On a GPU cuDNN takes the same packed rows, except where cell
states are asked for, which cuDNN keeps to itself: then the function of the CPU runs there, step by step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hycon.data.ragged import Ragged
from hycon.kernels.dropout import dropout
from hycon.kernels.packing import packed_order, packed_rows, rows_before, step_before


def last_hidden(lstm: nn.LSTM, *sources: Tensor | Ragged, lengths: Tensor) -> Tensor:
    """(B, h): the top layer's hidden state at each sequence's own last step; no compute on padding.

    sources: what is read at each step, side by side; Ragged, or (B, T, d) padded on the right.  lengths: (B,) on the
    CPU.  `lstm` is unidirectional and has biases.
    """
    sizes, *indices = packed_order(lengths)
    device = lstm.get_parameter("weight_ih_l0").device
    sequence, step, last = (i.to(device, non_blocking=True) for i in indices)
    rows = [packed_rows(x, sequence, step) if isinstance(x, Ragged) else x[sequence, step] for x in sources]
    return packed_lstm(lstm, torch.cat(rows, 1) if len(rows) > 1 else rows[0], sizes)[last]


def packed_lstm(lstm: nn.LSTM, rows: Tensor, sizes: list[int]) -> Tensor:
    """(R, h): the top layer's hidden state at every step, in packed order. rows: (R, d).

    In the weights' precision under autocast too: a recurrence over many steps gathers rounding errors.
    """
    if rows.is_cuda:
        return torch_lstm(lstm, rows, sizes)
    return packed_states(lstm, rows, sizes, rows_before(sizes, rows.device))[0]


def torch_lstm(lstm: nn.LSTM, rows: Tensor, sizes: list[int]) -> Tensor:
    """`packed_lstm` by the module itself: cuDNN on a GPU."""
    with torch.autocast(rows.device.type, enabled=False):
        packed = PackedSequence(rows.to(lstm.get_parameter("weight_ih_l0").dtype), torch.tensor(sizes))
        return lstm(packed)[0].data


def packed_states(lstm: nn.LSTM, rows: Tensor, sizes: list[int], before: Tensor | None) -> tuple[Tensor, Tensor]:
    """(R, h), (R, h): the top layer's hidden and cell state at every step, in packed order. rows: (R, d).

    before: as `rows_before` gives it.  Precision as in `packed_lstm`.
    """
    cells = rows
    for layer in range(lstm.num_layers):
        weights = (getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        w_ih, w_hh, b_ih, b_hh = weights
        if layer:
            rows = dropout(rows, lstm.dropout, lstm.training)
        with torch.autocast(rows.device.type, enabled=False):
            rows, cells = _Layer.apply(rows.to(w_ih.dtype), w_ih, w_hh, b_ih + b_hh, sizes, before)
    return rows, cells


class _Layer(torch.autograd.Function):
    """One LSTM layer over packed rows: x (R, d) -> hidden and cell states (R, h). Gates as in nn.LSTM: i, f, g, o."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, sizes: list[int], before: Tensor | None
    ):
        h = w_hh.shape[1]
        gates = torch.addmm(bias, x, w_ih.t())  # (R, 4h): becomes the activations in place
        cell, tanh, out = (gates.new_empty(len(x), h) for _ in range(3))
        recurrent = w_hh.t().contiguous()
        blocks = (gates, gates[:, : 2 * h], *gates.split(h, 1), cell, tanh, out)
        h_before = c_before = None
        for n, own, i_f, i, f, g, o, c, t, y in zip(sizes, *(b.split(sizes) for b in blocks), strict=True):
            if h_before is not None:
                own.addmm_(h_before[:n], recurrent)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=c)
            if c_before is not None:
                c.addcmul_(f, c_before[:n])
            torch.tanh(c, out=t)
            torch.mul(o, t, out=y)
            h_before, c_before = y, c
        ctx.save_for_backward(x, w_ih, w_hh, gates, cell, tanh, out)
        ctx.sizes, ctx.before = sizes, before
        ctx.set_materialize_grads(False)
        return out, cell

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_cell: Tensor | None):  # type: ignore[override]
        x, w_ih, w_hh, gates, cell, tanh, out = ctx.saved_tensors
        sizes, first, h = ctx.sizes, ctx.sizes[0], cell.shape[1]
        k, a = _local_derivatives(gates, cell, tanh, step_before(cell, first, ctx.before), first)
        dc, dh = cell.new_zeros(first, h), cell.new_zeros(first, h)
        blocks = (a, k, k[:, : 3 * h].unflatten(1, (3, h)), k[:, 3 * h :], gates[:, h : 2 * h])
        steps = list(zip(sizes, *(b.split(sizes) for b in blocks), strict=True))
        from_hidden, from_cell = (g.split(sizes) if g is not None else None for g in (grad, grad_cell))
        for step in range(len(sizes) - 1, -1, -1):
            n, a_t, k_t, k_ifg, k_o, f_t = steps[step]
            dh_t, dc_t = dh[:n], dc[:n]
            if from_hidden is not None:
                dh_t.add_(from_hidden[step])
            if from_cell is not None:
                dc_t.add_(from_cell[step])
            dc_t.addcmul_(dh_t, a_t)
            k_ifg.mul_(dc_t[:, None])
            k_o.mul_(dh_t)
            if step:
                dc_t.mul_(f_t)
                torch.mm(k_t, w_hh, out=dh_t)
        dx = k @ w_ih if ctx.needs_input_grad[0] else None
        return dx, k.t() @ x, k[first:].t() @ step_before(out, first, ctx.before), k.sum(0), None, None


def _local_derivatives(gates: Tensor, cell: Tensor, tanh: Tensor, before: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """k (R, 4h): d(loss)/d(pre-activation) but for the factor d(cell) (i, f, g) or d(hidden) (o); a (R, h):
    d(cell)/d(hidden)."""
    h = cell.shape[1]
    i, f, g, o = gates.split(h, 1)
    k = torch.empty_like(gates)
    k_i, k_f, k_g, k_o = k.split(h, 1)
    torch.mul(i, g, out=k_i)  # i (1 - i) g
    k_i.addcmul_(k_i, i, value=-1)
    k_f[:first].zero_()
    torch.mul(before, f[first:], out=k_f[first:])  # f (1 - f) c_before
    k_f.addcmul_(k_f, f, value=-1)
    torch.mul(g, g, out=k_g)  # i (1 - g^2)
    torch.addcmul(i, i, k_g, value=-1, out=k_g)
    torch.mul(tanh, o, out=k_o)
    a = torch.addcmul(o, k_o, tanh, value=-1)  # o (1 - tanh^2)
    k_o.addcmul_(k_o, o, value=-1)  # o (1 - o) tanh
    return k, a
