"""Graph-MFN against MMSA 2.2.1: same weights and inputs, same outputs and gradients.

MMSA's singletons read hidden states, ours memories by default: `vertices="hidden"` makes the two equal.
`python tests/peer/test_against_mmsa_graph_mfn.py` records tests/golden/graph_mfn.safetensors.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "graph_mfn.safetensors"
DIMS = {"text": 6, "audio": 4, "vision": 3}
SIZES = {"text_hidden": 5, "audio_hidden": 3, "vision_hidden": 4, "memory": 6, "node": 4}
SIZES |= {"proposal_hidden": 4, "retain_hidden": 5, "update_hidden": 3, "out_hidden": 6}
NETWORKS = {"memory.proposal": "att2", "memory.retain": "gamma1", "memory.update": "gamma2", "out": "out"}
VERTICES = {"text_audio": (0, 1), "text_vision": (0, 2), "audio_vision": (1, 2), "text_audio_vision": (0, 1, 2)}


def build():
    """MMSA's Graph-MFN in small."""
    network = pytest.importorskip("MMSA.models.singleTask.Graph_MFN", reason="needs MMSA (extra 'peer')").Graph_MFN
    layer = lambda name: {"shapes": SIZES[f"{name}_hidden"], "drop": 0.3}  # noqa: E731
    args = {
        "feature_dims": [DIMS[m] for m in DIMS],
        "hidden_dims": [SIZES[f"{m}_hidden"] for m in DIMS],
        "memsize": SIZES["memory"],
        "inner_node_dim": SIZES["node"],
        "train_mode": "regression",
        "device": "cpu",
        "NNConfig": layer("proposal"),
        "gamma1Config": layer("retain"),
        "gamma2Config": layer("update"),
        "outConfig": layer("out"),
    }
    torch.manual_seed(3)
    return network(SimpleNamespace(**args)).eval()


def parameters(network):
    """MMSA's parameters by our names, those of its unregistered networks too."""
    theirs = dict(network.named_parameters())
    ours = {}
    for m in DIMS:
        ours |= {f"lstms.lstms.{m}.{k}_l0": v for k, v in getattr(network, f"lstm_{initial(m)}").named_parameters()}
        ours |= {f"singletons.{m}.{k}": theirs[f"{initial(m)}_transform.{k}"] for k in ("weight", "bias")}
    for name, prefix in NETWORKS.items():
        for part in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
            ours[f"{name}.{part}"] = theirs[f"{prefix}_{part}"]
    graph = network.graph_mfn
    chains = {f"nodes.{name}": graph.networks[key] for name, key in VERTICES.items()}
    chains |= {"top": graph.t_network, "efficacy": graph.efficacy_model}
    for name, chain in chains.items():
        layers = [layer for layer in chain.modules() if isinstance(layer, torch.nn.Linear)]
        ours |= {f"graph.{name}.{i}.{k}": v for i, x in enumerate(layers) for k, v in x.named_parameters()}
    return ours


def initial(modality):
    return {"text": "l", "audio": "a", "vision": "v"}[modality]


def record():
    """What MMSA gives: weights and gradients of the predictions' sum by our names, inputs, predictions, and those of
    shorter utterances."""
    from recorded import shorter

    network = build()
    torch.manual_seed(4)
    x = {m: torch.randn(3, 7, width) for m, width in DIMS.items()}
    prediction = network(x["text"], x["audio"], x["vision"])["M"][:, 0]
    names, weights = zip(*parameters(network).items(), strict=True)
    gradients = torch.autograd.grad(prediction.sum(), weights)
    tensors = {f"input.{m}": x[m] for m in x} | {"prediction": prediction} | shorter(network, x)
    tensors |= {f"weight.{k}": v for k, v in zip(names, weights, strict=True)}
    tensors |= {f"gradient.{k}": v for k, v in zip(names, gradients, strict=True)}
    return {k: v.detach().clone() for k, v in tensors.items()}


def test_same_numbers():
    from recorded import compare

    compare(record(), "graph_mfn", vertices="hidden", **SIZES)


if __name__ == "__main__":
    import sys

    from safetensors.torch import save_file

    sys.path.insert(0, str(Path(__file__).parents[1]))
    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
