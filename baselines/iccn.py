"""ICCN: interaction canonical correlation network (Sun, Sarma, Sethares and Liang, AAAI 2020). A reconstruction.

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2), representations (B, d), and in `multimodal`
[K_ta; h_t; K_tv] (B, 2 k + d), which the regressor and the correlation loss read.

    h_t             sentence vector: mean of the real steps' text vectors or token states, Linear to d
    h_a, h_v        Conv1d(k=3) over the steps, relu, mean over the real steps
    outer products  h_t x h_a and h_t x h_v, "text-based audio" and "text-based video": two d x d images
    2-D CNN         of each: Conv 3x3, relu, max pool 2, Conv 3x3, relu, max pool 2, Linear to k: K_ta and K_tv
    correlation     the sum of the canonical correlations of K_ta and K_tv over the mini-batch is made large (deep CCA,
                    Andrew et al., ICML 2013), with covariances S + r (trace(S) / k) I
    prediction      [K_ta; h_t; K_tv] -> dropout -> relu Linear -> Linear

Deviates: no code is public and the paper was not at hand; facts (outer products, 2-D CNNs, CCA between the two
outputs, concatenation with the text) are from descriptions of it. Guessed:
1. Every size: d, k, channels, kernels, pooling, the hidden layer, and dropout.
2. The Linear that brings the sentence vector to d, so that the images are square; mean over tokens, not [CLS].
3. One convolution and a mean for audio and vision, no LSTM after it.
4. One joint loss, L1 + weight * (k - correlation) / k, with `weight` searched; the original may alternate.
5. The text encoder is fine-tuned with the rest; the original's vectors may have been fixed.
6. The ridge is relative to the variance (r times the mean variance of a column), so that the correlation does not
   depend on the scale of K_ta and K_tv; deep CCA usually adds an absolute one.
7. Fewer than 2 k rows have no correlation: there the term is constant, without gradient. Few rows correlate whatever
   they are (independent noise, 32 rows: .82 k for k = 24, .64 k for 16, .44 k for 8), so the search has no k above
   half its smallest batch.
Reference implementations consulted: none exists. The results in the paper's tables are quoted from ICCN's publication.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.ragged import Ragged
from hycon.kernels.correlation import canonical_correlation
from hycon.kernels.dropout import Dropout
from hycon.output import Output, as_prediction, outputs, task_loss
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2


@dataclass(frozen=True)
class Config:
    d: int = 32  # all sizes: chosen here
    channels: int = 8  # of the first convolution; the second has twice as many
    correlated: int = 16  # k
    hidden: int = 64
    dropout: float = 0.2
    weight: float = 0.1  # of the correlation in the loss
    ridge: float = 1e-3  # r, of the covariances, relative: deviation 6


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=64),  # chosen here
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's
}
_SIZES: dict[str, tuple] = {
    "channels": (4, 8, 16),  # chosen here, as all of these
    "correlated": (8, 16),  # half the smallest batch at most: deviation 7
    "dropout": (0.1, 0.2, 0.3, 0.5),
    "weight": (0.01, 0.1, 1.0),
    "scale": ("none", "standard"),
}
SEARCH_SPACE = {
    "vectors": {
        **_SIZES,
        "d": (16, 32, 48),  # chosen here, as the next ones
        "lr": (5e-4, 1e-3, 2e-3, 5e-3),
        "batch_size": (32, 64, 128),
    },
    "tokens": {
        **_SIZES,
        "lr": (1e-5, 2e-5, 5e-5),  # chosen here: around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
    },
}
ABLATIONS = {"correlation": {"weight": 0.0}}
REMOVED = {"correlation": "the canonical correlations from the loss"}


class Sentence(nn.Module):
    """Ragged vectors or tokens -> (B, d): mean over the real steps, Linear."""

    def __init__(self, width: int, text: PretrainedText | None, d: int):
        super().__init__()
        self.text = text
        self.linear = nn.Linear(text.width if text else width, d)

    def forward(self, sequences: Ragged) -> Tensor:
        if self.text is None:
            return self.linear(sequences.mean())
        states = self.text.states(sequences)  # zeros beyond the end
        return self.linear(states.sum(1) / sequences.device_lengths()[:, None])


class Steps(nn.Module):
    """Ragged (d_m,) -> (B, d): Conv1d(k=3), relu, mean over the real steps."""

    def __init__(self, width: int, d: int):
        super().__init__()
        self.conv = nn.Conv1d(width, d, 3, padding=1)

    def forward(self, sequences: Ragged) -> Tensor:
        x = F.relu(self.conv(sequences.padded().transpose(1, 2)))  # (B, d, T)
        lengths = sequences.device_lengths()[:, None]
        real = torch.arange(x.shape[2], device=x.device) < lengths
        return (x * real[:, None]).sum(2) / lengths


class Image(nn.Module):
    """Outer product of two (B, d) as a d x d image -> 2-D CNN -> (B, k)."""

    def __init__(self, d: int, channels: int, out: int):
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.linear = nn.Linear(2 * channels * (d // 4) ** 2, out)

    def forward(self, text: Tensor, other: Tensor) -> Tensor:
        x = (text[:, :, None] * other[:, None])[:, None]  # (B, 1, d, d)
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (B, 2 c, d/4, d/4)
        return self.linear(x.flatten(1))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.config, self.emotions = config, emotions
        self.text = Sentence(dims["text"], text, config.d)
        self.audio, self.vision = Steps(dims["audio"], config.d), Steps(dims["vision"], config.d)
        self.text_audio = Image(config.d, config.channels, config.correlated)
        self.text_vision = Image(config.d, config.channels, config.correlated)
        self.drop = Dropout(config.dropout)
        self.hidden = nn.Linear(2 * config.correlated + config.d, config.hidden)
        self.predictor = nn.Linear(config.hidden, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        x = {"text": self.text(batch.text), "audio": self.audio(batch.audio), "vision": self.vision(batch.vision)}
        views = self.text_audio(x["text"], x["audio"]), self.text_vision(x["text"], x["vision"])
        multimodal = torch.cat([views[0], x["text"], views[1]], 1)  # (B, k + d + k)
        y = self.predictor(F.relu(self.hidden(self.drop(multimodal))))
        return Output(as_prediction(y, self.emotions), x, multimodal)

    def loss(self, output: Output, batch: Batch, kind: str = "l1") -> Tensor:
        """Task loss plus weight times the share of the largest possible correlation that is missing."""
        k = self.config.correlated
        task = task_loss(output.prediction, batch.label, kind)
        if self.config.weight == 0:
            return task
        assert output.multimodal is not None
        text_audio, text_vision = output.multimodal[:, :k], output.multimodal[:, -k:]
        correlation = canonical_correlation(text_audio, text_vision, self.config.ridge)
        return task + self.config.weight * (1 - correlation / k)
