"""Tiny corpora with values that say where they belong: value = offset of the modality + 10 * utterance + step."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"train": 4, "valid": 2, "test": 3}
WORDS = ["good", "Movie", "really", "bad", "ending"]


def sequence(utterance: int, length: int, width: int, offset: float) -> np.ndarray:
    """(length, width): every value is offset + 10 utterance + step, so a swapped modality or row shows."""
    return np.tile(offset + 10 * utterance + np.arange(length, dtype=np.float32)[:, None], (1, width))


def count(split: str, i: int) -> int:
    """The number of words of utterance i: 1 to 5, different from one to the next."""
    return 1 + (i + len(split)) % 5


def words_of(split: str, i: int) -> list[str]:
    return [WORDS[(i + k) % 5] for k in range(count(split, i))]


def label_of(split: str, i: int) -> float:
    return [-3.0, 0.4, 2.2, -1.0][i % 4]


def mag_content(vision: int = 47, audio: int = 74) -> dict[str, list]:
    return {
        source: [
            (
                (
                    words_of(split, i),
                    sequence(i, count(split, i), vision, 1000),
                    sequence(i, count(split, i), audio, 2000),
                ),
                np.array([[label_of(split, i)]], dtype=np.float32),
                f"{split}_{i}",
            )
            for i in range(SIZES[split])
        ]
        for source, split in (("train", "train"), ("dev", "valid"), ("test", "test"))
    }


def assert_aligned_corpus(corpus: Any, ids: Any = lambda split, i: f"{split}_{i}") -> None:
    """Every value of the corpus made above lies at its utterance, split, modality and word."""
    for split, size in SIZES.items():
        data = corpus.splits[split]
        assert data.ids == [ids(split, i) for i in range(size)]
        assert data.words == [words_of(split, i) for i in range(size)]
        np.testing.assert_allclose(data.label.numpy(), [label_of(split, i) for i in range(size)], rtol=1e-6)
        for modality, offset in (("vision", 1000), ("audio", 2000)):
            ragged = getattr(data, modality)
            for i in range(size):
                start, length = int(ragged.starts[i]), int(ragged.lengths[i])
                rows = ragged.rows[start : start + length].numpy()
                np.testing.assert_array_equal(rows, sequence(i, count(split, i), rows.shape[1], offset))


def rows_of(corpus: Any, split: str, modality: str, i: int) -> np.ndarray:
    ragged = getattr(corpus.splits[split], modality)
    start = int(ragged.starts[i])
    return ragged.rows[start : start + int(ragged.lengths[i])].numpy()


def padded(split: str, i: int, steps: int, width: int, offset: float, length: int, front: int) -> np.ndarray:
    out = np.zeros((steps, width), dtype=np.float32)
    out[front : front + length] = sequence(i, length, width, offset)
    return out


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


def listing(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
