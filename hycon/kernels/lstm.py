"""LSTMs over packed rows: an utterance's prediction never depends on how far its batch is padded.

    i, f, g, o = W x_t + U h_{t-1} + b
    c_t = sigmoid(f) o c_{t-1} + sigmoid(i) o tanh(g)
    h_t = sigmoid(o) o tanh(c_t)

`plain_layer` is these equations. On a CPU the fast body runs: the input products of all steps in one matrix product,
then one small product a step over the sequences that still run. Its backward pass is written out, and the gradient of
an input that nobody asks for is not computed. On CUDA cuDNN takes the same packed rows, but it gives no cell states:
where those are asked for, the LSTMs of a model run as one there, by PyTorch's fused cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from hycon.data.ragged import Both, Ragged
from hycon.errors import UserError
from hycon.kernels.dropout import dropout
from hycon.kernels.fused_cells import side_by_side
from hycon.kernels.packing import Packing, pack

States = tuple[Tensor, Tensor]  # hidden and cell states, (R, h) each


def last_hidden(lstm: nn.LSTM, *sources: Tensor | Ragged, lengths: Both) -> Tensor:
    """(B, h): the top layer's hidden state at each sequence's own last step; no compute on padding.

    sources: what is read at each step, side by side; Ragged, or (B, T, d) padded on the right.  lengths: (B,).
    Raises UserError as `packed_lstm`.
    """
    packing = pack(lengths)
    rows = [packing.rows(x) for x in sources]
    return packing.last_rows(packed_lstm(lstm, torch.cat(rows, 1) if len(rows) > 1 else rows[0], packing))


def packed_lstm(lstm: nn.LSTM, rows: Tensor, packing: Packing) -> Tensor:
    """(R, d) in packed order -> (R, h): the top layer's hidden state at every step, from a zero state.

    In the weights' precision under autocast too: a recurrence over many steps gathers rounding errors.
    Raises UserError for an LSTM with two directions, without biases or with a projection. What `batch_first` says does
    not matter here.
    """
    if rows.is_cuda:
        return torch_lstm(lstm, rows, packing)
    return packed_states(lstm, rows, packing)[0]


def packed_states(lstm: nn.LSTM, rows: Tensor, packing: Packing) -> States:
    """As `packed_lstm`, with the top layer's cell states beside the hidden ones: (R, h), (R, h)."""
    return _through_layers(_Layer.apply, lstm, rows, packing)


def states_of(lstms: Sequence[nn.LSTM], rows: Sequence[Tensor], packing: Packing) -> tuple[list[Tensor], list[Tensor]]:
    """`packed_states` of several LSTMs of one layer, each over its own rows: their hidden states, their cell states.
    On CUDA they run as one (hycon/kernels/fused_cells.py)."""
    if rows[0].is_cuda and all(lstm.num_layers == 1 for lstm in lstms):
        for lstm in lstms:
            _check(lstm)
        widths = [lstm.hidden_size for lstm in lstms]
        hidden, cells = side_by_side(lstms, rows, packing)
        return list(hidden.split(widths, 1)), list(cells.split(widths, 1))
    states = [packed_states(lstm, x, packing) for lstm, x in zip(lstms, rows, strict=True)]
    return [hidden for hidden, _ in states], [cells for _, cells in states]


def plain_states(lstm: nn.LSTM, rows: Tensor, packing: Packing) -> States:
    """`packed_states` in ordinary PyTorch, one step after the other."""
    return _through_layers(plain_layer, lstm, rows, packing)


def torch_lstm(lstm: nn.LSTM, rows: Tensor, packing: Packing) -> Tensor:
    """`packed_lstm` by the module itself, which on CUDA is cuDNN."""
    _check(lstm)
    with torch.autocast(rows.device.type, enabled=False):
        weight = lstm.get_parameter("weight_hh_l0")
        return lstm(PackedSequence(rows.to(weight.dtype), torch.tensor(packing.sizes)))[0].data


def _check(lstm: nn.LSTM) -> None:
    for refused, what in (
        (lstm.bidirectional, "two directions (bidirectional=True); use an LSTM for each"),
        (not lstm.bias, "no biases (bias=False)"),
        (lstm.proj_size > 0, f"a projection (proj_size={lstm.proj_size})"),
    ):
        if refused:
            raise UserError(f"An LSTM over packed rows cannot have {what}.")


def _through_layers(layer: Callable[..., States], lstm: nn.LSTM, rows: Tensor, packing: Packing) -> States:
    _check(lstm)
    cells = rows
    for number in range(lstm.num_layers):
        weights = (getattr(lstm, f"{name}_l{number}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        w_ih, w_hh, b_ih, b_hh = weights
        if number:
            rows = dropout(rows, lstm.dropout, lstm.training)
        with torch.autocast(rows.device.type, enabled=False):
            rows, cells = layer(rows.to(w_ih.dtype), w_ih, w_hh, b_ih + b_hh, packing)
    return rows, cells


def plain_layer(x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, packing: Packing) -> States:
    """One layer: x (R, d), w_ih (4h, d), w_hh (4h, h), bias (4h,) -> (R, h), (R, h)."""
    h = c = x.new_zeros(packing.sizes[0], w_hh.shape[1])
    hidden, cells = [], []
    for x_t in x.split(packing.sizes):
        h, c = h[: len(x_t)], c[: len(x_t)]
        i, f, g, o = (x_t @ w_ih.t() + h @ w_hh.t() + bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hidden.append(h)
        cells.append(c)
    return torch.cat(hidden), torch.cat(cells)


class _Layer(torch.autograd.Function):
    """`plain_layer`, fast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, packing: Packing):  # type: ignore[override]
        h, sizes = w_hh.shape[1], packing.sizes
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
        ctx.packing = packing
        ctx.set_materialize_grads(False)
        return out, cell

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_cell: Tensor | None):  # type: ignore[override]
        x, w_ih, w_hh, gates, cell, tanh, out = ctx.saved_tensors
        packing: Packing = ctx.packing
        sizes, first, h = packing.sizes, packing.sizes[0], cell.shape[1]
        k, a = _local_derivatives(gates, cell, tanh, packing.step_before(cell), first)
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
        return dx, k.t() @ x, k[first:].t() @ packing.step_before(out), k.sum(0), None


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
