"""A video in two splits, a sentence in two splits and a feature that is the label are found at import and said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hycon.data import Utterance, convert, read_manifest
from hycon.data.importers import leaks
from hycon.data.importers.check import check, render
from hycon.data.importers.leaks import FEWEST, TELLING
from hycon.data.importers.synthetic import synthesize
from studies.aggregate.cells import corpus_info

SIZES = {"train": 60, "valid": FEWEST, "test": 40}
Splits = dict[str, list[Utterance]]


def clean() -> Splits:
    """Five utterances a video, each of six words of its own; labels have nothing to do with features."""
    rng = np.random.default_rng(0)

    def one(split: str, i: int) -> Utterance:
        audio, vision = (rng.normal(size=(6, d)).astype(np.float32) for d in (5, 3))
        words = [f"{split}{i}w{k}" for k in range(6)]
        return Utterance(f"{split}talk{i // 5}[{i % 5}]", float(rng.uniform(-3, 3)), audio, vision, words)

    return {split: [one(split, i) for i in range(n)] for split, n in SIZES.items()}


def put(splits: Splits, root: Path, **options) -> list[str]:
    """What is said of them, at import, by the check and in captions."""
    found = convert("own", splits, source={"file": "x"}, root=root, **options)
    report = check("own", root)
    assert report["leaks"] == found.leaks
    assert all(phrase in render(report) for phrase in found.leaks)
    assert set(found.leaks) <= set(corpus_info(found).notes)
    return found.leaks


def test_a_clean_corpus_says_nothing(root: Path) -> None:
    assert put(clean(), root) == []


def test_the_demo_corpora_say_nothing(root: Path) -> None:
    assert synthesize("synthetic", root).leaks == []
    assert synthesize("synthetic_emotions", root, emotions=True).leaks == []


def test_a_video_in_two_splits_is_said(root: Path) -> None:
    splits = clean()
    splits["test"][:10] = [replace(u, id=f"traintalk{i}[9]") for i, u in enumerate(splits["test"][:10])]
    assert put(splits, root) == ["25 % of the test split's utterances are, by their ids, of videos in other splits too"]


def test_a_video_in_valid_and_train_is_said(root: Path) -> None:
    splits = clean()
    splits["valid"][:3] = [replace(u, id=f"traintalk{i}[9]") for i, u in enumerate(splits["valid"][:3])]
    assert put(splits, root) == [
        "10 % of the valid split's utterances are, by their ids, of videos in other splits too"
    ]


@pytest.mark.parametrize("form", ["utt_{}", "{}", "test_{}"])
def test_ids_that_name_no_video_are_none(root: Path, form: str) -> None:
    splits, number = clean(), iter(range(1000))
    splits = {split: [replace(u, id=form.format(next(number))) for u in own] for split, own in splits.items()}
    assert put(splits, root) == []


def test_a_sentence_in_two_splits_is_said(root: Path) -> None:
    splits = clean()
    splits["test"][3] = replace(splits["test"][3], words=splits["train"][7].words)
    assert put(splits, root) == ["2 % of the test split's sentences stand word for word in train"]


def test_a_valid_split_that_is_the_test_split_is_said(root: Path) -> None:
    """As where a corpus had none. Of text alone, no feature repeats that could tell."""
    splits = {
        split: [replace(u, audio=np.zeros((1, 1), np.float32), vision=np.zeros((1, 1), np.float32)) for u in own]
        for split, own in clean().items()
    }
    splits["valid"] = [replace(u, id=f"validtalk{i}[0]") for i, u in enumerate(splits["test"])]
    assert "100 % of the test split's sentences stand word for word in valid" in put(splits, root)


def test_short_sentences_recur(root: Path) -> None:
    splits = clean()
    splits["test"][3] = replace(splits["test"][3], words=["thank", "you", "so", "much"])
    splits["train"][7] = replace(splits["train"][7], words=["thank", "you", "so", "much"])
    assert put(splits, root) == []


@pytest.mark.parametrize("split", list(SIZES))
def test_a_feature_that_is_the_label_is_said(root: Path, split: str) -> None:
    splits = clean()
    for utterance in splits[split]:
        utterance.vision[:, 1] = 0.1  # of one value throughout
        utterance.vision[:, 2] = 100 - utterance.label
    (phrase,) = put(splits, root)
    assert phrase.startswith("feature 2 of vision, counted from 0, tells the label")
    assert f"its means over the {split} split's utterances correlate with it by 1.00" in phrase


def test_a_feature_that_is_an_emotion_is_said(root: Path) -> None:
    splits = {
        s: [replace(u, label=np.array([i % 2, i % 3 == 0])) for i, u in enumerate(own)] for s, own in clean().items()
    }
    for utterance in splits["test"]:
        utterance.audio[:, 4] = utterance.label[1]
    (phrase,) = put(splits, root, emotions=["calm", "loud"])
    assert phrase.startswith("feature 4 of audio")


@pytest.mark.parametrize("block", [1, 7, 50, 10**6])
def test_blocks_do_not_matter(monkeypatch, block: int) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, size=40)
    rows, offsets = rng.normal(size=(lengths.sum(), 3)).astype(np.float32), np.cumsum([0, *lengths])
    monkeypatch.setattr(leaks, "BLOCK", block)
    expected = [part.astype(np.float64).mean(0) for part in np.split(rows, offsets[1:-1])]
    np.testing.assert_allclose(leaks._means(rows, offsets), expected, rtol=1e-12)


def test_a_feature_that_only_leans_that_way_is_not(root: Path) -> None:
    splits = clean()
    rng = np.random.default_rng(1)
    for own in splits.values():
        for utterance in own:
            utterance.audio[:] = utterance.label + rng.normal(scale=0.6)  # correlation 0.94, below TELLING
            utterance.vision[:] = 1.5  # of one value throughout
    assert TELLING > 0.95
    assert put(splits, root) == []


def test_check_says_it_of_an_older_manifest_and_keeps_the_identity(root: Path) -> None:
    splits = clean()
    splits["test"][3] = replace(splits["test"][3], words=splits["train"][7].words)
    put(splits, root)
    path = root / "own" / "manifest.json"
    older = {key: value for key, value in json.loads(path.read_text()).items() if key != "leaks"}
    path.write_text(json.dumps(older))
    before = read_manifest("own", root)
    assert before.leaks is None
    check("own", root)
    now = read_manifest("own", root)
    assert now.leaks == ["2 % of the test split's sentences stand word for word in train"]
    assert now.sha256 == before.sha256
