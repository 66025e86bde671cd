"""HyCon and HyCon-v2: hybrid contrastive learning of tri-modal representation (Mai et al., IEEE TAFFC 2022).

In: a Batch. Out: `Output` with prediction (B,) or (B, E, 2), and the three unimodal representations (B, d).

    eq. 1        encoders, "last time step"         hycon/encoders.py
    eq. 2        fusion by addition, Linear(d, 1)   hycon/fusion.py, hycon/encoders.py
    eqs. 6-12    SCL, IAMCL, IEMCL                  hycon/losses.py
    eqs. 13-15   pair selection (HyCon-v2)          hycon/pairs.py
    eqs. 16-17   total loss                         hycon/losses.py, here

HyCon-v2 is HyCon with `beta=0.2`. With text="bert" and dims 768/74/47 the parameters count 109,209,149 (Table 8).
IEMOCAP (text="glove"): the text goes through a Transformer encoder like the others, the loss is a cross-entropy per
emotion (MulT's head: two logits each), and pairs are made by the 4-way emotion.

`modalities` takes some away, for a table that the paper does not have: an absent modality's network is not built,
fusion (addition or concatenation only) and the losses take what there is. One alone has no pairs across modalities:
IEMCL and SCL are 0 then, IAMCL and its refinement stay. Without text there is no BERT to fine-tune.

The read-out, and audio's and vision's attention, see the nominal padding, as the authors' code has it, so a longer
nominal length moves predictions: `readout=cls, mask_padding=True, positions=own` take that away.

What the paper leaves open is in Config, each line with its source; "lineage" is the code of the same authors' MIB (TMM
2022), which shares this framework: its parameter count with concatenation is exact too.

Deviates from the paper:
1. On IEMOCAP the default learning rate is 1e-3 (MIB's appendix, for the same setting); the paper says 2e-5 without
   restricting it to BERT, and the search has that too.
Reference implementation: none is public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial

from torch import Tensor

from hycon.config import later
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.encoders import FRONT_END_SPACE, FrontEndConfig, FusionNet
from hycon.errors import UserError, check_known
from hycon.fusion import build_fusion, check_fusion
from hycon.losses import HybridConfig, emotion_classes, hybrid_loss, sentiment_classes
from hycon.output import Output, task_loss
from hycon.pairs import ZEROS
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2


@dataclass(frozen=True)
class Config(FrontEndConfig):
    fusion: str = "addition"  # sec. 3.2; Table 5: concatenation, tensor, (low-rank)
    iamcl: float = 1.0  # lambda 1, sec. 4.4(3)
    iemcl: float = 1.0  # lambda 2
    scl: float = 1.0  # lambda 3
    margin: float = 0.8  # alpha, sec. 4.4(3)
    refinement: bool = True  # eqs. 8, 11
    beta: float | None = None  # None: HyCon. 0.2: HyCon-v2, sec. 4.4(3)
    gamma: float = 1.0  # eq. 14; paper silent, see docs/protocol.md, A9
    select_positives: bool = True  # only with beta; neither side selected: all pairs, but not HyCon (A12: means)
    select_negatives: bool = True
    reduction: str = "sample"  # A2: mean over samples, sum over modalities; options mean, sum
    log: bool = False  # A1: eqs. 7 and 10 are printed without a logarithm
    zero: str = "positive"  # A3: class of a label of exactly 0; options exclude, third
    h_inter: str = "same"  # A8: h of IEMCL; option double
    weighted_refinement: str = "weighted"  # A10: refinement over selected pairs; options literal, mean
    contrastive: str = "hycon"  # Table 7: classical, triplet, hard-triplet, n-pair
    hinge: bool = True  # A15: max(0, .) around eq. 19
    modalities: str = later(",".join(MODALITIES))  # beyond the paper: some of them, in this order

    def __post_init__(self) -> None:
        super().__post_init__()
        check_known("zero", self.zero, ZEROS)
        check_fusion(self.fusion, present(self.modalities))
        hybrid_config(self)


def present(modalities: str) -> tuple[str, ...]:
    """ "text,vision" -> ("text", "vision"). Raises UserError for anything but some of MODALITIES in their order:
    another order would be the same model under another id."""
    names = tuple(modalities.split(","))
    if names != tuple(m for m in MODALITIES if m in names):
        every = ",".join(MODALITIES)
        raise UserError(f"modalities is {modalities!r}; expected {every}, or fewer of them in that order.")
    return names


def hybrid_config(config: Config) -> HybridConfig:
    """The part of a Config that the losses read. Raises UserError for values that they refuse."""
    return HybridConfig(**{f.name: getattr(config, f.name) for f in fields(HybridConfig)})


TRAINING = {
    "tokens": Training(lr=2e-5, batch_size=48),  # lr: sec. 4.4(3); batch: lineage
    "vectors": Training(lr=1e-3, batch_size=48),  # IEMOCAP: lineage; lr: deviation 1
}
# What the paper leaves open. What it states (d, alpha, beta, lambda, Adam, lr) stays fixed.
_LOSS_SPACE: dict[str, tuple] = {
    # A9. The paper's gamma is "to ensure that s + gamma is larger than zero", which reads as a small number. How much
    # more the hardest of ten selected positives (K = 48) weighs than the easiest, in the median of representations
    # N(0, 1): 1.0 times with gamma = 1, 1.4 with .1, some 400 with .01. With .001 one pair is left. These are IAMCL's;
    # IEMCL selects from twice as many, and so more alike: 1.0, 1.3, some 140.
    "gamma": (0.01, 0.1, 1.0),
    "reduction": ("sample", "mean", "sum"),  # A2
}
SEARCH_SPACE = {
    "tokens": {
        "batch_size": (32, 35, 40, 48),  # lineage: 32 and 48 (MIB), 35 and 40 (MCL)
        **FRONT_END_SPACE,
        **_LOSS_SPACE,
    },
    "vectors": {
        "batch_size": (32, 48, 64),
        "lr": (2e-5, 5e-4, 1e-3, 2e-3),  # the paper's, and around the lineage's: deviation 1
        **FRONT_END_SPACE,
        **_LOSS_SPACE,
    },
}
ABLATIONS = {  # Table 4: name -> override of Config
    "contrast": {"iamcl": 0.0, "iemcl": 0.0, "scl": 0.0},  # "W/O Contrast Learning"
    "refinement": {"refinement": False},
    "margin": {"margin": 1.0},  # "where alpha is set to 1", in SCL and IEMCL
    "iamcl": {"iamcl": 0.0},
    "iemcl": {"iemcl": 0.0},
    "scl": {"scl": 0.0},
    "positive-selection": {"beta": 0.2, "select_positives": False},  # of HyCon-v2
    "negative-selection": {"beta": 0.2, "select_negatives": False},
    "text": {"modalities": "audio,vision"},
    "audio": {"modalities": "text,vision"},
    "vision": {"modalities": "text,audio"},
}
REMOVED = {
    "contrast": "all contrastive losses: the task loss alone",
    "refinement": "the refinement of IAMCL and IEMCL, eqs. 8 and 11",
    "margin": "the modality margin: target 1 in place of alpha in SCL and IEMCL",
    "iamcl": "intra-modal contrastive learning, eqs. 7 to 9",
    "iemcl": "inter-modal contrastive learning, eqs. 10 to 12",
    "scl": "semi-contrastive learning, eq. 6",
    "positive-selection": "of HyCon-v2, the selection of positive pairs: the mean of all instead",
    "negative-selection": "of HyCon-v2, the selection of negative pairs: the mean of all instead",
    "text": "text, with its encoder and its pairs (2e-5 is slow without BERT: --set lr=1e-3 changes that, too)",
    "audio": "audio, likewise",
    "vision": "vision, likewise",
}
INTACT = {"positive-selection": {"beta": 0.2}, "negative-selection": {"beta": 0.2}}  # what they are removed from


def without_effect(config: Config, form: str) -> set[str]:
    """Options that this configuration does not read; a search over them would only repeat itself."""
    modalities = present(config.modalities)
    across = len(modalities) > 1
    by_class = config.iamcl + config.iemcl * across  # the losses whose positive pairs may be selected
    gone = set()
    if config.beta is None or not config.select_positives or by_class == 0:
        gone.add("gamma")
    if by_class + config.scl * across == 0:
        gone.add("reduction")
    if "text" not in modalities:
        gone.add("head_lr")  # no encoder for the rest to differ from
    if modalities == ("text",):
        gone |= {"scale"}
        if form == "tokens":  # no Transformer but the pretrained one, whose dropouts are its own
            gone |= set(FRONT_END_SPACE)
    return gone


class Model(FusionNet):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        modalities = present(config.modalities)
        fusion = partial(build_fusion, config.fusion, config.d, modalities)
        super().__init__(dims, text, config, fusion, emotions, modalities)
        self.config = config
        self.hybrid = hybrid_config(config)

    def loss(self, output: Output, batch: Batch, kind: str = "l1") -> Tensor:
        """eq. 17: task loss (of the kind that `Training.loss` names) plus the hybrid contrastive loss."""
        assert output.representations is not None
        classes = emotion_classes(batch.label) if self.emotions else sentiment_classes(batch.label, self.config.zero)
        hybrid = hybrid_loss(output.representations, classes, self.hybrid, modalities=self.front.modalities)
        return task_loss(output.prediction, batch.label, kind) + hybrid.total
