"""TFN: tensor fusion network (Zadeh et al., EMNLP 2017).

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); the BERT and XLNet forms give representations (B, d).

GloVe form (the code of Liu et al., which every later comparison runs; sec. 4 of TFN's paper):
    audio, vision   mean over time (0 of features that a corpus has z-normalised utterance by utterance: then these
                    two say nothing) -> batch norm -> dropout -> 3 x (Linear, relu)
    text            LSTM, last real step -> dropout -> Linear
    fusion          [1; l] x [1; a] x [1; v] -> dropout -> relu Linear -> relu Linear -> Linear -> 6 sigmoid - 3
BERT and XLNet forms: HyCon's front-end with d = 100, tensor fusion with three tanh layers, Linear(d, 1): exactly the
161,409,399 parameters of the paper's Table 8 on MOSI. In these forms the read-out, and audio's and vision's attention,
see the nominal padding, as the authors' code has it, so a longer nominal length moves predictions: `readout=cls,
mask_padding=True, positions=own` take that away.

Deviates:
1. The mean runs over real steps; the reference code averages the padding in.
2. A batch of one utterance is normalised with the running statistics; the reference code fails on it.
3. Vision as it comes; the reference code divides it by the training split's largest (`scale=maxabs`, searched). The
   batch norm undoes a scale only where features vary by well more than .003, the root of its eps: one whose means vary
   by .01 leaves it with a standard deviation of .95, one of .001 with .30.
4. The mean of a batch's absolute errors; the reference minimises their sum. Without weight decay and clipping Adam does
   not tell one from the other; the clipping that is searched is MSAF's, whose loss is a mean.
Reference implementations consulted: Justin1904/TensorFusionNetworks, thuiar/MMSA, the authors' MIB (BERT form).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.data.ragged import Ragged
from hycon.encoders import FRONT_END_SPACE, FrontEndConfig, FusionNet
from hycon.fusion import TensorFusion, batch_norm, with_one
from hycon.kernels.dropout import Dropout
from hycon.kernels.lstm import last_hidden
from hycon.kernels.tensor_product import tensor_linear
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 4


@dataclass(frozen=True)
class Config(FrontEndConfig):
    # GloVe form
    text_hidden: int = 128  # official default, as the next
    audio_hidden: int = 4
    vision_hidden: int = 16
    text_out: int = 64  # official
    dropout: float = 0.3  # official: of the subnets and of the tensor
    fusion_hidden: int = 32  # official
    fusion_dropout: float = 0.3
    output_range: bool = True  # 6 sigmoid - 3, official; MSAF leaves it out
    # BERT form, with HyCon's front-end
    d: int = 100  # exact count of Table 8
    tensor_hidden: int = 50  # exact count of Table 8
    tensor_dropout: float = 0.5


CLIPS = (None, 0.1, 0.3, 0.5, 0.7, 0.9)  # MSAF: .1 to .9, of LMF and MFN as well; None: the official codes of all three
TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32),  # official: Adam's default, and its batch
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "audio_hidden": (16, 32, 64, 80),  # MSAF
        "vision_hidden": (16, 32, 64, 80),  # MSAF
        "text_out": (32, 64, 96, 128),  # MSAF
        "dropout": (0.1, 0.2, 0.3, 0.4, 0.5),  # MSAF
        "fusion_hidden": (16, 32, 64, 96, 128),  # MSAF
        "fusion_dropout": (0.1, 0.2, 0.3, 0.4, 0.5),  # MSAF
        "lr": (0.01, 0.008, 0.005, 0.002, 0.001),  # MSAF
        "batch_size": (32, 64, 96, 128),  # MSAF
        "clip": CLIPS,
        "scale": ("none", "standard", "maxabs"),  # maxabs: official, for vision; standard as in every row
    },
    "tokens": {  # no source searches a TFN over BERT; chosen here
        **FRONT_END_SPACE,
        "tensor_dropout": (0.3, 0.5),  # around the sibling code's
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
    },
}
DEMO = {"tokens": {"d": 20}}  # sizes for the demo profile: (d + 1)^3 weights a unit are too many for a laptop
OF_TOKENS = {field.name for field in fields(FrontEndConfig)} | {"tensor_hidden", "tensor_dropout"}


def without_effect(config: Config, form: str) -> set[str]:
    """Options of the other form."""
    return OF_TOKENS if form == "vectors" else {field.name for field in fields(Config)} - OF_TOKENS


class MeanSubnet(nn.Module):
    """Mean over real steps -> batch norm -> dropout -> 3 x (Linear, relu): Ragged (d_m,) -> (B, hidden)."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList([nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)])

    def forward(self, sequences: Ragged) -> Tensor:
        x = sequences.padded().sum(1) / sequences.device_lengths()[:, None]
        x = self.drop(batch_norm(self.norm, x, len(x)))
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class TextSubnet(nn.Module):
    """LSTM, last real step -> dropout -> Linear: Ragged (d_l,) -> (B, out)."""

    def __init__(self, width: int, hidden: int, out: int, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(width, hidden)
        self.drop = Dropout(dropout)
        self.linear = nn.Linear(hidden, out)

    def forward(self, sequences: Ragged) -> Tensor:
        return self.linear(self.drop(last_hidden(self.lstm, sequences, lengths=sequences.both)))


class Subnets(nn.Module):
    """The unimodal networks of TFN's and LMF's original code: Batch -> {modality: (B, width_m)}."""

    def __init__(self, dims: Mapping[str, int], hidden: Mapping[str, int], text_out: int, dropout: Mapping[str, float]):
        super().__init__()
        self.text = TextSubnet(dims["text"], hidden["text"], text_out, dropout["text"])
        self.audio = MeanSubnet(dims["audio"], hidden["audio"], dropout["audio"])
        self.vision = MeanSubnet(dims["vision"], hidden["vision"], dropout["vision"])
        self.widths = {"text": text_out, "audio": hidden["audio"], "vision": hidden["vision"]}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"text": self.text(batch.text), "audio": self.audio(batch.audio), "vision": self.vision(batch.vision)}


class VectorTFN(nn.Module):
    """The GloVe form."""

    def __init__(self, config: Config, dims: Mapping[str, int], emotions: int):
        super().__init__()
        self.emotions, self.bounded = emotions, config.output_range and not emotions
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        self.subnets = Subnets(dims, hidden, config.text_out, dict.fromkeys(MODALITIES, config.dropout))
        size = math.prod(width + 1 for width in self.subnets.widths.values())
        p = config.fusion_hidden
        self.fusion_dropout = config.fusion_dropout
        self.fc1, self.fc2, self.fc3 = nn.Linear(size, p), nn.Linear(p, p), nn.Linear(p, outputs(emotions))

    def forward(self, batch: Batch) -> Output:
        x = self.subnets(batch)
        text, audio, vision = (with_one(x[m]) for m in MODALITIES)
        y = F.relu(tensor_linear(text, audio, vision, self.fc1, self.fusion_dropout, self.training))
        multimodal = F.relu(self.fc2(y))
        raw = self.fc3(multimodal)
        raw = 6 * torch.sigmoid(raw) - 3 if self.bounded else raw
        return Output(as_prediction(raw, self.emotions), None, multimodal)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.net: nn.Module
        if text is None:
            self.net = VectorTFN(config, dims, emotions)
        else:
            fusion = partial(TensorFusion, config.d, config.tensor_hidden, config.tensor_dropout)
            self.net = FusionNet(dims, text, config, fusion, emotions)

    def forward(self, batch: Batch) -> Output:
        return self.net(batch)
