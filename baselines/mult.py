"""MulT: multimodal transformer for unaligned multimodal language sequences (Tsai et al., ACL 2019).

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); no unimodal representations.

    sec. 3.1  Conv1d(k) to d, sinusoidal positions                     (B, T_m, d) per modality
    sec. 3.2  crossmodal Transformers: for each target modality and each of the two others, queries from the target,
              keys and values from the other's low-level features      six of (B, T_target, d)
    sec. 3.1  concatenated per target, a self-attention Transformer    three of (B, T_m, 2d)
              the last step of each, concatenated                      (B, 6d)
              h + W2 drop(relu(W1 h)), Linear                          (B,) or (B, 2E)

The six crossmodal encoders are one stack of parameters and, where their lengths agree, run as one; so do the three
self-attention encoders. Of their last layer only the step that is read is computed. Utterances of like length are
encoded together.

BERT and XLNet forms: fine-tuned token states, d = 50, three layers, kernels 3, 1, 1: exactly the 110,838,399 parameters
of the paper's Table 8 on MOSI, and no other choice of sizes in a wide grid gives them.

Deviates:
1. An utterance is encoded as if it were alone: attention sees none of the padding, "the last step" is its own last, and
   the future mask is that of its own lengths. The reference pads every utterance and attends to the padding, so that
   what it predicts depends on the padding (`attend_padding=True` does that; token states are zeros there).
2. A modality whose feature size is d already is projected like the others; the reference code skips its convolution.
3. The paper's convolution keeps the length, the reference code's does not; equal for its kernel of 1
   (`same_length=False`: the code's. An utterance shorter than the kernel is then padded to it).
4. The learning rate does not fall on a plateau (reference: by 10 after 20 epochs without progress).
Reference implementations consulted: yaohungt/Multimodal-Transformer, thuiar/MMSA (no positions: `positions=False`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batching import Batch
from hycon.data.corpus import MODALITIES
from hycon.data.ragged import Ragged
from hycon.dropout import Dropout, dropout
from hycon.encoders import PretrainedText, positional_encoding
from hycon.errors import UserError
from hycon.output import Output, as_prediction, outputs
from hycon.train import Training

VERSION = 1
CHUNK = {"cpu": 4, "cuda": 64}  # utterances encoded together; on a CPU padding costs more than calls, on a GPU less
Groups = list[tuple[slice, list[dict[str, Tensor]]]]  # encoders that run as one, and their weights by layer
PAIRS = ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))  # (target, source), in the order of MODALITIES


@dataclass(frozen=True)
class Config:
    d: int = 30  # reference code, as all of the GloVe form; the paper's supplement has 40
    heads: int = 5
    layers: int = 5
    text_kernel: int = 1
    audio_kernel: int = 1
    vision_kernel: int = 1
    text_dropout: float = 0.25  # of the text's input; the reference uses its embed_dropout
    attn_dropout: float = 0.1  # where the source is text, as the next two for audio and vision
    attn_dropout_audio: float = 0.0
    attn_dropout_vision: float = 0.0
    relu_dropout: float = 0.1
    res_dropout: float = 0.1
    embed_dropout: float = 0.25
    out_dropout: float = 0.0
    future_mask: bool = True  # a step sees no later one (of the source: up to the difference of their lengths)
    positions: bool = True
    same_length: bool = True
    attend_padding: bool = False
    # BERT form: exact count of Table 8
    token_d: int = 50
    token_layers: int = 3
    token_kernel: int = 3  # of the text; audio and vision 1


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=24, epochs=40, clip=0.8),  # reference code
    "tokens": Training(lr=2e-5, batch_size=48, epochs=50, clip=0.8),  # as HyCon's; the paper is silent
}
SEARCH_SPACE = {
    "vectors": {
        "heads": (2, 3, 5, 6, 10),  # MSAF
        "layers": (2, 3, 4, 5),  # MSAF
        "attn_dropout": (0.0, 0.1, 0.2, 0.4),  # MSAF, without its .6 and .8; as the next four
        "attn_dropout_audio": (0.0, 0.1, 0.2, 0.4),
        "attn_dropout_vision": (0.0, 0.1, 0.2, 0.4),
        "embed_dropout": (0.0, 0.1, 0.2, 0.4),
        "out_dropout": (0.0, 0.1, 0.2, 0.4),
        "text_kernel": (1, 3),  # paper: 1 to 3, as the next two
        "audio_kernel": (1, 3),
        "vision_kernel": (1, 3),
        "lr": (5e-4, 1e-3, 2e-3),  # MMSA
        "batch_size": (16, 32, 64),
        "scale": ("none", "standard"),  # chosen here
    },
    "tokens": {
        "attn_dropout": (0.1, 0.2, 0.3),
        "embed_dropout": (0.1, 0.25),
        "out_dropout": (0.0, 0.1),
        "lr": (1e-5, 2e-5, 5e-5),
        "batch_size": (32, 48),
        "scale": ("none", "standard"),
    },
}


class Encoders(nn.Module):
    """P Transformer encoders of one shape side by side: pre-LN layers as hycon.encoders.EncoderLayer, and a final norm.

    Every weight is (layers, P, in, out). attn_dropout: one probability per encoder.
    """

    def __init__(
        self, d: int, heads: int, layers: int, *, attn_dropout: Sequence[float], relu_dropout: float, res_dropout: float
    ):
        super().__init__()
        if d % heads:
            raise UserError(f"MulT's width {d} is not divisible by {heads} heads; choose heads that divide d.")
        self.heads, self.attn_dropout = heads, tuple(attn_dropout)
        self.relu_drop, self.res_drop = Dropout(relu_dropout), Dropout(res_dropout)
        shape = (layers, len(self.attn_dropout))
        self.qkv, self.qkv_bias = _xavier(shape, d, 3 * d)  # queries, keys, values
        self.out, self.out_bias = _xavier(shape, d, d)
        self.fc1, self.fc1_bias = _xavier(shape, d, 4 * d)
        self.fc2, self.fc2_bias = _xavier(shape, 4 * d, d)
        self.norm1, self.norm1_bias = _norm(*shape, d)
        self.norm2, self.norm2_bias = _norm(*shape, d)
        self.norm, self.norm_bias = _norm(shape[1], d)

    def layer_weights(self, which: slice = slice(None)) -> list[dict[str, Tensor]]:
        """The weights of encoders `which`, by layer: each layer norm's scale and shift are part of what follows it."""
        both = {name: p[:, which] for name, p in self.named_parameters() if p.dim() > 2}
        for norm, linear in (("norm1", "qkv"), ("norm2", "fc1")):
            scale, shift = both.pop(norm)[..., None], both.pop(f"{norm}_bias")[:, :, None]
            both[f"{linear}_bias"] = both[f"{linear}_bias"][:, :, None] + shift @ both[linear]
            both[linear] = scale * both[linear]
        both = {name: p[:, :, None] if p.dim() == 3 else p for name, p in both.items()}  # biases: (layers, P, 1, out)
        split = {name: p.unbind(0) for name, p in both.items()}
        return [{name: p[layer] for name, p in split.items()} for layer in range(len(self.qkv))]

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        weights: list[dict[str, Tensor]],
        which: slice = slice(None),
        source: Tensor | None = None,
        read: Tensor | None = None,
    ) -> Tensor:
        """x: (P, B, T, d).  mask: (P, B, T, S), True where a query may look.  weights: layer_weights(which).
        source: (2, P, B, S, d) what keys and values come from, or None for x itself.  read: (P, B) the one step wanted.

        Returns (P, B, T, d), or (P, B, 1, d) at `read`.
        """
        d = x.shape[-1]
        p = [p if self.training else 0.0 for p in self.attn_dropout[which]]
        attend = _Attend(mask, self.heads, p)
        other = None if source is None else _keys_values(source, weights)
        for layer, w in enumerate(weights):
            at = read if layer == len(weights) - 1 else None
            rows = F.layer_norm(x, (d,))
            if other is None:
                keys, values = _linear(rows, w["qkv"][..., d:], w["qkv_bias"][..., d:]).chunk(2, -1)
            else:
                keys, values = other[layer]
            if at is not None:
                rows, x = _at(rows, at), _at(x, at)
            queries = _linear(rows, w["qkv"][..., :d], w["qkv_bias"][..., :d])
            x = x + self.res_drop(_linear(attend(queries, keys, values, at), w["out"], w["out_bias"]))
            hidden = self.relu_drop(_linear(F.layer_norm(x, (d,)), w["fc1"], w["fc1_bias"]).relu_())
            x = x + self.res_drop(_linear(hidden, w["fc2"], w["fc2_bias"]))
        return F.layer_norm(x, (d,)) * self.norm[which, None, None] + self.norm_bias[which, None, None]


class _Attend:
    """Multi-head attention of P encoders. mask: (P, B, T, S).  p: dropout of each encoder's attention weights."""

    def __init__(self, mask: Tensor, heads: int, p: Sequence[float]):
        self.heads, self.p = heads, p
        mask = mask.flatten(0, 1)[:, None]  # (P * B, 1, T, S)
        self.bias = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, at: Tensor | None) -> Tensor:
        """q: (P, B, t, d).  k, v: (P, B, S, d).  at: (P, B) the step of each query where t = 1, or None."""
        bias = self.bias
        if at is not None:
            bias = bias[torch.arange(len(bias), device=bias.device), :, at.flatten()][:, :, None]
        parts = [x.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v)]
        if max(self.p) == 0:
            mixed = F.scaled_dot_product_attention(*parts, attn_mask=bias.to(q.dtype))
        else:
            scores = (parts[0] * parts[0].shape[-1] ** -0.5) @ parts[1].transpose(-1, -2)  # (P * B, h, t, S)
            mixed = self._dropped(scores.add_(bias).softmax(-1)) @ parts[2]
        return mixed.transpose(1, 2).flatten(2).view_as(q)

    def _dropped(self, weights: Tensor) -> Tensor:
        if len(set(self.p)) == 1:
            return dropout(weights, self.p[0], True)
        parts = weights.chunk(len(self.p))
        return torch.cat([dropout(w, p, True) for w, p in zip(parts, self.p, strict=True)])


def _xavier(shape: tuple[int, ...], inputs: int, out: int) -> tuple[nn.Parameter, nn.Parameter]:
    bound = math.sqrt(6 / (inputs + out))
    return nn.Parameter(torch.empty(*shape, inputs, out).uniform_(-bound, bound)), nn.Parameter(
        torch.zeros(*shape, out)
    )


def _norm(*shape: int) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(P, B, T, in), (P, in, out), (P, 1, out) -> (P, B, T, out)."""
    return torch.baddbmm(bias, x.flatten(1, 2), weight).unflatten(1, x.shape[1:3])


def _at(x: Tensor, step: Tensor) -> Tensor:
    """(P, B, T, d), (P, B) -> (P, B, 1, d)."""
    return x.flatten(0, 1)[torch.arange(step.numel(), device=x.device), step.flatten()].unflatten(0, step.shape)[
        :, :, None
    ]


def _keys_values(source: Tensor, weights: list[dict[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """Every layer's keys and values (P, B, S, d) of a source (2, P, B, S, d) that is the same for all layers."""
    two, count, *rest, d = source.shape
    weight = torch.stack([y for w in weights for y in w["qkv"].split(d, -1)[1:]]).flatten(
        0, 1
    )  # (2 * layers * P, d, d)
    bias = torch.stack([y for w in weights for y in w["qkv_bias"].split(d, -1)[1:]]).flatten(0, 1)
    rows = F.layer_norm(source, (d,)).flatten(2, 3).expand(len(weights), two, count, -1, d).flatten(0, 2)
    both = torch.baddbmm(bias, rows, weight).view(len(weights), two, count, *rest, d)
    return [(layer[0], layer[1]) for layer in both.unbind(0)]


def _visible(queries: Tensor, keys: Tensor, steps: int, others: int, future_mask: bool) -> Tensor:
    """Lengths (B,), (B,) -> (B, steps, others): which keys a query may look at."""
    key, query = torch.arange(others, device=keys.device), torch.arange(steps, device=keys.device)[:, None]
    visible = key < keys[:, None, None]
    if future_mask:
        visible = visible & (key <= query + (keys - queries).abs()[:, None, None])
    return visible.expand(len(keys), steps, others)


def _with_padding(sequences: Ragged, nominal: int, side: str) -> Ragged:
    """The same sequences, the padding to `nominal` being rows like any others."""
    rows = sequences.padded(nominal, side)
    lengths = torch.full_like(sequences.lengths, nominal)
    return Ragged(rows.flatten(0, 1), torch.arange(len(rows), device=rows.device) * nominal, lengths)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.config, self.emotions, self.text = config, emotions, text
        d, layers = (config.d, config.layers) if text is None else (config.token_d, config.token_layers)
        kernels = (config.text_kernel, config.audio_kernel, config.vision_kernel)
        self.kernels = kernels if text is None else (config.token_kernel, 1, 1)
        self.convs = nn.ModuleList(
            nn.Conv1d(dims[m], d, k, padding="same" if config.same_length else 0, bias=False)
            for m, k in zip(MODALITIES, self.kernels, strict=True)
        )
        drops = (config.attn_dropout, config.attn_dropout_audio, config.attn_dropout_vision)
        shared = {"relu_dropout": config.relu_dropout, "res_dropout": config.res_dropout}
        self.cross = Encoders(d, config.heads, layers, attn_dropout=[drops[s] for _, s in PAIRS], **shared)
        self.within = Encoders(2 * d, config.heads, max(layers, 3), attn_dropout=drops, **shared)
        self.text_drop, self.embed_drop = Dropout(config.text_dropout), Dropout(config.embed_dropout)
        self.out_drop = Dropout(config.out_dropout)
        self.proj1, self.proj2 = nn.Linear(6 * d, 6 * d), nn.Linear(6 * d, 6 * d)
        self.out = nn.Linear(6 * d, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        sequences = self._sequences(batch)
        order = torch.argsort(torch.stack([s.lengths for s in sequences]).sum(0), descending=True, stable=True)
        sequences = [s.take(order) for s in sequences]
        longest = [s.longest for s in sequences]
        together = 4 * max(longest) <= 5 * min(longest)  # padding all three to one length costs less than calls do
        cross, within = (_groups(encoders, together) for encoders in (self.cross, self.within))
        size = CHUNK.get(batch.label.device.type, 64)
        parts = []
        for start in range(0, len(batch), size):
            chunk = [s.slice(start, min(start + size, len(batch))) for s in sequences]
            parts.append(self._last_steps(chunk, together, cross, within))
        h = torch.cat(parts)[torch.argsort(order).to(batch.label.device)]  # (B, 6d)
        multimodal = h + self.proj2(self.out_drop(F.relu(self.proj1(h))))
        return Output(as_prediction(self.out(multimodal), self.emotions), None, multimodal)

    def _sequences(self, batch: Batch) -> list[Ragged]:
        text = batch.text
        if self.text is not None:
            states = self.text.states(text)  # (B, T, D)
            starts = torch.arange(len(states), device=states.device) * states.shape[1]
            text = Ragged(states.flatten(0, 1), starts, text.lengths)
        sequences = {"text": text, "audio": batch.audio, "vision": batch.vision}
        if not self.config.attend_padding:
            return list(sequences.values())
        return [_with_padding(s, batch.layout.lengths[m], batch.layout.side) for m, s in sequences.items()]

    def _last_steps(self, chunk: list[Ragged], together: bool, cross: Groups, within: Groups) -> Tensor:
        """(B, 6d): the last step of each target modality's self-attention encoder."""
        x, lengths = self._low_level(chunk, together)
        low = [self._embed(y) for y in x]
        targets, sources = [low[t] for t, _ in PAIRS], [low[s] for _, s in PAIRS]
        masks = [self._mask(lengths[t], lengths[s], low[t], low[s]) for t, s in PAIRS]
        mixed = self._run(self.cross, cross, targets, masks, sources)
        both = [self._embed(torch.cat([mixed[2 * m], mixed[2 * m + 1]], -1)) for m in range(3)]  # (B, T_m, 2d)
        masks = [self._mask(n, n, y, y) for n, y in zip(lengths, both, strict=True)]
        last = self._run(self.within, within, both, masks, read=[n - 1 for n in lengths])
        return torch.cat(last, -1)[:, 0]

    def _low_level(self, chunk: list[Ragged], together: bool) -> tuple[list[Tensor], list[Tensor]]:
        """Convolved sequences (B, T_m, d), of one length where `together`, and how long each is."""
        x, lengths = [], []
        for i, (sequences, conv) in enumerate(zip(chunk, self.convs, strict=True)):
            shorter = 0 if self.config.same_length else self.kernels[i] - 1
            rows = sequences.padded(max(sequences.longest, shorter + 1))
            if i == 0:
                rows = self.text_drop(rows)
            x.append(conv(rows.transpose(1, 2)).transpose(1, 2))
            lengths.append((sequences.device_lengths() - shorter).clamp(min=1))
        if together:
            longest = max(y.shape[1] for y in x)
            x = [F.pad(y, (0, 0, 0, longest - y.shape[1])) for y in x]
        return x, lengths

    def _embed(self, x: Tensor) -> Tensor:
        """As the reference: a step whose first channel is exactly 0 has no position."""
        scaled = math.sqrt(x.shape[-1]) * x
        if not self.config.positions:
            return scaled
        return scaled + positional_encoding(x.shape[1], x.shape[2], x.device) * (x[..., :1] != 0)

    def _mask(self, queries: Tensor, keys: Tensor, target: Tensor, source: Tensor) -> Tensor:
        return _visible(queries, keys, target.shape[1], source.shape[1], self.config.future_mask)

    def _run(
        self,
        encoders: Encoders,
        groups: Groups,
        x: list[Tensor],
        masks: list[Tensor],
        sources: list[Tensor] | None = None,
        read: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """One (B, T, d) per encoder. Targets, keys and values have a dropout of their own in each encoder."""
        out: list[Tensor] = []
        for which, weights in groups:
            source = None
            if sources is not None:
                one = torch.stack(sources[which])
                source = self.embed_drop(one.expand(2, *one.shape))
            at = None if read is None else torch.stack(read[which])
            out += encoders(
                self.embed_drop(torch.stack(x[which])), torch.stack(masks[which]), weights, which, source, at
            )
        return out


def _groups(encoders: Encoders, together: bool) -> Groups:
    """All encoders as one group, or each by itself."""
    count = len(encoders.attn_dropout)
    slices = [slice(0, count)] if together else [slice(i, i + 1) for i in range(count)]
    return [(which, encoders.layer_weights(which)) for which in slices]
