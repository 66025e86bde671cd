"""The demo corpus: small, made up, learnable, and called synthetic wherever its numbers go.

Each utterance has a hidden sentiment. Its words lean that way, and so do a few audio and vision channels, word by word;
the rest is noise. Sizes and strengths are chosen here so that every model learns something in seconds.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hycon.data.importers.common import Utterance
from hycon.data.importers.convert import convert
from hycon.data.manifest import Manifest
from hycon.pretrained import demo_vocabulary

SIZES = {"train": 160, "valid": 48, "test": 64}
DIMS = {"audio": 8, "vision": 6}
VECTOR_DIM = 24
LENGTH = 16  # nominal; the longest utterance has 12 words
EMOTIONS = ["neutral", "happy", "sad", "angry"]
SUFFIXES = ("", "", "", "ly", "ness", "ish")  # some words split into two pieces


def synthesize(
    name: str = "synthetic",
    root: str | os.PathLike | None = None,
    *,
    seed: int = 2022,
    informative: Sequence[str] = ("text", "audio", "vision"),
    sizes: dict[str, int] | None = None,
    emotions: bool = False,
) -> Manifest:
    """Write the demo corpus. informative: the modalities that depend on the label; the others are pure noise.

    emotions: IEMOCAP's four, one an utterance, instead of sentiment; words and channels lean as for sentiment.
    """
    rng = np.random.default_rng(seed)
    splits = {
        split: [_utterance(rng, f"{split}{i // 8}_{i % 8}", informative) for i in range(count)]
        for split, count in (sizes or SIZES).items()
    }
    if emotions:
        splits = {split: [replace(u, label=_emotion(u.label)) for u in own] for split, own in splits.items()}
    words = sorted({w for utterances in splits.values() for u in utterances for w in u.words or ()})
    matrix = np.stack([hash_vector(word) for word in words])
    description = {
        "file": "hash of the word",
        "dim": VECTOR_DIM,
        "words": len(words),
        "policy": "every word has a vector: its pieces' hashes, summed",
    }
    return convert(
        name,
        splits,
        source={"file": "generated", "format": "synthetic", "seed": seed, "informative": list(informative)},
        root=root,
        lengths=dict.fromkeys(("text", "audio", "vision"), LENGTH),
        vectors=(description, words, matrix),
        emotions=EMOTIONS if emotions else None,
        notes=["synthetic data made by this suite"],
        synthetic=True,
    )


def _emotion(sentiment: float) -> np.ndarray:
    """(4,) one-hot in the order of EMOTIONS: from angry over sad and neutral to happy as the sentiment rises."""
    which = "angry" if sentiment < -1.5 else "sad" if sentiment < -0.5 else "neutral" if sentiment < 0.8 else "happy"
    return np.array([name == which for name in EMOTIONS], np.int64)


def hash_vector(word: str) -> np.ndarray:
    """(VECTOR_DIM,) a fixed random vector per word, the hashing embedding behind the demo's `glove` front-end."""
    positive, negative, _ = _lexicon()
    stems = [word.removesuffix(s) for s in SUFFIXES if s and word.endswith(s)]
    stem = next((stem for stem in stems if stem in positive or stem in negative), word)
    seed = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=VECTOR_DIM).astype(np.float32)


@functools.cache
def _lexicon() -> tuple[list[str], list[str], list[str]]:
    """The demo vocabulary's positive, negative and neutral words."""
    words = list(demo_vocabulary())
    ends = (("good", "solid"), ("bad", "silly"), ("the", "often"))
    positive, negative, neutral = (words[words.index(first) : words.index(last) + 1] for first, last in ends)
    return positive, negative, neutral


def _utterance(rng: np.random.Generator, id: str, informative: Sequence[str]) -> Utterance:
    length = int(np.clip(rng.lognormal(1.8, 0.5), 3, 12))
    label = float(np.round(np.clip(rng.normal(0, 1.6), -3, 3) * 5) / 5)
    lean = label if "text" in informative else float(rng.normal(0, 1.6))
    words = [_word(rng, lean) for _ in range(length)]
    signal = {m: label if m in informative else float(rng.normal(0, 1.6)) for m in DIMS}
    sequences = {}
    for modality, width in DIMS.items():
        rows = rng.normal(size=(length, width))
        rows[:, :3] += 0.6 * signal[modality] * np.array([1.0, -1.0, 0.5])
        sequences[modality] = rows.astype(np.float32)
    return Utterance(id=id, label=label, words=words, **sequences)


def _word(rng: np.random.Generator, lean: float) -> str:
    positive, negative, neutral = _lexicon()
    if rng.random() < 0.5:
        return str(rng.choice(neutral))
    leans_positive = rng.random() < 1 / (1 + np.exp(-1.5 * lean))
    return str(rng.choice(positive if leans_positive else negative)) + str(rng.choice(SUFFIXES))
