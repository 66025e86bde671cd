"""Unimodal encoders (HyCon sec. 3.2, eq. 1) and heads: what HyCon and several baselines have in common.

`FrontEnd` is HyCon's. Its architecture is the one whose parameters count exactly to the paper's Table 8:
bert-base-uncased without pooler (hycon/text.py), a bias-free Conv1d(k=3) to d per modality, and MulT's pre-LN
Transformer (hycon/transformer.py) for audio and vision. `TokenStates` and `Head` are those of the recurrent baselines.

The reference code pads every sequence to a nominal length T and reads index T-1, a [PAD] position for BERT and a zero
row for audio and vision. So T moves a prediction, in HyCon and in the baselines that share this front-end. With
`readout=cls, mask_padding=True`, and `positions=own` where XLNet pads on the left, it does not. With `last_real` it
still does for a BERT sentence that fills T: the convolution at its last step sees a [PAD] if there is room for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.errors import UserError, check_known
from hycon.kernels.dropout import Dropout
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.transformer import SequenceEncoder, side_by_side

READOUTS = ("last", "last_real", "cls", "mean")
POSITIONS = ("nominal", "own")


class TextProjection(nn.Module):
    """Conv1d(D, d, k=3, no bias) over BERT's or XLNet's last hidden states, at the read-out step: Ragged -> (B, d)."""

    def __init__(self, text: PretrainedText, d: int, readout: str):
        super().__init__()
        self.text, self.readout = text, readout
        self.conv = nn.Conv1d(text.width, d, 3, padding=1, bias=False)

    def forward(self, text: Ragged, nominal: int) -> Tensor:
        window = self.text.windows(text, self.readout, nominal)  # (B, 3, D)
        return F.conv1d(window.transpose(1, 2), self.conv.weight)[:, :, 0]


@dataclass(frozen=True)
class FrontEndConfig:
    """The options of HyCon's front-end, for HyCon and the baselines that share it. "lineage": the authors' MIB code."""

    d: int = 50  # sec. 4.4(3)
    layers: int = 3  # exact count of Table 8
    heads: int = 5  # lineage
    attn_dropout: float = 0.5  # lineage, as the next three
    relu_dropout: float = 0.3
    res_dropout: float = 0.3
    embed_dropout: float = 0.2
    readout: str = "last"  # lineage: index T-1, a padding step; options last_real, cls, mean
    mask_padding: bool = False  # lineage: audio/vision attend to the padding too
    positions: str = later("nominal")  # lineage: audio/vision count steps from the nominal first; own: from their own

    def __post_init__(self) -> None:
        """Refuse before a search starts what no run could use."""
        if self.positions not in POSITIONS:
            raise UserError(f"positions is {self.positions!r}; expected nominal or own.")
        check_known("readout", self.readout, READOUTS)
        if self.layers < 1 or self.heads < 1 or self.d % self.heads:
            raise UserError(f"layers is {self.layers}, heads {self.heads}, d {self.d}: d must be a multiple of heads.")


# What each row with this front-end searches, HyCon as TFN-BERT, LMF-BERT and GFN
FRONT_END_SPACE: dict[str, tuple] = {
    "attn_dropout": (0.1, 0.3, 0.5),  # around the lineage's value, as the next three
    "relu_dropout": (0.1, 0.3),
    "res_dropout": (0.1, 0.3),
    "embed_dropout": (0.2, 0.3),
    "scale": ("none", "standard"),  # chosen here
}


class FrontEnd(nn.Module):
    """The three unimodal networks of HyCon and of the baselines that share them: Batch -> {modality: (B, d)}.

    modalities: which of them there are; the others, BERT or XLNet with them, are not built.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        text: PretrainedText | None,
        config: FrontEndConfig,
        modalities: Sequence[str] = MODALITIES,
    ):
        super().__init__()
        self.modalities = tuple(modalities)
        options: dict[str, Any] = {
            "layers": config.layers,
            "heads": config.heads,
            "readout": config.readout,
            "mask_padding": config.mask_padding,
            "positions": config.positions,
            "dropouts": {name: getattr(config, f"{name}_dropout") for name in ("attn", "relu", "res", "embed")},
        }
        for modality in self.modalities:
            if modality == "text" and text is not None:
                self.text = TextProjection(text, config.d, config.readout)
            else:
                setattr(self, modality, SequenceEncoder(dims[modality], config.d, **options))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        alike = [m for m in self.modalities if isinstance(getattr(self, m), SequenceEncoder)]
        if batch.label.is_cuda and len(alike) > 1 and len({batch.layout.lengths[m] for m in alike}) == 1:
            encoders, sequences = [getattr(self, m) for m in alike], [getattr(batch, m) for m in alike]
            nominal, side = batch.layout.lengths[alike[0]], batch.layout.side
            found = dict(zip(alike, side_by_side(encoders, sequences, nominal, side), strict=True))
            return {m: found[m] if m in found else self._encoded(batch, m) for m in self.modalities}
        return {modality: self._encoded(batch, modality) for modality in self.modalities}

    def _encoded(self, batch: Batch, modality: str) -> Tensor:
        """(B, d) of one modality."""
        encoder, sequences = getattr(self, modality), getattr(batch, modality)
        nominal = batch.layout.lengths[modality]
        if isinstance(encoder, TextProjection):
            return encoder(sequences, nominal)
        return encoder(sequences, nominal, batch.layout.side)


class FusionNet(nn.Module):
    """Front-end, a fusion, one linear layer: the shape of HyCon, TFN-BERT, LMF-BERT and GFN.

    In: a Batch. Out: `Output` with the unimodal representations (B, d).  config, modalities: as for FrontEnd.
    fusion: makes the module; a function, so that the front-end draws its initial weights first.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        text: PretrainedText | None,
        config: FrontEndConfig,
        fusion: Callable[[], nn.Module],
        emotions: int = 0,
        modalities: Sequence[str] = MODALITIES,
    ):
        super().__init__()
        self.emotions = emotions
        self.front = FrontEnd(dims, text, config, modalities)
        self.fusion = fusion()
        self.predictor = nn.Linear(int(self.fusion.width), outputs(emotions))  # type: ignore[arg-type]
        init_like_authors(self)

    def forward(self, batch: Batch) -> Output:
        x = self.front(batch)  # {modality: (B, d)}
        multimodal = self.fusion(x)  # (B, width)
        return Output(as_prediction(self.predictor(multimodal), self.emotions), x, multimodal)


class TokenStates(nn.Module):
    """Text as a sequence for recurrent models.

    With a pretrained encoder: its token states, Conv1d(k=3, no bias) to `d`, as (B, T, d), padded on the right; without
    one: the vectors as they are, Ragged (width,).  `width` says how wide a step is.
    """

    def __init__(self, width: int, text: PretrainedText | None, d: int):
        super().__init__()
        self.text = text
        self.conv = nn.Conv1d(text.width, d, 3, padding=1, bias=False) if text else None
        self.width = d if text else width

    def forward(self, batch: Batch) -> Tensor | Ragged:
        if self.text is None or self.conv is None:
            return batch.text
        states = self.text.states(batch.text)
        return self.conv(states.transpose(1, 2)).transpose(1, 2)


class Head(nn.Module):
    """Linear(n, cell) -> relu -> dropout -> Linear(cell, out): Gkoumas et al.'s, of their recurrent models."""

    def __init__(self, width: int, cell: int, dropout: float, out: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(width, cell), nn.Linear(cell, out)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(F.relu(self.hidden(x))))


def init_like_authors(module: nn.Module) -> None:
    """Every nn.Linear of the non-pretrained part ~ N(0, 0.02), bias 0, as the authors' call of `init_weights` does."""
    for child in module.children():
        if isinstance(child, PretrainedText):
            continue
        if isinstance(child, nn.Linear):
            nn.init.normal_(child.weight, std=0.02)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        init_like_authors(child)
