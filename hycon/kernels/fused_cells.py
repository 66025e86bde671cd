"""Recurrences on a GPU, where a step costs as many launches as it has operations: by PyTorch's fused LSTM cell.

    i, f, g, o = x_t + U h_{t-1};  c_t = sigmoid(f) o c_{t-1} + sigmoid(i) o tanh(g);  h_t = sigmoid(o) o tanh(c_t)

Everything after the product is one kernel, the one of torch.nn.LSTMCell on CUDA; so is its gradient. It exists on CUDA
alone: hycon/kernels/lstm.py and gated_memory.py have the same sums for every device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hycon.kernels.packing import Packing

cell = torch.ops.aten._thnn_fused_lstm_cell
cell_backward = torch.ops.aten._thnn_fused_lstm_cell_backward_impl


def side_by_side(lstms: Sequence[nn.LSTM], rows: Sequence[Tensor], packing: Packing) -> tuple[Tensor, Tensor]:
    """Hidden and cell states (R, h) of all steps, h the sum of the LSTMs' widths: they run as one LSTM whose matrices
    are zero where one's states would meet another's. lstms: of one layer.  rows: (R, d) that each of them reads."""
    w_ih, w_hh, bias = [], [], []
    for lstm in lstms:
        w_ih.append(lstm.get_parameter("weight_ih_l0"))
        w_hh.append(lstm.get_parameter("weight_hh_l0"))
        bias.append(lstm.get_parameter("bias_ih_l0") + lstm.get_parameter("bias_hh_l0"))
    with torch.autocast(rows[0].device.type, enabled=False):
        x = torch.cat([x.to(w_hh[0].dtype) for x in rows], 1)
        joined_bias = torch.cat([b.view(4, -1) for b in bias], 1).flatten()
        return _Cells.apply(x, _Joined.apply(*w_ih), _Joined.apply(*w_hh), joined_bias, packing)


class _Joined(torch.autograd.Function):
    """(4 h_m, d_m) each -> (4 h, d): within each of the four gates the blocks of a block-diagonal matrix."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor):  # type: ignore[override]
        ctx.sizes = [(len(w) // 4, w.shape[1]) for w in weights]
        height, width = (sum(size) for size in zip(*ctx.sizes, strict=True))
        out = weights[0].new_zeros(4, height, width)
        for block, w in zip(_blocks(out, ctx.sizes), weights, strict=True):
            block.copy_(w.view(block.shape))
        return out.flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        return tuple(block.flatten(0, 1) for block in _blocks(grad.unflatten(0, (4, -1)), ctx.sizes))


def _blocks(joined: Tensor, sizes: Sequence[tuple[int, int]]) -> Iterator[Tensor]:
    """(4, h_m, d_m) of each, views of joined (4, h, d)."""
    down = across = 0
    for height, width in sizes:
        yield joined[:, down : down + height, across : across + width]
        down, across = down + height, across + width


class _Cells(torch.autograd.Function):
    """x (R, d), w_ih (4h, d), w_hh (4h, h), bias (4h,) -> (R, h), (R, h)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, packing: Packing):  # type: ignore[override]
        inputs, recurrent = torch.addmm(bias, x, w_ih.t()).split(packing.sizes), w_hh.t()
        nothing = x.new_zeros(packing.sizes[0], w_hh.shape[1])
        given, h, c = torch.zeros_like(inputs[0]), nothing, nothing
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        kept: list[Tensor] = []
        for n, own in zip(packing.sizes, inputs, strict=True):
            if hidden:
                given = torch.mm(h[:n], recurrent)
            h, c, gates = cell(own, given, c[:n])
            for column, new in ((hidden, h), (cells, c), (kept, gates)):
                column.append(new)
        out, every = torch.cat(hidden), torch.cat(cells)
        ctx.save_for_backward(x, w_ih, w_hh, out, nothing, *cells, *kept)
        ctx.packing = packing
        return out, every

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_cell: Tensor):  # type: ignore[override]
        x, w_ih, w_hh, out, nothing, *rest = ctx.saved_tensors
        packing: Packing = ctx.packing
        cells, kept, first = rest[: len(rest) // 2], rest[len(rest) // 2 :], packing.sizes[0]
        d_hidden, d_cell = grad.clone().split(packing.sizes), grad_cell.clone().split(packing.sizes)
        gradients: list[Tensor] = []
        for step in range(len(cells) - 1, -1, -1):
            before = cells[step - 1][: len(cells[step])] if step else nothing
            d_gates, d_before, _ = cell_backward(d_hidden[step], d_cell[step], before, cells[step], kept[step], False)
            gradients.insert(0, d_gates)
            if step:
                d_hidden[step - 1][: len(d_gates)].addmm_(d_gates, w_hh)
                d_cell[step - 1][: len(d_gates)].add_(d_before)
        k = torch.cat(gradients)
        dx = k @ w_ih if ctx.needs_input_grad[0] else None
        return dx, k.t() @ x, k[first:].t() @ packing.step_before(out), k.sum(0), None


class FusedMemory(torch.autograd.Function):
    """gated_memory's `_Memory`, whose update u_t = g1 o u_{t-1} + g2 o u^_t is that of an LSTM's cell: g2 is its input
    gate, g1 its forget gate, u^ = tanh(proposed) its candidate; the output gate is not used.

    proposed (R, m): before the tanh.  kept: 0 or, in all of a column, one scale.  All else as for `_Memory`.
    """

    @staticmethod
    def forward(ctx: Any, inputs, proposed, kept, recurrent, w1, b1, w2, b2, packing: Packing):  # type: ignore[override]
        m, k1, sizes = len(w1), w1.shape[1], packing.sizes
        scale, onto = kept.amax(0)[:, None], recurrent.t()
        up = inputs.new_zeros(inputs.shape[1], 4 * m)  # from the hidden layer to the pre-activations of i, f, g, o
        up[:k1, m : 2 * m], up[k1:, :m] = w1.t(), w2.t()
        up *= scale
        biases = (b.expand(len(proposed), m) for b in (b2, b1))
        gates = torch.cat([*biases, proposed, torch.zeros_like(proposed)], 1)
        hidden = inputs.clone(memory_format=torch.contiguous_format)  # becomes the hidden layer, not scaled, in place
        zero, most = kept.new_zeros(()), torch.where(kept > 0, torch.inf, 0.0)  # relu and dropout in one: a clamp
        u = proposed.new_zeros(sizes[0], m)
        memory: list[Tensor] = []
        workspaces: list[Tensor] = []
        for n, z, limit, own in zip(sizes, *(x.split(sizes) for x in (hidden, most, gates)), strict=True):
            if memory:
                z.addmm_(u[:n], onto)
            torch.clamp(z, zero, limit, out=z)
            _, u, workspace = cell(own, torch.mm(z, up), u[:n])
            memory.append(u)
            workspaces.append(workspace)
        every = torch.cat(memory)
        ctx.save_for_backward(hidden, up, scale, recurrent, every, *workspaces)
        ctx.packing, ctx.k1 = packing, k1
        return every[packing.last]

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        hidden, up, scale, recurrent, every, *workspaces = ctx.saved_tensors
        packing: Packing = ctx.packing
        sizes, first, m, k1 = packing.sizes, packing.sizes[0], every.shape[1], ctx.k1
        memory, through = every.split(sizes), (hidden > 0).to(hidden.dtype).split(sizes)
        d_memory = grad[packing.first]  # longest first: a sequence's row is first touched at its last step
        nothing, down = torch.zeros_like(d_memory), up.t()
        of_gates: list[Tensor] = []
        of_hidden: list[Tensor] = []
        for step in range(len(sizes) - 1, -1, -1):
            n = sizes[step]
            before = memory[step - 1][:n] if step else nothing
            d_gates, d_before, _ = cell_backward(None, d_memory[:n], before, memory[step], workspaces[step], False)
            dz = torch.mm(d_gates, down).mul_(through[step])
            of_gates.insert(0, d_gates)
            of_hidden.insert(0, dz)
            if step:
                torch.addmm(d_before, dz, recurrent, out=d_memory[:n])
        d_gates, dz = torch.cat(of_gates), torch.cat(of_hidden)
        d_recurrent = dz[first:].t() @ packing.step_before(every)
        d_up, bias = (hidden.t() @ d_gates) * scale, d_gates.sum(0)
        dw1, dw2 = d_up[:k1, m : 2 * m].t(), d_up[k1:, :m].t()
        return dz, d_gates[:, 2 * m : 3 * m], None, d_recurrent, dw1, bias[m : 2 * m], dw2, bias[:m], None
