"""Fusion of three (B, d) representations: the strategies of the paper's Table 5, and those that TFN, LMF and GFN need.

Each is a module `{modality: (B, d)} -> (B, width)`; `width` says how wide the multimodal representation is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hycon.data.manifest import MODALITIES
from hycon.errors import UserError, check_known
from hycon.kernels.tensor_product import tensor_linear


def with_one(x: Tensor) -> Tensor:
    """(B, d) -> (B, d + 1): a constant 1 is appended, so that products keep the lower orders (TFN sec. 4.2)."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


class Addition(nn.Module):
    """x = x^l + x^a + x^v: the paper's default; no parameter. Of fewer modalities the sum of these."""

    def __init__(self, d: int, modalities: Sequence[str] = MODALITIES):
        super().__init__()
        self.width, self.modalities = d, tuple(modalities)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return reduce(torch.add, [x[m] for m in self.modalities])


class Concatenation(nn.Module):
    """relu(Linear(3d -> d)) of the concatenation; of fewer modalities, as much narrower."""

    def __init__(self, d: int, modalities: Sequence[str] = MODALITIES):
        super().__init__()
        self.width, self.modalities = d, tuple(modalities)
        self.mix = nn.Linear(len(self.modalities) * d, d)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        return F.relu(self.mix(torch.cat([x[m] for m in self.modalities], 1)))


class TensorFusion(nn.Module):
    """Outer product of [x, 1] -> dropout -> three tanh Linear: to hidden, hidden, d."""

    def __init__(self, d: int, hidden: int = 50, dropout: float = 0.5):
        super().__init__()
        self.width = d
        self.dropout = dropout
        self.layers = nn.ModuleList([nn.Linear((d + 1) ** 3, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, d)])

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        first, *others = self.layers
        text, audio, vision = (with_one(x[m]) for m in MODALITIES)
        y = torch.tanh(tensor_linear(text, audio, vision, first, self.dropout, self.training))  # type: ignore[arg-type]
        for layer in others:
            y = torch.tanh(layer(y))
        return y


class LowRank(nn.Module):
    """LMF (Liu et al., ACL 2018, eq. 10): w . ((z_l F_l) o (z_a F_a) o (z_v F_v)) + b, z = [1; x].

    widths: feature size per modality.  The paper sums over the rank; the code learns the weights w, as done here
    (`learned=False` sums).
    """

    def __init__(self, widths: Mapping[str, int], out: int, rank: int, learned: bool = True):
        super().__init__()
        self.width = out
        self.factors = nn.ParameterDict(
            {m: nn.Parameter(nn.init.xavier_normal_(torch.empty(rank, widths[m] + 1, out))) for m in MODALITIES}
        )
        weights = nn.init.xavier_normal_(torch.empty(1, rank)) if learned else torch.ones(1, rank)
        self.weights = nn.Parameter(weights, requires_grad=learned)
        self.bias = nn.Parameter(torch.zeros(1, out))

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        product: Tensor | None = None
        for m in MODALITIES:
            factor = self.factors[m]  # (r, d_m + 1, out); its first row meets the constant 1
            flat = factor[:, 1:].transpose(0, 1).flatten(1)  # (d_m, r * out)
            projected = torch.addmm(factor[:, 0].flatten(), x[m], flat).unflatten(1, (len(factor), -1))  # (B, r, out)
            product = projected if product is None else product * projected
        assert product is not None
        return (product * self.weights[0, :, None]).sum(1) + self.bias


# Vertices of the graph in the authors' order: audio, vision, text; then the pairs av, al, vl.
FIRST, SECOND = (0, 0, 1), (1, 2, 2)  # who meets in a pair
LEFT, RIGHT = (3, 3, 5, 3, 4, 5), (5, 4, 4, 2, 1, 0)  # in the six triples: av-vl av-al vl-al av-l al-v vl-a
GRAPH_FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "argf": (torch.sigmoid, F.elu),
    "mib": (torch.tanh, torch.tanh),
}  # of importances, of vertices


class GraphFusion(nn.Module):
    """ARGF's graph fusion (Mai et al., AAAI 2020): the graph of HyCon's Table 5, and GFN.

    Vertices are the three representations, their pairs, and six pairs of those. Two vertices of importance w meet over
    an edge (w_i + w_j) / (s_i . s_j + 0.5), s = softmax of the vertex: the less they resemble each other, the more
    their fusion counts. The edges of a layer are normalised by a softmax; an edge is the importance of what it makes.

        unimodal    w_m = sigmoid(w . x_m + b);  U = sum of w_m x_m / 3
        bimodal     elu(softmax(edge) * G1([x_i; x_j])), compared by softmax(G1(.));  B = sum of the 3
        trimodal    elu(softmax(edge) * G2([x_i; x_j]));  T = sum of the 6
        out         tanh Linear(3d -> hidden) of the batch-normed [U; B; T]

    G = Linear(2d, middle), leaky relu 0.2, Linear(middle, d), tanh.  functions: "argf" as above, "mib" has tanh for the
    sigmoid and the elu and skips the batch norm of [U; B; T], as the same authors' port.  With every size d = 50
    GFN-BERT has exactly the parameters of Table 8, among them those of a batch norm of width d that the authors' code
    defines and never applies: it stands here too, untrained, and normalises the unimodal vertices with `norm_vertices`.
    Table 5's graph is taken to be the same module; the authors' port to MIB has 64 units inside G, no batch norm and
    two more tanh layers.
    """

    def __init__(self, d: int, middle: int = 0, hidden: int = 0, functions: str = "argf", norm_vertices: bool = False):
        super().__init__()
        if functions not in GRAPH_FUNCTIONS:
            raise UserError(f"Unknown graph functions {functions!r}; expected one of {', '.join(GRAPH_FUNCTIONS)}.")
        self.importance: Callable[[Tensor], Tensor]
        self.phi: Callable[[Tensor], Tensor]
        self.importance, self.phi = GRAPH_FUNCTIONS[functions]
        middle, self.width = middle or d, hidden or d
        self.attention = nn.Linear(d, 1)
        self.pairs, self.triples = _mixer(d, middle), _mixer(d, middle)
        self.vertex_norm = nn.BatchNorm1d(d).requires_grad_(norm_vertices)
        self.norm_vertices = norm_vertices
        self.normed = functions != "mib"
        self.norm = nn.BatchNorm1d(3 * d).requires_grad_(self.normed)
        self.out = nn.Linear(3 * d, self.width)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        one = torch.stack([x["audio"], x["vision"], x["text"]])  # (3, B, d)
        if self.norm_vertices:
            one = batch_norm(self.vertex_norm, one.flatten(0, 1), one.shape[1]).view_as(one)
        weight = self.importance(self.attention(one))[..., 0]  # (3, B)
        softmaxed = one.softmax(-1)
        edge = _edge(weight, softmaxed, FIRST, SECOND)
        mixed = self.pairs(torch.cat([_of(one, FIRST), _of(one, SECOND)], -1))  # (3, B, d)
        two = self.phi(edge.softmax(0)[..., None] * mixed)
        vertices = torch.cat([one, two])  # (6, B, d)
        above = _edge(torch.cat([weight, edge]), torch.cat([softmaxed, mixed.softmax(-1)]), LEFT, RIGHT)  # (6, B)
        mixed = self.triples(torch.cat([_of(vertices, LEFT), _of(vertices, RIGHT)], -1))
        three = self.phi(above.softmax(0)[..., None] * mixed)
        layers = torch.cat([(weight[..., None] * one).mean(0), two.sum(0), three.sum(0)], 1)
        if self.normed:
            layers = batch_norm(self.norm, layers, one.shape[1])
        return torch.tanh(self.out(layers))


def _mixer(d: int, middle: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * d, middle), nn.LeakyReLU(0.2), nn.Linear(middle, d), nn.Tanh())


def _of(vertices: Tensor, which: Sequence[int]) -> Tensor:
    """(V, ...) -> (E, ...). Not by an index tensor, which a GPU would have to wait for."""
    return torch.stack([vertices[i] for i in which])


def _edge(weight: Tensor, softmaxed: Tensor, left: Sequence[int], right: Sequence[int]) -> Tensor:
    """Importances (V, B) and softmaxed vertices (V, B, d) -> edges (E, B), not yet normalised."""
    common = (_of(softmaxed, left) * _of(softmaxed, right)).sum(-1)
    return (_of(weight, left) + _of(weight, right)) / (common + 0.5)


def batch_norm(norm: nn.BatchNorm1d, x: Tensor, utterances: int) -> Tensor:
    """`norm(x)`; a batch of one utterance has no spread, so it is normalised by the running statistics."""
    if not norm.training or utterances > 1:
        return norm(x)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


FUSIONS: dict[str, Callable[[int], nn.Module]] = {
    "addition": Addition,
    "concatenation": Concatenation,
    "tensor": TensorFusion,
    "graph": GraphFusion,
    "low-rank": lambda d: LowRank({"text": d, "audio": d, "vision": d}, d, rank=5),  # rank: authors' sibling code
}


OF_ANY: dict[str, Callable[[int, Sequence[str]], nn.Module]] = {"addition": Addition, "concatenation": Concatenation}


def build_fusion(name: str, d: int, modalities: Sequence[str] = MODALITIES) -> nn.Module:
    """One of FUSIONS over d-wide representations. Raises UserError where it needs more than `modalities`."""
    check_fusion(name, modalities)
    return FUSIONS[name](d) if name not in OF_ANY else OF_ANY[name](d, modalities)


def check_fusion(name: str, modalities: Sequence[str] = MODALITIES) -> None:
    """Raises UserError for a fusion that does not exist, or not of these modalities: products need all three."""
    check_known("fusion", name, FUSIONS)
    if name not in OF_ANY and len(modalities) < len(MODALITIES):
        raise UserError(
            f"fusion is {name!r}, which takes all of {', '.join(MODALITIES)}, but there is only "
            f"{', '.join(modalities)}: choose fusion={' or '.join(OF_ANY)}."
        )
