"""Encoders in folders: a checksum of all that is loaded, checked where it is loaded; what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertModel, XLNetConfig, XLNetModel
from transformers.utils import logging

from hycon import encoder_files
from hycon.encoder_files import KEPT, digest
from hycon.errors import UserError
from hycon.pretrained import (
    ENCODERS,
    _demo_sizes,
    demo_vocabulary,
    identify,
    load_model,
    load_tokenizer,
    locate,
    missing_because,
    positions,
    register,
)


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in (ENCODERS, KEPT):
        monkeypatch.setenv(name, "{}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def bert(folder: Path, seed: int = 0, **sizes) -> Path:
    torch.manual_seed(seed)
    BertModel(BertConfig(**{**_demo_sizes("bert"), **sizes})).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(demo_vocabulary()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return bert(tmp_path / "tiny")


def first_weight(model) -> torch.Tensor:
    return model.embeddings.word_embeddings.weight


def test_a_folder_is_identified_and_loaded(folder):
    encoder = identify("bert", str(folder))
    assert set(encoder) == {"name", "sha256", "rule"}
    assert encoder["name"] == "tiny"
    model = load_model("bert", encoder)
    saved = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    torch.testing.assert_close(first_weight(model), saved, rtol=0, atol=0)
    assert model.config._attn_implementation == "sdpa"
    assert load_tokenizer("bert", encoder).pieces(["good"]) == [[demo_vocabulary()["good"]]]
    assert positions("bert", encoder) == 512


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "merges.txt", "spiece.model"])
def test_the_checksum_covers_every_file_of_the_tokenizer(folder, name):
    before = identify("bert", str(folder))["sha256"]
    (folder / name).write_text("{}")
    assert identify("bert", str(folder))["sha256"] != before


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "LICENSE.txt", "tf_model.h5", "generation_config.json", "pytorch_model.bin"),
        *("._vocab.txt", "trainer_state.json", "eval_results.txt", "modules.json", "sentence_bert_config.json"),
    ],
)
def test_what_is_not_loaded_is_not_in_the_checksum(folder, name):
    """So that a cache that was filled by another tool holds the same encoder."""
    before = identify("bert", str(folder))["sha256"]
    (folder / name).write_text("{}")
    assert identify("bert", str(folder))["sha256"] == before


def sharded(folder: Path) -> Path:
    """The weights of `folder` in two files, and an index."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for part, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / part, metadata={"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {name: part for part, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "model.safetensors.index.json"


def test_weights_in_parts_are_identified_with_their_index(folder):
    index = sharded(folder)
    encoder = identify("bert", str(folder))
    load_model("bert", encoder)
    shutil.copy(folder / "b.safetensors", folder / "c.safetensors")
    assert identify("bert", str(folder)) == encoder
    index.write_text(index.read_text().replace("b.safetensors", "c.safetensors"))
    assert identify("bert", str(folder))["sha256"] != encoder["sha256"]
    index.write_text(index.read_text().replace("c.safetensors", "../c.safetensors"))
    with pytest.raises(UserError, match=r"names \.\./c\.safetensors, which is not beside it"):
        identify("bert", str(folder))


def test_a_folder_that_is_overwritten_is_not_loaded(folder, tmp_path):
    encoder = identify("bert", str(folder))
    shutil.copy(bert(tmp_path / "other", seed=1) / "model.safetensors", folder)
    for load in (load_model, load_tokenizer):
        with pytest.raises(UserError, match=r"no text encoder 'tiny' .* holds another one"):
            load("bert", encoder)


def test_a_folder_that_is_overwritten_while_it_is_loaded(folder, tmp_path, monkeypatch):
    encoder, load = identify("bert", str(folder)), BertModel.from_pretrained
    other = bert(tmp_path / "other", seed=1) / "model.safetensors"

    def overtaken(path, **options):
        shutil.copy(other, folder)
        return load(path, **options)

    monkeypatch.setattr(BertModel, "from_pretrained", overtaken)
    with pytest.raises(UserError, match="was overwritten while it was loaded"):
        load_model("bert", encoder)


def test_a_checksum_is_made_once_for_a_command_and_its_processes(folder, monkeypatch):
    read = []
    monkeypatch.setattr(encoder_files, "sha256_file", lambda path: read.append(path.name) or "0" * 64)
    encoder = identify("bert", str(folder))
    assert "model.safetensors" in read
    before = len(read)
    assert locate("bert", encoder) == folder
    assert len(read) == before  # $BENCH_ENCODER_DIGESTS, which other processes inherit
    status = os.stat(folder / "vocab.txt")
    (folder / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())
    os.utime(folder / "vocab.txt", ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` and rsync do
    locate("bert", encoder)
    assert len(read) == 2 * before


def test_two_folders_of_one_name(tmp_path):
    first, second = (identify("bert", str(bert(tmp_path / way / "tiny", seed))) for seed, way in enumerate("ab"))
    assert first["name"] == second["name"]
    assert locate("bert", first) == tmp_path / "a" / "tiny"
    assert locate("bert", second) == tmp_path / "b" / "tiny"


def test_a_name_is_not_enough(folder, tmp_path, monkeypatch):
    """A worker elsewhere, with a folder of the encoder's name, or with none."""
    encoder = identify("bert", str(folder))
    monkeypatch.setenv(ENCODERS, "{}")
    monkeypatch.chdir(tmp_path)
    assert missing_because("bert", encoder) is None
    assert "is not here" in missing_because("bert", {**encoder, "name": "elsewhere"})
    bert(tmp_path / "tiny", seed=1)
    assert "holds another one" in missing_because("bert", encoder)
    register("tiny", bert(tmp_path / "moved"))
    assert missing_because("bert", encoder) is None
    assert "another one" in missing_because("bert", {"name": "demo", "sha256": "0" * 64})
    assert missing_because("bert", identify("bert", "demo")) is None


def test_an_encoder_of_an_earlier_record_is_checked_by_the_earlier_rule(folder):
    old = {"name": "tiny", "sha256": digest(folder, None)}
    register("tiny", folder)
    (folder / "added_tokens.json").write_text("{}")
    assert locate("bert", old) == folder
    (folder / "vocab.txt").write_text("[PAD]")
    assert "holds another one" in missing_because("bert", old)
    assert "upgrade" in missing_because("bert", {**old, "rule": "9"})


def test_keys_of_another_prefix_are_no_random_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({f"encoder.bert.{k}": v for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    encoder = identify("bert", str(folder))
    with pytest.raises(UserError, match=r"lack \d+ of the model's tensors, such as embeddings"):
        load_model("bert", encoder)


@pytest.mark.parametrize("pooler", [False, True])
def test_a_pretraining_head_and_a_missing_pooler_are_no_faults(tmp_path, pooler):
    folder = bert(tmp_path / "tiny")
    BertForMaskedLM(BertConfig(**_demo_sizes("bert"))).save_pretrained(folder)  # keys begin with "bert."
    load_model("bert", identify("bert", str(folder)), pooler)


def test_loading_says_nothing_and_leaves_the_library_as_it_was(tmp_path, capfd):
    folder = bert(tmp_path / "tiny")
    BertForMaskedLM(BertConfig(**_demo_sizes("bert"))).save_pretrained(folder)  # with a head, which is reported
    encoder, before = identify("bert", str(folder)), (logging.get_verbosity(), logging.is_progress_bar_enabled())
    capfd.readouterr()
    load_model("bert", encoder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_xlnet(tmp_path):
    folder = tmp_path / "tiny"
    XLNetModel(XLNetConfig(**_demo_sizes("xlnet"))).save_pretrained(folder)
    with pytest.raises(UserError, match=r"no tokenizer \(tokenizer\.json or spiece\.model\)"):
        identify("xlnet", str(folder))
    (folder / "spiece.model").write_bytes(b"pieces")
    encoder = identify("xlnet", str(folder))
    assert load_model("xlnet", encoder).config._attn_implementation == "eager"
    assert positions("xlnet", encoder) is None
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer("xlnet", encoder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", None, r"it has no config\.json"),
        ("config.json", "{", r"config\.json is not readable JSON"),
        ("config.json", "[" * 100_000, r"config\.json is not readable JSON"),
        ("config.json", "[]", r"config\.json is no JSON object"),
        ("config.json", "{}", "is a None model"),
        ("config.json", '{"model_type": "bert", "transformers_weights": "x"}', "takes its weights from elsewhere"),
        ("adapter_config.json", "{}", "takes its weights from elsewhere"),
        ("vocab.txt", None, r"has no tokenizer \(tokenizer\.json or vocab\.txt\): copy it there"),
        ("model.safetensors", None, "has no weights"),
    ],
)
def test_a_folder_that_is_no_whole_encoder_is_refused(folder, name, content, said):
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(UserError, match=said):
        identify("bert", str(folder))


def test_an_empty_vocabulary_and_torn_weights_are_one_sentence(folder):
    (folder / "vocab.txt").write_text("")
    with pytest.raises(UserError, match=r"The tokenizer in .* has no vocabulary"):
        load_tokenizer("bert", identify("bert", str(folder)))
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_model("bert", identify("bert", str(folder)))


@pytest.mark.parametrize("value", ["{", "[]", '{"a": 1}'])
def test_broken_names_of_folders_are_one_sentence(monkeypatch, value):
    monkeypatch.setenv(ENCODERS, value)
    with pytest.raises(UserError, match=r"\$BENCH_ENCODERS is not JSON of the form"):
        identify("bert", "tiny")


def test_a_config_cannot_choose_the_attention(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "attn_implementation": "eager", "_attn_implementation": "eager"})
    )
    assert load_model("bert", identify("bert", str(folder))).config._attn_implementation == "sdpa"
