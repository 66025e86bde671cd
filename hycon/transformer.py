"""MulT's pre-LN Transformer encoder (Tsai et al., ACL 2019), as HyCon's front-end has it for audio and vision.

Padded to the nominal length, since the padding takes part in attention; only the step that is read leaves the last
layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.ragged import Both, Places, Ragged
from hycon.kernels.attention import masked_attention
from hycon.kernels.dropout import Dropout

FUSED_WIDTH = 8  # PyTorch's fused attention on CUDA takes heads of a multiple of it in any precision


def positional_encoding(length: int, d: int, device: torch.device) -> Tensor:
    """(length, d) tensor2tensor sinusoids, sines then cosines, for positions 1, 2, ... (0 is the padding's)."""
    half = d // 2
    frequency = torch.exp(torch.arange(half, device=device) * (-math.log(10000.0) / max(half - 1, 1)))
    angle = torch.arange(1, length + 1, device=device)[:, None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, d % 2))


class Steps:
    """Of utterances whose rows follow one another: where each row (R,) lies, and its position's encoding."""

    def __init__(self, lengths: Both):
        self.lengths, self.places = lengths, Places.of(lengths)
        self.encodings: dict[int, Tensor] = {}

    def encoding(self, width: int) -> Tensor:
        """(R, width), computed once."""
        if width not in self.encodings:
            step = self.places.step
            self.encodings[width] = positional_encoding(self.lengths.largest, width, step.device)[step]
        return self.encodings[width]


def steps_of_each(lengths: list[Both]) -> list[Steps]:
    """Of each modality; the same for all where they are aligned."""
    if all(torch.equal(n.host, lengths[0].host) for n in lengths):
        return [Steps(lengths[0])] * len(lengths)
    return [Steps(n) for n in lengths]


class EncoderLayer(nn.Module):
    """Pre-LN Transformer layer: x + drop(MHA(LN x)), then x + drop(W2 drop(relu(W1 LN x))); feed-forward size 4d."""

    def __init__(self, d: int, heads: int, attn_dropout: float, relu_dropout: float, res_dropout: float):
        super().__init__()
        self.heads, self.attn_dropout = heads, attn_dropout
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * d, d)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d))
        self.out_proj = nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.relu_drop, self.res_drop = Dropout(relu_dropout), Dropout(res_dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, read: Tensor | int | None = None) -> Tensor:
        """x: (B, T, d).  mask: (B, 1, 1, T) True where attention may look.  read: the one step wanted, or (B,) each
        utterance's, or None for all.

        Returns (B, T, d), or (B, 1, d) at `read`.
        """
        normed = self.norm1(x)
        query, x = (normed, x) if read is None else (_at(normed, read), _at(x, read))
        d = x.shape[-1]
        (w_q, w_kv), (b_q, b_kv) = (p.split([d, 2 * d]) for p in (self.in_proj_weight, self.in_proj_bias))
        q = self._split(F.linear(query, w_q, b_q))  # (B, h, T, d/h)
        k, v = (self._split(y) for y in F.linear(normed, w_kv, b_kv).chunk(2, -1))
        attended = masked_attention(q, k, v, mask, self.attn_dropout if self.training else 0.0)
        x = x + self.res_drop(self.out_proj(attended.transpose(1, 2).flatten(2)))
        return x + self.res_drop(self.fc2(self.relu_drop(F.relu(self.fc1(self.norm2(x))))))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _at(x: Tensor, step: Tensor | int) -> Tensor:
    """(B, T, ...) -> (B, 1, ...)"""
    if isinstance(step, int):
        return x[:, step : step + 1]
    return x[torch.arange(len(x), device=x.device), step][:, None]


class SequenceEncoder(nn.Module):
    """Conv1d(k=3, no bias) to d, then MulT's encoder, then the read-out step: (B, T, d_m) -> (B, d).

    As in the authors' code a step whose first channel is exactly 0 gets no positional encoding, no key is masked, so
    that the zero rows of the padding take part in attention (`mask_padding=True` masks them, a deviation), and
    positions count from the nominal first step, padding or not (`positions="own"`: from the utterance's own first).
    """

    def __init__(
        self,
        width: int,
        d: int,
        *,
        layers: int,
        heads: int,
        dropouts: Mapping[str, float],
        readout: str,
        mask_padding: bool,
        positions: str = "nominal",
    ):
        super().__init__()
        self.conv = nn.Conv1d(width, d, 3, padding=1, bias=False)
        self.layers = nn.ModuleList(
            EncoderLayer(d, heads, dropouts["attn"], dropouts["relu"], dropouts["res"]) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(d)
        self.embed_drop = Dropout(dropouts["embed"])
        self.readout, self.mask_padding, self.positions = readout, mask_padding, positions
        self._encodings: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, sequences: Ragged, nominal: int, side: str) -> Tensor:
        convolved = self.conv(sequences.padded(nominal, side).transpose(1, 2)).transpose(1, 2)  # (B, T, d)
        where = _Where([sequences], nominal, side)
        x = self.embed_drop(self.embedded(convolved, where))
        mask = where.real[:, None, None] if self.mask_padding else None
        read = where.read(self.readout)
        for layer in self.layers[:-1]:
            x = layer(x, mask)
        x = self.norm(self.layers[-1](x, mask, read))  # only the step that is read leaves the last layer
        return where.mean(x) if read is None else x[:, 0]

    def embedded(self, x: Tensor, where: _Where) -> Tensor:
        """sqrt(d) x and a position; (B, T, d)."""
        d = x.shape[-1]
        encoding = self._encoding(where.nominal, x)
        if self.positions == "own" and where.side == "left":
            encoding = encoding[(where.step - where.start[:, None]).clamp(min=0)]  # (B, T, d)
        return math.sqrt(d) * x + encoding * (x[:, :, :1] != 0)

    def _encoding(self, length: int, like: Tensor) -> Tensor:
        """(length, d), computed once for each length and device."""
        key = length, like.device
        if key not in self._encodings:
            with torch.inference_mode(False):  # whoever asks first, training will read it too
                self._encodings[key] = positional_encoding(length, like.shape[-1], like.device)
        return self._encodings[key]


@dataclass(frozen=True)
class _Where:
    """Where the steps of B utterances lie among `nominal` ones, padded on `side`.

    sequences: theirs, one batch of them after the other. All tensors are computed when asked for: most configurations
    do not.
    """

    sequences: Sequence[Ragged]
    nominal: int
    side: str

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) how many steps each has."""
        return torch.cat([own.device_lengths() for own in self.sequences]).clamp(max=self.nominal)

    @cached_property
    def start(self) -> Tensor:
        """(B,) each one's first place."""
        return self.nominal - self.lengths if self.side == "left" else torch.zeros_like(self.lengths)

    @cached_property
    def step(self) -> Tensor:
        """(T,) the places."""
        return torch.arange(self.nominal, device=self.lengths.device)

    @cached_property
    def real(self) -> Tensor:
        """(B, T) no padding."""
        return (self.step >= self.start[:, None]) & (self.step < (self.start + self.lengths)[:, None])

    def read(self, readout: str) -> Tensor | int | None:
        """The step that a read-out reads; None for the mean over all real ones."""
        if readout == "last":
            return self.nominal - 1
        if readout == "last_real" or (readout == "cls" and self.side == "left"):
            return self.start + self.lengths - 1  # XLNet's [CLS] closes the sentence
        return self.start if readout == "cls" else None

    def mean(self, x: Tensor) -> Tensor:
        return (x * self.real[:, :, None]).sum(1) / self.lengths[:, None]


def side_by_side(
    encoders: Sequence[SequenceEncoder], sequences: Sequence[Ragged], nominal: int, side: str
) -> list[Tensor]:
    """What each of P encoders of one shape gives for its sequences, (B, d), in as few operations as one takes alone:
    for a GPU. Dropout is drawn for all at once."""
    convolved = [
        encoder.conv(own.padded(nominal, side).transpose(1, 2)).transpose(1, 2)
        for encoder, own in zip(encoders, sequences, strict=True)
    ]
    first, count = encoders[0], len(encoders)
    where = _Where(sequences, nominal, side)
    x = first.embed_drop(first.embedded(torch.cat(convolved), where))  # (P * B, T, d)
    mask = where.real[:, None, None] if first.mask_padding else None
    read, weights = where.read(first.readout), _stacked(encoders)
    for number, layer in enumerate(first.layers):
        own = {name.removeprefix(f"layers.{number}."): w for name, w in weights.items()}
        x = _layer(layer, x, own, count, mask, read if number == len(first.layers) - 1 else None)  # type: ignore[arg-type]
    x = _normed(x, weights["norm.weight"], weights["norm.bias"])
    return list((where.mean(x) if read is None else x[:, 0]).chunk(count))


def _stacked(encoders: Sequence[SequenceEncoder]) -> dict[str, Tensor]:
    """Each parameter but the convolution's, by name: (P, ...), all in one copy."""
    named = [{name: p for name, p in e.named_parameters() if not name.startswith("conv")} for e in encoders]
    flat = torch.cat([p.flatten() for own in named for p in own.values()]).view(len(encoders), -1)
    parts = flat.split([p.numel() for p in named[0].values()], 1)
    return {name: part.unflatten(1, p.shape) for (name, p), part in zip(named[0].items(), parts, strict=True)}


def _layer(
    layer: EncoderLayer, x: Tensor, w: Mapping[str, Tensor], count: int, mask: Tensor | None, read: Tensor | int | None
) -> Tensor:
    """`layer`'s computation with the weights w (P, ...), for x (P * B, T, d), the utterances of one encoder after those
    of the other: (P * B, T, d), or (P * B, 1, d) at `read`."""

    def linear(y: Tensor, name: str) -> Tensor:
        weight, bias = w[f"{name}weight"], w[f"{name}bias"]
        rows = y.reshape(count, -1, y.shape[-1])
        return torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2)).view(*y.shape[:-1], -1)

    width = x.shape[-1] // layer.heads
    together = linear(_normed(x, w["norm1.weight"], w["norm1.bias"]), "in_proj_").unflatten(-1, (3, layer.heads, width))
    together = F.pad(together, (0, -width % FUSED_WIDTH))  # zeros, for the fused kernel
    q, k, v = (y.transpose(1, 2) for y in together.unbind(2))  # (P * B, h, T, w)
    if read is not None:
        q, x = _at(q.transpose(1, 2), read).transpose(1, 2), _at(x, read)
    p = layer.attn_dropout if layer.training else 0.0
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, scale=width**-0.5)
    x = x + layer.res_drop(linear(attended[..., :width].transpose(1, 2).flatten(2), "out_proj."))
    hidden = layer.relu_drop(F.relu(linear(_normed(x, w["norm2.weight"], w["norm2.bias"]), "fc1.")))
    return x + layer.res_drop(linear(hidden, "fc2."))


def _normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of (P * B, t, d) by scale and shift (P, d)."""
    rows = F.layer_norm(x, x.shape[-1:]).view(len(scale), -1, x.shape[-1])
    return torch.addcmul(shift[:, None], rows, scale[:, None]).view_as(x)
