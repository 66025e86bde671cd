"""CH-SIMS's and CH-SIMS v2's pickles of MMSA's form: Chinese words, labels in [-1, 1], what is left out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from samples import SIZES, mmsa_content, words_of

from hycon.data import load
from hycon.data.importers import import_corpus
from hycon.data.importers.check import check, render
from hycon.data.importers.mmsa import words_in
from hycon.data.manifest import read_manifest
from hycon.errors import UserError

TEXTS = ["我不想嫁给李茶", "好 的，ok 3年", "今天真开心", "不知道"]
LABELS = [-0.8, 0.0, 0.6, 1.0]


def sims_content(version: int = 1) -> dict:
    content = mmsa_content(aligned=False)
    for split, size in SIZES.items():
        raw = content[split]
        raw["raw_text"] = [TEXTS[i % 4] for i in range(size)]
        raw["regression_labels"] = np.array([LABELS[i % 4] for i in range(size)])
        for m in "TAV":
            raw[f"regression_labels_{m}"] = np.array([LABELS[(i + 1) % 4] for i in range(size)])
    if version == 2:
        content["train_mix"] = {"text": np.zeros((1, 2, 3)), "mask": np.zeros(1)}
        content["train"]["vision"][1, 2, :3] = -np.inf
    return content


@pytest.mark.parametrize("version", [1, 2])
def test_a_corpus_of_sims(root: Path, write_pickle, version: int) -> None:
    manifest = import_corpus("sims", write_pickle(sims_content(version), "unaligned_39.pkl"), root=root)
    assert manifest.label_range == [-1.0, 1.0]
    assert manifest.source["format"] == "mmsa"
    left_out = ["regression_labels_T", "regression_labels_A", "regression_labels_V"]
    assert manifest.source["left_out"] == left_out + ["train_mix"] * (version == 2)
    assert manifest.source.get("zeroed_vision") == ({"train": 3} if version == 2 else None)
    assert set(manifest.constant or {}) == {"sims", "sims_non0"}
    corpus = load("sims", root)
    np.testing.assert_allclose(corpus.splits["train"].label.numpy(), np.float32(LABELS))
    assert corpus.splits["test"].words == [words_in(text) for text in TEXTS[:3]]
    said = render(check("sims", root))
    assert "Labels lie in [-1, 1]" in said
    assert "Left out of the source: regression_labels_T" in said
    assert ("Vision held -inf, which became 0: 3 in train." in said) == (version == 2)
    assert "to -0.7" in said
    assert read_manifest("sims", root) == manifest


def test_chinese_characters_are_words_as_for_berts_tokenizer() -> None:
    transformers = pytest.importorskip("transformers")
    assert words_in("好 的，ok 3年") == ["好", "的", "，ok", "3", "年"]
    assert words_in("It 's  fine\n") == ["It", "'s", "fine"]
    from tempfile import TemporaryDirectory

    pieces = sorted({*"".join(TEXTS).replace(" ", ""), "ok"})
    with TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]))
        tokenizer = transformers.BertTokenizer(str(vocabulary))
        for text in TEXTS:
            assert [p for word in words_in(text) for p in tokenizer.tokenize(word)] == tokenizer.tokenize(text)


def test_what_counts_as_a_narrow_range(root: Path, write_pickle) -> None:
    """Small labels alone do not: a piece of MOSI may have them. The option decides against the file."""
    content = sims_content()
    for raw in content.values():
        for m in "TAV":
            del raw[f"regression_labels_{m}"]
    path = write_pickle(content)
    assert import_corpus("own", path, root=root).label_range is None
    assert import_corpus("own", path, root=root, label_range=1).label_range == [-1.0, 1.0]
    assert import_corpus("sims", write_pickle(sims_content()), root=root, label_range=3).label_range is None
    with pytest.raises(UserError, match="The labels' range is 2; expected 1"):
        import_corpus("own", path, root=root, label_range=2)
    wide = sims_content()
    wide["test"]["regression_labels"][0] = 2.0
    path = write_pickle(wide)
    assert import_corpus("own", path, root=root).label_range is None
    with pytest.raises(UserError, match=r"label of 'test\$_\$0' \(test\) is 2.0; expected a number in \[-1, 1\]"):
        import_corpus("own", path, root=root, label_range=1)


def test_the_range_is_part_of_the_identity_only_where_it_is_narrow(root: Path, write_pickle) -> None:
    content = mmsa_content()
    manifest = import_corpus("mosi_mmsa", write_pickle(content), root=root)
    assert dataclasses.replace(manifest, label_range=[-1.0, 1.0]).sha256 != manifest.sha256
    text = json.loads((root / "mosi_mmsa" / "manifest.json").read_text())
    del text["label_range"]  # as a manifest from before it
    (root / "mosi_mmsa" / "manifest.json").write_text(json.dumps(text))
    assert read_manifest("mosi_mmsa", root).sha256 == manifest.sha256
    (root / "mosi_mmsa" / "manifest.json").write_text(json.dumps({**text, "label_range": [-2, 2]}))
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        read_manifest("mosi_mmsa", root)


def test_english_words_are_split_as_before(root: Path, write_pickle) -> None:
    import_corpus("mosi_mmsa", write_pickle(mmsa_content()), root=root)
    assert load("mosi_mmsa", root).splits["train"].words == [words_of("train", i) for i in range(SIZES["train"])]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda r: r.pop("raw_text"), "valid of corpus.pkl has no raw_text"),
        (lambda r: r.update(raw_text=["好", ""]), r"'valid\$_\$1' \(valid\) has no words"),
        (lambda r: r.update(regression_labels=np.array([0.2, np.nan])), r"label of 'valid\$_\$1'.*nan"),
        (lambda r: r.update(regression_labels=np.array([0.2])), "different numbers of utterances"),
        (lambda r: r["vision"].__setitem__((0, 0, 0), np.nan), r"vision of utterance 'valid\$_\$0'.*holds nan"),
        (lambda r: r["vision"].__setitem__((0, 0, 0), np.inf), r"vision of utterance 'valid\$_\$0'.*holds inf"),
        (lambda r: r.update(regression_labels_T=print), "only numpy arrays and plain containers are read"),
    ],
)  # fmt: skip
def test_damaged_files(root: Path, write_pickle, damage, reason: str) -> None:
    content = sims_content()
    damage(content["valid"])
    with pytest.raises(UserError, match=reason):
        import_corpus("sims", write_pickle(content), root=root)
    assert not root.exists()
