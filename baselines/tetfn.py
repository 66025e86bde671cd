"""TETFN: text enhanced Transformer fusion network (Wang et al., Information Fusion 2023).

In: a Batch of tokens, aligned or not. Out: prediction (B,); no unimodal representations of one width.

    features        text: BERT's token states. Audio, vision: LSTM at every step.  Conv1d to d       X_m (T_m, d)
    pairs           X_t asks X_s: a crossmodal Transformer, for (text, audio), (text, vision), (audio, text) and
                    (vision, text)                                                                   (T_t, d)
    text-enhanced   of audio and vision: X_s asks the text, one layer, with positions; X_t asks the outcome, two
                    layers, with positions                                                           (T_t, d)
    fusion          per target its two, side by side: a self-attention Transformer, its last step    three of (B, 2d)
                    [3 of them] -> relu Linear -> relu Linear -> Linear                              (B,)
    unimodal tasks  the largest of X_m over time -> the same head, with labels and loss of Self-MM   three of (B,)

Transformers are MulT's (baselines/mult.py), with its future mask. Labels, loss and Memory are Self-MM's
(baselines/self_mm.py); the unimodal tasks serve training alone.

On MOSI (768, 74, 47) the network beside BERT has exactly as many parameters as MMSA's, counted in the tests.

Deviates:
1. The paper extracts vision by a Vision Transformer from the videos' frames, which the corpora do not have; here, as in
   MMSA, vision is the corpus's features.
2. An utterance is encoded as if it were alone: LSTMs, attention, the largest over time and the last step see its own
   steps only. The reference lets padding take part in all four.
3. A convolution keeps the length; the reference's does not (equal for kernels of 1; `same_length=False` is the code's).
4. A batch is a step; the reference adds the gradients of four batches of 64, and those of an epoch's rest are lost.
5. Weight decay is one number; it spares BERT's biases and norms only, as in the reference.
The published numbers of MOSI come from features that are not public; defaults are MMSA's for MOSI. MMSA names a kernel
of vision, 3, and convolves vision with audio's, 1: so does the default here.
Reference implementation consulted: thuiar/MMSA (git).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from baselines.mult import Encoders
from baselines.self_mm import TASKS, Task, by_decay, loss_of_tasks, show, task_memory, update
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Both, Places, Ragged, first_rows, longest_first, rows_in_order
from hycon.errors import UserError
from hycon.kernels.convolution import convolve
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import packed_lstm
from hycon.kernels.packing import pack
from hycon.kernels.padding import Plan, make_plan
from hycon.output import Output
from hycon.text import PretrainedText
from hycon.train import Training
from hycon.transformer import positional_encoding

VERSION = 1
EMOTIONS = False  # labels with two sides
PAIRS = ((0, 1), (0, 2), (1, 0), (2, 0))  # (target, source) as indexes into MODALITIES
ENHANCED = ((1, 2), (2, 1))


@dataclass(frozen=True)
class Config:
    d: int = 50  # MMSA for MOSI, as all
    heads: int = 5
    layers: int = 2
    text_kernel: int = 1
    audio_kernel: int = 1
    vision_kernel: int = 1
    same_length: bool = True
    audio_hidden: int = 16
    vision_hidden: int = 64
    attn_dropout: float = 0.1  # crossmodal where the source is text, as the next two; and of all others
    attn_dropout_audio: float = 0.0
    attn_dropout_vision: float = 0.1
    relu_dropout: float = 0.0
    embed_dropout: float = 0.0
    res_dropout: float = 0.1
    fusion_d: int = 64
    text_d: int = 32
    audio_d: int = 32
    vision_d: int = 16
    fusion_dropout: float = 0.0
    text_dropout: float = 0.0
    audio_dropout: float = 0.0
    vision_dropout: float = 0.0
    audio_lr: float = 5e-4  # of the LSTM and its convolution; the others' is Training.head_lr, BERT's Training.lr
    vision_lr: float = 3e-4
    limit: float = 3.0  # of the labels' range

    def __post_init__(self) -> None:
        if self.d % self.heads:
            raise UserError(f"d is {self.d}, heads {self.heads}: d must be a multiple of heads.")


ZERO_OR_TENTH = (0.0, 0.1)
RATES = (1e-4, 3e-4, 5e-4, 1e-3, 3e-3, 5e-3)
TRAINING = {"tokens": Training(lr=3e-5, head_lr=3e-4, batch_size=64, weight_decay=1e-3)}  # MMSA: .001, .01, 0, .01
SEARCH_SPACE = {
    "tokens": {  # MMSA's grid, as all but scale
        "lr": (5e-6, 1e-5, 3e-5, 5e-5),
        "head_lr": RATES,
        "audio_lr": RATES,
        "vision_lr": RATES,
        "weight_decay": (1e-3, 1e-2),
        "audio_hidden": (16, 32),
        "vision_hidden": (32, 64),
        **{f"{m}_kernel": (1, 3, 5) for m in MODALITIES},
        **{f"{name}_dropout": ZERO_OR_TENTH for name in ("attn", "relu", "embed", "res", *TASKS)},
        "attn_dropout_audio": ZERO_OR_TENTH,
        "attn_dropout_vision": ZERO_OR_TENTH,
        "fusion_d": (64, 128),
        "text_d": (32, 64),
        "audio_d": (16, 32),
        "vision_d": (16, 32),
        "batch_size": (32, 64, 128),
        "scale": ("none", "standard"),  # as in every row
    },
}
DEMO = {"tokens": {"d": 20, "layers": 1}}


class Features(nn.Module):
    """Ragged (w,) -> (R, d): LSTM at every step (audio, vision), then Conv1d(k, no bias)."""

    def __init__(self, width: int, hidden: int | None, d: int, kernel: int, same_length: bool):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden) if hidden else None
        self.conv = nn.Conv1d(hidden or width, d, kernel, bias=False)  # for its weights, which `convolve` reads
        self.same_length = same_length

    def forward(self, x: Ragged) -> tuple[Tensor, Both]:
        """The rows, and the (B,) lengths."""
        if self.lstm is None:
            rows = rows_in_order(x)
        else:
            packing, first = pack(x.both), first_rows(x.device_lengths())
            back = torch.argsort(first[packing.sequence] + packing.step)
            rows = packed_lstm(self.lstm, packing.rows(x), packing)[back]
        return convolve(rows, x.both, self.conv.weight, self.same_length)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText, emotions: int = 0):
        super().__init__()
        if emotions:
            raise UserError("TETFN makes labels on a scale with two sides: it is for sentiment, not for emotions.")
        self.config = config
        d, heads, layers = config.d, config.heads, config.layers
        widths = {**dims, "text": text.width}
        hidden = {"text": None, "audio": config.audio_hidden, "vision": config.vision_hidden}
        self.features = nn.ModuleDict(
            {
                m: Features(widths[m], hidden[m], d, getattr(config, f"{m}_kernel"), config.same_length)
                for m in MODALITIES
            }
        )
        p = (config.attn_dropout, config.attn_dropout_audio, config.attn_dropout_vision)
        rest = {"relu_dropout": config.relu_dropout, "res_dropout": config.res_dropout}
        self.cross = Encoders(d, heads, layers, attn_dropout=[p[s] for _, s in PAIRS], **rest)
        self.lower = Encoders(d, heads, 1, attn_dropout=[p[0]] * len(ENHANCED), **rest)
        self.upper = Encoders(d, heads, layers, attn_dropout=[p[0]] * len(ENHANCED), **rest)
        self.within = Encoders(2 * d, heads, layers, attn_dropout=[p[0]] * len(MODALITIES), **rest)
        self.embed_drop = Dropout(config.embed_dropout)
        sizes = {s: getattr(config, f"{s}_d") for s in TASKS}
        inputs = {s: d for s in MODALITIES} | {"fusion": 6 * d}
        self.tasks = nn.ModuleDict({s: Task(inputs[s], sizes[s], getattr(config, f"{s}_dropout")) for s in TASKS})
        self.memory = task_memory(sizes)
        self.text = text

    def forward(self, batch: Batch) -> Output:
        states = self.text.states(batch.text)  # (B, T, D)
        sequences = (Ragged.from_padded(states, batch.text.both), batch.audio, batch.vision)
        total = sequences[0].both.map(lambda *n: torch.stack(n).sum(0), *(x.both for x in sequences[1:]))
        order = longest_first(total)
        back = torch.argsort(order.device)  # attention likes the longest first
        found = [self.features[m](x.take(order)) for m, x in zip(MODALITIES, sequences, strict=True)]
        low, lengths = [rows for rows, _ in found], [n for _, n in found]  # three (R_m, d), three (B,)
        x = {m: largest(rows, n)[back] for m, rows, n in zip(MODALITIES, low, lengths, strict=True)}
        x["fusion"] = torch.cat(self._fused(low, lengths), 1)[back]  # (B, 6d)
        parts = {}
        for s in TASKS:
            parts[f"feature_{s}"], parts[f"prediction_{s}"] = self.tasks[s](x[s])
        return Output(parts["prediction_fusion"], None, parts["feature_fusion"], parts)

    def _fused(self, low: list[Tensor], lengths: list[Both]) -> list[Tensor]:
        """(B, 2d) of each target modality: its last step."""
        device, places = low[0].device, [Places.of(n) for n in lengths]
        plans = {(t, s): make_plan(lengths[t], lengths[s], True) for t in range(3) for s in range(3)}
        mixed: dict[tuple[int, int], Tensor] = {}  # (target, source) -> (R_target, d)
        for i, (t, s) in enumerate(PAIRS):
            mixed[t, s] = self._ask(self.cross, i, low[t], low[s], plans[t, s])
        encoding = positional_encoding(max(n.largest for n in lengths), self.config.d, device)
        place = [encoding[own.step] for own in places]
        for i, (t, s) in enumerate(ENHANCED):
            enhanced = self._ask(self.lower, i, low[s], low[0], plans[s, 0], place[s], place[0])  # (R_s, d)
            mixed[t, s] = self._ask(self.upper, i, low[t], enhanced, plans[t, s], place[t], place[s])
        last = []
        for t in range(3):
            both = torch.cat([mixed[t, s] for s in range(3) if s != t], 1)  # (R_t, 2d)
            both = self.embed_drop(math.sqrt(both.shape[1]) * both)[None]
            ends = lengths[t], places[t].owner
            last.append(self.within(both, plans[t, t], slice(t, t + 1), ends=ends)[0])
        return last

    def _ask(
        self,
        encoders: Encoders,
        which: int,
        target: Tensor,
        source: Tensor,
        plan: Plan,
        target_place: Tensor | None = None,
        source_place: Tensor | None = None,
    ) -> Tensor:
        """(R_t, d): what encoder `which` makes of target rows (R_t, d) that look at source rows (R_s, d)."""
        asking = self.embed_drop(embedded(target, target_place))[None]
        asked = embedded(source, source_place)
        asked = self.embed_drop(asked.expand(2, 1, *asked.shape))  # keys' and values' own dropout, as in MulT
        return encoders(asking, plan, slice(which, which + 1), asked)[0]

    def prepare_training(self, train: Batch) -> None:
        show(self.memory, train)

    def loss(self, output: Output, batch: Batch, kind: str = "l1") -> Tensor:
        """Self-MM's; in training, the labels and features are brought up to date after."""
        loss = loss_of_tasks(self.memory, output, batch, kind)
        if self.training and len(self.memory):
            update(self.memory, output, batch, self.config.limit)
        return loss

    def param_groups(self, training: Training) -> list[dict[str, Any]]:
        """BERT's weights, and its biases and norms, which no decay touches; audio; vision; the rest."""
        decayed, spared = by_decay(self.text)
        audio, vision = (list(self.features[m].parameters()) for m in ("audio", "vision"))
        grouped = {id(p) for group in (decayed, spared, audio, vision) for p in group}
        return [
            {"params": decayed},
            {"params": spared, "weight_decay": 0.0},
            {"params": audio, "lr": self.config.audio_lr},
            {"params": vision, "lr": self.config.vision_lr},
            {"params": [p for p in self.parameters() if id(p) not in grouped]},
        ]


def embedded(rows: Tensor, place: Tensor | None) -> Tensor:
    """sqrt(d) x and, where there are any, its position (R, d), but for steps whose first channel is exactly 0."""
    scaled = math.sqrt(rows.shape[1]) * rows
    return scaled if place is None else scaled + place * (rows[:, :1] != 0)


def largest(rows: Tensor, lengths: Both) -> Tensor:
    """(R, d) -> (B, d): the largest of each channel over an utterance's own steps."""
    starts = first_rows(lengths.device)
    return Ragged(rows, starts, lengths.host, pad=float("-inf"), own=lengths.device).padded().amax(1)
