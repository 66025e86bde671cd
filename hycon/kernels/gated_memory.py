"""MFN's multi-view gated memory (Zadeh et al., AAAI 2018) over packed rows:

    u^_t = tanh(proposal(x_t))
    g1 = sigmoid(retain([x_t; u_{t-1}])), g2 = sigmoid(update([x_t; u_{t-1}]))
    u_t = g1 o u_{t-1} + g2 o u^_t

Step by step the fast body is the plain one with fewer operations; on CUDA with fewer still, by a fused cell
(hycon/kernels/fused_cells.py). All that reads x alone is computed for all steps at once, in one product; the backward
pass is written out.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.kernels.dropout import Dropout, dropout
from hycon.kernels.fused_cells import FusedMemory
from hycon.kernels.packing import Packing


class Network(Protocol):
    """Linear -> relu -> dropout -> Linear."""

    fc1: nn.Linear
    fc2: nn.Linear
    drop: Dropout

    def __call__(self, x: Tensor) -> Tensor: ...


def gated_memory(x: Tensor, proposal: Network, retain: Network, update: Network, packing: Packing) -> Tensor:
    """(R, width) in packed order -> (B, m): u after each sequence's last step, from a memory of zeros.

    proposal: width to m.  retain, update: width + m to m.  In the weights' precision under autocast too.
    """
    width, gates = x.shape[1], (retain, update)
    weights = [proposal.fc1.weight, *(gate.fc1.weight[:, :width] for gate in gates)]
    biases: list[Tensor] = [proposal.fc1.bias, *(gate.fc1.bias for gate in gates)]
    first = F.linear(x, torch.cat(weights), torch.cat(biases))
    proposed, inputs = first.split([len(weights[0]), len(weights[1]) + len(weights[2])], 1)
    u = proposal.fc2(proposal.drop(F.relu(proposed)))
    memory: type[torch.autograd.Function] = FusedMemory
    if not x.is_cuda:
        u, memory = torch.tanh(u), _Memory
    kept = torch.cat([_kept(gate, inputs) for gate in gates], 1)
    recurrent = torch.cat([gate.fc1.weight[:, width:] for gate in gates])
    second = [p for gate in gates for p in (gate.fc2.weight, gate.fc2.bias)]
    with torch.autocast(x.device.type, enabled=False):
        inputs, u, kept = (y.to(recurrent.dtype) for y in (inputs, u, kept))
        return memory.apply(inputs, u, kept, recurrent, *second, packing)


def plain_gated_memory(x: Tensor, proposal: Network, retain: Network, update: Network, packing: Packing) -> Tensor:
    """`gated_memory` in ordinary PyTorch, one step after the other; it draws the same dropout from the same seed."""
    proposed = torch.tanh(proposal(x))
    kept = [_kept(gate, x) for gate in (retain, update)]
    u = x.new_zeros(packing.sizes[0], proposed.shape[1])
    memory = []
    for x_t, u_t, *kept_t in zip(*(y.split(packing.sizes) for y in (x, proposed, *kept)), strict=True):
        before = u[: len(x_t)]
        both = torch.cat([x_t, before], 1)
        g1, g2 = (
            torch.sigmoid(gate.fc2(F.relu(gate.fc1(both)) * keep))
            for gate, keep in zip((retain, update), kept_t, strict=True)
        )
        u = g1 * before + g2 * u_t
        memory.append(u)
    return torch.cat(memory)[packing.last]


def _kept(gate: Network, like: Tensor) -> Tensor:
    """(R, k) what dropout multiplies a gate's hidden layer with, at every step."""
    return dropout(like.new_ones(len(like), gate.fc1.out_features), gate.drop.p, gate.drop.training)


class _Memory(torch.autograd.Function):
    """The recurrence, given what does not depend on it.

    inputs (R, k1 + k2): what both gates' hidden layers get from x.  u (R, m): proposals.  kept (R, k1 + k2): their
    dropout's mask, scaled.  recurrent (k1 + k2, m): their weights on u_{t-1}.  w1 (m, k1), b1, w2 (m, k2), b2: their
    second layers.
    """

    @staticmethod
    def forward(ctx: Any, inputs, u, kept, recurrent, w1, b1, w2, b2, packing: Packing):  # type: ignore[override]
        k1, sizes = w1.shape[1], packing.sizes
        hidden = inputs.clone(memory_format=torch.contiguous_format)  # becomes relu(.) o kept in place
        g1, g2, memory = (torch.empty_like(u) for _ in range(3))
        onto, up1, up2 = recurrent.t().contiguous(), w1.t().contiguous(), w2.t().contiguous()
        blocks = (hidden, hidden[:, :k1], hidden[:, k1:], kept, u, g1, g2, memory)
        before = None
        for n, z, z1, z2, keep, u_t, a, b, out in zip(sizes, *(x.split(sizes) for x in blocks), strict=True):
            if before is not None:
                z.addmm_(before[:n], onto)
            z.relu_().mul_(keep)
            torch.addmm(b1, z1, up1, out=a).sigmoid_()
            torch.addmm(b2, z2, up2, out=b).sigmoid_()
            torch.mul(b, u_t, out=out)
            if before is not None:
                out.addcmul_(a, before[:n])
            before = out
        ctx.save_for_backward(u, kept, recurrent, w1, w2, hidden, g1, g2, memory)
        ctx.packing = packing
        return memory[packing.last]

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        u, kept, recurrent, w1, w2, hidden, g1, g2, memory = ctx.saved_tensors
        packing: Packing = ctx.packing
        sizes, first, k1 = packing.sizes, packing.sizes[0], w1.shape[1]
        d1, d2 = _gate_derivatives(g1, g2, u, memory, packing)
        du, dz = torch.empty_like(u), torch.empty_like(hidden)
        dm = grad[packing.first]  # longest first: a sequence's row is first touched at its last step
        blocks = (d1, d2, g1, g2, du, dz, dz[:, :k1], dz[:, k1:], hidden, kept)
        steps = list(zip(sizes, *(x.split(sizes) for x in blocks), strict=True))
        for step in range(len(sizes) - 1, -1, -1):
            n, d1_t, d2_t, a, b, du_t, z, z1, z2, hidden_t, kept_t = steps[step]
            d = dm[:n]
            torch.mul(d, b, out=du_t)
            torch.mm(d1_t.mul_(d), w1, out=z1)
            torch.mm(d2_t.mul_(d), w2, out=z2)
            torch.ops.aten.threshold_backward.grad_input(z, hidden_t, 0, grad_input=z).mul_(kept_t)
            if step:
                d.mul_(a).addmm_(z, recurrent)
        d_recurrent = dz[first:].t() @ packing.step_before(memory)
        dw1, dw2 = d1.t() @ hidden[:, :k1], d2.t() @ hidden[:, k1:]
        return dz, du, None, d_recurrent, dw1, d1.sum(0), dw2, d2.sum(0), None


def _gate_derivatives(g1: Tensor, g2: Tensor, u: Tensor, memory: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """(R, m), (R, m): d(memory)/d(pre-activation) of the two gates."""
    first = packing.sizes[0]
    d1 = torch.empty_like(g1)
    d1[:first].zero_()
    torch.mul(packing.step_before(memory), g1[first:], out=d1[first:])  # u_{t-1} g1 (1 - g1)
    d1.addcmul_(d1, g1, value=-1)
    d2 = u * g2
    return d1, d2.addcmul_(d2, g2, value=-1)
