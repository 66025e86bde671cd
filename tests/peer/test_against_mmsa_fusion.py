"""EF-LSTM, TFN and LMF against MMSA 2.2.1: same weights and inputs, same outputs and gradients.

Inputs are as long as their batch: beyond an utterance's end MMSA goes on through zeros and ours stops. So each
utterance is also cut short and given to MMSA alone, and to ours in a batch (but for EF-LSTM: MMSA's has one length).
`python tests/peer/test_against_mmsa_fusion.py` records tests/golden/{ef_lstm,tfn,lmf}.safetensors.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden"
DIMS = {"text": 6, "audio": 4, "vision": 3}
LENGTH = 5
SUBNETS = {"text_hidden": 8, "audio_hidden": 3, "vision_hidden": 2}
OURS = {
    "ef_lstm": {"hidden": 5, "cell": 5, "layers": 2, "time_norm": LENGTH},
    "tfn": {**SUBNETS, "text_out": 4, "fusion_hidden": 6},
    "lmf": {**SUBNETS, "rank": 3},
}
THEIRS = {
    "ef_lstm": {"seq_lens": LENGTH, "hidden_dims": 5, "num_layers": 2, "dropout": 0.3},
    "tfn": {"hidden_dims": (8, 3, 2), "text_out": 4, "post_fusion_dim": 6, "dropouts": (0.3,) * 4},
    "lmf": {"hidden_dims": (8, 3, 2), "rank": 3, "dropouts": (0.3,) * 4},
}


def build(model: str) -> torch.nn.Module:
    """MMSA's model in small."""
    name = model.upper()
    module = pytest.importorskip(f"MMSA.models.singleTask.{name}", reason="needs MMSA (extra 'peer')")
    torch.manual_seed(3)
    network = getattr(module, name)(
        SimpleNamespace(feature_dims=list(DIMS.values()), train_mode="regression", **THEIRS[model])
    )
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):  # as after some training
            for value in (layer.running_mean, layer.weight.data, layer.bias.data):
                value.normal_()
            layer.running_var.uniform_(0.5, 2)
    return network.eval()


def mapped(model: str, named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """MMSA's tensors (weights, buffers or gradients) by their names -> by ours; what is missing is left out."""
    renamed, ours = {}, {}
    if model == "ef_lstm":
        renamed = {"norm": "time_norm", "lstm": "lstm", "linear": "head.hidden", "out": "head.out"}
    else:
        text = "net.subnets.text"
        renamed = {"text_subnet.rnn": f"{text}.lstm", "text_subnet.linear_1": f"{text}.linear"}
        for theirs, m in (("audio", "audio"), ("video", "vision")):
            renamed[f"{theirs}_subnet.norm"] = f"net.subnets.{m}.norm"
            renamed |= {f"{theirs}_subnet.linear_{i + 1}": f"net.subnets.{m}.layers.{i}" for i in range(3)}
        renamed |= {f"post_fusion_layer_{i}": f"net.fc{i}" for i in (1, 2, 3)}
    for name, value in named.items():
        module, _, kind = name.rpartition(".")
        if module in renamed:
            ours[f"{renamed[module]}.{kind}"] = value
    if model == "tfn" and "net.fc1.weight" in ours:
        # MMSA: audio, vision, text, each [1; x]; ours: text, audio, vision, each [x; 1]
        sizes = (SUBNETS["audio_hidden"] + 1, SUBNETS["vision_hidden"] + 1, OURS["tfn"]["text_out"] + 1)
        cube = ours["net.fc1.weight"].unflatten(1, sizes).permute(0, 3, 1, 2)
        ours["net.fc1.weight"] = cube.roll((-1, -1, -1), (1, 2, 3)).flatten(1)
    if model == "lmf":
        factors = {"text": "text_factor", "audio": "audio_factor", "vision": "video_factor"}
        plain = {f"net.fusion.factors.{m}": theirs for m, theirs in factors.items()}
        plain |= {"net.fusion.weights": "fusion_weights", "net.fusion.bias": "fusion_bias"}
        ours |= {name: named[theirs] for name, theirs in plain.items() if theirs in named}
    return ours


def record(model: str) -> dict[str, torch.Tensor]:
    """What MMSA gives: weights and gradients of the predictions' sum by our names, inputs, predictions, and those of
    shorter utterances."""
    from recorded import shorter

    network = build(model)
    torch.manual_seed(4)
    x = {m: torch.randn(3, LENGTH, width) for m, width in DIMS.items()}

    def run(text, audio, vision):
        if model != "ef_lstm":  # MMSA's loader does this ("need_normalized")
            audio, vision = (y.mean(1, keepdim=True) for y in (audio, vision))
        return network(text, audio, vision)

    prediction = run(**x)["M"][:, 0]
    weights = {k: p for k, p in network.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(prediction.sum(), list(weights.values()))
    tensors = {f"input.{m}": x[m] for m in x} | {"prediction": prediction}
    if model != "ef_lstm":
        tensors |= shorter(run, x)
    tensors |= {f"weight.{k}": v for k, v in mapped(model, network.state_dict()).items()}
    tensors |= {f"gradient.{k}": v for k, v in mapped(model, dict(zip(weights, found, strict=True))).items()}
    return {k: v.detach().clone().contiguous() for k, v in tensors.items()}


@pytest.mark.parametrize("model", OURS)
def test_same_numbers(model):
    from recorded import compare

    compare(record(model), model, **OURS[model])


if __name__ == "__main__":
    import sys

    from safetensors.torch import save_file

    sys.path.insert(0, str(Path(__file__).parents[1]))
    for model in OURS:
        save_file(record(model), GOLDEN / f"{model}.safetensors")
