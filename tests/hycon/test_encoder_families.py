"""Encoders other than BERT behind the front-end `bert`: without padding they give the padded form's numbers."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from pretended_gpu import PretendedGPU

from hycon.data import load
from hycon.data.ragged import Ragged
from hycon.encoder_families import FAMILIES
from hycon.encoder_files import KEPT
from hycon.encoders import READOUTS, TextProjection
from hycon.errors import UserError
from hycon.pretrained import (
    ENCODERS,
    hidden_size,
    identify,
    lacks_pooler,
    load_model,
    load_tokenizer,
    positions,
    read_with_padding,
)
from hycon.text import CHUNK, PretrainedText
from studies.cli.run import padded_encoders
from studies.registry import unserved_because

T = 24
SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 60,
}
CONFIGS = {
    "bert": transformers.BertConfig(**SIZES),
    "electra": transformers.ElectraConfig(**SIZES, embedding_size=16),  # narrower words than states, as ELECTRA-small
    "distilbert": transformers.DistilBertConfig(
        vocab_size=100, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=60
    ),
    "roberta": transformers.RobertaConfig(**SIZES),
    "xlm-roberta": transformers.XLMRobertaConfig(**SIZES),
    "camembert": transformers.CamembertConfig(**SIZES),
    "mpnet": transformers.MPNetConfig(**SIZES),
    "deberta": transformers.DebertaConfig(**SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "deberta-v2": transformers.DebertaV2Config(  # as deberta-v3-base
        **SIZES,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        share_att_key=True,
    ),
    "deberta-v2-conv": transformers.DebertaV2Config(  # as the larger ones
        **SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, conv_kernel_size=3
    ),
    "albert": transformers.AlbertConfig(**SIZES, embedding_size=16),  # one of those of which nothing is known
}


def made(name: str) -> PretrainedText:
    torch.manual_seed(0)
    return PretrainedText(transformers.AutoModel.from_config(CONFIGS[name]), "bert").eval()


def sentences(encoder: PretrainedText) -> Ragged:
    """Lengths from the shortest possible to the full nominal length."""
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 24, 7, 23, 22, 4, 12, 9, 15, 3, 18]
    pad = encoder.model.config.pad_token_id
    return Ragged.from_list([torch.randint(5, 100, (n,), generator=generator) for n in lengths], pad=pad)


def padded_states(encoder: PretrainedText, text: Ragged) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference: every sentence padded to T and encoded whole, from token ids."""
    real = torch.arange(T) < text.lengths[:, None]
    return encoder.model(input_ids=text.padded(T), attention_mask=real.long()).last_hidden_state, real


def test_every_family_is_tested():
    assert set(FAMILIES) - {"xlnet"} <= set(CONFIGS)


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_readouts_are_those_of_the_padded_form(name, readout):
    encoder = made(name)
    text = sentences(encoder)
    projection = TextProjection(encoder, 10, readout).eval()
    with torch.no_grad():
        states, real = padded_states(encoder, text)
        full = F.conv1d(states.transpose(1, 2), projection.conv.weight, padding=1).transpose(1, 2)  # (B, T, 10)
        expected = {
            "last": full[:, T - 1],
            "last_real": full[torch.arange(len(text)), text.lengths - 1],
            "cls": full[:, 0],
            "mean": (full * real[:, :, None]).sum(1) / text.lengths[:, None],
        }[readout]
        torch.testing.assert_close(projection(text, T), expected, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_the_padded_ones_where_real_and_zero_elsewhere(name):
    encoder = made(name)
    text = sentences(encoder)
    with torch.no_grad():
        states, real = padded_states(encoder, text)
        torch.testing.assert_close(encoder.states(text), states * real[:, :, None], atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_the_padded_form(name):
    encoder = made(name)
    text = sentences(encoder)
    weights = [p for p in encoder.parameters() if p.requires_grad]
    states, _ = padded_states(encoder, text)
    expected = torch.autograd.grad(states[:, T - 2 :].square().sum(), weights, allow_unused=True)
    ours = torch.autograd.grad(encoder.windows(text, "last", T)[:, :2].square().sum(), weights, allow_unused=True)
    for a, b in zip(expected, ours, strict=True):
        if a is not None:
            torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_padding_is_computed_but_where_a_family_needs_it(name, monkeypatch):
    """Tokens that the encoder's layers see, of one chunk with a short and a long sentence."""
    encoder, seen = made(name), []
    if encoder.family.rows:
        pytest.skip("its sentences are rows: see the next test")
    monkeypatch.setitem(CHUNK, "cpu", 1)
    encoder.model.register_forward_hook(lambda *args: seen.append(args[-1].last_hidden_state.shape[1]))
    text = Ragged.from_list([torch.full((3,), 7), torch.full((9,), 8)], pad=encoder.model.config.pad_token_id)
    with torch.no_grad():
        encoder.states(text)
        assert seen == [9, 3]
        encoder.windows(text, "last", T)
    if name == "distilbert" and not encoder.known:
        pytest.skip("this version of transformers has no positions for DistilBERT: it is read with padding")
    whole = name in ("mpnet", "deberta", "deberta-v2", "deberta-v2-conv", "albert")
    assert seen[2:] == ([T, T] if whole else [11, 5])


@pytest.mark.parametrize(
    ("changed", "by_rows"),
    [({}, True), ({"is_decoder": True}, False), ({"position_embedding_type": "relative_key"}, False)],
)
def test_layers_that_see_more_than_tokens_are_not_read_by_rows(changed, by_rows):
    """hycon/text_rows.py has no causal mask and no relative positions, which BERT has in transformers 4."""
    config = transformers.BertConfig(**SIZES, **changed)
    assert PretrainedText(transformers.AutoModel.from_config(config), "bert").by_rows is by_rows


@pytest.mark.parametrize("name", [name for name in CONFIGS if name in FAMILIES and FAMILIES[name].rows])
def test_linear_layers_see_real_tokens_alone(name):
    """Rows that each layer's feed-forward part is given, of sentences of 3 and 9 tokens; the read-out `last` needs two
    nominal positions of each, and nothing else of the last layer."""
    encoder, seen = made(name), []
    for layer in encoder.model.encoder.layer:
        layer.intermediate.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    text = Ragged.from_list([torch.full((3,), 7), torch.full((9,), 8)], pad=encoder.model.config.pad_token_id)
    with torch.no_grad():
        encoder.states(text)
        assert seen == [12, 12]
        encoder.windows(text, "last", T)
        assert seen[2:] == [16, 4]
        encoder.windows(text, "cls", T)
        assert seen[4:] == [12, 12]


# ------------------------------------------------------------------------------------------------- folders, end to end


def byte_level(folder: Path) -> Path:
    """A tiny RoBERTa with a byte-level vocabulary, in which a word within a sentence begins with a marked space."""
    torch.manual_seed(0)
    transformers.RobertaModel(CONFIGS["roberta"]).save_pretrained(folder)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "g", "o", "d", "\u0120", "\u0120a"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n\u0120 a\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    return folder


@pytest.fixture
def roberta(tmp_path, monkeypatch) -> dict[str, str]:
    for name in (ENCODERS, KEPT):
        monkeypatch.setenv(name, "{}")
    return identify("bert", str(byte_level(tmp_path / "tiny-roberta")))


def test_a_byte_level_vocabulary_reads_words_as_within_a_sentence(roberta):
    words = load_tokenizer("bert", roberta)
    assert (words.cls, words.pad, words.sep) == (0, 1, 2)
    assert words.pieces(["a"]) == [[11]]


def test_offset_positions_are_taken_off_the_longest_sentence(roberta):
    assert positions("bert", roberta) == 58
    assert hidden_size("bert", roberta) == 32


def test_a_roberta_is_loaded_as_it_was_saved(roberta):
    model = load_model("bert", roberta)
    torch.manual_seed(0)
    same = transformers.RobertaModel(CONFIGS["roberta"])
    torch.testing.assert_close(
        model.embeddings.word_embeddings.weight, same.embeddings.word_embeddings.weight, rtol=0, atol=0
    )
    assert model.pooler is None


@pytest.mark.parametrize(
    ("name", "pooler", "padded"),
    [("roberta", None, None), ("electra", "electra", None), ("albert", "albert", "albert")],
)
def test_what_an_encoder_lacks(tmp_path, monkeypatch, corpora, name, pooler, padded):
    for variable in (ENCODERS, KEPT):
        monkeypatch.setenv(variable, "{}")
    folder = byte_level(tmp_path / name)
    transformers.AutoModel.from_config(CONFIGS[name]).save_pretrained(folder)
    encoder = identify("bert", str(folder))
    assert lacks_pooler("bert", encoder) == pooler
    assert read_with_padding("bert", encoder) == padded
    assert len(padded_encoders({"bert": encoder})) == (padded is not None)
    refused = unserved_because("mag", "bert", load("small", corpora), encoder)
    assert (refused is None) == (pooler is None)
    assert unserved_because("hycon", "bert", load("small", corpora), encoder) is None


def test_a_model_that_generates_is_refused(tmp_path):
    folder = byte_level(tmp_path / "t5")
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    with pytest.raises(UserError, match="'t5' model that generates text: give an encoder"):
        identify("bert", str(folder))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "deberta"])  # which fails under autocast
def test_under_autocast_on_a_gpu_the_states_are_autocasts(name, monkeypatch):
    """Weights are cast at once where products alone read them (hycon/kernels/cast_weights.py)."""
    encoder = made(name)
    text = sentences(encoder)

    def states():
        with PretendedGPU(), torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            return encoder.to("cuda").states(text.to("cuda"))

    found = states()
    monkeypatch.setattr(PretrainedText, "_cast", lambda *_: contextlib.nullcontext())
    assert torch.equal(found, states())
