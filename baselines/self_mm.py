"""Self-MM: self-supervised multi-task learning with unimodal labels (Yu et al., AAAI 2021).

In: a Batch of tokens, aligned or not. Out: prediction (B,); no representations of one width.

    input       text: BERT's state at [CLS]. Audio, vision: LSTM, its last state -> Linear                x_s  (B, w_s)
                m: the three side by side
    tasks       s = m, text, audio, vision: features F_s = relu(A_s x_s) -> relu Linear -> Linear -> y^_s        (B,)
    labels      y_m is the label, y_s = y_m in the first epoch. From the second epoch on, i, at each step:
                  C_s+, C_s-   means of F_s over the utterances of the train split with y_s > 0, y_s < 0
                  R_s = (|F_s - C_s-| - |F_s - C_s+|) / |F_s - C_s+|
                  new = ( R_s / R_m y_m + y_m + R_s - R_m ) / 2, kept within [-3, 3]
                  y_s <- (i - 1) / (i + 1) y_s + 2 / (i + 1) new
    loss        mean of |y^_m - y_m| + sum over s of tanh(|y_s - y_m|) |y^_s - y_s|

The labels and the features of every utterance are in a Memory (hycon/memory.py), which `loss` reads and then updates in
training, with the weights before the step, as the reference does. Validation and test have no part in it. A model
that was not shown the train split has the labels of the first epoch throughout. An utterance's epoch is how often it
was seen.

On MOSI (768, 74, 47) 109,058,852 parameters, counted in the tests; MMSA's has BERT's pooler beside them.

Deviates:
1. The paper divides squared distances by the root of the width, as far as we know; its code has plain distances.
2. A batch is a step, 64 by default; the reference adds the gradients of four batches of 16, and those of an epoch's
   rest are lost.
3. The unimodal labels change with steps of any batch size; the reference's change four times for one step.
4. Weight decay is one number; it spares BERT's biases and norms only, as in the reference.
5. If a split has no utterance on one side of 0, its centre is the origin; the reference's is not a number.
The original parameters are lost (its authors point to MMSA); defaults are MMSA's for MOSI. Label 0 is on neither side.
Reference implementation consulted: thuiar/MMSA.
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
from hycon.data.ragged import Ragged
from hycon.errors import UserError
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import last_hidden
from hycon.memory import Memory
from hycon.output import Output, task_loss
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1
EMOTIONS = False  # labels with two sides
TASKS = ("fusion", *MODALITIES)
EPSILON = 1e-8  # code


@dataclass(frozen=True)
class Config:
    audio_hidden: int = 16  # MMSA for MOSI, as all
    vision_hidden: int = 32
    audio_out: int = 16
    vision_out: int = 32
    fusion_d: int = 128
    text_d: int = 32
    audio_d: int = 16
    vision_d: int = 32
    fusion_dropout: float = 0.0
    text_dropout: float = 0.1
    audio_dropout: float = 0.1
    vision_dropout: float = 0.0
    audio_lr: float = 5e-3  # of the LSTM and its Linear; the heads' is Training.head_lr, BERT's Training.lr
    vision_lr: float = 5e-3
    limit: float = 3.0  # of the labels' range


TRAINING = {"tokens": Training(lr=5e-5, head_lr=1e-3, batch_size=64, weight_decay=1e-3)}
SEARCH_SPACE = {
    "tokens": {
        "lr": (1e-5, 2e-5, 5e-5),  # MMSA's, and two below it, chosen here
        "head_lr": (1e-4, 1e-3),  # MMSA's grid, as all that say nothing else
        "audio_lr": (1e-4, 1e-3, 5e-3),
        "vision_lr": (1e-4, 1e-3, 5e-3),
        "weight_decay": (1e-3, 1e-2),
        "audio_hidden": (16, 32),
        "vision_hidden": (32, 64),
        "fusion_d": (64, 128),
        "text_d": (32, 64),
        "audio_d": (16, 32),
        "vision_d": (16, 32),
        **dict.fromkeys(("fusion_dropout", "text_dropout", "audio_dropout", "vision_dropout"), (0.0, 0.1)),
        "batch_size": (16, 32, 64),  # MMSA's grid 16, 32; 64 is four of 16
        "scale": ("none", "standard"),  # chosen here
    },
}


class Steps(nn.Module):
    """Ragged (w,) -> (B, out): LSTM, the last state, Linear."""

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.lstm, self.linear = nn.LSTM(width, hidden), nn.Linear(hidden, out)

    def forward(self, sequences: Ragged) -> Tensor:
        return self.linear(last_hidden(self.lstm, sequences, lengths=sequences.both))


class Task(nn.Module):
    """(B, w) -> features (B, d) and prediction (B,)."""

    def __init__(self, width: int, d: int, dropout: float):
        super().__init__()
        self.drop = Dropout(dropout)
        self.feature, self.hidden, self.out = nn.Linear(width, d), nn.Linear(d, d), nn.Linear(d, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature = F.relu(self.feature(self.drop(x)))
        return feature, self.out(F.relu(self.hidden(feature)))[:, 0]


def by_decay(encoder: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """A pretrained encoder's weights, and its biases and norms, which no decay touches."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, p in encoder.named_parameters():
        (spared if "bias" in name or "LayerNorm" in name else decayed).append(p)
    return decayed, spared


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText, emotions: int = 0):
        super().__init__()
        if emotions:
            raise UserError("Self-MM makes labels on a scale with two sides: it is for sentiment, not for emotions.")
        self.config = config
        self.audio = Steps(dims["audio"], config.audio_hidden, config.audio_out)
        self.vision = Steps(dims["vision"], config.vision_hidden, config.vision_out)
        widths = {"text": text.width, "audio": config.audio_out, "vision": config.vision_out}
        widths["fusion"] = sum(widths.values())
        sizes = {s: getattr(config, f"{s}_d") for s in TASKS}
        self.tasks = nn.ModuleDict({s: Task(widths[s], sizes[s], getattr(config, f"{s}_dropout")) for s in TASKS})
        self.memory = task_memory(sizes)
        self.text = text

    def forward(self, batch: Batch) -> Output:
        x = {
            "text": self.text.states(batch.text)[:, 0],
            "audio": self.audio(batch.audio),
            "vision": self.vision(batch.vision),
        }
        x["fusion"] = torch.cat([x[m] for m in MODALITIES], 1)
        parts = {}
        for s in TASKS:
            parts[f"feature_{s}"], parts[f"prediction_{s}"] = self.tasks[s](x[s])
        return Output(parts["prediction_fusion"], None, parts["feature_fusion"], parts)

    def prepare_training(self, train: Batch) -> None:
        show(self.memory, train)

    def loss(self, output: Output, batch: Batch, kind: str = "l1") -> Tensor:
        loss = loss_of_tasks(self.memory, output, batch, kind)
        if self.training and len(self.memory):
            update(self.memory, output, batch, self.config.limit)
        return loss

    def param_groups(self, training: Training) -> list[dict[str, Any]]:
        """BERT's weights and its biases and norms, which no decay touches; audio; vision; the four tasks."""
        decayed, spared = by_decay(self.text)
        return [
            {"params": decayed},
            {"params": spared, "weight_decay": 0.0},
            {"params": list(self.audio.parameters()), "lr": self.config.audio_lr},
            {"params": list(self.vision.parameters()), "lr": self.config.vision_lr},
            {"params": list(self.tasks.parameters())},
        ]


# ------------------------------------------------------------------------------------- unimodal labels, TETFN's too


def task_memory(sizes: Mapping[str, int]) -> Memory:
    """How often an utterance was seen; of each task its features and label. sizes: task -> width of its features."""
    shapes = {f"feature_{s}": (sizes[s],) for s in TASKS} | {f"label_{s}": () for s in TASKS}
    return Memory(seen=(), **shapes)


def show(memory: Memory, train: Batch) -> None:
    """Every task's label is the utterance's own at first."""
    memory.allocate(len(train))
    every = torch.arange(len(train), device=train.label.device)
    for s in TASKS:
        memory.write(f"label_{s}", every, train.label)


def loss_of_tasks(memory: Memory, output: Output, batch: Batch, kind: str) -> Tensor:
    """The weighed losses of the four tasks."""
    assert output.parts is not None
    loss = task_loss(output.prediction, batch.label, kind)
    for m in MODALITIES:
        label = memory[f"label_{m}"][batch.index] if len(memory) else batch.label
        error = (output.parts[f"prediction_{m}"].float() - label).abs()
        loss = loss + (torch.tanh((label - batch.label).abs()) * error).mean()
    return loss


@torch.no_grad()
def update(memory: Memory, output: Output, batch: Batch, limit: float) -> None:
    """Bring the batch's labels, from its second epoch on, and features up to date."""
    assert output.parts is not None
    assert batch.index is not None
    index = batch.index
    epoch = memory["seen"][index] + 1  # (B,)
    features = {s: output.parts[f"feature_{s}"].float() for s in TASKS}
    relative = {s: relative_distance(features[s], memory[f"feature_{s}"], memory[f"label_{s}"]) for s in TASKS}
    y = batch.label
    for m in MODALITIES:
        ratio = relative[m] / (relative["fusion"] + EPSILON)
        new = (0.5 * (ratio * y + y + relative[m] - relative["fusion"])).clamp(-limit, limit)
        old = memory[f"label_{m}"][index]
        moved = (epoch - 1) / (epoch + 1) * old + 2 / (epoch + 1) * new
        memory.write(f"label_{m}", index, torch.where(epoch > 1, moved, old))
    for s in TASKS:
        memory.write(f"feature_{s}", index, features[s])
    memory.write("seen", index, epoch)


def relative_distance(features: Tensor, every: Tensor, label: Tensor) -> Tensor:
    """(B,) how much nearer features (B, d) are to the mean of the positive than of the negative: every (N, d), label
    (N,)."""
    near, far = (
        torch.linalg.vector_norm(features - (side @ every) / side.sum().clamp(min=1), dim=1)
        for side in ((label > 0).to(every.dtype), (label < 0).to(every.dtype))
    )
    return (far - near) / (near + EPSILON)
