"""Graph-MFN: parity with MMSA as recorded, the fusion graph against its definition, trained and untrained nodes."""

import pytest
import torch
from model_checks import batch_of
from recorded import GOLDEN, compare
from safetensors.torch import load_file

from baselines.graph_mfn import JOINT, DynamicFusionGraph, subsets
from hycon.data.manifest import MODALITIES
from hycon.errors import UserError
from studies.registry import build_model

GLOVE = {"text": 300, "audio": 74, "vision": 47}
DIMS = {"text": 5, "audio": 4, "vision": 3}
RECORDED = {"text_hidden": 5, "audio_hidden": 3, "vision_hidden": 4, "memory": 6, "node": 4}
RECORDED |= {"proposal_hidden": 4, "retain_hidden": 5, "update_hidden": 3, "out_hidden": 6}


def build(**overrides):
    torch.manual_seed(0)
    return build_model("graph_mfn", text="features", dims=DIMS, **{**RECORDED, **overrides}).eval()


@pytest.mark.parametrize("train_nodes", [True, False])
def test_same_numbers_as_mmsa(train_nodes):
    recorded = load_file(GOLDEN / "graph_mfn.safetensors")
    compare(recorded, "graph_mfn", vertices="hidden", train_nodes=train_nodes, **RECORDED)


@pytest.mark.parametrize(("train_nodes", "count"), [(False, 1_667_872), (True, 1_667_872 + 208_656)])
def test_counts(train_nodes, count):
    """MMSA counts what it trains: the networks of pairs and triple are not among that."""
    with torch.device("meta"):
        model = build_model("graph_mfn", text="glove", dims=GLOVE, train_nodes=train_nodes)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    assert sum(p.numel() for p in model.parameters()) == 1_667_872 + 208_656


def test_graph_by_its_definition():
    """Each vertex a network of its subsets' vertices, scaled; 19 efficacies, read off the singletons."""
    torch.manual_seed(0)
    widths = {"text": 5, "audio": 2, "vision": 3}
    graph = DynamicFusionGraph(widths, 4, train_nodes=True)
    x = {m: torch.randn(6, width) for m, width in widths.items()}
    efficacy = graph.efficacy(torch.cat([x[m] for m in MODALITIES], 1))
    assert efficacy.shape == (6, 19)
    vertices, used = {(m,): x[m] for m in MODALITIES}, 0
    for vertex in (*JOINT, None):
        read = subsets(vertex) if vertex else [(m,) for m in MODALITIES] + list(JOINT)
        scaled = [vertices[v] * efficacy[:, used + i, None] for i, v in enumerate(read)]
        used += len(read)
        network = graph.nodes["_".join(vertex)] if vertex else graph.top
        vertices[vertex] = network(torch.cat(scaled, 1))
    assert used == 19
    torch.testing.assert_close(graph(x), vertices[None])


def test_nodes_learn_unless_switched_off():
    batch = batch_of([3, 6, 1], DIMS)
    for train_nodes in (True, False):
        net = build(train_nodes=train_nodes)
        net(batch).prediction.sum().backward()
        moved = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
        still = {name for name, _ in net.named_parameters()} - moved
        assert still == (
            set() if train_nodes else {n for n, _ in net.named_parameters() if n.startswith("graph.nodes.")}
        )


def test_singletons_read_memories_or_hidden_states():
    batch = batch_of([4, 2], DIMS)
    memory, hidden = build(), build(vertices="hidden")
    assert (memory(batch).prediction - hidden(batch).prediction).abs().min() > 1e-6
    with pytest.raises(UserError, match="vertices is 'cells'; expected one of hidden, memory"):
        build(vertices="cells")


def test_an_utterance_stands_alone():
    net, batch = build(), batch_of([3, 9, 1, 5], DIMS)
    with torch.no_grad():
        together = net(batch).prediction
        alone = torch.cat([net(batch.slice(i, i + 1)).prediction for i in range(4)])
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(alone, together)
        torch.testing.assert_close(net(batch.take(order)).prediction, together[order])
