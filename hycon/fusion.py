"""Fusion of three (B, d) representations: the strategies of the paper's Table 5, and those that TFN and LMF need.

Each is a module `{modality: (B, d)} -> (B, width)`; `width` says how wide the multimodal representation is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.corpus import MODALITIES
from hycon.dropout import keep_mask
from hycon.errors import UserError, nearest


def with_one(x: Tensor) -> Tensor:
    """(B, d) -> (B, d + 1): a constant 1 is appended, so that products keep the lower orders (TFN sec. 4.2)."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def outer(text: Tensor, audio: Tensor, vision: Tensor) -> Tensor:
    """(B, l), (B, a), (B, v) -> (B, l * a * v): the three-fold outer product, flattened, text slowest."""
    pair = (text[:, :, None] * audio[:, None]).flatten(1)
    return (pair[:, :, None] * vision[:, None]).flatten(1)


def tensor_linear(
    text: Tensor, audio: Tensor, vision: Tensor, linear: nn.Linear, p: float = 0.0, training: bool = False
) -> Tensor:
    """`linear(dropout(outer(text, audio, vision), p))`: (B, l), (B, a), (B, v) -> (B, out).

    On a CPU the outer product, TFN's largest tensor by far, is never made: it is built, dropped and multiplied in
    blocks that stay in the cache.
    """
    p = p if training else 0.0
    if text.device.type != "cpu" or p >= 1:
        return linear(F.dropout(outer(text, audio, vision), p))
    pair = (text[:, :, None] * audio[:, None]).flatten(1)
    return _TensorLinear.apply(pair, vision, linear.weight, linear.bias, p)


BLOCK = 2**18  # elements of the outer product made at a time: 1 MiB


class _TensorLinear(torch.autograd.Function):
    """pair (B, m), vision (B, v), weight (o, m * v), bias (o,), p -> (B, o), in blocks of a few columns of `pair`."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, pair: Tensor, vision: Tensor, weight: Tensor, bias: Tensor, p: float) -> Tensor:
        ctx.columns = max(1, BLOCK // vision.numel())
        out, ctx.kept, ctx.scale = bias.repeat(len(pair), 1), [], 1.0
        width = ctx.columns * vision.shape[1]
        for columns, part in zip(pair.split(ctx.columns, 1), weight.split(width, 1), strict=True):
            block = (columns[:, :, None] * vision[:, None]).flatten(1)
            if p:
                kept, ctx.scale = keep_mask(block.shape, p)
                ctx.kept.append(kept)
                block.mul_(kept)
            out.addmm_(block, part.t(), alpha=ctx.scale)
        ctx.save_for_backward(pair, vision, weight)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        pair, vision, weight = ctx.saved_tensors
        width = ctx.columns * vision.shape[1]
        scaled = grad * ctx.scale
        d_weight, d_pair, d_vision = torch.empty_like(weight), torch.empty_like(pair), torch.zeros_like(vision)
        blocks = zip(*(x.split(ctx.columns, 1) for x in (pair, d_pair)), strict=True)
        for i, (columns, d_columns) in enumerate(blocks):
            part = slice(i * width, i * width + columns.shape[1] * vision.shape[1])
            block = (columns[:, :, None] * vision[:, None]).flatten(1)
            d_block = scaled @ weight[:, part]
            if ctx.kept:
                kept = ctx.kept[i].to(block.dtype)
                block.mul_(kept)
                d_block.mul_(kept)
            d_weight[:, part] = scaled.t() @ block
            cube = d_block.unflatten(1, (-1, vision.shape[1]))  # (B, columns, v)
            d_columns.copy_(torch.bmm(cube, vision[:, :, None])[:, :, 0])
            d_vision += torch.bmm(columns[:, None], cube)[:, 0]
        return d_pair, d_vision, d_weight, grad.sum(0), None


class Addition(nn.Module):
    """x = x^l + x^a + x^v: the paper's default; no parameter."""

    def __init__(self, d: int):
        super().__init__()
        self.width = d

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return x["text"] + x["audio"] + x["vision"]


class Concatenation(nn.Module):
    """relu(Linear(3d -> d)) of the concatenation."""

    def __init__(self, d: int):
        super().__init__()
        self.width = d
        self.mix = nn.Linear(3 * d, d)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return F.relu(self.mix(torch.cat([x[m] for m in MODALITIES], 1)))


class TensorFusion(nn.Module):
    """Outer product of [x, 1] -> dropout -> three tanh Linear: to hidden, hidden, d."""

    def __init__(self, d: int, hidden: int = 50, dropout: float = 0.5):
        super().__init__()
        self.width = d
        self.dropout = dropout
        self.layers = nn.ModuleList([nn.Linear((d + 1) ** 3, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, d)])

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        first, *others = self.layers
        text, audio, vision = (with_one(x[m]) for m in MODALITIES)
        y = torch.tanh(tensor_linear(text, audio, vision, first, self.dropout, self.training))  # type: ignore[arg-type]
        for layer in others:
            y = torch.tanh(layer(y))
        return y


class LowRank(nn.Module):
    """LMF (Liu et al., ACL 2018, eq. 10): w . ((z_l F_l) o (z_a F_a) o (z_v F_v)) + b, z = [1; x].

    widths: feature size per modality.  The paper sums over the rank; the code learns the weights w, as done here
    (`learned=False` sums).
    """

    def __init__(self, widths: Mapping[str, int], out: int, rank: int, learned: bool = True):
        super().__init__()
        self.width = out
        self.factors = nn.ParameterDict(
            {m: nn.Parameter(nn.init.xavier_normal_(torch.empty(rank, widths[m] + 1, out))) for m in MODALITIES}
        )
        weights = nn.init.xavier_normal_(torch.empty(1, rank)) if learned else torch.ones(1, rank)
        self.weights = nn.Parameter(weights, requires_grad=learned)
        self.bias = nn.Parameter(torch.zeros(1, out))

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        product: Tensor | None = None
        for m in MODALITIES:
            factor = self.factors[m]  # (r, d_m + 1, out); its first row meets the constant 1
            flat = factor[:, 1:].transpose(0, 1).flatten(1)  # (d_m, r * out)
            projected = torch.addmm(factor[:, 0].flatten(), x[m], flat).unflatten(1, (len(factor), -1))  # (B, r, out)
            product = projected if product is None else product * projected
        assert product is not None
        return (product * self.weights[0, :, None]).sum(1) + self.bias


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "addition": Addition,
    "concatenation": Concatenation,
    "tensor": TensorFusion,
    "low-rank": lambda d: LowRank({"text": d, "audio": d, "vision": d}, d, rank=5),  # rank: authors' sibling code
}


def build_fusion(name: str, d: int) -> nn.Module:
    """One of FUSIONS over three d-wide representations."""
    if name not in FUSIONS:
        raise UserError(f"Unknown fusion {name!r}; nearest: {nearest(name, FUSIONS)}.")
    return FUSIONS[name](d)
