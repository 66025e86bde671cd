"""Pickle and table formats: values land where they belong; damaged files end in one sentence and change nothing."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import SIZES, assert_aligned_corpus, count, label_of, mag_content, sequence, words_of

from hycon.data import load
from hycon.data.importers import import_corpus
from hycon.errors import UserError

SPLITS = tuple(SIZES)


def listing(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def rows_of(corpus: Any, split: str, modality: str, i: int) -> np.ndarray:
    ragged = getattr(corpus.splits[split], modality)
    start = int(ragged.starts[i])
    return ragged.rows[start : start + int(ragged.lengths[i])].numpy()


# ------------------------------------------------------------------------------------------------------- mag


@pytest.mark.parametrize("format", ["auto", "mag"])
def test_mag(root: Path, write_pickle, format: str) -> None:
    path = write_pickle(mag_content(), "mosi.pkl")
    manifest = import_corpus("mosi", path, format=format, root=root, notes=["a note"])
    assert manifest.source == {
        "file": "mosi.pkl",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "format": "mag",
    }
    assert (manifest.sizes, manifest.dims) == (SIZES, {"audio": 74, "vision": 47})
    assert (manifest.aligned, manifest.task, manifest.notes) == ("word", "sentiment", ["a note"])
    assert manifest.lengths == {"text": 50, "audio": 50, "vision": 50}
    assert_aligned_corpus(load("mosi", root))


def test_covareps_infinities_become_zero_and_are_counted(root: Path, write_pickle) -> None:
    content = mag_content()
    audio = content["dev"][1][0][2]
    audio[0, :3] = [-np.inf, np.nan, -np.inf]
    manifest = import_corpus("mosi", write_pickle(content), root=root)
    assert manifest.nonfinite["valid"] == {"audio": 3, "vision": 0}
    assert manifest.nonfinite["train"] == {"audio": 0, "vision": 0}
    rows = rows_of(load("mosi", root), "valid", "audio", 1)
    assert (rows[0, :3] == 0).all() and rows[0, 3] == 2010


@pytest.mark.parametrize(
    ("which", "modality", "value"), [(2, "audio", np.inf), (1, "vision", np.nan), (1, "vision", -np.inf)]
)
def test_other_non_finite_values_are_named(root: Path, write_pickle, which: int, modality: str, value: float) -> None:
    content = mag_content()
    content["test"][2][0][which][-1, 4] = value
    with pytest.raises(UserError, match=rf"corpus\.pkl: {modality} of utterance 'test_2' \(test\) holds {value}"):
        import_corpus("mosi", write_pickle(content), root=root)


def change(content: dict, how: str) -> dict:
    """Damage to a MAG file, by name."""
    item = content["dev"][1]
    (words, vision, audio), label, identity = item
    if how == "swapped":
        content = {k: [((w, a, v), y, s) for (w, v, a), y, s in items] for k, items in content.items()}
    elif how == "duplicate":
        content["dev"][1] = ((words, vision, audio), label, "train_0")
    elif how == "twice in a split":
        content["dev"][1] = content["dev"][0]
    elif how == "nan label":
        content["dev"][1] = ((words, vision, audio), np.array([[np.nan]]), identity)
    elif how == "large label":
        content["dev"][1] = ((words, vision, audio), np.array([[4.0]]), identity)
    elif how == "text label":
        content["dev"][1] = ((words, vision, audio), "happy", identity)
    elif how == "rows":
        content["dev"][1] = ((words, vision, audio[:-1]), label, identity)
    elif how == "width":
        content["dev"][1] = ((words, vision[:, :-1], audio), label, identity)
    elif how == "flat":
        content["dev"][1] = ((words, vision[:, 0], audio), label, identity)
    elif how == "objects":
        content["dev"][1] = ((words, vision.astype(object), audio), label, identity)
    elif how == "no words":
        content["dev"][1] = (([], vision[:0], audio[:0]), label, identity)
    elif how == "word ids":
        content["dev"][1] = ((np.arange(len(words)), vision, audio), label, identity)
    elif how == "short item":
        content["dev"][1] = ((words, vision), label)
    elif how == "not an item":
        content["dev"][1] = None
    elif how == "empty split":
        content["dev"] = []
    elif how == "no split":
        del content["dev"]
    return content


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("swapped", r"(audio|vision) has \d+ features per row, but mosi in the paper has"),
        ("duplicate", "'train_0' is in train and again in valid"),
        ("twice in a split", "'valid_0' is in valid and again in valid"),
        ("nan label", r"label of 'valid_1' \(valid\) is nan"),
        ("large label", r"label of 'valid_1' \(valid\) is 4\.0"),
        ("text label", "label of 'valid_1'.*expected one number"),
        ("rows", "'valid_1' has 2 words but 1 audio and 2 vision rows"),
        ("width", r"vision of 'valid_1' \(valid\) has 46 features per row"),
        ("flat", "item 1 of dev in corpus.pkl: vision of 'valid_1'.*2 dimension"),
        ("objects", "vision of 'valid_1'.*of object"),
        ("no words", "valid_1"),
        ("word ids", "format is misa"),
        ("short item", r"item 1 of dev in corpus\.pkl is not"),
        ("not an item", r"item 1 of dev in corpus\.pkl is not"),
        ("empty split", "valid split is missing or empty"),
        ("no split", "not in the mag format.*keys train, test"),
    ],
)
def test_a_damaged_mag_file_changes_nothing(root: Path, write_pickle, how: str, reason: str) -> None:
    import_corpus("mosi", write_pickle(mag_content()), root=root)
    before = listing(root)
    with pytest.raises(UserError, match=reason) as caught:
        import_corpus("mosi", write_pickle(change(mag_content(), how)), format="mag", root=root)
    assert "\n" not in str(caught.value)
    assert listing(root) == before
    with pytest.raises(UserError):
        import_corpus("mosi_new", write_pickle({"x": 1}), root=root)
    assert [p.name for p in root.iterdir()] == ["mosi"]


def test_a_malicious_file_writes_nothing(root: Path, tmp_path: Path, write_pickle) -> None:
    import os

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    content = mag_content()
    content["dev"].append(Evil())
    with pytest.raises(UserError, match=r"corpus\.pkl holds posix\.system"):
        import_corpus("mosi", write_pickle(content), root=root)
    assert not (tmp_path / "executed").exists() and not root.exists()


# ------------------------------------------------------------------------------------------------------ misa


def misa_folder(folder: Path, with_words: bool = True, label: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for source, items in mag_content().items():
        converted = []
        for (words, vision, audio), y, identity in items:
            ids = np.arange(len(words))
            sequences = (ids, vision, audio, words) if with_words else (ids, vision, audio)
            converted.append((sequences, y if label is None else label(y), identity))
        (folder / f"{source}.pkl").write_bytes(pickle.dumps(converted, protocol=3))
    return folder


@pytest.mark.parametrize("format", ["auto", "misa"])
def test_misa(root: Path, tmp_path: Path, format: str) -> None:
    manifest = import_corpus("mosi", misa_folder(tmp_path / "MOSI"), format=format, root=root)
    assert (manifest.source["file"], manifest.source["format"], manifest.aligned) == ("MOSI", "misa", "word")
    assert len(manifest.source["sha256"]) == 64
    assert_aligned_corpus(load("mosi", root))


def test_misa_moseis_seven_labels(root: Path, tmp_path: Path) -> None:
    folder = misa_folder(tmp_path / "in", label=lambda y: np.concatenate([y, np.full((1, 6), 2.5)], 1))
    import_corpus("own", folder, root=root)
    assert_aligned_corpus(load("own", root))


def test_misa_without_words_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"item 0 of train\.pkl has word ids but no words.*fourth item"):
        import_corpus("mosi", misa_folder(tmp_path / "in", with_words=False), root=root)


def test_misa_with_a_file_missing_or_damaged(root: Path, tmp_path: Path) -> None:
    folder = misa_folder(tmp_path / "in")
    whole = (folder / "dev.pkl").read_bytes()
    for data, reason in (
        (whole[:-20], "dev.pkl is not a readable pickle"),
        (pickle.dumps({}), "expected a list"),
        (b"", "empty"),
    ):
        (folder / "dev.pkl").write_bytes(data)
        with pytest.raises(UserError, match=reason):
            import_corpus("mosi", folder, root=root)
    (folder / "dev.pkl").unlink()
    with pytest.raises(UserError, match=r"not in the misa format.*dev\.pkl"):
        import_corpus("mosi", folder, format="misa", root=root)
    with pytest.raises(UserError, match="no known format"):
        import_corpus("mosi", folder, root=root)
    assert not root.exists()


# ------------------------------------------------------------------------------------------------------ mult


def padded(split: str, i: int, steps: int, width: int, offset: float, length: int, front: int) -> np.ndarray:
    out = np.zeros((steps, width), dtype=np.float32)
    out[front : front + length] = sequence(i, length, width, offset)
    return out


def mult_content(emotions: bool = False, aligned: bool = True) -> dict[str, dict[str, Any]]:
    """Padding in front, as MulT's own files have it; unaligned: audio twice as long, vision three times."""
    content = {}
    for split, size in SIZES.items():
        steps = {"text": 8, "audio": 8 if aligned else 20, "vision": 8 if aligned else 30}
        times = {"text": 1, "audio": 1 if aligned else 2, "vision": 1 if aligned else 3}
        offsets, widths = {"text": 3000, "audio": 2000, "vision": 1000}, {"text": 300, "audio": 5, "vision": 20}
        arrays: dict[str, Any] = {
            m: np.stack(
                [
                    padded(
                        split, i, steps[m], widths[m], offsets[m], count(split, i) * times[m], steps[m] - 7 * times[m]
                    )
                    for i in range(size)
                ]
            )
            for m in steps
        }
        arrays["labels"] = np.array([[[label_of(split, i)]] for i in range(size)])
        if emotions:
            present = np.array([[(i >> e) & 1 for e in range(4)] for i in range(size)])
            arrays["labels"] = np.stack([1 - present, present], -1)
        content[split] = arrays
    return content


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
        assert data.words is None and data.ids == [f"{split}_{i}" for i in range(size)]
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


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda c: c["valid"].pop("audio"), "valid of corpus.pkl has no audio"),
        (lambda c: c["valid"].update(audio=c["valid"]["audio"][:-1]), "different numbers of utterances per modality"),
        (lambda c: c["valid"].update(audio=c["valid"]["audio"][:, :-1]), "different padded lengths"),
        (lambda c: c["valid"].update(audio=c["valid"]["audio"][..., 0]), "audio in valid of corpus.pkl.*3 dimension"),
        (lambda c: c["valid"].update(labels=np.zeros((2, 4, 2))), "not one-hot"),
        (lambda c: c["valid"].update(labels=np.eye(2)[np.zeros((2, 4), int)]), "sentiment labels in one split"),
        (lambda c: c["valid"].update(labels=np.zeros((2, 3))), r"shape \(2, 3\)"),
        (lambda c: c["valid"].update(labels=np.array(["a", "b"])), "labels in valid"),
        (lambda c: c["valid"].update(labels=None), "labels in valid"),
        (lambda c: c["valid"]["labels"].__setitem__(1, np.nan), "label of 'valid_1'.*nan"),
        (lambda c: c["valid"].update(id=np.array([["v", "x", "2"]] * 2)), "expected video, start and end"),
        (lambda c: c["valid"].update(id=np.array(["a"])), "ids of shape"),
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


# ------------------------------------------------------------------------------------------------------ mmsa


def mmsa_content(aligned: bool = True, steps: int = 10) -> dict[str, dict[str, Any]]:
    """[CLS] and [SEP] make text two rows longer than the words; padding behind."""
    content = {}
    for split, size in SIZES.items():
        n = [count(split, i) + 2 for i in range(size)]
        times = {"text": 1, "audio": 1 if aligned else 2, "vision": 1 if aligned else 3}
        wide = {m: steps * t for m, t in times.items()}
        widths, offsets = {"text": 768, "audio": 5, "vision": 20}, {"text": 3000, "audio": 2000, "vision": 1000}
        raw: dict[str, Any] = {
            m: np.stack([padded(split, i, wide[m], widths[m], offsets[m], n[i] * times[m], 0) for i in range(size)])
            for m in wide
        }
        mask = np.array([[1] * n[i] + [0] * (steps - n[i]) for i in range(size)])
        raw["text_bert"] = np.stack([mask * 7, mask, mask * 0], 1).astype(np.float32)
        raw["raw_text"] = np.array([" ".join(words_of(split, i)) for i in range(size)])
        raw["id"] = [f"{split}$_${i}" for i in range(size)]
        raw["regression_labels"] = np.array([label_of(split, i) for i in range(size)], dtype=np.float32)
        raw["classification_labels"] = np.zeros(size)
        if not aligned:
            raw["audio_lengths"] = [n[i] * 2 for i in range(size)]
            raw["vision_lengths"] = np.array([n[i] * 3 for i in range(size)])
        content[split] = raw
    return content


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
    import_corpus("own", write_pickle(content), root=root)
    corpus = load("own", root)
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
        (lambda r: r["vision"].__setitem__((0, 0, 0), np.nan), r"vision of utterance 'valid\$_\$0'.*holds nan"),
    ],
)  # fmt: skip
def test_damaged_mmsa_files(root: Path, write_pickle, damage, reason: str) -> None:
    content = mmsa_content(aligned=False)
    damage(content["valid"])
    with pytest.raises(UserError, match=reason):
        import_corpus("own", write_pickle(content), root=root)
    assert not root.exists()


# ----------------------------------------------------------------------------------------------------- plain


def plain_folder(folder: Path, packed: bool = True, columns: Any = None, text_vectors: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, dict[str, np.ndarray]] = {"audio": {}, "vision": {}} | ({"text": {}} if text_vectors else {})
    rows = []
    for split, size in SIZES.items():
        for i in range(size):
            identity = f"{split}_{i}"
            row = {"id": identity, "split": split, "label": label_of(split, i), "text": " ".join(words_of(split, i))}
            rows.append(columns(row, i) if columns else row)
            for modality, offset in (("vision", 1000), ("audio", 2000), ("text", 3000)):
                if modality in arrays:
                    arrays[modality][identity] = sequence(i, count(split, i), 6, offset)
    with open(folder / "utterances.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for modality, values in arrays.items():
        if packed:
            np.savez(folder / f"{modality}.npz", **values)
        else:
            (folder / modality).mkdir()
            for identity, value in values.items():
                np.save(folder / modality / f"{identity}.npy", value)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("format", ["auto", "plain"])
def test_plain(root: Path, tmp_path: Path, packed: bool, format: str) -> None:
    manifest = import_corpus("own", plain_folder(tmp_path / "in", packed), format=format, root=root)
    assert (manifest.aligned, manifest.source["format"]) == ("word", "plain")
    assert manifest.lengths == {"text": 50, "audio": 50, "vision": 50}
    assert_aligned_corpus(load("own", root))


def test_plain_emotions_text_vectors_and_no_words(root: Path, tmp_path: Path) -> None:
    def columns(row, i):
        return {"id": row["id"], "split": row["split"], "emotion:calm": i % 2, "emotion:loud": 1, "speaker": "x"}

    manifest = import_corpus("own", plain_folder(tmp_path / "in", columns=columns, text_vectors=True), root=root)
    assert (manifest.emotions, manifest.aligned, manifest.dims["text"]) == (["calm", "loud"], "step", 6)
    corpus = load("own", root)
    np.testing.assert_array_equal(corpus.splits["test"].label.numpy(), [[0, 1], [1, 1], [0, 1]])
    assert corpus.splits["test"].words is None
    np.testing.assert_array_equal(rows_of(corpus, "test", "text", 2), sequence(2, count("test", 2), 6, 3000))


def test_plain_long_sequences_set_the_nominal_length(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in", packed=False)
    np.save(folder / "vision" / "test_1.npy", np.zeros((77, 6)))
    manifest = import_corpus("own", folder, root=root)
    assert (manifest.lengths, manifest.aligned) == ({"text": 50, "audio": 50, "vision": 77}, "none")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda r, i: {**r, "split": "training"}, "line 2: split is 'training'"),
        (lambda r, i: {**r, "label": "n/a"}, "line 2: the label of 'train_0' is not a number"),
        (lambda r, i: {**r, "label": "nan"}, r"label of 'train_0' \(train\) is nan"),
        (lambda r, i: {**r, "emotion:x": 1}, "either a column label or columns emotion:NAME"),
        (lambda r, i: {"id": r["id"], "split": r["split"], "text": "a"}, "either a column label"),
        (lambda r, i: {"id": r["id"], "label": 0, "text": "a"}, "needs the columns id and split; it has id, label"),
        (lambda r, i: {**r, "id": "../secret"}, "no array for utterance"),
        (lambda r, i: {**r, "id": "train_0"}, "'train_0' is in train and again in train"),
        (lambda r, i: {**r, "text": ""}, "'train_0' .train. has no words"),
        (lambda r, i: {k: v for k, v in r.items() if k != "text"}, "neither words nor text vectors"),
    ],
)  # fmt: skip
def test_damaged_plain_tables(root: Path, tmp_path: Path, edit, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        import_corpus("own", plain_folder(tmp_path / "in", columns=edit), root=root)
    assert not root.exists()


def test_plain_ids_do_not_leave_the_folder(root: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "secret.npy", np.zeros((2, 6)))
    folder = plain_folder(tmp_path / "in", packed=False, columns=lambda r, i: {**r, "id": "../../secret"})
    with pytest.raises(UserError, match="cannot name a file"):
        import_corpus("own", folder, root=root)


def test_plain_arrays_missing_damaged_or_pickled(root: Path, tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "in")
    whole = (folder / "audio.npz").read_bytes()
    evil = {"train_0": np.array([{"a": 1}], dtype=object)}
    for data, reason in (
        (whole[: len(whole) // 2], "audio.npz is not a readable"),
        (b"", "audio.npz is not a readable"),
        (pickle.dumps([1]), "audio.npz is not a readable"),
    ):
        (folder / "audio.npz").write_bytes(data)
        with pytest.raises(UserError, match=reason):
            import_corpus("own", folder, root=root)
    np.savez(folder / "audio.npz", **evil)
    with pytest.raises(UserError, match="array of 'train_0' is damaged or not numeric"):
        import_corpus("own", folder, root=root)
    (folder / "audio.npz").unlink()
    with pytest.raises(UserError, match=r"has no audio\.npz"):
        import_corpus("own", folder, root=root)
    (folder / "utterances.csv").write_bytes(b"id,split\xff\n")
    with pytest.raises(UserError, match="UTF-8"):
        import_corpus("own", folder, root=root)
    (folder / "utterances.csv").write_text("id,split,label,text\na,train,1\n")
    with pytest.raises(UserError, match="line 2 does not have the header's 4 columns"):
        import_corpus("own", folder, root=root)
    assert not root.exists()


# -------------------------------------------------------------------------------------------------- dispatch


def test_what_cannot_be_told_lists_the_formats(root: Path, tmp_path: Path, write_pickle) -> None:
    with pytest.raises(UserError, match=r"no known format: expected mag, mmsa, mult.*a dict with keys a"):
        import_corpus("own", write_pickle({"a": 1}), root=root)
    with pytest.raises(UserError, match="give its folder"):
        import_corpus("own", write_pickle([1, 2]), root=root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"misa.*csd.*plain"):
        import_corpus("own", tmp_path / "empty", root=root)
    with pytest.raises(UserError, match="is a folder; the mag format is one pickle file"):
        import_corpus("own", tmp_path / "empty", format="mag", root=root)
    with pytest.raises(UserError, match="is a file; give the folder"):
        import_corpus("own", write_pickle({}), format="csd", root=root)
    with pytest.raises(UserError, match="Unknown format 'mga'; nearest: mag"):
        import_corpus("own", write_pickle({}), format="mga", root=root)
    with pytest.raises(UserError, match="does not exist"):
        import_corpus("own", tmp_path / "nothing.pkl", root=root)
    with pytest.raises(UserError, match="not a corpus name"):
        import_corpus("../own", write_pickle(mag_content()), root=root)


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


@pytest.mark.parametrize("format", ["mult", "mmsa"])
def test_a_file_of_another_format_is_refused(root: Path, write_pickle, format: str) -> None:
    with pytest.raises(UserError, match=f"corpus.pkl is not in the {format} format"):
        import_corpus("mosi", write_pickle(mag_content()), format=format, root=root)


def test_same_file_same_corpus(root: Path, write_pickle) -> None:
    path = write_pickle(mag_content())
    first = import_corpus("mosi", path, root=root)
    assert import_corpus("other", path, root=root).sha256 == first.sha256
    changed = copy.deepcopy(mag_content())
    changed["train"][0][0][2][0, 0] += 1
    assert import_corpus("mosi", write_pickle(changed), root=root).sha256 != first.sha256
    assert sorted(p.name for p in root.iterdir()) == ["mosi", "other"]


def test_a_full_disk_and_a_file_in_the_way_change_nothing(
    root: Path, tmp_path: Path, write_pickle, monkeypatch
) -> None:
    import safetensors.numpy
    from safetensors import SafetensorError

    path = write_pickle(mag_content())
    import_corpus("mosi", path, root=root)
    before = listing(root)

    def full(arrays, file):
        Path(file).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.numpy, "save_file", full)
        with pytest.raises(UserError, match=r"No space left.*nothing was changed"):
            import_corpus("mosi", path, root=root)
    assert listing(root) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to"):
        import_corpus("mosi", path, root=tmp_path / "file")


def test_the_old_corpus_comes_back_when_the_new_one_cannot_take_its_place(
    root: Path, write_pickle, monkeypatch
) -> None:
    import os

    path = write_pickle(mag_content())
    import_corpus("mosi", path, root=root)
    before = listing(root)
    rename, calls = os.rename, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", second_fails)
        with pytest.raises(UserError, match="Input/output error; nothing was changed"):
            import_corpus("mosi", path, root=root)
    assert listing(root) == before
    assert [p.name for p in root.iterdir()] == ["mosi"]


def test_odd_words_survive_as_utf8(root: Path, write_pickle) -> None:
    content = mag_content()
    (words, vision, audio), label, identity = content["train"][3]
    words[0], words[1] = "caf\u00e9\n\u4e2d", "half\ud83d"
    content["train"][3] = ((words, vision, audio), label, identity)
    import_corpus("mosi", write_pickle(content), root=root)
    assert load("mosi", root).splits["train"].words[3][:2] == ["caf\u00e9\n\u4e2d", "half?"]
    assert json.loads((root / "mosi" / "manifest.json").read_text(encoding="utf-8"))["name"] == "mosi"
