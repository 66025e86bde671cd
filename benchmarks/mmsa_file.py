"""Made-up files in MMSA's format and of CMU-MOSI's size, for timing: no corpus, no network, the same bytes every time.

Two kinds. "mosi": words per utterance as in MOSI (5th percentile 4, median 10, mean 12.1, 95th 28; a log-normal,
rounded, within 1..50). "unpadded": every utterance has 50 steps. Steps beyond an utterance's end are zeros.
The label is a hidden number that leans on every row of every modality, so that training has something to learn.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

KINDS = ("mosi", "unpadded")
SIZES = {"train": 1284, "valid": 229, "test": 686}  # the paper's and everyone's MOSI split
STEPS = 50
DIMS = {"text": 768, "audio": 5, "vision": 20}  # MMSA's aligned_50.pkl
MEDIAN, SIGMA = 10.0, 0.625  # of the log-normal: gives 4 / 10 / 28 and a mean of 12.1
LEAN = {"text": 0.1, "audio": 0.2, "vision": 0.1}  # label per unit of noise, in every tenth feature; chosen here


def lengths(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) words per utterance: the distribution's own quantiles, shuffled, so that no draw can miss it."""
    if kind == "unpadded":
        return np.full(count, STEPS)
    normal = NormalDist()
    quantiles = [normal.inv_cdf((i + 0.5) / count) for i in range(count)]
    words = np.rint(MEDIAN * np.exp(SIGMA * np.array(quantiles))).clip(1, STEPS).astype(np.int64)
    return rng.permutation(words)


def describe(words: np.ndarray) -> str:
    low, middle, high = np.percentile(words, [5, 50, 95])
    return f"5th percentile {low:.0f}, median {middle:.0f}, mean {words.mean():.1f}, 95th {high:.0f}"


def write(path: Path, kind: str, sizes: dict[str, int] | None = None) -> str:
    """Write a file of `kind` to `path` and say its lengths in words. sizes: split -> utterances, MOSI's by default."""
    rng = np.random.default_rng(2022)
    content = {split: _split(rng, kind, split, count) for split, count in (sizes or SIZES).items()}
    with path.open("wb") as handle:
        pickle.dump(content, handle, protocol=4)
    return describe(content["train"]["audio_lengths"])


def _split(rng: np.random.Generator, kind: str, split: str, count: int) -> dict[str, Any]:
    words = lengths(kind, count, rng)
    inside = np.arange(STEPS) < words[:, None]  # (N, T)
    label = rng.normal(0.0, 1.3, count).clip(-3, 3).astype(np.float32)
    rows = {modality: _rows(rng, modality, label, inside) for modality in DIMS}
    ids = np.where(inside, rng.integers(1000, 30000, inside.shape), 0)
    return {
        "raw_text": np.array([" ".join(["word"] * n) for n in words]),
        **rows,
        "text_bert": np.stack([ids, inside, np.zeros_like(ids)], 1).astype(np.float32),
        "audio_lengths": words,
        "vision_lengths": words,
        "id": np.array([f"{split}{i // 20}$_${i % 20}" for i in range(count)]),
        "annotations": np.where(label < 0, "Negative", np.where(label > 0, "Positive", "Neutral")),
        "classification_labels": np.sign(label) + 1,
        "regression_labels": label,
    }


def _rows(rng: np.random.Generator, modality: str, label: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(N, T, d) float32: noise, plus the label in every tenth feature; zeros beyond an utterance's end."""
    rows = rng.standard_normal((*inside.shape, DIMS[modality]), dtype=np.float32)
    rows[:, :, ::10] += LEAN[modality] * label[:, None, None]
    rows *= inside[:, :, None]
    return rows
