"""MMIM against MMSA 2.2.1: same weights, token states and inputs; same predictions, losses of both stages, gradients.

MMSA's optional LSTMs of one direction, as in the authors' code, and no BERT: its states are an input.
`python tests/peer/test_against_mmsa_mmim.py` records tests/golden/mmim.safetensors, in float64.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "mmim.safetensors"
D, AUDIO, VISION = 12, 4, 3
SIZES = {"audio_hidden": 5, "vision_hidden": 6, "audio_out": 8, "vision_out": 9, "fusion": 7}
WEIGHTS = {"alpha": 0.3, "beta": 0.2}
LENGTHS = (5, 8, 3, 1, 6, 7, 4, 2)
LABELS = (1.4, -0.6, 0.0, 2.0, -1.0, 0.4, -2.6, -0.2)
NAMES = (
    {  # MMSA's -> ours
        "visual_enc.rnn.": "vision.lstm.",
        "visual_enc.linear_1.": "vision.linear.",
        "acoustic_enc.rnn.": "audio.lstm.",
        "acoustic_enc.linear_1.": "audio.linear.",
        "fusion_prj.linear_1.": "linear1.",
        "fusion_prj.linear_2.": "linear2.",
        "fusion_prj.linear_3.": "predictor.",
    }
    | {
        f"{theirs}{a}": f"{ours}{b}"
        for theirs, m in (("mi_tv.", "vision"), ("mi_ta.", "audio"))
        for a, ours, b in (
            ("mlp_mu.", f"conditional.{m}.", "mean."),
            ("mlp_logvar.", f"conditional.{m}.", "variance."),
            ("entropy_prj.0.", f"entropy.{m}.", ""),
        )
    }
    | {f"cpc_z{m[0]}.net.": f"cpc.{m}." for m in ("text", "audio", "vision")}
)


def build():
    """MMSA's MMIM in small, without BERT."""
    mmim = pytest.importorskip("MMSA.models.singleTask.MMIM", reason="needs MMSA (extra 'peer')")
    args = {
        "use_bert": True,
        "use_finetune": True,
        "transformers": "bert",
        "pretrained": "",
        "train_mode": "regression",
        "need_data_aligned": False,
        "add_va": False,
        "feature_dims": (D, AUDIO, VISION),
        "n_layer": 1,
        "bidirectional": False,
        **{f"dropout_{k}": 0.1 for k in ("a", "v", "prj")},
        **{f"d_{m[0]}h": SIZES[f"{m}_hidden"] for m in ("audio", "vision")},
        **{f"d_{m[0]}out": SIZES[f"{m}_out"] for m in ("audio", "vision")},
        "d_prjh": SIZES["fusion"],
        "cpc_layers": 1,
        "mmilb_mid_activation": "ReLU",
        "mmilb_last_activation": "Tanh",
        "cpc_activation": "Tanh",
    }
    mmim.BertTextEncoder = lambda **_: torch.nn.Identity()
    torch.manual_seed(3)
    network = mmim.MMIM(SimpleNamespace(**args)).double().eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return network


def ours(name: str) -> str:
    prefix = next(prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[prefix] + name.removeprefix(prefix)


def record():
    """What MMSA gives: weights by our names, inputs, a batch's memory, prediction, the losses of both stages, and the
    gradients that its optimisers take: of stage 0 for "mi", of stage 1 for the others and the token states."""
    network = build()
    torch.manual_seed(4)
    states = torch.randn(8, 8, D, dtype=torch.double, requires_grad=True)
    audio, vision = (torch.randn(8, 8, d, dtype=torch.double) for d in (AUDIO, VISION))
    label, lengths = torch.tensor(LABELS, dtype=torch.double), torch.tensor(LENGTHS)
    memory, recent = {}, {}
    for key, m in (("tv", "vision"), ("ta", "audio")):
        rows = torch.tanh(torch.randn(11, SIZES[f"{m}_out"] // 4, dtype=torch.double))
        recent[f"recent.{m}"] = rows
        memory[key] = {"pos": [rows[:6]], "neg": [rows[6:]]}
    found = network(states, (audio, lengths), (vision, lengths), y=label[:, None], mem=memory)
    prediction = found["M"][:, 0]
    alpha, beta = WEIGHTS["alpha"], WEIGHTS["beta"]
    main = (prediction - label).abs().mean() + alpha * found["nce"] - beta * found["lld"] - beta * found["H"]
    named = {k: p for k, p in network.named_parameters() if ".entropy_prj." not in k}
    estimator = {k: p for k, p in named.items() if k.startswith("mi_")}
    rest = {k: p for k, p in named.items() if k not in estimator}
    *gradients, of_states = torch.autograd.grad(main, [*rest.values(), states], retain_graph=True)
    of_estimator = torch.autograd.grad(-found["lld"], list(estimator.values()))
    tensors = {"states": states, "audio": audio, "vision": vision, "label": label, "lengths": lengths}
    tensors |= {"prediction": prediction, "main": main, "lld": -found["lld"], "entropy": found["H"], **recent}
    tensors |= {f"weight.{ours(k)}": p for k, p in network.named_parameters()}
    tensors |= {f"gradient.{ours(k)}": g for k, g in zip(rest, gradients, strict=True)}
    tensors |= {f"gradient.{ours(k)}": g for k, g in zip(estimator, of_estimator, strict=True)}
    tensors["gradient.states"] = of_states
    return {k: v.detach().clone() for k, v in tensors.items()}


def test_same_numbers():
    from recorded_states import compare_mmim

    compare_mmim(record(), **SIZES, **WEIGHTS)


def test_same_count():
    """At MMSA's sizes on MOSI, but for its BERT; its projection for the entropy, which it never trains, is a buffer."""
    from baselines.mmim import Config, Model

    network = build()
    states = SimpleNamespace(width=D)
    model = Model(Config(**SIZES), {"audio": AUDIO, "vision": VISION}, states)
    untrained = sum(p.numel() for k, p in network.named_parameters() if "entropy_prj" in k)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in network.parameters()) - untrained


if __name__ == "__main__":
    from safetensors.torch import save_file

    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
