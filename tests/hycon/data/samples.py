"""Tiny corpora with values that say where they belong: value = offset of the modality + 10 * utterance + step."""

from __future__ import annotations

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
