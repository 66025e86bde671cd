"""The feed-forward part of P Transformer encoders of one shape: W2 dropout(relu(W1 x + b1)) + b2 in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hycon.kernels.dropout import dropout, keep_mask


def feed_forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, p: float) -> Tensor:
    """x (P, R, d), w1 (P, d, k), b1 (P, k), w2 (P, k, d), b2 (P, d) -> (P, R, d).

    p: dropout, 0 in evaluation.  On a CPU the fast body runs, in float32 under autocast, elsewhere the plain one.
    """
    body = _FeedForward.apply if x.device.type == "cpu" else plain_feed_forward
    return body(x, w1, b1, w2, b2, p)


def plain_feed_forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, p: float) -> Tensor:
    return linears(dropout(linears(x, w1, b1).relu_(), p, p > 0), w2, b2)


def linears(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of each encoder: x (P, R, in), weight (P, in, out), bias (P, out) -> (P, R, out)."""
    return torch.baddbmm(bias[:, None], x, weight)


def several_linears(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Sequence[Tensor]:
    """`linears` of the same rows by each of several weights; on a GPU all in one product."""
    if x.device.type == "cpu":
        return [linears(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    return linears(x, torch.cat(list(weights), -1), torch.cat(list(biases), -1)).split(
        [w.shape[-1] for w in weights], -1
    )


def keys_values(source: Tensor, weights: Sequence[Mapping[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Every layer's keys and values (P, R, d) of a source (2, P, R, d) that all layers share: normed once."""
    d = source.shape[-1]
    rows = F.layer_norm(source, (d,)).unbind(0)
    matrices = zip(*(w["kv"].chunk(2, -1) for w in weights), strict=True)  # of the keys in every layer, of the values
    biases = zip(*(w["kv_bias"].chunk(2, -1) for w in weights), strict=True)
    keys, values = (several_linears(*given) for given in zip(rows, matrices, biases, strict=True))
    return list(zip(keys, values, strict=True))


class _FeedForward(torch.autograd.Function):
    """One encoder after the other, so that what is 4d wide stays in the processor's cache. A hidden value is 0 where it
    was cut off or dropped, and those are the ones that get no gradient."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, p: float) -> Tensor:
        hidden, out = x.new_empty(*x.shape[:2], w1.shape[2]), torch.empty_like(x)
        ctx.kept = 1.0
        for x_e, w1_e, b1_e, w2_e, b2_e, h, y in zip(x, w1, b1, w2, b2, hidden, out, strict=True):
            torch.addmm(b1_e, x_e, w1_e, out=h).relu_()
            if p > 0:
                kept, ctx.kept = keep_mask(h.shape, p)
                h.mul_(kept)
            torch.addmm(b2_e, h, w2_e, alpha=ctx.kept, out=y)
        ctx.save_for_backward(x, w1, w2, hidden)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        x, w1, w2, hidden = ctx.saved_tensors
        dx, dw1, dw2 = (torch.empty_like(y, memory_format=torch.contiguous_format) for y in (x, w1, w2))
        db1 = w1.new_empty(len(w1), w1.shape[2])
        for e, (g, h) in enumerate(zip(grad, hidden, strict=True)):
            d_hidden = torch.mm(g, w2[e].t())
            torch.mm(h.t(), g, out=dw2[e])
            if ctx.kept != 1:
                d_hidden.mul_(ctx.kept), dw2[e].mul_(ctx.kept)
            torch.ops.aten.threshold_backward.grad_input(d_hidden, h, 0, grad_input=d_hidden)
            torch.sum(d_hidden, 0, out=db1[e])
            torch.mm(x[e].t(), d_hidden, out=dw1[e])
            torch.mm(d_hidden, w1[e].t(), out=dx[e])
        return dx, dw1, db1, dw2, grad.sum(1), None
