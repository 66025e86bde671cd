"""MFN against MMSA 2.2.1: same weights and inputs, same outputs and gradients.

`python tests/peer/test_against_mmsa_mfn.py` records tests/golden/mfn.safetensors, which the default run compares with.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "mfn.safetensors"
DIMS = {"text": 6, "audio": 4, "vision": 3}
SIZES = {"text_hidden": 5, "audio_hidden": 3, "vision_hidden": 4, "memory": 6, "attention_hidden": 7}
SIZES |= {"proposal_hidden": 4, "retain_hidden": 5, "update_hidden": 3, "out_hidden": 6}
LSTM = {"text": "lstm_l", "audio": "lstm_a", "vision": "lstm_v"}
NETWORKS = {  # ours -> MMSA's
    "attention": "att1",
    "memory.proposal": "att2",
    "memory.retain": "gamma1",
    "memory.update": "gamma2",
    "out": "out",
}


def build():
    """MMSA's MFN in small."""
    network = pytest.importorskip("MMSA.models.singleTask.MFN", reason="needs MMSA (extra 'peer')").MFN
    layer = lambda name: {"shapes": SIZES[f"{name}_hidden"], "drop": 0.3}  # noqa: E731
    args = {
        "feature_dims": [DIMS[m] for m in DIMS],
        "hidden_dims": [SIZES[f"{m}_hidden"] for m in DIMS],
        "memsize": SIZES["memory"],
        "windowsize": 2,
        "train_mode": "regression",
        "NN1Config": layer("attention"),
        "NN2Config": layer("proposal"),
        "gamma1Config": layer("retain"),
        "gamma2Config": layer("update"),
        "outConfig": layer("out"),
    }
    torch.manual_seed(3)
    return network(SimpleNamespace(**args)).eval()


def mapped(named):
    """MMSA's tensors by their names -> by ours."""
    ours = {}
    for m, name in LSTM.items():
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            ours[f"lstms.lstms.{m}.{part}_l0"] = named[f"{name}.{part}"]
    for name, theirs in NETWORKS.items():
        for part in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
            ours[f"{name}.{part}"] = named[f"{theirs}_{part}"]
    return ours


def record():
    """What MMSA gives: weights and gradients of the predictions' sum by our names, inputs, predictions, and those of
    shorter utterances."""
    from recorded import shorter

    network = build()
    torch.manual_seed(4)
    x = {m: torch.randn(3, 7, width) for m, width in DIMS.items()}
    prediction = network(x["text"], x["audio"], x["vision"])["M"][:, 0]
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(prediction.sum(), weights), strict=True))
    tensors = {f"input.{m}": x[m] for m in x} | {"prediction": prediction} | shorter(network, x)
    tensors |= {f"weight.{k}": v for k, v in mapped(dict(network.named_parameters())).items()}
    tensors |= {f"gradient.{k}": v for k, v in mapped(gradients).items()}
    return {k: v.detach().clone() for k, v in tensors.items()}


def test_same_numbers():
    from recorded import compare

    compare(record(), "mfn", **SIZES)


if __name__ == "__main__":
    import sys

    from safetensors.torch import save_file

    sys.path.insert(0, str(Path(__file__).parents[1]))
    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
