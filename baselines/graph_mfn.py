"""Graph-MFN: memory fusion network over a dynamic fusion graph (Zadeh et al., ACL 2018).

In: a word-aligned Batch. Out: prediction (B,) or (B, E, 2); no unimodal representations; multimodal (B, h + m).

    singleton vertices     relu(Linear([c_{t-1}; c_t])), one a modality, from the memories of MFN's system of LSTMs
    dynamic fusion graph   a vertex for each pair, for all three, and T at the top; each is a network of its subsets'
                           vertices, every one scaled by its own efficacy, which a network reads off the singletons (19)
    multi-view memory      MFN's, with T in place of the attended memories
    output                 NN([h_T; u_T])

GloVe form: word vectors. BERT and XLNet forms: the fine-tuned token states as they are, over word pieces.
The graph's networks are linear throughout (SDK and MMSA): each chain of layers is multiplied out first, and a vertex is
projected for all its readers in one product, scaled afterwards. Only the memory runs step by step.

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
from hycon.output import Output, as_prediction, outputs
from hycon.text import PretrainedText
from hycon.train import Training

VERSION = 1
NEEDS_ALIGNED = True
STATES = {"hidden": 0, "memory": 1}  # what singletons read -> where the LSTMs give it
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
    "vectors": Training(lr=2e-3, batch_size=32, epochs=50, weight_decay=5e-3),  # MMSA on MOSI; epochs as MFN's
    "tokens": Training(lr=2e-5, batch_size=48, epochs=50),  # as HyCon's; the paper is silent on the counterparts
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
Vertex = tuple[str, ...]  # the modalities that it joins
SINGLES: tuple[Vertex, ...] = tuple((m,) for m in MODALITIES)
JOINT: tuple[Vertex, ...] = (*combinations(MODALITIES, 2), MODALITIES)


def subsets(vertex: Vertex) -> list[Vertex]:
    """The vertices that `vertex` reads: its proper subsets, smaller ones first."""
    return [s for size in range(1, len(vertex)) for s in combinations(vertex, size)]


def folded(chain: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one Linear that a chain of Linears amounts to."""
    first, *rest = chain
    weight, bias = first.weight, first.bias
    for layer in rest:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias  # type: ignore[operator]
    return weight, bias  # type: ignore[return-value]


class DynamicFusionGraph(nn.Module):
    """{modality: (R, w_m)} -> T (R, node)."""

    def __init__(self, widths: Mapping[str, int], node: int, train_nodes: bool):
        super().__init__()
        self.widths = {(m,): widths[m] for m in MODALITIES} | dict.fromkeys(JOINT, node)
        self.node = node
        # who reads whom, in the order of the efficacies; T (the empty key) reads all
        self.reads: dict[Vertex, list[Vertex]] = {v: subsets(v) for v in JOINT} | {(): [*SINGLES, *JOINT]}
        self.nodes = nn.ModuleDict({"_".join(v): self._network(v) for v in JOINT})
        self.nodes.requires_grad_(train_nodes)
        self.top = self._network(())
        edges = sum(map(len, self.reads.values()))
        self.efficacy = nn.Sequential(
            nn.Linear(sum(widths.values()), INNER), nn.Linear(INNER, node), nn.Linear(node, edges)
        )

    def _network(self, vertex: Vertex) -> nn.Sequential:
        width = sum(self.widths[v] for v in self.reads[vertex])
        return nn.Sequential(nn.Linear(width, INNER), nn.Linear(INNER, self.node))

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        chains = {v: self.nodes["_".join(v)] if v else self.top for v in self.reads}
        weights, total = {}, {}  # (reader, read) -> weight (node, w); reader -> what it has gathered so far
        for reader, chain in chains.items():
            weight, total[reader] = folded(chain)  # type: ignore[arg-type]
            parts = weight.split([self.widths[v] for v in self.reads[reader]], 1)
            weights.update({(reader, v): part for v, part in zip(self.reads[reader], parts, strict=True)})
        weight, efficacies = folded(self.efficacy)
        own = dict(zip(SINGLES, weight.split([self.widths[v] for v in SINGLES], 1), strict=True))
        projected = {}
        for v in SINGLES:
            blocks = self._project(x[v[0]], [*(weights[r, v] for r in self.readers(v)), own[v]])
            projected[v] = blocks[:-1]
            efficacies = efficacies + blocks[-1]  # (R, 19)
        edges = self._edges(efficacies)
        for v in SINGLES:
            self._gather(v, projected[v], edges, total)
        for v in JOINT:  # pairs come before the triple that reads them
            self._gather(v, self._project(total[v], [weights[r, v] for r in self.readers(v)]), edges, total)
        return total[()]

    def readers(self, vertex: Vertex) -> list[Vertex]:
        return [reader for reader, read in self.reads.items() if vertex in read]

    def _project(self, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        """x through several weights in one product."""
        return F.linear(x, torch.cat(weights)).split([len(w) for w in weights], 1)

    def _edges(self, efficacies: Tensor) -> dict[tuple[Vertex, Vertex], Tensor]:
        keys = [(reader, v) for reader, read in self.reads.items() for v in read]
        return dict(zip(keys, efficacies.split(1, 1), strict=True))

    def _gather(self, vertex: Vertex, projected: tuple[Tensor, ...], edges: Mapping, total: dict) -> None:
        """Add what `vertex` is to each of its readers, scaled by the efficacy of that edge."""
        for reader, part in zip(self.readers(vertex), projected, strict=True):
            total[reader] = torch.addcmul(total[reader], edges[reader, vertex], part)


class Model(nn.Module):
    def __init__(self, config: Config, dims: Mapping[str, int], text: PretrainedText | None = None, emotions: int = 0):
        super().__init__()
        if config.vertices not in STATES:
            raise UserError(f"vertices is {config.vertices!r}; expected one of {', '.join(STATES)}.")
        self.emotions, self.state = emotions, STATES[config.vertices]
        hidden = {m: getattr(config, f"{m}_hidden") for m in MODALITIES}
        self.lstms = LSTMs(dims, hidden, text)
        self.singletons = nn.ModuleDict({m: nn.Linear(2 * hidden[m], hidden[m]) for m in MODALITIES})
        self.graph = DynamicFusionGraph(hidden, config.node, config.train_nodes)
        self.memory = GatedMemory(config.node, config)
        width = sum(hidden.values()) + config.memory
        self.out = TwoLayer(width, config.out_hidden, outputs(emotions), config.out_dropout)

    def forward(self, batch: Batch) -> Output:
        states, packing = self.lstms(batch)
        vertices = {}
        for m in MODALITIES:
            x = states[m][self.state]  # (R, h_m)
            vertices[m] = F.relu(self.singletons[m](torch.cat([packing.shifted(x), x], 1)))
        memory = self.memory(self.graph(vertices), packing)
        final = torch.cat([*(states[m][0][packing.last] for m in MODALITIES), memory], 1)  # (B, h + m)
        return Output(as_prediction(self.out(final), self.emotions), multimodal=final)
