"""LMF: low-rank multimodal fusion (Liu et al., ACL 2018).

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2); the BERT and XLNet forms give representations (B, d).

GloVe form (the authors' code; sec. 3 of LMF's paper): TFN's unimodal subnets, then low-rank fusion straight to the
output, eq. 10. BERT and XLNet forms: HyCon's front-end with d = 50, low-rank fusion to d with rank 5, Linear(d, 1), as
in the low-rank option of the HyCon authors' sibling code (the paper does not describe its LMF-BERT). In these forms
the read-out, and audio's and vision's attention, see the nominal padding, as the authors' code has it, so a longer
nominal length moves predictions: `readout=cls, mask_padding=True, positions=own` take that away.

Deviates:
1. Weights over the rank and a bias, both trained. The paper sums (`learned_weights=False`); the code of both references
   has weights and bias, but gives them to no optimiser.
2. The mean over time of audio and vision runs over real steps (the reference averages the padding in).
3. The loss is the mean of a batch's absolute errors. The reference takes their sum, beside which a weight decay is
   weaker by the size of the batch; so the decays that are searched are MMSA's, whose loss is a mean. The reference
   trains for up to 500 epochs, here it is this suite's budget.
4. The grid of both learning rates goes on to .01, and clipping is searched, as in MSAF. Batches of 4 and 8 are not:
   such runs take too long.
5. BERT form: the fusion's bias starts at 0, as in LMF's code; the sibling code draws it.
Reference implementations consulted: Justin1904/Low-rank-Multimodal-Fusion, thuiar/MMSA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch import nn

from baselines.tfn import CLIPS, Subnets
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.encoders import FRONT_END_SPACE, FrontEndConfig, FusionNet
from hycon.errors import UserError
from hycon.fusion import LowRank
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 3


@dataclass(frozen=True)
class Config(FrontEndConfig):
    rank: int = 4  # official grid {1, 4, 8, 16}
    learned_weights: bool = True
    factor_lr: float | None = None  # of the factors; None: lr. Official: searched apart from it
    # GloVe form
    text_hidden: int = 128  # official grid, as the next
    audio_hidden: int = 16
    vision_hidden: int = 16
    text_dropout: float = 0.2
    audio_dropout: float = 0.2
    vision_dropout: float = 0.2
    # BERT form, with HyCon's front-end
    token_rank: int = 5  # the HyCon authors' sibling code

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor_lr is not None and self.factor_lr <= 0:
            raise UserError(f"factor_lr is {self.factor_lr}; expected a number above 0, or None for lr.")


RATES = (3e-4, 5e-4, 1e-3, 3e-3, 5e-3, 8e-3, 1e-2)  # official up to 3e-3, MSAF beyond
DROPOUTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.5)  # official, of each modality
TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32),  # of the official grid
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "rank": (1, 4, 8, 16),  # official
        "text_hidden": (64, 128, 256),  # official
        "audio_hidden": (4, 8, 16),  # official
        "vision_hidden": (4, 8, 16),  # official
        "text_dropout": DROPOUTS,
        "audio_dropout": DROPOUTS,
        "vision_dropout": DROPOUTS,
        "lr": RATES,
        "factor_lr": RATES,
        "weight_decay": (0.0, 1e-4, 1e-3, 5e-3),  # MMSA: deviation 3
        "batch_size": (16, 32, 64, 128),  # official, without its 4 and 8
        "clip": CLIPS,
        "scale": ("none", "standard"),  # as in every row
    },
    "tokens": {  # no source searches an LMF over BERT; chosen here
        **FRONT_END_SPACE,
        "token_rank": (4, 5, 8),  # around the sibling code's
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
    },
}
ABLATIONS = {"learned-weights": {"learned_weights": False}}
REMOVED = {"learned-weights": "the learned weights over the rank: a plain sum instead, as the paper has it"}
OF_TOKENS = {field.name for field in fields(FrontEndConfig)} | {"token_rank"}
OF_BOTH = {"learned_weights", "factor_lr"}


def without_effect(config: Config, form: str) -> set[str]:
    """Options of the other form."""
    return OF_TOKENS if form == "vectors" else {field.name for field in fields(Config)} - OF_TOKENS - OF_BOTH


class VectorLMF(nn.Module):
    """The GloVe form."""

    def __init__(self, config: Config, dims: Mapping[str, int], emotions: int):
        super().__init__()
        self.emotions = emotions
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        dropout = {m: getattr(config, f"{m}_dropout") for m in MODALITIES}
        self.subnets = Subnets(dims, hidden, config.text_hidden // 2, dropout)
        self.fusion = LowRank(self.subnets.widths, outputs(emotions), config.rank, config.learned_weights)

    def forward(self, batch: Batch) -> Output:
        return Output(as_prediction(self.fusion(self.subnets(batch)), self.emotions))


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        self.factor_lr = config.factor_lr
        self.net: VectorLMF | FusionNet
        if text is None:
            self.net = VectorLMF(config, dims, emotions)
        else:
            widths = dict.fromkeys(MODALITIES, config.d)
            fusion = partial(LowRank, widths, config.d, config.token_rank, config.learned_weights)
            self.net = FusionNet(dims, text, config, fusion, emotions)

    def forward(self, batch: Batch) -> Output:
        return self.net(batch)

    def param_groups(self, training: Training) -> list[dict[str, Any]]:
        """The factors, with a learning rate of their own if they have one, and the rest."""
        assert isinstance(self.net.fusion, LowRank)
        factors = list(self.net.fusion.factors.values())
        own = {id(p) for p in factors}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in own]
        rate = {} if self.factor_lr is None else {"lr": self.factor_lr}
        return [{"params": factors, **rate}, {"params": rest}]
