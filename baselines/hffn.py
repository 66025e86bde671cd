"""HFFN: divide, conquer and combine, a hierarchical feature fusion network (Mai, Hu and Xing, ACL 2019).

In: a Batch whose utterances know their videos. Out: prediction (B,) or (B, E, 2), representations (B, d).

    context     per modality: the utterances of a video, one vector each -> dropout -> LSTM in both directions ->
                dropout -> tanh Linear to d
    divide      windows of `size` neighbouring features, `stride` apart, at the same places in the three vectors
    combine     per window: [l, 1] x [a, 1] x [v, 1], (size + 1)^3 numbers
    conquer     ABS-LSTM over the windows, forwards and backwards with the same weights: `SkipLSTM` below
    prediction  tanh -> dropout -> relu Linear -> dropout -> Linear

An utterance is always read among all utterances of its video in its split, whichever of them the mini-batch holds:
`batch.videos.complete()` gives them. So a prediction depends neither on the batch nor on its order, and random
mini-batches train what evaluation measures; the price is that a step reads the whole of each video that it touches
(the context only; the loss is over the batch). Where ids name no videos (MulT's IEMOCAP pickle has none), every
utterance is a video of its own and the context has one step.

Vector front-ends only: through a pretrained encoder each step would encode whole videos.

Deviates (labelled reconstruction: the code differs from the paper by its own words, and trains on other inputs):
1. An utterance's vector is the mean of its steps; the original reads a text CNN, openSMILE and a 3-D CNN.
2. One training end to end, by RMSprop; the original first trains a classifier on each modality, by Adadelta, then
   freezes its vectors.
3. Task loss of this suite per utterance; the code minimises the cosine proximity of a softmax over the video's classes.
4. One rate for the two dropouts around the context LSTM; the code has .6 before it and .9 twice after it, when each
   modality trains alone.
5. The scores of the cell states in ABS-LSTM have `units` features; the code has 5.
6. Mini-batches of utterances and this suite's budget; the code's batch is 10 videos, with 200 epochs for the contexts
   and up to 1000 for the rest, patience 10.
7. ABS-LSTM's equations are the code's where it differs from the paper: hard sigmoids, the candidate's included, and no
   biases. That of the global attention starts at 0; the code draws it.
Reference implementation consulted: TmacMai/multimodal-fusion (Keras): sizes, ABS-LSTM's equations, RMSprop's numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Both
from hycon.errors import UserError
from hycon.fusion import with_one
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import packed_lstm
from hycon.kernels.packing import pack
from hycon.kernels.tensor_product import outer
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2
PAST = 3  # states that ABS-LSTM attends to; code
RMSPROP = {"alpha": 0.9, "eps": 1e-7}  # Keras's; PyTorch's are .99 and 1e-8


@dataclass(frozen=True)
class Config:
    context: int = 300  # of each direction of the context LSTM; code, as the next ones
    d: int = 50
    size: int = 2
    stride: int = 2
    units: int = 3  # of ABS-LSTM
    hidden: int = 50
    context_dropout: float = 0.6
    skip_dropout: float = 0.6
    dropout: float = 0.5


TRAINING = {
    # optimizer, and lr as its default in Keras: code; batch: chosen here, see deviation 6
    "vectors": Training(lr=1e-3, batch_size=32, optimizer="rmsprop"),
}
SEARCH_SPACE = {
    "vectors": {  # no grid is published: each chosen here, around the code's value
        "context": (64, 128, 300),  # code 300
        "size": (2, 5, 10),  # code 2; the paper studies the window's size
        "units": (3, 6, 12),  # code 3
        "context_dropout": (0.2, 0.4, 0.6),  # code .6
        "skip_dropout": (0.2, 0.4, 0.6),  # code .6
        "dropout": (0.2, 0.5),  # code .5
        "lr": (5e-4, 1e-3, 2e-3, 5e-3),  # code .001
        "batch_size": (32, 64, 128),  # chosen here, as the next
        "scale": ("none", "standard"),
    },
}
DEMO = {"vectors": {"context": 32}}  # sizes for the demo profile


def hard_sigmoid(x: Tensor) -> Tensor:
    """Keras's: 0.2 x + 0.5 between 0 and 1."""
    return (0.2 * x + 0.5).clamp(0.0, 1.0)


class Context(nn.Module):
    """(M, d_m) utterances, video after video -> (B, d) for the utterances asked for."""

    def __init__(self, width: int, hidden: int, d: int, dropout: float):
        super().__init__()
        self.ahead, self.back = nn.LSTM(width, hidden), nn.LSTM(width, hidden)
        self.drop = Dropout(dropout)
        self.linear = nn.Linear(2 * hidden, d)

    def forward(self, x: Tensor, lengths: Both, position: Tensor) -> Tensor:
        """lengths: (V,) utterances of each video.  position: (B,) rows of x to return."""
        x, packing, count = self.drop(x), pack(lengths), lengths.device
        first = (count.cumsum(0) - count)[packing.sequence]  # (M,) where the utterance's video begins
        back = first + count[packing.sequence] - 1 - packing.step
        states = []
        for lstm, order in ((self.ahead, first + packing.step), (self.back, back)):
            states.append(packed_lstm(lstm, x[order], packing)[torch.argsort(order)[position]])
        return torch.tanh(self.linear(self.drop(torch.cat(states, 1))))


class SkipLSTM(nn.Module):
    """ABS-LSTM, attentive bi-directional skip connections: (B, T, w) -> (B, T, 2 units).

    At each step the last three hidden states, and the last three cell states, are weighed by how much they have to do
    with the input x (regional interdependence attention), and take the place of the LSTM's previous state:

        s_j = |tanh([h_(t-j); x] A)|, j = 1, 2, 3;  h~ = relu(sum of softmax(s)_j h_(t-j));  c~ likewise
        i, f, m, o = hard_sigmoid(x W + h~ U);  c = f o c~ + i o m;  h = o o tanh(c)

    Then each state is scaled by a number of its own (global interaction attention):
    elu((hard_sigmoid([h; x] G + b) . g) h).
    """

    def __init__(self, width: int, units: int):
        super().__init__()
        self.units = units

        def glorot(*shape: int) -> nn.Parameter:
            return nn.Parameter(nn.init.xavier_normal_(torch.empty(*shape)))

        self.kernel, self.recurrent = glorot(width, 4 * units), glorot(units, 4 * units)
        self.attend_hidden, self.attend_cell = glorot(units + width, units), glorot(units + width, units)
        self.gate, self.gate_score = glorot(units + width, units), glorot(units, 1)
        self.gate_bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x, x.flip(1)])  # (2 B, T, w)
        hidden = self._run(both)
        scale = hard_sigmoid(torch.cat([hidden, both], 2) @ self.gate + self.gate_bias) @ self.gate_score
        ahead, back = F.elu(scale * hidden).chunk(2)
        return torch.cat([ahead, back.flip(1)], 2)

    def _run(self, x: Tensor) -> Tensor:
        """(N, T, w) -> (N, T, units), float32 under autocast too, as every recurrence here.

        What does not depend on the past is computed for all steps at once.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self._steps(x.float())

    def _steps(self, x: Tensor) -> Tensor:
        u = self.units
        inputs = (x @ self.kernel).unbind(1)
        for_hidden, for_cell = ((x @ a[u:]).unsqueeze(2).unbind(1) for a in (self.attend_hidden, self.attend_cell))
        hidden = cell = x.new_zeros(len(x), PAST, u)  # the latest first
        states = []
        for given, of_hidden, of_cell in zip(inputs, for_hidden, for_cell, strict=True):
            before = _attended(hidden, self.attend_hidden[:u], of_hidden)
            gates = hard_sigmoid(given + before @ self.recurrent)
            i, f, m, o = gates.chunk(4, 1)
            c = torch.addcmul(i * m, f, _attended(cell, self.attend_cell[:u], of_cell))
            h = o * torch.tanh(c)
            hidden, cell = (torch.cat([new[:, None], old[:, :-1]], 1) for new, old in ((h, hidden), (c, cell)))
            states.append(h)
        return torch.stack(states, 1)


def _attended(past: Tensor, weight: Tensor, given: Tensor) -> Tensor:
    """past: (N, 3, u).  weight: (u, u).  given: (N, 1, u) the input's part of the scores. Returns (N, u)."""
    share = torch.linalg.vector_norm(torch.tanh(past @ weight + given), dim=2).softmax(1)
    return F.relu((share[:, :, None] * past).sum(1))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        if text is not None:
            raise UserError("hffn reads text vectors only; use glove or features.")
        if not 1 <= config.size <= config.d or config.stride < 1:
            raise UserError(f"hffn: size is {config.size} and stride {config.stride}; expected 1 to d = {config.d}.")
        self.config, self.emotions = config, emotions
        self.context = nn.ModuleDict(
            {m: Context(dims[m], config.context, config.d, config.context_dropout) for m in MODALITIES}
        )
        self.surplus = -(config.d - config.size) % config.stride  # zeros that complete the last window
        windows = (config.d + self.surplus - config.size) // config.stride + 1
        self.skip = SkipLSTM((config.size + 1) ** 3, config.units)
        self.skip_drop, self.drop = Dropout(config.skip_dropout), Dropout(config.dropout)
        self.hidden = nn.Linear(windows * 2 * config.units, config.hidden)
        self.predictor = nn.Linear(config.hidden, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        if batch.videos is None:
            vectors, position = batch.means, torch.arange(len(batch), device=batch.label.device)
            lengths = batch.text.both.map(torch.ones_like)
        else:
            index, lengths, position = batch.videos.complete()
            vectors = {m: x[index] for m, x in batch.videos.whole.means.items()}
        x = {m: net(vectors[m], lengths, position) for m, net in self.context.items()}
        y = self.skip_drop(torch.tanh(self.skip(self._combined(x))))
        multimodal = F.relu(self.hidden(y.flatten(1)))
        return Output(as_prediction(self.predictor(self.drop(multimodal)), self.emotions), x, multimodal)

    def param_groups(self, training: Training) -> list[dict[str, Any]]:
        """One group; with RMSprop, its numbers in Keras."""
        return [{"params": list(self.parameters()), **(RMSPROP if training.optimizer == "rmsprop" else {})}]

    def _combined(self, x: Mapping[str, Tensor]) -> Tensor:
        """{modality: (B, d)} -> (B, W, (size + 1)^3), the outer products of the windows."""
        size, stride = self.config.size, self.config.stride
        windows = [F.pad(x[m], (0, self.surplus)).unfold(1, size, stride) for m in MODALITIES]  # (B, W, size)
        product = outer(*(with_one(window.flatten(0, 1)) for window in windows))
        return product.unflatten(0, windows[0].shape[:2])
