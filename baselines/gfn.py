"""GFN: the graph fusion network of ARGF (Mai, Hu and Xing, "Modality to modality translation", AAAI 2020), alone.

In: a Batch, aligned or not. Out: prediction (B,) or (B, E, 2), and the three unimodal representations (B, d).

    unimodal representations         HyCon's front-end                  hycon/encoders.py
    sec. 3.3, graph fusion           three layers of vertices           hycon/fusion.py
    prediction                       Linear(d, 1)                       here

Every size is 50, which gives exactly the 109,232,350 parameters of the paper's Table 8 on MOSI with text="bert". The
paper takes GFN without ARGF's adversarial encoders and decoders, and so does this. A batch of one utterance is
normalised by the running statistics.

The read-out, and audio's and vision's attention, see the nominal padding, as the authors' code has it, so a longer
nominal length moves predictions: `readout=cls, mask_padding=True, positions=own` take that away.

Deviates:
1. The authors' code for classification has 64 units inside each mixing network and one more tanh layer before the
   output (that is 109,239,128 parameters); Table 8 has neither.
2. The paper has no GFN-GloVe; that form reads word vectors with the same Transformer encoder as audio and vision.
3. `functions="mib"`, which is searched, is the port's graph: tanh throughout, and the last batch norm is skipped; its
   64 units and two more tanh layers are not taken over.
Reference implementations consulted: TmacMai/ARGF_multimodal_fusion, and its port in the same authors' MIB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from hycon.encoders import FRONT_END_SPACE, FrontEndConfig, FusionNet
from hycon.fusion import GraphFusion
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2


@dataclass(frozen=True)
class Config(FrontEndConfig):
    d: int = 50  # exact count of Table 8, as the next two
    middle: int = 50  # inside the networks that mix two vertices; the authors' code 64
    hidden: int = 50
    functions: str = "argf"  # sigmoid importances, elu vertices, batch norm; "mib": tanh for both, no batch norm
    norm_vertices: bool = False  # authors' code: defined, hence in Table 8's count, never applied


TRAINING = {
    "vectors": Training(lr=1e-3, batch_size=32),  # ARGF's for IEMOCAP
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        **FRONT_END_SPACE,
        "functions": ("argf", "mib"),
        "lr": (5e-4, 1e-3, 2e-3),  # chosen here, as the next
        "batch_size": (16, 32, 64),
    },
    "tokens": {
        **FRONT_END_SPACE,
        "functions": ("argf", "mib"),
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
    },
}


class Model(FusionNet):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        fusion = partial(GraphFusion, config.d, config.middle, config.hidden, config.functions, config.norm_vertices)
        super().__init__(dims, text, config, fusion, emotions)
