"""Graph-MFN: memory fusion network over a dynamic fusion graph (Zadeh et al., ACL 2018).

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations; multimodal (B, h + m).

    singleton vertices     relu(Linear([c_{t-1}; c_t])), one a modality, from the memories of MFN's system of LSTMs
    dynamic fusion graph   a vertex for each pair, for all three, and T at the top; each is a network of its subsets'
                           vertices, every one scaled by its own efficacy, which a network reads off the singletons (19)
    multi-view memory      MFN's, with T in place of the attended memories
    output                 NN([h_T; u_T])

GloVe form: word vectors. BERT and XLNet forms: the fine-tuned token states as they are, over word pieces.
The graph's networks are linear throughout, as in SDK and MMSA (hycon/kernels/fusion_graph.py). Only the LSTMs and the
memory run step by step; all else is computed for all R steps of all utterances at once.

Deviates:
1. Stops at the utterance's own last step; the reference codes run on through the padding.
2. The networks of the pair and triple vertices are trained. Both public codes keep them in a plain dict, which neither
   the optimiser nor the saved weights know of; `train_nodes=False` leaves them at their initial values.
3. Singletons read memories, as the paper has it; MMSA reads hidden states (`vertices="hidden"`).
Reference implementations consulted: A2Zadeh/CMU-MultimodalSDK (the graph), thuiar/MMSA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.mfn import DROPOUTS, SHAPES, GatedMemory, LSTMs, TwoLayer
from hycon.data.batch import Batch
from hycon.data.manifest import MODALITIES
from hycon.errors import UserError
from hycon.kernels.fusion_graph import Vertex, fusion_graph
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 2
NEEDS_ALIGNED = True
STATES = ("hidden", "memory")  # what singletons may read of the LSTMs
INNER = 100  # width between the two layers of a vertex's network and of the efficacies'; SDK and MMSA


@dataclass(frozen=True)
class Config:
    """MMSA's setting for MOSI. Each NN's dropout is that of its hidden layer."""

    text_hidden: int = 256
    audio_hidden: int = 32
    vision_hidden: int = 256
    vertices: str = "memory"  # paper; MMSA "hidden"
    node: int = 64  # width of the graph's vertices
    train_nodes: bool = True
    memory: int = 300
    proposal_hidden: int = 32
    proposal_dropout: float = 0.0
    retain_hidden: int = 128
    retain_dropout: float = 0.5
    update_hidden: int = 64
    update_dropout: float = 0.5
    out_hidden: int = 256
    out_dropout: float = 0.0


TRAINING = {
    "vectors": Training(lr=2e-3, batch_size=32, weight_decay=5e-3),  # MMSA on MOSI
    "tokens": Training(lr=2e-5, batch_size=48),  # as HyCon's; the paper is silent on the counterparts
}
SEARCH_SPACE = {
    "vectors": {
        "text_hidden": (64, 128, 256),  # MMSA, which draws the three sizes together, as the next two
        "audio_hidden": (16, 32),
        "vision_hidden": (64, 128, 256),
        "node": (20, 32, 64, 128),  # MMSA
        "memory": (64, 128, 256, 300, 400),  # MMSA
        "proposal_hidden": SHAPES,  # MMSA, as all but the last
        "retain_hidden": SHAPES,
        "update_hidden": SHAPES,
        "out_hidden": SHAPES,
        "proposal_dropout": DROPOUTS,
        "retain_dropout": DROPOUTS,
        "update_dropout": DROPOUTS,
        "out_dropout": DROPOUTS,
        "lr": (5e-4, 1e-3, 2e-3, 5e-3),
        "weight_decay": (0.0, 1e-3, 5e-3, 1e-2),
        "batch_size": (32, 64),
        "scale": ("none", "standard"),  # chosen here
    },
    "tokens": {  # no source searches a Graph-MFN over BERT; chosen here, from
        "node": (32, 64, 128),  # MMSA's, as the next two
        "memory": (128, 300),
        "out_dropout": (0.0, 0.2, 0.5),
        "lr": (1e-5, 2e-5, 5e-5),  # around HyCon's
        "batch_size": (32, 48),  # HyCon's lineage
        "scale": ("none", "standard"),  # as with vectors
    },
}
ABLATIONS = {"trained-vertices": {"train_nodes": False}}
REMOVED = {"trained-vertices": "the training of the networks of pair and triple vertices, as in both public codes"}
# a vertex is named by the modalities that it joins
SINGLES: tuple[Vertex, ...] = tuple((m,) for m in MODALITIES)
JOINT: tuple[Vertex, ...] = (*combinations(MODALITIES, 2), MODALITIES)
TOP: Vertex = ()  # T, which reads all others


def subsets(vertex: Vertex) -> list[Vertex]:
    """The vertices that `vertex` reads: its proper subsets, smaller ones first."""
    return [s for size in range(1, len(vertex)) for s in combinations(vertex, size)]


class DynamicFusionGraph(nn.Module):
    """Singleton vertices {modality: (R, w_m)} -> T (R, node), by the 19 efficacies of the graph's edges."""

    def __init__(self, widths: Mapping[str, int], node: int, train_nodes: bool):
        super().__init__()
        self.reads: dict[Vertex, list[Vertex]] = {v: subsets(v) for v in JOINT} | {TOP: [*SINGLES, *JOINT]}
        own = {(m,): widths[m] for m in MODALITIES} | dict.fromkeys(JOINT, node)

        def network(vertex: Vertex) -> nn.Sequential:
            return nn.Sequential(nn.Linear(sum(own[v] for v in self.reads[vertex]), INNER), nn.Linear(INNER, node))

        self.nodes = nn.ModuleDict({"_".join(v): network(v) for v in JOINT}).requires_grad_(train_nodes)
        self.top = network(TOP)
        edges = sum(map(len, self.reads.values()))
        self.efficacy = nn.Sequential(
            nn.Linear(sum(widths.values()), INNER), nn.Linear(INNER, node), nn.Linear(node, edges)
        )

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        singletons = {(m,): x[m] for m in MODALITIES}
        networks = {v: self.nodes["_".join(v)] for v in JOINT} | {TOP: self.top}
        return fusion_graph(singletons, networks, self.reads, self.efficacy)  # type: ignore[arg-type]


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        if config.vertices not in STATES:
            raise UserError(f"vertices is {config.vertices!r}; expected one of {', '.join(STATES)}.")
        self.emotions, self.vertices = emotions, config.vertices
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        self.lstms = LSTMs(dims, hidden, text)
        self.singletons = nn.ModuleDict({m: nn.Linear(2 * hidden[m], hidden[m]) for m in MODALITIES})
        self.graph = DynamicFusionGraph(hidden, config.node, config.train_nodes)
        self.memory = GatedMemory(config.node, config)
        width = sum(hidden.values()) + config.memory
        self.out = TwoLayer(width, config.out_hidden, outputs(emotions), config.out_dropout)

    def forward(self, batch: Batch) -> Output:
        hidden, cells, packing = self.lstms(batch)
        read = {"hidden": hidden, "memory": cells}[self.vertices]
        singletons = {}
        for m in MODALITIES:
            x = read[m]  # c_t, or h_t: (R, h_m)
            singletons[m] = F.relu(self.singletons[m](torch.cat([packing.shifted(x), x], 1)))
        memory = self.memory(self.graph(singletons), packing)  # of T (R, node): u_T (B, m)
        final = torch.cat([*(packing.last_rows(hidden[m]) for m in MODALITIES), memory], 1)  # [h_T; u_T]: (B, h + m)
        return Output(as_prediction(self.out(final), self.emotions), multimodal=final)
