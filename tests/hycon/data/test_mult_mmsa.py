"""MulT's and MMSA's pickles of padded arrays: padding goes, rows inside stay, damage is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from samples import SIZES, count, label_of, mmsa_content, mult_content, rows_of, sequence, words_of

from hycon.data import load
from hycon.data.importers import import_corpus
from hycon.data.manifest import read_manifest
from hycon.errors import UserError


@pytest.mark.parametrize("format", ["auto", "mult"])
def test_mult_aligned(root: Path, write_pickle, format: str) -> None:
    content = mult_content()
    content["train"]["audio"][0, 1] = -np.inf
    content["train"]["audio"][3, 4] = 0  # a zero row inside one modality is kept
    manifest = import_corpus("mosi_mult", write_pickle(content), format=format, root=root)
    assert manifest.dims == {"text": 300, "audio": 5, "vision": 20}
    assert manifest.lengths == {"text": 8, "audio": 8, "vision": 8}
    assert (manifest.aligned, manifest.source["format"]) == ("step", "mult")
    corpus = load("mosi_mult", root)
    for split, size in SIZES.items():
        data = corpus.splits[split]
        assert data.words is None
        assert data.ids == [f"{split}_{i}" for i in range(size)]
        np.testing.assert_allclose(data.label.numpy(), [label_of(split, i) for i in range(size)], rtol=1e-6)
        for i in range(size):
            for modality, offset in (("text", 3000), ("audio", 2000), ("vision", 1000)):
                rows = rows_of(corpus, split, modality, i)
                if split == "train" and modality == "audio" and i in (0, 3):
                    continue
                np.testing.assert_array_equal(rows, sequence(i, count(split, i), rows.shape[1], offset))
    assert manifest.nonfinite["train"]["audio"] == 5
    assert len(rows_of(corpus, "train", "audio", 3)) == count("train", 3)


def test_mult_unaligned(root: Path, write_pickle) -> None:
    manifest = import_corpus("mosi_noalign", write_pickle(mult_content(aligned=False)), root=root)
    assert (manifest.aligned, manifest.lengths) == ("none", {"text": 8, "audio": 20, "vision": 30})
    corpus = load("mosi_noalign", root)
    for modality, offset, times in (("text", 3000, 1), ("audio", 2000, 2), ("vision", 1000, 3)):
        rows = rows_of(corpus, "test", modality, 1)
        np.testing.assert_array_equal(rows, sequence(1, count("test", 1) * times, rows.shape[1], offset))


def test_mult_emotions(root: Path, write_pickle) -> None:
    manifest = import_corpus("emo", write_pickle(mult_content(emotions=True)), root=root)
    assert (manifest.task, manifest.emotions) == ("emotion", ["neutral", "happy", "sad", "angry"])
    label = load("emo", root).splits["train"].label.numpy()
    np.testing.assert_array_equal(label, [[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]])
    assert manifest.positives is not None
    assert manifest.positives["train"] == [2, 2, 0, 0]
    path = root / "emo" / "manifest.json"
    for counts in ({"train": [5, 2, 0, 0]}, {"train": [-1, 2, 0, 0]}, {"train": "2200"}, {"test": [0.5] * 4}, [2, 2]):
        path.write_text(json.dumps({**dataclasses.asdict(manifest), "positives": counts}))
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            read_manifest("emo", root)


@pytest.mark.parametrize("kind", ["bytes", "str", "objects"])
def test_mult_ids_from_video_start_end(root: Path, write_pickle, kind: str) -> None:
    content = mult_content()
    for split, size in SIZES.items():  # later utterances start earlier; "10" sorts before "9.5" as text
        rows = [[f"{split}vid", str(20 - 10.5 * i), str(30 - 10.5 * i)] for i in range(size)]
        content[split]["id"] = {
            "bytes": np.array([[v.encode() for v in row] for row in rows]),
            "str": np.array(rows),
            "objects": np.array(rows, dtype=object),
        }[kind]
    import_corpus("own", write_pickle(content), root=root)
    assert load("own", root).splits["test"].ids == ["testvid[2]", "testvid[1]", "testvid[0]"]
    content["test"]["id"][1] = content["test"]["id"][0]
    with pytest.raises(UserError, match=r"'testvid\[1\]' is in test and again in test"):
        import_corpus("own", write_pickle(content), root=root)


def test_mult_an_utterance_of_padding_only_keeps_one_row(root: Path, write_pickle) -> None:
    content = mult_content()
    for modality in ("text", "audio", "vision"):
        content["valid"][modality][1] = 0
    import_corpus("own", write_pickle(content), root=root)
    np.testing.assert_array_equal(rows_of(load("own", root), "valid", "text", 1), np.zeros((1, 300)))


def with_both(pairs: np.ndarray) -> np.ndarray:
    """The last emotion of the last utterance is absent and present."""
    pairs[-1, -1] = 1
    return pairs


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: c["valid"].pop("audio"), "valid of corpus.pkl has no audio"),
        (lambda c: c["valid"].update(audio=c["valid"]["audio"][:-1]), "different numbers of utterances"),
        (lambda c: c["valid"].update(audio=c["valid"]["audio"][:, :-1]), "different padded lengths"),
        (lambda c: c["valid"].update(audio=c["valid"]["audio"][..., 0]), "audio in valid of corpus.pkl.*3 dimension"),
        (lambda c: c["valid"].update(labels=np.zeros((2, 4, 2))), "not one-hot"),
        (lambda c: c["valid"].update(labels=with_both(np.eye(2)[np.zeros((2, 4), int)])), "not one-hot"),
        (lambda c: c["valid"].update(labels=np.eye(2)[np.zeros((2, 4), int)]), "sentiment labels in one split"),
        (lambda c: c["valid"].update(labels=np.zeros((2, 3))), r"shape \(2, 3\)"),
        (lambda c: c["valid"].update(labels=np.array(["a", "b"])), "labels in valid"),
        (lambda c: c["valid"].update(labels=None), "labels in valid"),
        (lambda c: c["valid"]["labels"].__setitem__(1, np.nan), "label of 'valid_1'.*nan"),
        (lambda c: c["valid"].update(id=np.array([["v", "x", "2"]] * 2)), "expected video, start and end"),
        (lambda c: c["valid"].update(id=np.array(["a"])), "ids of shape"),
        (lambda c: c["valid"].update(id=["a", None]), "utterance 1 of valid in corpus.pkl has a NoneType where its id"),
        (lambda c: c["valid"].update(id=np.array(["a", ""])), "utterance 1 of valid in corpus.pkl has an empty id"),
        (lambda c: c["valid"].update(id=np.array(["a", "a"])), "'a' is in valid and again in valid"),
        (lambda c: c["valid"]["vision"].__setitem__((1, 7, 3), np.inf), r"vision of utterance 'valid_1'.*holds inf"),
        (lambda c: c.pop("valid"), "no known format.*keys train, test"),
    ],
)  # fmt: skip
def test_damaged_mult_files(root: Path, write_pickle, damage, reason: str) -> None:
    content = mult_content()
    damage(content)
    with pytest.raises(UserError, match=reason):
        import_corpus("own", write_pickle(content), root=root)
    assert not root.exists()


@pytest.mark.parametrize("format", ["auto", "mmsa"])
@pytest.mark.parametrize("aligned", [True, False])
def test_mmsa(root: Path, write_pickle, aligned: bool, format: str) -> None:
    content = mmsa_content(aligned)
    content["train"]["vision"][3, 1] = 0  # zero rows inside and at a sequence's end belong to it
    content["train"]["vision"][3, count("train", 3) + 1] = 0
    manifest = import_corpus("mosi_mmsa", write_pickle(content), format=format, root=root)
    assert manifest.dims == {"text": 768, "audio": 5, "vision": 20}
    assert manifest.aligned == ("step" if aligned else "none")
    times = {"text": 1, "audio": 1 if aligned else 2, "vision": 1 if aligned else 3}
    assert manifest.lengths == {m: 10 * t for m, t in times.items()}
    corpus = load("mosi_mmsa", root)
    for split, size in SIZES.items():
        data = corpus.splits[split]
        assert data.ids == [f"{split}$_${i}" for i in range(size)]
        assert data.words == [words_of(split, i) for i in range(size)]
        np.testing.assert_allclose(data.label.numpy(), [label_of(split, i) for i in range(size)], rtol=1e-6)
        for i in range(size):
            for modality, offset in (("text", 3000), ("audio", 2000), ("vision", 1000)):
                rows = rows_of(corpus, split, modality, i)
                expected = sequence(i, (count(split, i) + 2) * times[modality], rows.shape[1], offset)
                if (split, i, modality) == ("train", 3, "vision"):
                    expected[1] = expected[count("train", 3) + 1] = 0
                np.testing.assert_array_equal(rows, expected)


def test_mmsa_without_bert_ids_and_lengths_trims_trailing_zeros(root: Path, write_pickle) -> None:
    content = mmsa_content(aligned=False)
    for raw in content.values():
        for key in ("text_bert", "audio_lengths", "vision_lengths"):
            del raw[key]
    content["test"]["audio"][1] = 0  # nothing was heard: one row is left
    import_corpus("own", write_pickle(content), root=root)
    corpus = load("own", root)
    assert rows_of(corpus, "test", "audio", 1).tolist() == [[0] * 5]
    assert [len(rows_of(corpus, "test", m, 2)) for m in ("text", "audio", "vision")] == [
        (count("test", 2) + 2) * t for t in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda r: r.pop("text"), "valid of corpus.pkl has no text"),
        (lambda r: r.update(id=r["id"][:1]), "different numbers of utterances.*'id': 1"),
        (lambda r: r.update(text_bert=r["text_bert"][:, :2]), r"text_bert in valid of corpus.pkl has shape"),
        (lambda r: r.update(audio=r["audio"][0]), "audio in valid of corpus.pkl"),
        (lambda r: r.update(regression_labels=np.array([0.0, np.nan])), r"label of 'valid\$_\$1'.*nan"),
        (lambda r: r.update(regression_labels=None), "regression_labels in valid"),
        (lambda r: r["raw_text"].__setitem__(1, ""), r"'valid\$_\$1' \(valid\) has no words"),
        (lambda r: r.update(audio_lengths=[1]), "audio_lengths in valid"),
        (lambda r: r.update(audio_lengths=["a", "b"]), "audio_lengths in valid"),
        (lambda r: r.update(audio_lengths=[4, 0]), r"audio_lengths in valid of corpus.pkl gives 'valid\$_\$1' 0 rows"),
        (lambda r: r.update(vision_lengths=[31, 4]), r"gives 'valid\$_\$0' 31 rows; expected 1 to 30"),
        (lambda r: r.update(vision_lengths=[500, 4]), r"gives 'valid\$_\$0' 500 rows; expected 1 to 30"),
        (lambda r: r.update(vision_lengths=[4, 4.5]), r"gives 'valid\$_\$1' 4.5 rows"),
        (lambda r: r.update(vision_lengths=[4, np.nan]), r"gives 'valid\$_\$1' nan rows"),
        (lambda r: r["text_bert"].__setitem__((1, 1), 0), r"text_bert in valid.*gives 'valid\$_\$1' 0 rows"),
        (lambda r: r.update(audio=np.pad(r["audio"], ((0, 0), (0, 1), (0, 0)))), "different padded lengths"),
        (lambda r: r.update(id=["a", None]), "utterance 1 of valid of corpus.pkl has a NoneType where its id"),
        (lambda r: r["vision"].__setitem__((0, 0, 0), np.nan), r"vision of utterance 'valid\$_\$0'.*holds nan"),
    ],
)  # fmt: skip
def test_damaged_mmsa_files(root: Path, write_pickle, damage, reason: str) -> None:
    content = mmsa_content(aligned=False)
    damage(content["valid"])
    with pytest.raises(UserError, match=reason):
        import_corpus("own", write_pickle(content), root=root)
    assert not root.exists()


def test_mmsa_an_utterance_may_be_as_long_as_the_padding(root: Path, write_pickle) -> None:
    content = mmsa_content(aligned=False)
    content["valid"].update(audio_lengths=[20, 1], vision_lengths=[1, 30])
    import_corpus("own", write_pickle(content), root=root)
    corpus = load("own", root)
    assert [len(rows_of(corpus, "valid", m, i)) for m in ("audio", "vision") for i in (0, 1)] == [20, 1, 1, 30]


def test_mmsa_splits_of_different_padded_lengths_are_refused(root: Path, write_pickle) -> None:
    """Not taken for an unaligned corpus."""
    content = mmsa_content()
    content["test"]["audio"] = np.pad(content["test"]["audio"], ((0, 0), (0, 6), (0, 0)))
    with pytest.raises(UserError, match=r"different padded lengths in its splits.*'test': \(10, 16, 10\)"):
        import_corpus("own", write_pickle(content), root=root)


JUNK = [None, 3, "text", [], {}, [[1], [2, 3]], np.array(None), np.zeros((2, 2, 2, 2)), np.array(["a"]), np.zeros(0)]


@pytest.mark.parametrize("junk", range(len(JUNK)))
@pytest.mark.parametrize("make", [mult_content, mmsa_content])
def test_anything_in_place_of_anything_is_one_sentence(root: Path, write_pickle, make, junk: int) -> None:
    for key in make()["valid"]:
        content = make()
        content["valid"][key] = JUNK[junk]
        if key in ("id", "classification_labels", "audio_lengths", "vision_lengths", "text_bert"):
            continue  # may be absent or go unread
        with pytest.raises(UserError, match=r"corpus\.pkl"):
            import_corpus("own", write_pickle(content), root=root)
    assert not root.exists()
