"""EF-LSTM: early fusion. Words' text, audio and vision features are concatenated and read by one LSTM.

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations.

    x_t = [l_t; a_t; v_t] -> LSTM -> h at the last real step -> relu Linear to `cell` -> dropout -> Linear

GloVe form: the recurrent model of Gkoumas et al. (Inf. Fusion 2021), the comparison whose protocol the paper follows.
BERT and XLNet forms: fine-tuned token states, Conv1d(k=3) to `d`, then the same LSTM over word pieces (the paper says
only that the counterpart uses "the same" encoder as HyCon).

Deviates:
1. Reads the state at the utterance's own last step; the reference reads it after the padding.
2. Adam; the reference trains with RMSprop.
3. The GloVe vectors stay fixed; the reference trains its table.
4. MMSA normalises each time step over its batch first and has four layers; MSAF does neither, and so does this
   (`time_norm=50`, `layers=4`: MMSA's, with statistics over real steps only).
5. The tokens form is not the reference's: neither is its search, nor is its gradient clipped.
Reference implementations consulted: gkoumasd/MSAF (its grid never reaches the hidden size, by a misspelt key; ours
does), thuiar/MMSA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.ragged import Ragged
from hycon.encoders import Head, TokenStates
from hycon.errors import UserError
from hycon.kernels.lstm import last_hidden
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2
NEEDS_ALIGNED = True


@dataclass(frozen=True)
class Config:
    hidden: int = 128  # MSAF's grid; its own default of 100 is none of it
    cell: int = 32  # MSAF, as the next
    dropout: float = 0.3
    layers: int = 1  # MSAF; MMSA 4
    d: int = 50  # width that token states are projected to; GloVe form: unused
    time_norm: int = later(0)  # nominal steps that MMSA's norm is over (there 50); 0: no norm


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32, clip=0.8),  # MSAF: lr and batch of its grid, clip as it is
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SHARED_SPACE: dict[str, dict[str, tuple]] = {  # LF-LSTM's too
    "vectors": {
        "cell": (16, 32, 48, 64, 128),  # MSAF
        "dropout": (0.1, 0.15, 0.2, 0.3, 0.4, 0.5),  # MSAF
        "lr": (0.01, 0.008, 0.005, 0.002, 0.001),  # MSAF
        "batch_size": (16, 32, 64, 128),  # MSAF
        "scale": ("none", "standard"),  # chosen here: early fusion suffers from unscaled inputs
    },
    "tokens": {  # no source searches them over BERT; chosen here, from
        "cell": (32, 64, 128),  # MSAF's, as the next
        "dropout": (0.1, 0.3, 0.5),
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
        "scale": ("none", "standard"),  # as with vectors
    },
}
SEARCH_SPACE = {
    "vectors": {"hidden": (16, 32, 64, 96, 128), **SHARED_SPACE["vectors"]},  # hidden: MSAF
    "tokens": {"hidden": (64, 128, 256), **SHARED_SPACE["tokens"]},
}


class StepNorm(nn.BatchNorm1d):
    """MMSA's batch norm over time: step t of x (B, T, d) by the mean and variance of all its features, in the
    utterances that reach it. Beyond an utterance's end there is nothing to read afterwards."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """lengths: (B,) on x's device. Raises UserError where T is more than the steps there are weights for."""
        steps = x.shape[1]
        if steps > self.num_features:
            raise UserError(f"An utterance has {steps} steps, but time_norm is {self.num_features}: raise it.")
        mean, var = self.running_mean[:steps], self.running_var[:steps]  # type: ignore[index]
        if self.training:
            real = (torch.arange(steps, device=x.device) < lengths[:, None])[..., None]  # (B, T, 1)
            count = real.sum((0, 2)) * x.shape[2]
            batch_mean = (x * real).sum((0, 2)) / count
            batch_var = ((x - batch_mean[:, None]).square() * real).sum((0, 2)) / count
            with torch.no_grad():
                momentum = float(self.momentum)  # type: ignore[arg-type]
                mean.lerp_(batch_mean, momentum)
                var.lerp_(batch_var * count / (count - 1), momentum)
            mean, var = batch_mean, batch_var
        scale = self.weight[:steps] * torch.rsqrt(var + self.eps)
        return (x - mean[:, None]) * scale[:, None] + self.bias[:steps, None]


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        self.text = TokenStates(dims["text"], text, config.d)
        self.lstm = nn.LSTM(
            self.text.width + dims["audio"] + dims["vision"],
            config.hidden,
            config.layers,
            batch_first=False,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.head = Head(config.hidden, config.cell, config.dropout, outputs(emotions))
        self.time_norm = StepNorm(config.time_norm) if config.time_norm else None

    def forward(self, batch: Batch) -> Output:
        read = [self.text(batch), batch.audio, batch.vision]
        if self.time_norm is not None:
            padded = [x.padded() if isinstance(x, Ragged) else x for x in read]
            read = [self.time_norm(torch.cat(padded, 2), batch.text.device_lengths())]
        last = last_hidden(self.lstm, *read, lengths=batch.text.both)
        return Output(as_prediction(self.head(last), self.emotions))
