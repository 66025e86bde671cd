"""A linear layer over the dropped outer product of three vectors, TFN's fusion: W dropout(x (x) y (x) z) + b."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hycon.kernels.dropout import dropout, keep_mask

BLOCK = 2**18  # elements of the outer product made at a time: 1 MiB


def outer(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """(B, l), (B, a), (B, v) -> (B, l * a * v): the three-fold outer product, flattened, x slowest."""
    return _product(_product(x, y), z)


def _product(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, :, None] * y[:, None]).flatten(1)


def tensor_linear(x: Tensor, y: Tensor, z: Tensor, linear: nn.Linear, p: float = 0.0, training: bool = False) -> Tensor:
    """`linear(dropout(outer(x, y, z), p, training))`: (B, l), (B, a), (B, v) -> (B, out).

    On a CPU the fast body never makes the outer product, TFN's largest tensor by far: it is built, dropped and
    multiplied in blocks that stay in the cache. Elsewhere the plain one.
    """
    p = p if training else 0.0
    if x.device.type != "cpu" or p >= 1:
        return plain_tensor_linear(x, y, z, linear, p)
    return _TensorLinear.apply(_product(x, y), z, linear.weight, linear.bias, p)


def plain_tensor_linear(x: Tensor, y: Tensor, z: Tensor, linear: nn.Linear, p: float) -> Tensor:
    return linear(dropout(outer(x, y, z), p, p > 0))


class _TensorLinear(torch.autograd.Function):
    """pair (B, m), z (B, v), weight (o, m * v), bias (o,), p -> (B, o), in blocks of a few columns of `pair`."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, pair: Tensor, z: Tensor, weight: Tensor, bias: Tensor, p: float) -> Tensor:
        ctx.columns = max(1, BLOCK // z.numel())
        out, ctx.kept, ctx.scale = bias.repeat(len(pair), 1), [], 1.0
        width = ctx.columns * z.shape[1]
        for columns, part in zip(pair.split(ctx.columns, 1), weight.split(width, 1), strict=True):
            block = (columns[:, :, None] * z[:, None]).flatten(1)
            if p:
                kept, ctx.scale = keep_mask(block.shape, p)
                ctx.kept.append(kept)
                block.mul_(kept)
            out.addmm_(block, part.t(), alpha=ctx.scale)
        ctx.save_for_backward(pair, z, weight)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        pair, z, weight = ctx.saved_tensors
        width = ctx.columns * z.shape[1]
        scaled = grad * ctx.scale
        d_weight, d_pair, d_z = torch.empty_like(weight), torch.empty_like(pair), torch.zeros_like(z)
        blocks = zip(*(x.split(ctx.columns, 1) for x in (pair, d_pair)), strict=True)
        for i, (columns, d_columns) in enumerate(blocks):
            part = slice(i * width, i * width + columns.shape[1] * z.shape[1])
            block = (columns[:, :, None] * z[:, None]).flatten(1)
            d_block = scaled @ weight[:, part]
            if ctx.kept:
                kept = ctx.kept[i].to(block.dtype)
                block.mul_(kept)
                d_block.mul_(kept)
            d_weight[:, part] = scaled.t() @ block
            cube = d_block.unflatten(1, (-1, z.shape[1]))  # (B, columns, v)
            d_columns.copy_(torch.bmm(cube, z[:, :, None])[:, :, 0])
            d_z += torch.bmm(columns[:, None], cube)[:, 0]
        return d_pair, d_z, d_weight, grad.sum(0), None
