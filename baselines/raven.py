"""RAVEN: recurrent attended variation embedding network (Wang et al., AAAI 2019).

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations; multimodal (B, hidden).

    Nonverbal Sub-networks        audio, vision: frames of a word -> LSTM -> h_a, h_v        two of (R, cell)
    Gated Modality-mixing Network w_m = sigmoid(W [h_m; e] + b), one number
                                  h = w_v W_v h_v + w_a W_a h_a + b_h                        (R, d_l)
    Multimodal Shifting           e' = e + alpha h, alpha = min(beta |e| / |h|, 1)           (R, d_l)
    output                        LSTM over e', its last real step                           (B, hidden)
                                  Linear                                                     (B,) or (B, 2E)

The paper's names; R words in all. e is a word's vector (GloVe form) or its piece's fine-tuned token state (BERT and
XLNet forms). All but the last LSTM is computed for all words of all utterances at once.

A word-aligned corpus has one frame of audio and vision per word, so the non-verbal LSTMs take one step from a zero
state: their forget gates and recurrent weights would never be read, and do not exist here (deviation 1).

Deviates:
1. One frame per word (as the MSAF port has it); the paper's sub-networks read about 20.
2. Audio is batch-normalised per feature over the batch's words, with running statistics for evaluation and for a single
   word; the code normalises per position in the sentence, all features by one mean and one variance, with the batch's
   statistics in evaluation too.
3. L1, the comparison's protocol; the code trains with the squared error.
4. `rule="code"` gives the official code's version: gates without sigmoid, e' = e + beta |e| h / max(|h|, 1).
5. `detach=True` cuts the gradient of what is scaled and added, as both public codes do (by `.data`), so that no
   non-verbal parameter is ever trained; that of the word's norm stays. Off: the paper trains them.
6. This suite's budget of epochs; the official code trains for 500.
Reference implementations consulted: victorywys/RAVEN, gkoumasd/MSAF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.tfn import CLIPS
from hycon.data.batch import Batch
from hycon.errors import UserError
from hycon.fusion import batch_norm
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import packed_lstm
from hycon.kernels.packing import pack
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 3
NEEDS_ALIGNED = True
RULES = ("paper", "code")


@dataclass(frozen=True)
class Config:
    norm: int = 150  # official: width of the non-verbal LSTMs' inputs
    cell: int = 150  # official: of the non-verbal LSTMs
    hidden: int = 300  # official: of the words' LSTM
    beta: float = 0.2  # official: the shift's largest share of the word's norm
    dropout: float = 0.2  # official
    rule: str = "paper"  # option code: deviation 4
    detach: bool = False  # deviation 5


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=20),  # official
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "norm": (50, 150),  # MSAF, official
        "cell": (50, 150),  # MSAF, official
        "hidden": (100, 200, 300),  # MSAF's 100, the official 300, 200 chosen here
        "beta": (0.1, 0.2, 0.5, 1.0),  # chosen here, around the official one
        "dropout": (0.1, 0.2, 0.3, 0.5),  # chosen here, around the official one
        "lr": (0.01, 0.008, 0.005, 0.002, 0.001, 0.0005),  # MSAF, and half the official one
        "batch_size": (16, 20, 32, 64, 128),  # MSAF's, and the official one
        "clip": CLIPS,  # as TFN's; MSAF has no grid for RAVEN, the official code does not clip
        "scale": ("none", "standard"),  # chosen here: vision has no normalisation of its own
    },
    "tokens": {  # no source searches a RAVEN over BERT; chosen here, from
        "hidden": (100, 300),  # MSAF's and the official one
        "beta": (0.1, 0.2, 0.5),  # around the official one, as the next
        "dropout": (0.1, 0.2, 0.5),
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
        "scale": ("none", "standard"),  # as with vectors
    },
}
ABLATIONS = {"shift": {"beta": 0.0}}
REMOVED = {"shift": "the shift of the words by audio and vision: text alone is left"}


def without_effect(config: Config, form: str) -> set[str]:
    """Options of what this configuration does not have."""
    return {"norm", "cell", "scale"} if config.beta == 0 else set()


class Nonverbal(nn.Module):
    """Nonverbal Sub-network of one modality, and its gate: rows (R, d_m), words (R, d_l) -> w_m h_m (R, cell).

    Dropout -> Linear -> one step of an LSTM from a zero state; the gate is one number, read off state and word.
    """

    def __init__(self, width: int, word: int, config: Config):
        super().__init__()
        self.drop = Dropout(config.dropout)
        self.resize = nn.Linear(width, config.norm)
        self.step = nn.Linear(config.norm, 3 * config.cell)  # gates i, g, o
        self.gate = nn.Linear(config.cell + word, 1)
        self.bounded = config.rule == "paper"

    def forward(self, rows: Tensor, words: Tensor) -> Tensor:
        i, g, o = self.step(self.resize(self.drop(rows))).chunk(3, 1)
        state = torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g))
        gate = self.gate(torch.cat([state, words], 1))
        return state * (torch.sigmoid(gate) if self.bounded else gate)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        if config.rule not in RULES:
            raise UserError(f"rule is {config.rule!r}; expected one of {', '.join(RULES)}.")
        self.config, self.emotions, self.text = config, emotions, text
        word = text.width if text else dims["text"]
        self.norm = nn.BatchNorm1d(dims["audio"])
        self.audio = Nonverbal(dims["audio"], word, config)
        self.vision = Nonverbal(dims["vision"], word, config)
        self.mix = nn.Linear(2 * config.cell, word)
        self.drop = Dropout(config.dropout)
        self.lstm = nn.LSTM(word, config.hidden)
        self.out = nn.Linear(config.hidden, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        packing = pack(batch.text.both)
        words = packing.rows(batch.text if self.text is None else self.text.states(batch.text))  # (R, d_l)
        audio, vision = packing.rows(batch.audio), packing.rows(batch.vision)  # (R, d_m)
        audio = batch_norm(self.norm, audio, len(audio))
        mixed = self.mix(torch.cat([self.audio(audio, words), self.vision(vision, words)], 1))  # h: (R, d_l)
        shift = self.shift(words, mixed.detach() if self.config.detach else mixed)
        final = packing.last_rows(packed_lstm(self.lstm, self.drop(words + shift), packing))  # (B, hidden)
        return Output(as_prediction(self.out(final), self.emotions), multimodal=final)

    def shift(self, words: Tensor, mixed: Tensor) -> Tensor:
        """Multimodal Shifting: (R, d_l) words and what is to be added, scaled so that it is at most beta |word|."""
        beta, length, size = self.config.beta, words.norm(dim=1, keepdim=True), mixed.norm(dim=1, keepdim=True)
        if self.config.rule == "code":
            return beta * length * mixed / size.clamp(min=1)
        return (beta * length / (size + 1e-6)).clamp(max=1) * mixed  # 1e-6: a shift of exactly 0 has no direction
