"""Transformer encoders side by side over rows without padding: what MulT is made of.

The rows of all utterances lie one after the other, (R, d). What is done to each row alone (projections, norms,
feed-forward) runs over exactly those; only attention sees utterances of like length padded to a common length, a few
at a time. On a CPU it is an autograd function of our own: it never makes the averaged attention weights, keeps two
tensors a layer, skips most of what a future mask hides, and drops with cheap random bits. On a GPU it is torch's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.errors import UserError
from hycon.kernels.dropout import Dropout, keep_mask

CHUNK = {"cpu": 4, "cuda": 64}  # utterances whose attention is computed together
HALVED = 24  # queries from which on the earlier half, behind a future mask, is a block of its own

# ------------------------------------------------------------------------------------------------ rows and padding


@dataclass(frozen=True)
class Padding:
    """b utterances padded to T. rows: theirs among all rows.  Of which the next three are None if all are T long:
    index (b * T,): the row of each place, any where there is none.  real (n,): the place of each row.
    inside (b * T, 1): 1 for places with a row."""

    rows: slice
    shape: tuple[int, int]
    index: Tensor | None = None
    real: Tensor | None = None
    inside: Tensor | None = None

    def pad(self, x: Tensor, heads: int, zero: bool = False) -> Tensor:
        """(P, R, d) -> (P, b, T, heads, d / heads). zero: places without a row are zeros, not some other's row."""
        x = x[:, self.rows]
        if self.index is not None:
            x = x.index_select(1, self.index)
            if zero and self.inside is not None:
                x = x * self.inside
        return x.reshape(len(x), *self.shape, heads, -1)

    def unpad(self, x: Tensor, out: Tensor) -> None:
        """(P, b, T, heads, d / heads) -> its rows of `out` (P, R, d)."""
        own = out[:, self.rows]
        if self.real is None:
            own.unflatten(1, self.shape).unflatten(-1, x.shape[3:]).copy_(x)
        else:
            own.copy_(x.reshape(len(out), -1, out.shape[2]).index_select(1, self.real))


@dataclass(frozen=True)
class Chunk:
    """bias: (b, 1, T, S), -inf where a query may not look.  blocks: (first query, after the last, keys they see)."""

    queries: Padding
    keys: Padding
    bias: Tensor
    blocks: tuple[tuple[int, int, int], ...]


Plan = list[Chunk]
Gradients = tuple[Tensor, Tensor, Tensor]  # of queries, keys and values


def first_rows(lengths: Tensor) -> Tensor:
    """(B,) where each utterance's rows start."""
    return lengths.cumsum(0) - lengths


def make_plan(queries: Tensor, keys: Tensor, future_mask: bool, device: torch.device) -> Plan:
    """queries, keys: (B,) lengths on the CPU, longest first. An utterance's query sees its keys; with the future mask
    query i sees key j <= i + |difference of the two lengths|, as MulT's code has it."""
    size = CHUNK.get(device.type, 64)
    plan, begin, first = [], 0, 0  # rows of queries, of keys before the chunk
    for own, seen in zip(queries.split(size), keys.split(size), strict=True):
        steps, others = int(own.max()), int(seen.max())
        blocks: tuple[tuple[int, int, int], ...] = ((0, steps, others),)
        if future_mask and steps >= HALVED:
            half = steps // 2
            reach = half + int((seen - own).abs().max())
            if reach < others:
                blocks = ((0, half, reach), (half, steps, others))
        of_queries, of_keys = _padding(own, begin, device), _padding(seen, first, device)
        plan.append(Chunk(of_queries, of_keys, _bias(own, seen, future_mask, device), blocks))
        begin, first = of_queries.rows.stop, of_keys.rows.stop
    return plan


def _bias(queries: Tensor, keys: Tensor, future_mask: bool, device: torch.device) -> Tensor:
    """(b, 1, T, S), as Chunk has it, made on the device from the (b,) lengths: it may be large."""
    steps, others = int(queries.max()), int(keys.max())
    own, seen = (x.to(device, non_blocking=True)[:, None, None, None] for x in (queries, keys))
    key = torch.arange(others, device=device)
    visible = key < seen  # (b, 1, 1, S)
    if future_mask:
        visible = visible & (key <= torch.arange(steps, device=device)[:, None] + (seen - own).abs())
    bias = torch.zeros(visible.shape, device=device).masked_fill_(~visible, float("-inf"))
    return bias.expand(-1, -1, steps, -1)


def _padding(lengths: Tensor, start: int, device: torch.device) -> Padding:
    count, longest, total = len(lengths), int(lengths.max()), int(lengths.sum())
    rows = slice(start, start + total)
    if int(lengths.min()) == longest:
        return Padding(rows, (count, longest))
    lengths = lengths.to(device, non_blocking=True)
    first, step = first_rows(lengths), torch.arange(longest, device=device)
    inside = step < lengths[:, None]  # (b, T)
    index = (first[:, None] + step).masked_fill_(~inside, 0).flatten()
    ahead = torch.arange(count, device=device) * longest - first  # a row's place, less the row
    real = torch.arange(total, device=device) + torch.repeat_interleave(ahead, lengths, output_size=total)
    return Padding(rows, (count, longest), index, real, inside.flatten()[:, None].float())


def last_step(plan: Plan, queries: Tensor) -> Plan:
    """The same, for the last query of each utterance alone: (P, B, d) instead of all rows."""
    out, begin = [], 0
    for chunk in plan:
        count = chunk.queries.shape[0]
        last = (queries[begin : begin + count] - 1).to(chunk.bias.device, non_blocking=True)
        bias = chunk.bias[torch.arange(count, device=last.device), :, last][:, :, None]
        own = Padding(slice(begin, begin + count), (count, 1))
        out.append(replace(chunk, queries=own, bias=bias, blocks=((0, 1, bias.shape[3]),)))
        begin += count
    return out


# ------------------------------------------------------------------------------------------------ attention


def attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, heads: int, p: Sequence[float]) -> Tensor:
    """q (P, R, d), k, v (P, R', d) -> (P, R, d). p: dropout of each of the P encoders' attention weights."""
    if q.device.type == "cpu":
        return _Attention.apply(q, k, v, plan, heads, tuple(p))
    return fused_attention(q, k, v, plan, heads, p)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, plan: Plan, heads: int, p: Sequence[float]) -> Tensor:
    """`attention` by torch's kernels, one call a chunk for all encoders that drop alike."""
    if len(set(p)) > 1:
        mixed: dict[int, Tensor] = {}
        for share in sorted(set(p)):
            alike = [e for e, own in enumerate(p) if own == share]
            own_q, own_k, own_v = (torch.stack([x[e] for e in alike]) for x in (q, k, v))
            found = fused_attention(own_q, own_k, own_v, plan, heads, [share] * len(alike))
            mixed |= zip(alike, found, strict=True)
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
    """softmax(q k' / sqrt(d) + bias), dropped, times v; w: the weights, dropped: those that are kept, the others 0.

    Queries, keys, values and output lie features first, (n, d / heads, T): on the one processor that was measured, a
    product with a few features a row runs at a quarter of the speed of one with time steps (benchmarks/README.md).
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


# ------------------------------------------------------------------------------------------------ feed-forward


def feed_forward(x: Tensor, w: Mapping[str, Tensor], p: float) -> Tensor:
    """(P, R, d) -> (P, R, d): Linear, relu, dropout, Linear of each encoder."""
    weights = w["fc1"], w["fc1_bias"], w["fc2"], w["fc2_bias"]
    if x.device.type == "cpu":
        return _FeedForward.apply(x, *weights, p)
    hidden = F.dropout(_linear(x, *weights[:2]).relu_(), p, p > 0)
    return _linear(hidden, *weights[2:])


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


# ------------------------------------------------------------------------------------------------ encoders


class Encoders(nn.Module):
    """P Transformer encoders of one shape: layers as hycon.transformer.EncoderLayer (pre-LN, feed-forward 4d), a norm.

    Every matrix is (layers, P, in, out). attn_dropout: one probability per encoder.
    """

    def __init__(
        self, d: int, heads: int, layers: int, *, attn_dropout: Sequence[float], relu_dropout: float, res_dropout: float
    ):
        super().__init__()
        if d % heads:
            raise UserError(f"A width of {d} is not divisible by {heads} heads; choose heads that divide it.")
        self.heads, self.attn_dropout = heads, tuple(attn_dropout)
        self.relu_dropout, self.res_drop = relu_dropout, Dropout(res_dropout)
        shape = (layers, len(self.attn_dropout))
        self.qkv, self.qkv_bias = _xavier(shape, d, 3 * d)  # queries, keys, values
        self.out, self.out_bias = _xavier(shape, d, d)
        self.fc1, self.fc1_bias = _xavier(shape, d, 4 * d)
        self.fc2, self.fc2_bias = _xavier(shape, 4 * d, d)
        self.norm1, self.norm1_bias = _norm(*shape, d)
        self.norm2, self.norm2_bias = _norm(*shape, d)
        self.norm, self.norm_bias = _norm(shape[1], d)

    def layer_weights(self, which: slice) -> list[dict[str, Tensor]]:
        """The weights of encoders `which`, by layer; each layer norm's scale and shift are part of what follows it."""
        all_ = {name: p[:, which] for name, p in self.named_parameters() if p.dim() > 2}
        for norm, linear in (("norm1", "qkv"), ("norm2", "fc1")):
            scale, shift = all_.pop(norm), all_.pop(f"{norm}_bias")
            all_[f"{linear}_bias"] = all_[f"{linear}_bias"] + (shift[:, :, None] @ all_[linear])[:, :, 0]
            all_[linear] = scale[..., None] * all_[linear]
        by_layer = {name: p.unbind(0) for name, p in all_.items()}
        return [{name: p[layer] for name, p in by_layer.items()} for layer in range(len(self.qkv))]

    def forward(
        self,
        x: Tensor,
        plan: Plan,
        which: slice = slice(None),
        source: Tensor | None = None,
        read: tuple[Tensor, Plan] | None = None,
    ) -> Tensor:
        """x: (P, R, d) what encoders `which` start from.  source: (2, P, R', d) what keys and values come from, the
        same for all layers, or None for x itself.  read: the rows (B,) wanted, and `last_step(plan)`, or None for all.

        Returns (P, R, d) or (P, B, d).
        """
        d, weights = x.shape[-1], self.layer_weights(which)
        p = [p if self.training else 0.0 for p in self.attn_dropout[which]]
        other = None if source is None else _keys_values(source, weights)
        for layer, w in enumerate(weights):
            rows = F.layer_norm(x, (d,))
            keys, values = other[layer] if other else _linear(rows, w["qkv"], w["qkv_bias"], d, 3 * d).chunk(2, -1)
            if read is not None and layer == len(weights) - 1:  # the last layer's other steps are nobody's input
                rows, x, plan = rows[:, read[0]], x[:, read[0]], read[1]
            queries = _linear(rows, w["qkv"], w["qkv_bias"], 0, d)
            mixed = attention(queries, keys, values, plan, self.heads, p)
            x = x + self.res_drop(_linear(mixed, w["out"], w["out_bias"]))
            relu_dropout = self.relu_dropout if self.training else 0.0
            x = x + self.res_drop(feed_forward(F.layer_norm(x, (d,)), w, relu_dropout))
        return torch.addcmul(self.norm_bias[which, None], F.layer_norm(x, (d,)), self.norm[which, None])


def _xavier(shape: tuple[int, ...], inputs: int, out: int) -> tuple[nn.Parameter, nn.Parameter]:
    bound = math.sqrt(6 / (inputs + out))
    return nn.Parameter(torch.empty(*shape, inputs, out).uniform_(-bound, bound)), nn.Parameter(
        torch.zeros(*shape, out)
    )


def _norm(*shape: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))


def _linear(x: Tensor, weight: Tensor, bias: Tensor, begin: int = 0, end: int | None = None) -> Tensor:
    """(P, R, in), columns begin:end of (P, in, out) and (P, out) -> (P, R, end - begin)."""
    return torch.baddbmm(bias[:, None, begin:end], x, weight[..., begin:end])


def _keys_values(source: Tensor, weights: list[dict[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Every layer's keys and values (P, R, d) of a source (2, P, R, d) that all layers share: normed once."""
    d = source.shape[-1]
    keys, values = F.layer_norm(source, (d,))
    return [
        (
            _linear(keys, w["qkv"], w["qkv_bias"], d, 2 * d),
            _linear(values, w["qkv"], w["qkv_bias"], 2 * d, 3 * d),
        )
        for w in weights
    ]
