"""Attention: dropout(softmax(Q K' / sqrt(d / heads) + bias)) V.

`masked_attention` is that of one encoder over padded utterances; `attention` that of P encoders of one shape at once,
over rows without padding that are padded in chunks (hycon/kernels/padding.py). The plain body of both is PyTorch's
scaled_dot_product_attention.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hycon.kernels.dropout import dropout, keep_mask
from hycon.kernels.padding import Chunk, Plan, padded_rows, real_rows

FUSED_BYTES = 16  # of which a head's row has to be a multiple for PyTorch's fused attention on CUDA
Gradients = tuple[Tensor, Tensor, Tensor]  # of queries, keys and values


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """q (B, heads, t, w), k, v (B, heads, T, w) -> (B, heads, t, w).

    mask: broadcasts to (B, heads, t, T), True where a query may look.  p: dropout, 0 in evaluation.  The fast body runs
    on a CPU with dropout, for its cheap random bits (hycon/kernels/dropout.py), else the plain one.
    """
    if q.device.type != "cpu" or p == 0:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, t, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return dropout(scores.softmax(-1), p, True) @ v


def attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, heads: int, p: Sequence[float]) -> Tensor:
    """q (P, R, d), k, v (P, R', d) -> (P, R, d).

    p: dropout of each of the P encoders' attention weights, 0 in evaluation.  On a CPU the fast body runs, in float32
    under autocast: it never makes the averaged attention weights, keeps two tensors a layer, skips most of what a
    future mask hides, and drops with cheap random bits. Elsewhere `few_calls`.
    """
    if q.device.type == "cpu":
        return _Attention.apply(q, k, v, plan, heads, tuple(p))
    return few_calls(q, k, v, plan, heads, p)


def few_calls(q: Tensor, k: Tensor, v: Tensor, plan: Plan, heads: int, p: Sequence[float]) -> Tensor:
    """`attention` in as few operations as ordinary PyTorch allows, for a GPU: PyTorch's fused attention where its
    kernel takes the heads' width and all encoders have one dropout, else products and a softmax of all encoders."""
    fused = len(set(p)) == 1 and q.shape[2] // heads * q.element_size() % FUSED_BYTES == 0
    mixed = []
    for chunk in plan:
        padded = (padded_rows(x, own) for x, own in ((q, chunk.queries), (k, chunk.keys), (v, chunk.keys)))
        # (P * b, heads, T, d / heads)
        own, keys, values = (x.unflatten(-1, (heads, -1)).flatten(0, 1).transpose(1, 2) for x in padded)
        if fused:
            mask = chunk.mask(len(q), q.dtype)
            weighted = F.scaled_dot_product_attention(own, keys, values, attn_mask=mask, dropout_p=p[0])
        else:
            scores = (own @ keys.transpose(-1, -2)).unflatten(0, (len(q), -1))
            scores = torch.add(chunk.bias.to(scores.dtype), scores, alpha=own.shape[-1] ** -0.5)
            weighted = _dropped(scores.softmax(-1), p).flatten(0, 1).to(values.dtype) @ values
        mixed.append(real_rows(weighted.transpose(1, 2).flatten(2).unflatten(0, (len(q), -1)), chunk.queries))
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, 1)


def _dropped(weights: Tensor, p: Sequence[float]) -> Tensor:
    """(P, ...): dropout of each encoder's weights."""
    if max(p) == 0:
        return weights
    runs = [(share, len(list(group))) for share, group in itertools.groupby(p)]
    parts = weights.split([count for _, count in runs])
    return torch.cat([dropout(part, share, share > 0) for (share, _), part in zip(runs, parts, strict=True)])


def plain_attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, heads: int, p: Sequence[float]) -> Tensor:
    """One call of PyTorch's attention a chunk, for all encoders that have one dropout."""
    if len(set(p)) > 1:
        mixed: dict[int, Tensor] = {}
        for share in sorted(set(p)):
            same = [e for e, own in enumerate(p) if own == share]
            own_q, own_k, own_v = (torch.stack([x[e] for e in same]) for x in (q, k, v))
            found = plain_attention(own_q, own_k, own_v, plan, heads, [share] * len(same))
            mixed |= zip(same, found, strict=True)
        return torch.stack([mixed[e] for e in range(len(p))])
    out = torch.empty_like(q)
    for chunk in plan:
        padded = (chunk.queries.pad(q, heads), chunk.keys.pad(k, heads), chunk.keys.pad(v, heads))
        mask = chunk.bias.to(q.dtype).expand(len(q), -1, -1, -1, -1).flatten(0, 1)  # no copy for a single encoder
        queries, keys, values = (x.flatten(0, 1).transpose(1, 2) for x in padded)
        weighted = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=p[0])
        chunk.queries.unpad(weighted.transpose(1, 2).unflatten(0, (len(q), -1)), out)
    return out


class _Attention(torch.autograd.Function):
    """w: the weights; dropped: those that dropout keeps, the others 0.

    Queries, keys, values and output lie features first, (n, d / heads, T), which is several times faster than time
    first for a product with a few features a row (benchmarks/README.md).
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, heads: int, p: tuple[float, ...]) -> Tensor:
        ctx.plan, ctx.heads, ctx.shape = plan, heads, k.shape
        ctx.scale, ctx.kept = (q.shape[2] // heads) ** -0.5, _kept_scales(p, q)
        out, saved = torch.empty_like(q, memory_format=torch.contiguous_format), []
        q = q * ctx.scale
        for chunk in plan:
            padded = chunk.queries.pad(q, heads), chunk.keys.pad(k, heads), chunk.keys.pad(v, heads)
            own, keys, values = map(_features_first, padded)
            parts = []
            for begin, end, seen in chunk.blocks:
                scores = torch.bmm(own[..., begin:end].transpose(1, 2), keys[..., :seen])
                bias = chunk.bias[:, :, begin:end, :seen]
                scores.view(len(q), len(bias), heads, *bias.shape[2:]).add_(bias)
                w = scores.softmax(-1)
                dropped = _drop(w, p)
                parts.append(torch.bmm(values[..., :seen], dropped.transpose(1, 2)))
                saved += [w, dropped]
            mixed = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
            chunk.queries.unpad(_time_first(mixed, padded[0]), out)
            saved += [own, keys, values, mixed]
        ctx.save_for_backward(*saved)
        return out.mul_(ctx.kept)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        heads, saved = ctx.heads, iter(ctx.saved_tensors)
        grad = grad * ctx.kept
        dq = torch.empty_like(grad)
        dk, dv = (grad.new_empty(ctx.shape) for _ in range(2))
        for chunk in ctx.plan:
            weights = [(next(saved), next(saved)) for _ in chunk.blocks]
            padded = [next(saved) for _ in range(4)]  # queries, keys, values, output
            d_out = chunk.queries.pad(grad, heads, zero=True)
            gradients = _chunk_gradient(chunk, weights, padded, _features_first(d_out))
            for of, found, to in zip((chunk.queries, chunk.keys, chunk.keys), gradients, (dq, dk, dv), strict=True):
                of.unpad(_time_first(found, d_out), to)
        return dq.mul_(ctx.scale), dk, dv, None, None, None


def _features_first(x: Tensor) -> Tensor:
    """(P, b, T, heads, w) -> (P * b * heads, w, T)."""
    return x.permute(0, 1, 3, 4, 2).reshape(-1, x.shape[4], x.shape[2])


def _time_first(x: Tensor, like: Tensor) -> Tensor:
    """(P * b * heads, w, T) -> (P, b, T, heads, w), where `like` has the other sizes."""
    return x.unflatten(0, (len(like), -1, like.shape[3])).permute(0, 1, 4, 2, 3)


def _chunk_gradient(chunk: Chunk, weights: Sequence, padded: list[Tensor], grad: Tensor) -> Gradients:
    """Given that of the output; weights: w, dropped of each block. The last block sees all keys, so it comes first."""
    own, keys, values, mixed = padded
    # the sum over keys of weight * d(weight), which the softmax subtracts, is that of output * d(output)
    common = (grad * mixed).sum(1)[..., None]
    d_own: list[Tensor] = []
    d_keys = d_values = grad
    for (begin, end, seen), (w, dropped) in zip(reversed(chunk.blocks), reversed(weights), strict=True):
        g = grad[..., begin:end]
        d_scores = torch.bmm(g.transpose(1, 2), values[..., :seen]).mul_(dropped)
        d_scores.addcmul_(w, common[:, begin:end], value=-1)
        of_values, of_keys = torch.bmm(g, dropped), torch.bmm(own[..., begin:end], d_scores)
        if d_own:
            d_values[..., :seen].add_(of_values)
            d_keys[..., :seen].add_(of_keys)
        else:
            d_values, d_keys = of_values, of_keys
        d_own.insert(0, torch.bmm(keys[..., :seen], d_scores.transpose(1, 2)))
    return d_own[0] if len(d_own) == 1 else torch.cat(d_own, 2), d_keys, d_values


def _kept_scales(p: Sequence[float], like: Tensor) -> Tensor:
    """(P, 1, 1): 1 / (share that dropout keeps), as keep_mask realises it."""
    return torch.tensor([65536 / (65536 - round(own * 65536)) for own in p], dtype=like.dtype)[:, None, None]


def _drop(weights: Tensor, p: Sequence[float]) -> Tensor:
    """(P * n, T, S): each encoder's weights times its own mask of zeros and ones."""
    if max(p) == 0:
        return weights
    out = torch.empty_like(weights)
    for own, to, x in zip(p, out.chunk(len(p)), weights.chunk(len(p)), strict=True):
        torch.mul(x, keep_mask(x.shape, own)[0], out=to) if own > 0 else to.copy_(x)
    return out
