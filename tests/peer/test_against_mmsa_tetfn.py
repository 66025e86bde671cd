"""TETFN against MMSA, of its repository (PyPI's 2.2.1 has no TETFN): same weights, token states, inputs and unimodal
labels; same predictions of four tasks, loss and gradients.

MMSA shortens sequences by its convolutions (`same_length=False`), and convolves vision as it does audio.
`python tests/peer/test_against_mmsa_tetfn.py` records tests/golden/tetfn.safetensors, in float64.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "tetfn.safetensors"
D, AUDIO, VISION = 6, 4, 3
STEPS = {"text": 7, "audio": 9, "vision": 8}  # unaligned
SIZES = {
    "d": 4,
    "heads": 2,
    "text_kernel": 3,
    "audio_kernel": 2,
    "vision_kernel": 2,
    "audio_hidden": 5,
    "vision_hidden": 3,
    "fusion_d": 6,
    "text_d": 5,
    "audio_d": 4,
    "vision_d": 3,
}
INITIAL = {"text": "l", "audio": "a", "vision": "v"}
PAIRS = (("text", "audio"), ("text", "vision"), ("audio", "text"), ("vision", "text"))
ENHANCED = (("audio", "vision"), ("vision", "audio"))
VIDEO = {"fusion": "fusion", "text": "text", "audio": "audio", "vision": "video"}  # ours -> MMSA's
TASKS = {"fusion": "M", "text": "T", "audio": "A", "vision": "V"}


def build():
    """MMSA's TETFN in small, without BERT."""
    tetfn = pytest.importorskip("MMSA.models.multiTask.TETFN", reason="needs MMSA of its repository")
    args = {
        "use_finetune": True,
        "transformers": "bert",
        "pretrained": "",
        "need_data_aligned": False,
        "feature_dims": (D, AUDIO, VISION),
        "dst_feature_dims": SIZES["d"],
        "nheads": SIZES["heads"],
        "conv1d_kernel_size_l": SIZES["text_kernel"],
        "conv1d_kernel_size_a": SIZES["audio_kernel"],
        **{f"{m[0]}_lstm_hidden_size": SIZES[f"{m}_hidden"] for m in ("audio", "vision")},
        **{f"{m}_lstm_{x}": y for m in "av" for x, y in (("layers", 1), ("dropout", 0.0))},
        **{f"post_{theirs}_dim": SIZES[f"{s}_d"] for s, theirs in VIDEO.items()},
        **{f"post_{theirs}_dropout": 0.1 for theirs in VIDEO.values()},
        **{f"{x}_dropout": 0.1 for x in ("attn", "relu", "res", "embed")},
        "attn_dropout_a": 0.1,
        "attn_dropout_v": 0.1,
    }
    tetfn.BertTextEncoder = lambda **_: torch.nn.Identity()
    torch.manual_seed(3)
    network = tetfn.TETFN(SimpleNamespace(**args)).double().eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return network


def mapped(named):
    """MMSA's tensors by their names -> by ours: encoders side by side, matrices transposed."""
    ours = {"features.text.conv.weight": named["proj_l.weight"]}
    for m in ("audio", "vision"):
        ours |= {
            f"features.{m}.{name.removeprefix(f'{VIDEO[m]}_model.').replace('rnn.', 'lstm.')}": x
            for name, x in named.items()
            if name.startswith(f"{VIDEO[m]}_model.")
        }
    for s, theirs in VIDEO.items():
        for number, part in enumerate(("feature", "hidden", "out"), 1):
            for kind in ("weight", "bias"):
                ours[f"tasks.{s}.{part}.{kind}"] = named[f"post_{theirs}_layer_{number}.{kind}"]
    stacks = {
        "cross": [f"trans_{INITIAL[t]}_with_{INITIAL[s]}" for t, s in PAIRS],
        "lower": [f"trans_{INITIAL[t]}_with_{INITIAL[s]}.lower_mha" for t, s in ENHANCED],
        "upper": [f"trans_{INITIAL[t]}_with_{INITIAL[s]}.upper_mha" for t, s in ENHANCED],
        "within": [f"trans_{i}_mem" for i in INITIAL.values()],
    }
    parts = {"qkv": "self_attn.in_proj_", "out": "self_attn.out_proj.", "fc1": "fc1.", "fc2": "fc2."}
    parts |= {"norm1": "layer_norms.0.", "norm2": "layer_norms.1."}
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


def record():
    """What MMSA gives for utterances that fill all steps: weights and gradients of its loss by our names."""
    network = build()
    torch.manual_seed(4)
    states = torch.randn(3, STEPS["text"], D, dtype=torch.double, requires_grad=True)
    audio, vision = (torch.randn(3, STEPS[m], d, dtype=torch.double) for m, d in (("audio", AUDIO), ("vision", VISION)))
    labels = {s: torch.randn(3, dtype=torch.double) for s in TASKS}
    found = network(states, (audio, None), (vision, None))
    loss = torch.zeros((), dtype=torch.double)
    for s, theirs in TASKS.items():
        weight = torch.tanh((labels[s] - labels["fusion"]).abs()) if s != "fusion" else 1.0
        loss = loss + (weight * (found[theirs][:, 0] - labels[s]).abs()).mean()
    names, weights = zip(*network.named_parameters(), strict=True)
    *gradients, of_states = torch.autograd.grad(loss, [*weights, states])
    tensors = {"states": states, "audio": audio, "vision": vision, "label": labels["fusion"], "loss": loss}
    tensors |= {f"label.{s}": x for s, x in labels.items()}
    tensors |= {f"prediction.{s}": found[theirs][:, 0] for s, theirs in TASKS.items()}
    tensors |= {f"weight.{k}": v for k, v in mapped(dict(network.named_parameters())).items()}
    tensors |= {f"gradient.{k}": v for k, v in mapped(dict(zip(names, gradients, strict=True))).items()}
    tensors["gradient.states"] = of_states
    return {k: v.detach().clone() for k, v in tensors.items()}


def test_same_numbers():
    from recorded_states import compare_tetfn

    compare_tetfn(record(), **SIZES)


def test_same_count():
    from baselines.tetfn import Config, Model

    model = Model(Config(**SIZES), {"audio": AUDIO, "vision": VISION}, SimpleNamespace(width=D))
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in build().parameters())


if __name__ == "__main__":
    from safetensors.torch import save_file

    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
