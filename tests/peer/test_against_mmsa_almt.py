"""ALMT against MMSA, of its repository (PyPI's 2.2.1 has no ALMT): same weights, token states and inputs; same
predictions and gradients.

`python tests/peer/test_against_mmsa_almt.py` records tests/golden/almt.safetensors, in float64.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "almt.safetensors"
D, AUDIO, VISION = 12, 4, 3
STEPS = 6
SIZES = {"d": 4, "heads": 2, "hidden": 4, "tokens": 3, "hyper_layers": 3, "fusion_layers": 2, "steps": STEPS}
HEAD_WIDTH = 64  # that of MMSA's Transformers, whatever else is asked for
INITIAL = {"text": "l", "audio": "a", "vision": "v"}
LAYER = {
    **{f"{i}.0.norm_{x}.": f"{i}.norm_{x}." for i in range(4) for x in "qkv"},
    **{f"{i}.0.fn.to_{x}.": f"{i}.{x}." for i in range(4) for x in "qkv"},
    **{f"{i}.0.fn.to_out.0.": f"{i}.out." for i in range(4)},
    **{f"{i}.1.norm.": f"{i}.norm." for i in range(4)},
    **{f"{i}.1.fn.net.0.": f"{i}.fc1." for i in range(4)},
    **{f"{i}.1.fn.net.3.": f"{i}.fc2." for i in range(4)},
}
HYPER = {
    "norm1.": "norm_text.",
    "norm2.": "norm_audio.",
    "norm3.": "norm_vision.",
    "norm4.": "norm.",
    "fn.to_q.": "q.",
    "fn.to_k_ta.": "k_audio.",
    "fn.to_k_tv.": "k_vision.",
    "fn.to_v_ta.": "v_audio.",
    "fn.to_v_tv.": "v_vision.",
    "fn.to_out.0.": "out.",
}
NAMES = {  # MMSA's -> ours
    **{f"embedding_{i}.0.": f"embed.{m}.linear." for m, i in INITIAL.items()},
    **{f"embedding_{i}.1.pos_embedding": f"embed.{m}.positions" for m, i in INITIAL.items()},
    **{f"embedding_{i}.1.extra_token": f"embed.{m}.tokens" for m, i in INITIAL.items()},
    **{
        f"embedding_{i}.1.encoder.layers.{a}": f"embed.{m}.layer.{b.removeprefix('0.')}"
        for m, i in INITIAL.items()
        for a, b in LAYER.items()
        if a.startswith("0.")
    },
    "l_encoder.pos_embedding": "text_positions",
    **{f"l_encoder.encoder.layers.{a}": f"text_layers.{b}" for a, b in LAYER.items()},
    **{f"h_hyper_layer.layers.{j}.0.{a}": f"hyper_layers.{j}.{b}" for j in range(4) for a, b in HYPER.items()},
    "h_hyper": "hyper",
    "fusion_layer.extra_token": "fusion_token",
    "fusion_layer.pos_embedding_s": "hyper_positions",
    "fusion_layer.pos_embedding_t": "fusion_position",
    **{f"fusion_layer.CrossTransformerEncoder.layers.{a}": f"fusion_layers.{b}" for a, b in LAYER.items()},
    "regression_head.": "predictor.",
}


def build():
    """MMSA's ALMT in small, without BERT."""
    almt = pytest.importorskip("MMSA.models.singleTask.ALMT", reason="needs MMSA of its repository, and einops")
    args = {
        "use_bert": False,
        "feature_dims": (D, AUDIO, VISION),
        "feature_length": (STEPS,) * 3,
        "dst_feature_dims": SIZES["d"],
        "dst_feature_hidden_dims": SIZES["hidden"],
        "dst_embedding_length": SIZES["tokens"],
        "embedding_depth": (1, 1, 1),
        "embedding_heads": (SIZES["heads"],) * 3,
        "l_encoder_heads": SIZES["heads"],
        "AHL_depth": SIZES["hyper_layers"],
        "h_hyper_layer_heads": SIZES["heads"],
        "fusion_hidden_d": SIZES["hidden"],
        "fusion_heads": SIZES["heads"],
        "fusion_layer_depth": SIZES["fusion_layers"],
    }
    torch.manual_seed(3)
    network = almt.ALMT(SimpleNamespace(**args))
    network.bertmodel = torch.nn.Identity()
    network.regression_head = torch.nn.Linear(SIZES["d"], 1)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return network.double().eval()


def mapped(named):
    """MMSA's tensors by our names; of the fusion's queries' positions only the one that is read."""
    found = {}
    for name, tensor in named.items():
        prefix = max((p for p in NAMES if name.startswith(p)), key=len)
        ours = NAMES[prefix] + name.removeprefix(prefix)
        tensor = tensor[0] if tensor.dim() == 3 else tensor
        found[ours] = tensor[:1] if ours == "fusion_position" else tensor
    return found


def record():
    """What MMSA gives for utterances that fill all steps: weights and gradients of the squared error by our names."""
    network = build()
    torch.manual_seed(4)
    states = torch.randn(3, STEPS, D, dtype=torch.double, requires_grad=True)
    audio, vision = (torch.randn(3, STEPS, d, dtype=torch.double) for d in (AUDIO, VISION))
    label = torch.tensor([1.4, -0.6, 2.0], dtype=torch.double)
    # MMSA cuts to the first 8 tokens, and so reads steps beside our 3: cut its embeddings to them
    for i in INITIAL.values():
        getattr(network, f"embedding_{i}").register_forward_hook(lambda _m, _x, y: y[:, : SIZES["tokens"]])
    prediction = network(states, audio, vision)[:, 0]
    loss = (prediction - label).square().mean()
    names, weights = zip(*network.named_parameters(), strict=True)
    *gradients, of_states = torch.autograd.grad(loss, [*weights, states])
    tensors = {"states": states, "audio": audio, "vision": vision, "label": label}
    tensors |= {"prediction": prediction, "gradient.states": of_states}
    tensors |= {f"weight.{k}": v for k, v in mapped(dict(network.named_parameters())).items()}
    tensors |= {f"gradient.{k}": v for k, v in mapped(dict(zip(names, gradients, strict=True))).items()}
    return {k: v.detach().clone() for k, v in tensors.items()}


def test_same_numbers():
    from recorded_states import compare_almt

    compare_almt(record(), **SIZES, head_width=HEAD_WIDTH)


def test_same_count():
    """But for the positions of queries that are never read."""
    from baselines.almt import Config, Model

    model = Model(Config(**SIZES), {"audio": AUDIO, "vision": VISION}, SimpleNamespace(width=D))
    theirs = sum(p.numel() for p in build().parameters())
    assert sum(p.numel() for p in model.parameters()) == theirs - SIZES["tokens"] * SIZES["d"]


if __name__ == "__main__":
    from safetensors.torch import save_file

    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
