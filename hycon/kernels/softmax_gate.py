"""A gate that is a softmax over features: softmax(W h + b) o x, as in MFN's delta-memory attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 256  # that fit a core's cache, a few times over


def softmax_gate(h: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """softmax(W h + b) o x: h (R, k), weight (n, k), bias (n,), x (R, n) -> (R, n).

    In the weights' precision under autocast too. On a CPU the fast body, elsewhere the plain one.
    """
    with torch.autocast(x.device.type, enabled=False):
        h, x = h.to(weight.dtype), x.to(weight.dtype)
        if x.device.type == "cpu":
            return _SoftmaxGate.apply(h, weight, bias, x)
        return plain_softmax_gate(h, weight, bias, x)


def plain_softmax_gate(h: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return F.linear(h, weight, bias).softmax(1) * x


class _SoftmaxGate(torch.autograd.Function):
    """A few rows at a time, which stay in cache from one operation to the next."""

    @staticmethod
    def forward(ctx: Any, hidden, weight, bias, x):  # type: ignore[override]
        attention, attended = torch.empty_like(x), torch.empty_like(x)
        up = weight.t()
        for z, x_c, a, out in zip(*(t.split(ROWS) for t in (hidden, x, attention, attended)), strict=True):
            torch.addmm(bias, z, up, out=a)
            a.sub_(a.amax(1, keepdim=True)).exp_()
            a.div_(a.sum(1, keepdim=True))
            torch.mul(a, x_c, out=out)
        ctx.save_for_backward(hidden, weight, x, attention)
        return attended

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        hidden, weight, x, attention = ctx.saved_tensors
        dx, dz, dw, db = (
            torch.empty_like(x),
            torch.empty_like(hidden),
            torch.zeros_like(weight),
            x.new_zeros(x.shape[1]),
        )
        chunks = (t.split(ROWS) for t in (grad, hidden, x, attention, dx, dz))
        for g, z, x_c, a, dx_c, dz_c in zip(*chunks, strict=True):
            torch.mul(g, a, out=dx_c)
            d = dx_c * x_c  # g o x o a: of the softmax, a (g x - sum(a g x))
            d.addcmul_(a, d.sum(1, keepdim=True), value=-1)
            torch.mm(d, weight, out=dz_c)
            dw.addmm_(d.t(), z)
            db += d.sum(0)
        return dz, dw, db, dx
