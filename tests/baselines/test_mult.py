"""MulT: parity with MMSA as recorded, and that neither padding nor the other utterances of a batch change anything."""

from dataclasses import replace

import pytest
import torch
from recorded import DIMS, GOLDEN, compare, compare_mult_shorter
from safetensors.torch import load_file

from hycon.data.batch import Batch, Layout
from hycon.data.ragged import Ragged
from hycon.errors import UserError
from hycon.pretrained import DEMO, identify, load_model
from hycon.text import PretrainedText
from studies.registry import build_model

RECORDED = {"d": 5, "heads": 5, "layers": 2, "text_kernel": 3, "audio_kernel": 1, "vision_kernel": 3}
RECORDED |= {"same_length": False}
SMALL = {"d": 6, "heads": 2, "layers": 2}
ALIGNED = {m: [3, 8, 1, 2, 7, 5] for m in DIMS}
UNALIGNED = {"text": [3, 8, 1, 2, 7, 5], "audio": [9, 12, 1, 2, 5, 6], "vision": [3, 4, 2, 1, 7, 6]}


def batch_of(lengths, seed=1, nominal=12):
    generator = torch.Generator().manual_seed(seed)
    inputs = {
        m: Ragged.from_list([torch.randn(length, width, generator=generator) for length in lengths[m]])
        for m, width in DIMS.items()
    }
    label = torch.linspace(-2, 2, len(lengths["text"]))
    return Batch(**inputs, label=label, layout=Layout(dict.fromkeys(DIMS, nominal)))


def small(**config):
    torch.manual_seed(0)
    return build_model("mult", text="features", dims=DIMS, **{**SMALL, **config})


def test_same_numbers_as_mmsa():
    recorded = load_file(GOLDEN / "mult.safetensors")
    compare(recorded, "mult", **RECORDED)
    compare_mult_shorter(recorded, **RECORDED)


@pytest.mark.parametrize(
    ("text", "dims", "config", "expected"),
    [
        ("bert", {"text": 768, "audio": 74, "vision": 47}, {}, 110_838_399),  # Table 8
        *(  # MMSA's MOSI configuration, as MMSA counts it
            ("glove", {"text": width, "audio": 74, "vision": 47}, config, expected)
            for config in [{"d": 50, "heads": 10, "layers": 4, "text_kernel": 5, "audio_kernel": 5, "vision_kernel": 5}]
            for width, expected in ((300, 2_478_551), (768, 2_595_551))
        ),
    ],
)
def test_count(text, dims, config, expected):
    with torch.device("meta"):
        built = build_model("mult", text=text, dims=dims, **config)
    assert sum(p.numel() for p in built.parameters()) == expected


def test_attention_s_dropout_is_the_source_s_and_one_of_all_self_attentions():
    """As in the reference code: la and va (target, source) drop audio's and vision's share, l_mem, a_mem, v_mem one."""
    model = small(attn_dropout=0.1, attn_dropout_audio=0.2, attn_dropout_vision=0.3)
    assert model.cross.attn_dropout == (0.2, 0.3, 0.1, 0.3, 0.1, 0.2)
    assert model.within.attn_dropout == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(("own", "expected"), [({}, 0.4), ({"text_dropout": 0.1}, 0.1), ({"text_dropout": 0.0}, 0.0)])
def test_text_s_dropout_is_that_of_embeddings_unless_given(own, expected):
    model = small(embed_dropout=0.4, **own)
    assert (model.text_drop.p, model.embed_drop.p) == (expected, 0.4)


@pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("config", [{}, {"same_length": False, "text_kernel": 3, "audio_kernel": 5}])
def test_an_utterance_is_encoded_as_if_alone(lengths, config):
    model = small(**config).eval()
    batch = batch_of(lengths)
    together = model(batch).prediction
    alone = torch.cat([model(batch.slice(i, i + 1)).prediction for i in range(len(batch))])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    order = torch.tensor([4, 0, 5, 1, 3, 2])
    torch.testing.assert_close(model(batch.take(order)).prediction, together[order], atol=1e-6, rtol=0)
    assert torch.equal(model(batch_of(lengths, nominal=30)).prediction, together)


def test_attending_to_the_padding_changes_predictions_with_it():
    model = small(attend_padding=True).eval()
    assert not torch.allclose(model(batch_of(ALIGNED)).prediction, model(batch_of(ALIGNED, nominal=30)).prediction)


@pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED, {m: [4] for m in DIMS}], ids=["aligned", "unaligned", "one"])
@pytest.mark.parametrize("attn_dropout_audio", [0.0, 0.1], ids=["own", "shared"])
def test_every_parameter_learns(lengths, attn_dropout_audio):
    model = small(attn_dropout_audio=attn_dropout_audio, attn_dropout_vision=attn_dropout_audio)
    model(batch_of(lengths)).prediction.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("config", [{}, {"attend_padding": True}, {"text_kernel": 3, "same_length": False}])
def test_a_step_never_asks_an_accelerator_for_a_value(lengths, config):
    """On the meta device, which takes the way of a GPU, whatever would have to wait for a value raises."""
    batch = batch_of(lengths)
    rows = {m: getattr(batch, m).to("meta") for m in DIMS}
    prediction = small(**config).to("meta")(replace(batch, label=batch.label.to("meta"), **rows)).prediction
    prediction.sum().backward()
    assert prediction.is_meta
    assert prediction.shape == (6,)


@pytest.mark.parametrize("text", ["bert", "xlnet"])
def test_tokens(text, batches):
    encoder = identify(text, DEMO)
    some = batches("small", text)["train"].slice(0, 6)
    dims = {"text": 32, "audio": some.audio.rows.shape[1], "vision": some.vision.rows.shape[1]}
    model = build_model("mult", text=text, dims=dims, encoder=encoder, token_d=10, heads=2, token_layers=1)
    assert isinstance(model.text, PretrainedText)
    assert type(model.text.model) is type(load_model(text, encoder))
    out = model(some)
    assert out.prediction.shape == (6,)
    assert out.multimodal.shape == (6, 60)
    assert out.representations is None
    model.eval()
    alone = torch.cat([model(some.slice(i, i + 1)).prediction for i in range(6)])
    torch.testing.assert_close(model(some).prediction, alone, atol=1e-5, rtol=0)


def test_heads_must_divide():
    with pytest.raises(UserError, match="width of 6 is not divisible by 4 heads"):
        small(heads=4)
