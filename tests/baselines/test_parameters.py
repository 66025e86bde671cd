"""Parameter counts: Table 8's and those of the reference implementations, exact to the parameter. No weight is made."""

import pytest
import torch

from studies.registry import build_model

MOSI = {"text": 768, "audio": 74, "vision": 47}
MOSEI = {"text": 768, "audio": 74, "vision": 35}
GLOVE = {"text": 300, "audio": 74, "vision": 47}
COUNTS = [
    # Table 8 of the paper and what follows from it (facts 1.1)
    ("hycon", "bert", MOSI, {}, 109_209_149),
    ("hycon", "bert", MOSI, {"beta": 0.2}, 109_209_149),
    # one modality: a convolution (3 d_m d), 3 layers of 30,650 and a norm of 2d; the predictor: 51
    ("hycon", "bert", MOSI, {"modalities": "audio"}, 3 * 74 * 50 + 3 * 30_650 + 100 + 51),
    ("hycon", "bert", MOSI, {"modalities": "text"}, 108_891_648 + 3 * 768 * 50 + 51),  # BERT without pooler
    ("hycon", "bert", MOSEI, {}, 109_207_349),
    ("hycon", "xlnet", MOSI, {}, 117_035_837),
    ("tfn", "bert", MOSI, {}, 161_409_399),
    ("hycon", "bert", MOSI, {"fusion": "concatenation"}, 109_216_699),  # "MIB w/o IB", Table XI of the MIB paper
    ("lmf", "bert", MOSI, {}, 109_247_454),  # HyCon + low-rank fusion (rank 5, d 50): 3 * 5 * 51 * 50 + 5 + 50
    # MMSA's 110,963,281 and 109,649,444 without what it never trains: BERT's pooler, 590,592, and of MISA a
    # discriminator and a norm of the text, 3,588
    ("misa", "bert", MOSI, {}, 110_369_101),
    ("self_mm", "bert", MOSI, {}, 109_058_852),
    ("hycon", "bert", MOSI, {"modalities": "text", "iamcl": 0.0, "iemcl": 0.0, "scl": 0.0}, 109_006_899),
    # text alone: an LSTM of 128 over 300, Linear(128, 32), Linear(32, 1)
    ("lf_lstm", "glove", GLOVE, {"modalities": "text"}, 4 * 128 * (300 + 128 + 2) + 128 * 32 + 32 + 33),
    # BERT without pooler, and MMSA's network beside BERT on these features (tests/peer), less what it never trains:
    # MMIM's projections for the entropy, ALMT's positions of queries that nothing reads
    ("mmim", "bert", MOSI, {}, 108_891_648 + 283_401 - 2 * (16 * 4 + 4)),
    ("tetfn", "bert", MOSI, {}, 108_891_648 + 1_265_552),
    ("almt", "bert", MOSI, {}, 108_891_648 + 2_516_737 - 8 * 128),
    # the original code's networks, as MMSA counts them
    ("lmf", "glove", GLOVE, {"text_hidden": 128, "audio_hidden": 16, "vision_hidden": 128, "rank": 3}, 270_207),
    (
        "tfn",
        "glove",
        GLOVE,
        {"text_hidden": 128, "audio_hidden": 32, "vision_hidden": 128, "text_out": 32, "fusion_hidden": 64},
        9_263_283,  # and two that MMSA does not train: output range and shift
    ),
]


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("model", "text", "dims", "config", "expected"), COUNTS)
def test_count(model, text, dims, config, expected):
    with torch.device("meta"):
        built = build_model(model, text=text, dims=dims, **config)
    assert count(built) == expected
    assert count(built) == sum(p.numel() for p in built.parameters())  # nothing is frozen


def test_summed_rank_has_constant_weights():
    with torch.device("meta"):
        learned = build_model("lmf", text="glove", dims=GLOVE, rank=4)
        summed = build_model("lmf", text="glove", dims=GLOVE, rank=4, learned_weights=False)
    assert count(learned) - count(summed) == 4
