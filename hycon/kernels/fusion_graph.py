"""Graph-MFN's dynamic fusion graph (Zadeh et al., ACL 2018), whose networks are linear:

    vertex = network([e_1 v_1; e_2 v_2; ...]) of the vertices v_i that it reads, each scaled by its edge's efficacy e_i
    efficacies of all edges = efficacy([all given vertices])

The fast body runs on every device. A chain of Linears is multiplied out to one Linear first, and a vertex is projected
for all its readers in one product, to be scaled afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Vertex = tuple[str, ...]
Reads = Mapping[Vertex, Sequence[Vertex]]  # which vertices a vertex is computed from


def fusion_graph(
    given: Mapping[Vertex, Tensor], networks: Mapping[Vertex, nn.Sequential], reads: Reads, efficacy: nn.Sequential
) -> Tensor:
    """(R, node): the last vertex of `networks`, whose keys are those of `reads`, each after all that it reads.

    given: vertices (R, w).  networks: chains of Linears, from the vertices read, side by side, to node.  efficacy: a
    chain of Linears from all given vertices to one number an edge, in the order of `reads`.
    """
    linears = {v: folded(network) for v, network in networks.items()}
    total = {v: bias for v, (_, bias) in linears.items()}  # what a vertex has gathered so far
    widths = {v: x.shape[1] for v, x in given.items()} | {v: len(bias) for v, bias in total.items()}
    readers = {v: [reader for reader, read in reads.items() if v in read] for v in widths}
    weights: dict[tuple[Vertex, Vertex], Tensor] = {}  # (reader, read) -> (node, w)
    for reader, (weight, _) in linears.items():
        parts = weight.split([widths[v] for v in reads[reader]], 1)
        weights |= {(reader, v): part for v, part in zip(reads[reader], parts, strict=True)}
    weight, efficacies = folded(efficacy)
    projected: dict[Vertex, Sequence[Tensor]] = {}
    for v, own in zip(given, weight.split([widths[v] for v in given], 1), strict=True):
        *projected[v], share = _project(given[v], [*(weights[reader, v] for reader in readers[v]), own])
        efficacies = efficacies + share  # (R, edges)
    edges = dict(zip(((r, v) for r, read in reads.items() for v in read), efficacies.split(1, 1), strict=True))
    *inner, last = networks
    for v in (*given, *inner):
        if v in total:
            projected[v] = _project(total[v], [weights[reader, v] for reader in readers[v]])
        for reader, part in zip(readers[v], projected[v], strict=True):
            total[reader] = torch.addcmul(total[reader], edges[reader, v], part)
    return total[last]


def plain_fusion_graph(
    given: Mapping[Vertex, Tensor], networks: Mapping[Vertex, nn.Sequential], reads: Reads, efficacy: nn.Sequential
) -> Tensor:
    """`fusion_graph` in ordinary PyTorch, by its definition."""
    known = dict(given)
    efficacies = iter(efficacy(torch.cat(list(given.values()), 1)).split(1, 1))
    for vertex, network in networks.items():
        known[vertex] = network(torch.cat([next(efficacies) * known[v] for v in reads[vertex]], 1))
    return known[vertex]


def folded(chain: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one Linear that a chain of Linears amounts to."""
    first, *rest = chain
    weight, bias = first.weight, first.bias
    for layer in rest:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias  # type: ignore[operator]
    return weight, bias  # type: ignore[return-value]


def _project(x: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
    """x through several weights in one product."""
    return F.linear(x, torch.cat(weights)).split([len(w) for w in weights], 1)
