"""MAG-BERT against MMSA 2.2.1: same weights and inputs, same outputs and gradients.

MMSA pads and masks, ours encodes real tokens only. `python tests/peer/test_against_mmsa_mag.py` records
tests/golden/mag.safetensors.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.peer
GOLDEN = Path(__file__).parents[1] / "golden" / "mag.safetensors"
LENGTHS, NOMINAL = (5, 8, 3, 1), 8
AUDIO, VISION = 4, 3
BETA = 0.4
TINY = {
    "vocab_size": 20,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 16,
    "max_position_embeddings": NOMINAL,
}
NAMES = {  # MMSA's -> ours
    "bert.MAG.W_hv.": "gate.gate_vision.",
    "bert.MAG.W_ha.": "gate.gate_audio.",
    "bert.MAG.W_v.": "gate.vision.",
    "bert.MAG.W_a.": "gate.audio.",
    "bert.MAG.LayerNorm.": "gate.norm.",
    "bert.pooler.": "text.pooler.",
    "bert.": "text.model.",
    "classifier.": "predictor.",
}


def revive(bert_mag):
    """MMSA's copy of BERT calls what transformers 5 has dropped; here are version 4's answers for our arguments."""
    model, classifier = bert_mag.MAG_BertModel, bert_mag.MAG_BertForSequenceClassification
    if not hasattr(model, "get_head_mask"):
        model.init_weights = classifier.init_weights = lambda self: None
        model.get_head_mask = lambda self, mask, layers: None
        lowest = torch.finfo(torch.float32).min
        model.get_extended_attention_mask = lambda self, mask, *_: (1 - mask)[:, None, None] * lowest


def build():
    """MMSA's MAG-BERT in small."""
    bert_mag = pytest.importorskip("MMSA.models.singleTask.BERT_MAG", reason="needs MMSA (extra 'peer')")
    from transformers import BertConfig

    revive(bert_mag)
    args = {"feature_dims": (TINY["hidden_size"], AUDIO, VISION), "beta_shift": BETA, "dropout_prob": 0.3}
    torch.manual_seed(3)
    config = BertConfig(**TINY, num_labels=1, attn_implementation="eager")
    network = bert_mag.MAG_BertForSequenceClassification(config, SimpleNamespace(**args, device="cpu"))
    for p in network.parameters():  # as large as after training, so that nothing is lost in rounding
        torch.nn.init.normal_(p, std=0.4)
    return network.eval()


def ours(name: str) -> str:
    prefix = next(prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[prefix] + name.removeprefix(prefix)


def record():
    """What MMSA gives: weights and gradients of the predictions' sum by our names, inputs, predictions."""
    network = build()
    torch.manual_seed(4)
    ids = torch.randint(1, TINY["vocab_size"], (len(LENGTHS), NOMINAL))
    audio, vision = torch.randn(*ids.shape, AUDIO), torch.randn(*ids.shape, VISION)
    real = torch.arange(NOMINAL) < torch.tensor(LENGTHS)[:, None]
    special = (torch.arange(NOMINAL) == 0) | (torch.arange(NOMINAL) == torch.tensor(LENGTHS)[:, None] - 1)
    shown = (real & ~special)[..., None]
    ids, audio, vision = ids * real, audio * shown, vision * shown
    prediction = network(ids, vision, audio, attention_mask=real.float())[0][:, 0]
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(prediction.sum(), weights)
    tensors = {"ids": ids, "audio": audio, "vision": vision, "lengths": torch.tensor(LENGTHS), "prediction": prediction}
    tensors |= {f"weight.{ours(k)}": v for k, v in zip(names, weights, strict=True)}
    tensors |= {f"gradient.{ours(k)}": v for k, v in zip(names, gradients, strict=True)}
    return {k: v.detach().clone() for k, v in tensors.items()}


def test_same_numbers():
    from recorded import compare_mag

    compare_mag(record())


if __name__ == "__main__":
    from safetensors.torch import save_file

    GOLDEN.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in record().items()}, GOLDEN)
