"""LF-LSTM: late fusion. One LSTM per modality, each of which decides; the three decisions are averaged.

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); no unimodal representations: the three hidden states
have widths of their own.

    h_m = LSTM_m(x_m) at its last real step;  y_m = relu Linear to `cell` -> dropout -> Linear;  y = mean of the three

GloVe form: LSTMs and head as in Gkoumas et al. (Inf. Fusion 2021), whose protocol the paper follows. BERT and XLNet
forms: fine-tuned token states, Conv1d(k=3) to `d`, then the text LSTM.

`modalities` takes some away, for a table that the paper does not have: text alone is a plain LSTM over the words.

Deviates:
1. Unimodal decisions are combined "by voting mechanism" (sec. 4.3); of continuous decisions that is taken to be their
   mean. The code of the protocol that the paper cites has one head that reads the three hidden states
   (`combine="concat"`).
2. Adam; the reference trains with RMSprop. Reads each sequence at its own last step, not after the padding.
3. The GloVe vectors stay fixed; the reference trains its table.
4. The tokens form is not the reference's: neither is its search, nor is its gradient clipped.
Reference implementation consulted: gkoumasd/MSAF. (thuiar/MMSA has LF-DNN instead.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from baselines.ef_lstm import SHARED_SPACE
from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.encoders import Head, TokenStates
from hycon.errors import UserError
from hycon.kernels.lstm import last_hidden
from hycon.model import present
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2


@dataclass(frozen=True)
class Config:
    text_hidden: int = 128  # MSAF
    audio_hidden: int = 32  # MSAF's grid, as the next
    vision_hidden: int = 32
    cell: int = 32  # MSAF, as the next; of each head
    dropout: float = 0.3
    combine: str = "vote"  # sec. 4.3; "concat": MSAF
    d: int = 50  # width that token states are projected to; GloVe form: unused
    modalities: str = later(",".join(MODALITIES))  # beyond the paper: some of them, in this order

    def __post_init__(self) -> None:
        if self.combine not in ("concat", "vote"):
            raise UserError(f"combine is {self.combine!r}; expected concat or vote.")
        present(self.modalities)


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32, clip=0.8),  # MSAF: lr and batch of its grid, clip as it is
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "audio_hidden": (16, 32, 64, 80),  # MSAF
        "vision_hidden": (16, 32, 64, 80),  # MSAF
        **SHARED_SPACE["vectors"],
    },
    "tokens": {
        "text_hidden": (64, 128),
        "audio_hidden": (16, 32),
        "vision_hidden": (16, 32),
        **SHARED_SPACE["tokens"],
    },
}
ABLATIONS = {
    "vote": {"combine": "concat"},
    "text": {"modalities": "audio,vision"},
    "audio": {"modalities": "text,vision"},
    "vision": {"modalities": "text,audio"},
}
REMOVED = {
    "vote": "the vote of three heads: one head reads all hidden states, as in the code of the cited protocol",
    "text": "text, with its LSTM and its vote",
    "audio": "audio, likewise",
    "vision": "vision, likewise",
}


def without_effect(config: Config, form: str) -> set[str]:
    """Options of what this configuration does not have."""
    modalities = present(config.modalities)
    gone = {f"{m}_hidden" for m in MODALITIES if m not in modalities}
    if modalities == ("text",):
        gone.add("scale")  # of audio and vision
    if "text" not in modalities and form == "tokens":
        gone.add("head_lr")  # no encoder for the rest to differ from
    return gone


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.config, self.emotions = config, emotions
        self.modalities = present(config.modalities)
        widths = dict(dims)
        if "text" in self.modalities:
            self.text = TokenStates(dims["text"], text, config.d)
            widths["text"] = self.text.width
        hidden = {m: getattr(config, f"{m}_hidden") for m in self.modalities}
        self.lstm = nn.ModuleDict({m: nn.LSTM(widths[m], hidden[m]) for m in self.modalities})
        heads = hidden if config.combine == "vote" else {"all": sum(hidden.values())}
        rest = config.cell, config.dropout, outputs(emotions)
        self.heads = nn.ModuleDict({name: Head(width, *rest) for name, width in heads.items()})

    def forward(self, batch: Batch) -> Output:
        x = {m: self.text(batch) if m == "text" else getattr(batch, m) for m in self.modalities}
        last: dict[str, Tensor] = {
            m: last_hidden(self.lstm[m], x[m], lengths=getattr(batch, m).both)  # type: ignore[arg-type]
            for m in self.modalities
        }
        if self.config.combine == "vote":
            raw = torch.stack([self.heads[m](last[m]) for m in self.modalities]).mean(0)
        else:
            raw = self.heads["all"](torch.cat([last[m] for m in self.modalities], 1))
        return Output(as_prediction(raw, self.emotions))
