"""MulT against MMSA 2.2.1: same weights and inputs, same outputs and gradients.

MMSA shortens sequences by its convolutions (`same_length=False`) and, at its defaults, has no positions; its own
encoder's option adds them. `python tests/peer/test_against_mmsa_mult.py` records tests/golden/mult.safetensors.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "mult.safetensors"
DIMS = {"text": 6, "audio": 4, "vision": 3}
STEPS = {"text": 7, "audio": 10, "vision": 8}  # unaligned
LENGTHS = {"text": (3, 7, 5), "audio": (6, 1, 10), "vision": (3, 8, 4)}  # of the three utterances, made shorter
SIZES = {"d": 5, "heads": 5, "layers": 2, "text_kernel": 3, "audio_kernel": 1, "vision_kernel": 3}
INITIAL = {"text": "l", "audio": "a", "vision": "v"}
PAIRS = [(target, source) for target in DIMS for source in DIMS if source != target]


def build(positions: bool, future_mask: bool = True):
    """MMSA's MulT in small."""
    mult = pytest.importorskip("MMSA.models.singleTask.MULT", reason="needs MMSA (extra 'peer')")
    from MMSA.models.subNets.transformers_encoder.position_embedding import SinusoidalPositionalEmbedding

    drops = ("attn_dropout", "attn_dropout_a", "attn_dropout_v", "relu_dropout", "embed_dropout", "res_dropout")
    args = {
        "use_bert": False,
        "train_mode": "regression",
        "dst_feature_dim_nheads": [SIZES["d"], SIZES["heads"]],
        "feature_dims": [DIMS[m] for m in DIMS],
        "nlevels": SIZES["layers"],
        "attn_mask": future_mask,
        **{f"conv1d_kernel_size_{INITIAL[m]}": SIZES[f"{m}_kernel"] for m in DIMS},
        **dict.fromkeys((*drops, "output_dropout", "text_dropout"), 0.1),
    }
    torch.manual_seed(3)
    network = mult.MULT(SimpleNamespace(**args)).eval()
    for name, module in network.named_modules():
        if name.startswith("trans_") and name.count(".") == 0 and positions:
            module.embed_positions = SinusoidalPositionalEmbedding(module.embed_dim)
        if isinstance(module, torch.nn.LayerNorm):  # as after some training
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return network


def mapped(named):
    """MMSA's tensors by their names -> by ours: encoders side by side, matrices transposed."""
    ours = {f"convs.{i}.weight": named[f"proj_{INITIAL[m]}.weight"] for i, m in enumerate(DIMS)}
    ours |= {
        f"{a}.{k}": named[f"{b}.{k}"]
        for a, b in (("proj1",) * 2, ("proj2",) * 2, ("out", "out_layer"))
        for k in ("weight", "bias")
    }
    parts = {"qkv": "self_attn.in_proj_", "out": "self_attn.out_proj.", "fc1": "fc1.", "fc2": "fc2."}
    parts |= {"norm1": "layer_norms.0.", "norm2": "layer_norms.1."}
    stacks = {
        "cross": [f"trans_{INITIAL[t]}_with_{INITIAL[s]}" for t, s in PAIRS],
        "within": [f"trans_{INITIAL[m]}_mem" for m in DIMS],
    }
    for stack, encoders in stacks.items():
        layers = sum(k.startswith(f"{encoders[0]}.layers") and k.endswith("fc1.bias") for k in named)
        for name, theirs in parts.items():
            for kind, ending in (("weight", ""), ("bias", "_bias")):
                grid = [[named[f"{e}.layers.{layer}.{theirs}{kind}"] for e in encoders] for layer in range(layers)]
                value = torch.stack([torch.stack(row) for row in grid])
                ours[f"{stack}.{name}{ending}"] = value.transpose(-1, -2) if value.dim() == 4 else value
        for kind, ending in (("weight", ""), ("bias", "_bias")):
            ours[f"{stack}.norm{ending}"] = torch.stack([named[f"{e}.layer_norm.{kind}"] for e in encoders])
    return ours


def record(positions: bool = True, steps: dict[str, int] = STEPS, future_mask: bool = True):
    """What MMSA gives: weights and gradients of the predictions' sum by our names, inputs, predictions.

    lengths.{modality} (3,): of the utterances made shorter; alone (3,): predictions, each in a batch of one; padded
    (3,): predictions with zeros for what was cut off.
    """
    network = build(positions, future_mask)
    torch.manual_seed(4)
    x = {m: torch.randn(3, steps[m], width) for m, width in DIMS.items()}
    x["audio"][0, 2:4] = 0  # no positions where the first channel of a step is 0
    prediction = network(x["text"], x["audio"], x["vision"])["M"][:, 0]
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = dict(zip(names, torch.autograd.grad(prediction.sum(), weights), strict=True))
    tensors = {f"input.{m}": x[m] for m in x} | {"prediction": prediction}
    tensors |= {f"weight.{k}": v for k, v in mapped(dict(network.named_parameters())).items()}
    tensors |= {f"gradient.{k}": v for k, v in mapped(gradients).items()}
    if steps == STEPS:
        tensors |= {f"lengths.{m}": torch.tensor(LENGTHS[m]) for m in DIMS}
        alone = [network(*(x[m][i : i + 1, : LENGTHS[m][i]] for m in DIMS))["M"][:, 0] for i in range(3)]
        inside = {m: torch.arange(steps[m]) < tensors[f"lengths.{m}"][:, None] for m in DIMS}
        padded = network(*(x[m] * inside[m][..., None] for m in DIMS))["M"][:, 0]
        tensors |= {"alone": torch.cat(alone), "padded": padded}
    return {k: v.detach().clone() for k, v in tensors.items()}


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize("future_mask", [True, False])
@pytest.mark.parametrize("steps", [STEPS, dict.fromkeys(DIMS, 7)], ids=["unaligned", "aligned"])
def test_same_numbers(positions, future_mask, steps):
    from recorded import compare, compare_mult_shorter

    found = record(positions, steps, future_mask)
    options = {**SIZES, "same_length": False, "positions": positions, "future_mask": future_mask}
    compare(found, "mult", **options)
    if steps == STEPS:
        compare_mult_shorter(found, **options)


if __name__ == "__main__":
    from safetensors.torch import save_file

    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
