"""MulT's pre-LN Transformer encoder (Tsai et al., ACL 2019), as HyCon's front-end has it for audio and vision.

Padded to the nominal length, since the padding takes part in attention; only the step that is read leaves the last
layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.ragged import Ragged
from hycon.kernels.attention import masked_attention
from hycon.kernels.dropout import Dropout


def positional_encoding(length: int, d: int, device: torch.device) -> Tensor:
    """(length, d) tensor2tensor sinusoids, sines then cosines, for positions 1, 2, ... (0 is the padding's)."""
    half = d // 2
    frequency = torch.exp(torch.arange(half, device=device) * (-math.log(10000.0) / max(half - 1, 1)))
    angle = torch.arange(1, length + 1, device=device)[:, None] * frequency
    return F.pad(torch.cat([angle.sin(), angle.cos()], 1), (0, d % 2))


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

    def forward(self, x: Tensor, mask: Tensor | None = None, read: Tensor | None = None) -> Tensor:
        """x: (B, T, d).  mask: (B, 1, 1, T) True where attention may look.  read: (B,) the one step wanted, or None.

        Returns (B, T, d), or (B, 1, d) at `read`.
        """
        normed = self.norm1(x)
        query, x = (normed, x) if read is None else (_at(normed, read), _at(x, read))
        d = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = self._split(F.linear(query, weight[:d], bias[:d]))  # (B, h, T, d/h)
        k, v = (self._split(y) for y in F.linear(normed, weight[d:], bias[d:]).chunk(2, -1))
        attended = masked_attention(q, k, v, mask, self.attn_dropout if self.training else 0.0)
        x = x + self.res_drop(self.out_proj(attended.transpose(1, 2).flatten(2)))
        return x + self.res_drop(self.fc2(self.relu_drop(F.relu(self.fc1(self.norm2(x))))))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _at(x: Tensor, step: Tensor) -> Tensor:
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

    def forward(self, sequences: Ragged, nominal: int, side: str) -> Tensor:
        x = self.conv(sequences.padded(nominal, side).transpose(1, 2)).transpose(1, 2)  # (B, T, d)
        d = x.shape[-1]
        encoding = positional_encoding(nominal, d, x.device)
        lengths = sequences.device_lengths().clamp(max=nominal)
        start = nominal - lengths if side == "left" else torch.zeros_like(lengths)
        step = torch.arange(nominal, device=x.device)
        if self.positions == "own" and side == "left":
            encoding = encoding[(step - start[:, None]).clamp(min=0)]  # (B, T, d)
        x = self.embed_drop(math.sqrt(d) * x + encoding * (x[:, :, :1] != 0))
        real = (step >= start[:, None]) & (step < (start + lengths)[:, None])  # (B, T)
        mask = real[:, None, None] if self.mask_padding else None
        read = None
        if self.readout == "last":
            read = torch.full_like(lengths, nominal - 1)
        elif self.readout == "last_real" or (self.readout == "cls" and side == "left"):
            read = start + lengths - 1  # XLNet's [CLS] closes the sentence
        elif self.readout == "cls":
            read = start
        for layer in self.layers[:-1]:
            x = layer(x, mask)
        x = self.norm(self.layers[-1](x, mask, read))  # only the step that is read leaves the last layer
        if read is not None:
            return x[:, 0]
        return (x * real[:, :, None]).sum(1) / lengths[:, None]
