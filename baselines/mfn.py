"""MFN: memory fusion network (Zadeh et al., AAAI 2018).

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations; multimodal (B, h + m).

    System of LSTMs                 one LSTM a modality -> hidden states h_t and memories c_t of all three
    Delta-memory Attention Network  c* = [c_{t-1}; c_t], a = softmax(NN1(c*)), c^ = a o c*
    Multi-view Gated Memory         u^ = tanh(NN2(c^)), g1 = sigmoid(NN3([c^; u_{t-1}])),
                                    g2 = sigmoid(NN4([c^; u_{t-1}])), u_t = g1 o u_{t-1} + g2 o u^
    output                          NN5([h_T; u_T]); every NN is Linear -> relu -> dropout -> Linear

GloVe form: word vectors. BERT and XLNet forms: the fine-tuned token states as they are, over word pieces.
Only the LSTMs and the memory u are recurrent: all else is computed for all R steps of all utterances at once, on rows
without padding (hycon/kernels/packing.py).

The paper's Table 8 gives MFN-BERT 111,256,325 parameters; no natural configuration has that many. The nearest one is
this file's: MMSA's MOSI sizes on unprojected 768/74/47 features behind a BERT without pooler, 111,100,785.

Deviates:
1. Stops at the utterance's own last step; the reference codes run on through the padding.
2. L1 and Adam without the official plateau schedule, whose patience of 100 epochs never ends within its 50. Clipping is
   searched, as in the code of the protocol that the paper follows (MSAF); the official code has none.
3. Vision as it comes; the official code divides it by the training split's largest (`scale=maxabs`, searched).
4. An epoch ends with what is left of it as a smaller batch, which the official code drops.
Reference implementations consulted: pliang279/MFN, thuiar/MMSA (whose MOSI setting feeds audio and vision as repeated
means of the utterance; here they are what the corpus has at each word).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.tfn import CLIPS
from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.kernels.dropout import Dropout
from hycon.kernels.gated_memory import gated_memory
from hycon.kernels.lstm import states_of
from hycon.kernels.packing import Packing, pack
from hycon.kernels.softmax_gate import softmax_gate
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 3
NEEDS_ALIGNED = True


@dataclass(frozen=True)
class Config:
    """MMSA's setting for MOSI: the paper prints none. Each NN's dropout is that of its hidden layer."""

    text_hidden: int = 256
    audio_hidden: int = 32
    vision_hidden: int = 256
    memory: int = 400
    attention_hidden: int = 32  # NN1
    attention_dropout: float = 0.2
    proposal_hidden: int = 64  # NN2
    proposal_dropout: float = 0.0
    retain_hidden: int = 256  # g1
    retain_dropout: float = 0.7
    update_hidden: int = 32  # g2
    update_dropout: float = 0.5
    out_hidden: int = 128
    out_dropout: float = 0.0
    attention: bool = later(True)  # False, here and next: for `bench ablate`
    gated_memory: bool = later(True)


SHAPES = (32, 64, 128, 256)  # official, of every NN's hidden layer
DROPOUTS = (0.0, 0.2, 0.5, 0.7)  # official, of every NN
TRAINING = {
    "vectors": Training(lr=2e-3, batch_size=128),  # MMSA on MOSI
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "text_hidden": (32, 64, 88, 128, 156, 256),  # official, as all but the last two; MSAF's are among them
        "audio_hidden": (8, 16, 32, 48, 64, 80),
        "vision_hidden": (8, 16, 32, 48, 64, 80),
        "memory": (64, 128, 256, 300, 400),
        "attention_hidden": SHAPES,
        "proposal_hidden": SHAPES,
        "retain_hidden": SHAPES,
        "update_hidden": SHAPES,
        "out_hidden": SHAPES,
        "attention_dropout": DROPOUTS,
        "proposal_dropout": DROPOUTS,
        "retain_dropout": DROPOUTS,
        "update_dropout": DROPOUTS,
        "out_dropout": DROPOUTS,
        "lr": (0.001, 0.002, 0.005, 0.008, 0.01),
        "batch_size": (32, 64, 128, 256),
        "clip": CLIPS,
        "scale": ("none", "standard", "maxabs"),  # maxabs: official, for vision; standard chosen here
    },
    "tokens": {  # no source searches an MFN over BERT; chosen here, from
        "memory": (128, 256, 400),  # the official values, as the next two
        "attention_dropout": (0.0, 0.2, 0.5),
        "out_dropout": (0.0, 0.2, 0.5),
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
        "scale": ("none", "standard"),  # standard chosen here
    },
}
ABLATIONS = {"attention": {"attention": False}, "memory": {"gated_memory": False}}
REMOVED = {
    "attention": "the Delta-memory Attention Network: the memory reads the window of cells as it is",
    "memory": "the Multi-view Gated Memory: the head reads what the attention gives at the last step",
}


def without_effect(config: Config, form: str) -> set[str]:
    """Options of what this configuration does not have."""
    gone = set() if config.attention else {"attention_hidden", "attention_dropout"}
    if not config.gated_memory:
        gone |= {"memory"} | {f"{n}_{kind}" for n in ("proposal", "retain", "update") for kind in ("hidden", "dropout")}
    return gone


class LSTMs(nn.Module):
    """System of LSTMs: Batch -> hidden states and cells, {modality: (R, h_m)} in packed order, and the packing."""

    def __init__(self, dims: Mapping[str, int], hidden: Mapping[str, int], text: PretrainedText | None):
        super().__init__()
        self.text = text
        widths = {**dims, "text": text.width if text else dims["text"]}
        self.lstms = nn.ModuleDict({m: nn.LSTM(widths[m], hidden[m]) for m in MODALITIES})

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Packing]:
        packing = pack(batch.text.both)
        text = batch.text if self.text is None else self.text.states(batch.text)
        x = {"text": text, "audio": batch.audio, "vision": batch.vision}
        lstms, rows = [self.lstms[m] for m in MODALITIES], [packing.rows(x[m]) for m in MODALITIES]
        hidden, cells = states_of(lstms, rows, packing)  # type: ignore[arg-type]
        return dict(zip(MODALITIES, hidden, strict=True)), dict(zip(MODALITIES, cells, strict=True)), packing


class TwoLayer(nn.Module):
    """NN of the paper: Linear -> relu -> dropout -> Linear."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, out)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(F.relu(self.fc1(x))))


class DeltaAttention(TwoLayer):
    """Delta-memory Attention Network: c* (R, 2h) -> softmax(NN1(c*)) o c*."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__(width, hidden, width, dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(F.relu(self.fc1(x)))
        return softmax_gate(hidden, self.fc2.weight, self.fc2.bias, x)


class GatedMemory(nn.Module):
    """Multi-view Gated Memory: c^ (R, width) in packed order -> u_T (B, memory), after each utterance's last step.

    config needs memory and {proposal,retain,update}_{hidden,dropout}.
    """

    def __init__(self, width: int, config: Any):
        super().__init__()
        m = config.memory
        self.proposal = TwoLayer(width, config.proposal_hidden, m, config.proposal_dropout)  # NN2
        self.retain = TwoLayer(width + m, config.retain_hidden, m, config.retain_dropout)  # NN3, of g1
        self.update = TwoLayer(width + m, config.update_hidden, m, config.update_dropout)  # NN4, of g2

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        return gated_memory(x, self.proposal, self.retain, self.update, packing)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.emotions = emotions
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        total = sum(hidden.values())
        self.lstms = LSTMs(dims, hidden, text)
        self.attention: nn.Module = nn.Identity()
        if config.attention:
            self.attention = DeltaAttention(2 * total, config.attention_hidden, config.attention_dropout)
        self.memory = GatedMemory(2 * total, config) if config.gated_memory else None
        width = total + (config.memory if config.gated_memory else 2 * total)
        self.out = TwoLayer(width, config.out_hidden, outputs(emotions), config.out_dropout)

    def forward(self, batch: Batch) -> Output:
        hidden, cells_of, packing = self.lstms(batch)
        cells = torch.cat([cells_of[m] for m in MODALITIES], 1)  # c_t: (R, h)
        window = torch.cat([packing.shifted(cells), cells], 1)  # c* = [c_{t-1}; c_t]: (R, 2h)
        attended = self.attention(window)  # c^: (R, 2h)
        memory = packing.last_rows(attended) if self.memory is None else self.memory(attended, packing)  # u_T: (B, m)
        final = torch.cat([*(packing.last_rows(hidden[m]) for m in MODALITIES), memory], 1)  # [h_T; u_T]: (B, h + m)
        return Output(as_prediction(self.out(final), self.emotions), multimodal=final)
