"""LMF: low-rank multimodal fusion (Liu et al., ACL 2018).

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); the BERT and XLNet forms give representations (B, d).

GloVe form (the authors' code; sec. 3 of LMF's paper): TFN's unimodal subnets, then low-rank fusion straight to the
output, eq. 10. BERT and XLNet forms: HyCon's front-end with d = 50, low-rank fusion to d with rank 5, Linear(d, 1), as
in the low-rank option of the HyCon authors' sibling code (the paper does not describe its LMF-BERT). In these forms
the read-out, and audio's and vision's attention, see the nominal padding, as the authors' code has it, so a longer
nominal length moves predictions: `readout=cls, mask_padding=True, positions=own` take that away.

Deviates:
1. Learned weights over the rank, as the code has it; the paper sums (`learned_weights=False`).
2. The mean over time of audio and vision runs over real steps (the reference averages the padding in).
3. One learning rate; the reference gives the factors their own, drawn from the same grid.
Reference implementations consulted: Justin1904/Low-rank-Multimodal-Fusion, thuiar/MMSA (which by a positional slip
never trains the fusion weights and bias; here they are trained).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from baselines.tfn import Subnets
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.encoders import FrontEndConfig, FusionNet
from hycon.fusion import LowRank
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1


@dataclass(frozen=True)
class Config(FrontEndConfig):
    rank: int = 4  # official grid {1, 4, 8, 16}
    learned_weights: bool = True
    # GloVe form
    text_hidden: int = 128  # official grid, as the next
    audio_hidden: int = 16
    vision_hidden: int = 16
    dropout: float = 0.2
    # BERT form, with HyCon's front-end
    token_rank: int = 5  # the HyCon authors' sibling code


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32, epochs=40),
    "tokens": Training(lr=2e-5, batch_size=48, epochs=50),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "rank": (1, 4, 8, 16),  # official
        "text_hidden": (64, 128, 256),  # official
        "audio_hidden": (4, 8, 16),  # official
        "vision_hidden": (4, 8, 16),  # official
        "dropout": (0.0, 0.1, 0.15, 0.2, 0.3, 0.5),  # official
        "lr": (3e-4, 5e-4, 1e-3, 3e-3),  # official
        "weight_decay": (0.0, 1e-3, 2e-3, 1e-2),  # official
        "batch_size": (16, 32, 64, 128),  # official: 4 to 128
        "scale": ("none", "standard"),  # chosen here
    },
    "tokens": {
        "token_rank": (4, 5, 8),
        "attn_dropout": (0.1, 0.3, 0.5),
        "embed_dropout": (0.2, 0.3),
        "lr": (1e-5, 2e-5, 5e-5),
        "batch_size": (32, 48),
    },
}
ABLATIONS = {"learned-weights": {"learned_weights": False}}
REMOVED = {"learned-weights": "the learned weights over the rank: a plain sum instead, as the paper has it"}


class VectorLMF(nn.Module):
    """The GloVe form."""

    def __init__(self, config: Config, dims: Mapping[str, int], emotions: int):
        super().__init__()
        self.emotions = emotions
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        self.subnets = Subnets(dims, hidden, config.text_hidden // 2, config.dropout)
        self.fusion = LowRank(self.subnets.widths, outputs(emotions), config.rank, config.learned_weights)

    def forward(self, batch: Batch) -> Output:
        return Output(as_prediction(self.fusion(self.subnets(batch)), self.emotions))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.net: nn.Module
        if text is None:
            self.net = VectorLMF(config, dims, emotions)
        else:
            widths = dict.fromkeys(MODALITIES, config.d)
            fusion = partial(LowRank, widths, config.d, config.token_rank, config.learned_weights)
            self.net = FusionNet(dims, text, config, fusion, emotions)

    def forward(self, batch: Batch) -> Output:
        return self.net(batch)
