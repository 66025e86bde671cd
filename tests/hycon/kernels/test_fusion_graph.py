"""The dynamic fusion graph: chains multiplied out and projected together give what its definition gives."""

import pytest
import torch
from kernel_checks import check_alike, randn
from torch import nn

from hycon.kernels.fusion_graph import folded, fusion_graph, plain_fusion_graph

A, B, AB, TOP = ("a",), ("b",), ("a", "b"), ()
READS = {AB: [A, B], TOP: [A, AB, B]}  # in an order of its own


@pytest.mark.parametrize("seed", range(8))
def test_fast_is_plain(seed):
    torch.manual_seed(seed)
    rows, a, b, node = torch.randint(1, 6, (4,)).tolist()
    read = {AB: a + b, TOP: a + node + b}
    networks = {v: nn.Sequential(nn.Linear(w, 3), nn.Linear(3, node)).double() for v, w in read.items()}
    efficacy = nn.Sequential(nn.Linear(a + b, 4), nn.Linear(4, 2), nn.Linear(2, 5)).double()
    parameters = [p for net in (*networks.values(), efficacy) for p in net.parameters()]

    def by(kernel):
        return lambda x, y, *_: kernel({A: x, B: y}, networks, READS, efficacy)

    check_alike(by(fusion_graph), by(plain_fusion_graph), [randn(rows, a), randn(rows, b), *parameters])


def test_a_chain_of_linears_is_one():
    torch.manual_seed(0)
    chain = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5), nn.Linear(5, 2)).double()
    x = randn(6, 4)
    torch.testing.assert_close(nn.functional.linear(x, *folded(chain)), chain(x))
