"""TCM-LSTM: acoustic- and visual-LSTM with channel-aware temporal convolution (Mai, Xing and Hu, IEEE/ACM TASLP 2021).
A reconstruction from the abstract.

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations.

What the abstract says: each modality is read by a temporal convolution network that is aware of channels; then, in an
acoustic- and a visual-LSTM where language plays the dominant role, a gate inside the cell lets the auxiliary modality
enhance the language representation.

    TCN, a modality     Conv1d(k=1) to d, then blocks of two causal convolutions (k=3, dilation 1, 2, 4 ...), relu,
                        dropout, channel attention, and a residual sum
    channel attention   squeeze (mean over the real steps), Linear d/r, relu, Linear d, sigmoid: a weight per channel
    m-LSTM, m = a or v  e_t = sigmoid(E l_t + F m_t + G h + b)                   how much of m the language takes in
                        i, f, o = sigmoid(W l_t + V h + b)                       gates by language alone
                        g = tanh(W_g l_t + V_g h + b_g + e_t o M m_t)            the enhanced language
                        c = f o c + i o g, h = o o tanh(c)
    prediction          last real step of both, concatenated -> relu Linear -> dropout -> Linear

Both LSTMs run at once as one batch of two; all that does not depend on h is computed for all steps beforehand, and no
step is computed beyond an utterance's end. The convolutions are causal, so padding on the right is never seen.

Deviates: no code is public and only the abstract was at hand. Guessed: all equations and sizes above, that is
1. The form of the channel attention (squeeze and excitation), per block, over the whole utterance.
2. Causal dilated convolutions with residuals (Bai et al. 2018), without weight normalisation.
3. Where the gate acts (on the candidate), and that it sees h.
4. No recurrent path between the two LSTMs; concatenation at the end.
5. Sizes, grid and training, with Adam.
Reference implementations consulted: none exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.encoders import Head, TokenStates
from hycon.kernels.dropout import Dropout
from hycon.kernels.packing import Packing, pack
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2
NEEDS_ALIGNED = True


@dataclass(frozen=True)
class Config:
    d: int = 50  # channels of the convolutions; chosen here, as all sizes
    blocks: int = 2
    kernel: int = 3
    squeeze: int = 4  # r, the reduction inside the channel attention
    hidden: int = 64  # of each LSTM
    conv_dropout: float = 0.1
    dropout: float = 0.3


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32),  # chosen here: as EF-LSTM's
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's
}
_SIZES: dict[str, tuple] = {
    "blocks": (1, 2, 3),  # chosen here, as all of these
    "hidden": (32, 64, 128),
    "conv_dropout": (0.0, 0.1, 0.2, 0.3),
    "dropout": (0.1, 0.2, 0.3, 0.5),
    "scale": ("none", "standard"),
}
SEARCH_SPACE = {
    "vectors": {
        **_SIZES,
        "d": (30, 50, 80),  # chosen here, as the next ones
        "lr": (5e-4, 1e-3, 2e-3, 5e-3),
        "batch_size": (16, 32, 64, 128),
        "clip": (0.3, 0.7, 1.0),
    },
    "tokens": {
        **_SIZES,
        "lr": (1e-5, 2e-5, 5e-5),  # chosen here: around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
    },
}


class ChannelBlock(nn.Module):
    """x + attention(drop(relu(conv(drop(relu(conv x)))))): (B, d, T) -> (B, d, T), causal."""

    def __init__(self, d: int, kernel: int, dilation: int, squeeze: int, dropout: float):
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(d, d, kernel, dilation=dilation)
        self.conv2 = nn.Conv1d(d, d, kernel, dilation=dilation)
        self.down, self.up = nn.Linear(d, max(1, d // squeeze)), nn.Linear(max(1, d // squeeze), d)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """real: (B, 1, T) 1 on real steps, 0 on padding."""
        y = self.drop(F.relu(self.conv1(F.pad(x, (self.reach, 0)))))
        y = self.drop(F.relu(self.conv2(F.pad(y, (self.reach, 0)))))
        squeezed = (y * real).sum(2) / real.sum(2)  # (B, d)
        share = torch.sigmoid(self.up(F.relu(self.down(squeezed))))
        return x + y * share[:, :, None]


class ChannelTCN(nn.Module):
    """(B, T, d_m) padded on the right, real (B, 1, T) -> (B, T, d)."""

    def __init__(self, width: int, config: Config):
        super().__init__()
        self.enter = nn.Linear(width, config.d)
        self.blocks = nn.ModuleList(
            ChannelBlock(config.d, config.kernel, 2**i, config.squeeze, config.conv_dropout)
            for i in range(config.blocks)
        )

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        y = self.enter(x).transpose(1, 2)
        for block in self.blocks:
            y = block(y, real)
        return y.transpose(1, 2)


class AuxiliaryLSTM(nn.Module):
    """The acoustic- and the visual-LSTM side by side: language (R, d), auxiliary (2, R, d), packed -> (2, B, h).

    Blocks of 5 h columns: e, i, f, o, g. Weights are those of two separate cells.
    """

    def __init__(self, d: int, hidden: int):
        super().__init__()
        self.hidden = hidden
        bound = hidden**-0.5  # as nn.LSTM

        def uniform(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        self.language = uniform(2, d, 5 * hidden)
        self.gate, self.enhance = uniform(2, d, hidden), uniform(2, d, hidden)
        self.recurrent, self.bias = uniform(2, hidden, 5 * hidden), uniform(2, 1, 5 * hidden)

    def forward(self, language: Tensor, auxiliary: Tensor, packing: Packing) -> Tensor:
        """Each sequence's state at its last step."""
        h = self.hidden
        inputs = torch.baddbmm(self.bias, language.expand(2, -1, -1), self.language)  # (2, R, 5 h)
        gated = torch.bmm(auxiliary, torch.cat([self.gate, self.enhance], 2))
        inputs = inputs + F.pad(gated[:, :, :h], (0, 4 * h))
        return self._run(inputs, gated[:, :, h:], packing.sizes)[:, packing.last]

    def _run(self, inputs: Tensor, enhancement: Tensor, sizes: list[int]) -> Tensor:
        """(2, R, h): the state at every step; sequences that have ended are no longer computed.

        float32 under autocast too, as every recurrence here.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            return self._steps(inputs.float(), enhancement.float(), sizes)

    def _steps(self, inputs: Tensor, enhancement: Tensor, sizes: list[int]) -> Tensor:
        h = self.hidden
        state = cell = inputs.new_zeros(2, sizes[0], h)
        states = []
        for n, given, extra in zip(sizes, inputs.split(sizes, 1), enhancement.split(sizes, 1), strict=True):
            x = torch.baddbmm(given, state[:, :n], self.recurrent)
            e, i, f, o = torch.sigmoid(x[:, :, : 4 * h]).chunk(4, 2)
            candidate = torch.tanh(torch.addcmul(x[:, :, 4 * h :], e, extra))
            cell = torch.addcmul(i * candidate, f, cell[:, :n])
            state = o * torch.tanh(cell)
            states.append(state)
        return torch.cat(states, 1)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        self.text = TokenStates(dims["text"], text, config.d)
        widths = {"text": self.text.width, "audio": dims["audio"], "vision": dims["vision"]}
        self.tcn = nn.ModuleDict({m: ChannelTCN(width, config) for m, width in widths.items()})
        self.lstm = AuxiliaryLSTM(config.d, config.hidden)
        width = 2 * config.hidden
        self.head = Head(width, width, config.dropout, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        text = self.text(batch)
        text = text if isinstance(text, Tensor) else text.padded()
        sequences = {"text": text, "audio": batch.audio.padded(), "vision": batch.vision.padded()}
        device = batch.label.device
        steps = torch.arange(batch.text.longest, device=device)
        real = (steps < batch.text.device_lengths()[:, None]).float()[:, None]  # (B, 1, T)
        packing = pack(batch.text.both)
        rows = {m: packing.rows(self.tcn[m](x, real)) for m, x in sequences.items()}  # (R, d)
        ends = self.lstm(rows["text"], torch.stack([rows["audio"], rows["vision"]]), packing)
        multimodal = torch.cat([ends[0], ends[1]], 1)  # (B, 2 h)
        return Output(as_prediction(self.head(multimodal), self.emotions), multimodal=multimodal)
