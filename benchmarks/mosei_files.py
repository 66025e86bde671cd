"""A made-up folder of computational sequences (.csd) of CMU-MOSEI's size, and word vectors for its words.

    python benchmarks/mosei_files.py FOLDER [--scale 1.0]

At scale 1: the 3,228 videos of the standard folds, the 22,777 sentences of the paper's splits, 66 hours of COVAREP at
100 rows a second and FACET at 30: 8 GB. At scale 0.01 each fold has a hundredth of its videos. The numbers are noise:
what is measured is size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

from hycon.data.importers.csd import import_mmsdk, standard_folds
from hycon.data.manifest import PAPER, SPLITS

WORDS = 19.6  # a sentence: Zadeh et al. (ACL 2018) count 447,143 words, the paper's splits 22,777 sentences
SPREAD = 0.65  # of the logarithm of a sentence's words; chosen here: a few sentences have over 100
SECONDS = 0.53  # from word to word: their 65 h 53 min by their words
SPOKEN = 0.4  # of these seconds; the rest is silence between words; chosen here
RATES = {"COVAREP": (100, 74), "FACET 4.2": (30, 35)}  # rows a second, features
VOCABULARY = 23026  # distinct words; Zadeh et al.
POOL = 2**24  # random values, of which every video has a piece: drawing all of them would take minutes
INFINITE = 1e-5  # share of COVAREP's values that are log(0), as in the real files; chosen here
WIDTH = 300  # of a word vector
METADATA = (
    "computational sequence description", "computational sequence version", "alignment compatible", "dataset name",
    "dataset version", "creator", "contact", "featureset bib citation", "dataset bib citation",
)  # fmt: skip


def videos_of(scale: float) -> dict[str, list[int]]:
    """video -> words of each of its sentences; of every fold the first `scale` of its videos, at least one."""
    rng = np.random.default_rng(2022)
    folds = standard_folds(import_mmsdk(), "mosei")
    found: dict[str, list[int]] = {}
    for split, size in zip(SPLITS, PAPER["mosei"]["sizes"], strict=True):
        names = [video for video, own in folds.items() if own == split]
        names = names[: max(1, round(scale * len(names)))]
        sentences = max(len(names), round(scale * size))
        words = np.exp(rng.normal(np.log(WORDS) - SPREAD**2 / 2, SPREAD, sentences)).round().clip(1)
        found |= {name: words[i :: len(names)].astype(int).tolist() for i, name in enumerate(names)}
    return found


def write_folder(folder: Path, scale: float = 1.0) -> dict[str, int]:
    """Write the four sequences and `glove.txt`. Returns counts: videos, sentences, words, bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    videos, pool = videos_of(scale), rng.standard_normal(POOL, dtype=np.float32)
    vocabulary = max(100, round(scale * VOCABULARY))
    labels = {video: _labels(words, rng) for video, words in videos.items()}
    _write(folder, "Sentiment Labels", labels.items())
    spoken = ((video, _spoken(sum(words), vocabulary, rng)) for video, words in videos.items())
    _write(folder, "words", spoken)
    for title, (rate, width) in RATES.items():
        values = pool.copy()
        if title == "COVAREP":
            values[rng.random(POOL, dtype=np.float32) < INFINITE] = -np.inf
        _write(folder, title, ((v, _frames(sum(n), rate, width, values, rng)) for v, n in videos.items()))
    _write_vectors(folder / "glove.txt", vocabulary, pool)
    sizes = [sum(words) for words in videos.values()]
    total = sum(path.stat().st_size for path in folder.glob("*.csd"))
    return {"videos": len(videos), "sentences": sum(map(len, videos.values())), "words": sum(sizes), "bytes": total}


def _labels(words: list[int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A sentence after the other: its seconds, and its sentiment with six emotions."""
    ends = np.cumsum(words) * SECONDS
    intervals = np.stack([ends - np.array(words) * SECONDS, ends - (SECONDS - SPOKEN) / 2], 1)
    return intervals, rng.uniform(-3, 3, (len(words), 7)).round(2)


def _spoken(count: int, vocabulary: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    starts = np.arange(count) * SECONDS
    which = np.minimum(rng.zipf(1.3, count), vocabulary) - 1
    return np.stack([starts, starts + SPOKEN], 1), np.array([[_word(i).encode()] for i in which.tolist()])


def _word(number: int) -> str:
    return f"w{number}"


def _frames(
    words: int, rate: int, width: int, pool: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    count = max(1, int(words * SECONDS * rate))
    starts = np.arange(count) / rate
    first = int(rng.integers(len(pool)))
    rows = np.take(pool, np.arange(first, first + count * width), mode="wrap").reshape(count, width)
    return np.stack([starts, starts + 1 / rate], 1), rows


def _write(folder: Path, title: str, data) -> None:
    """data: (video, (intervals, features)), one at a time. As the SDK writes it."""
    with h5py.File(folder / f"{title.replace(' ', '_')}.csd", "w") as handle:
        root = handle.create_group(title)
        groups = root.create_group("data")
        for video, (intervals, features) in data:
            group = groups.create_group(video)
            group.create_dataset("intervals", data=np.asarray(intervals, dtype=np.float32))
            group.create_dataset("features", data=features)
        metadata = root.create_group("metadata")
        for key in ("root name", *METADATA):
            value = {"root name": f'"{title}"', "dataset name": '"CMU-MOSEI"'}.get(key, "made up")
            metadata.create_dataset(key, data=np.array([value.encode()], dtype=h5py.string_dtype()))


def _write_vectors(path: Path, vocabulary: int, pool: np.ndarray) -> None:
    with open(path, "w", encoding="ascii") as handle:
        for i in range(vocabulary):
            row = np.take(pool, np.arange(i * WIDTH, (i + 1) * WIDTH), mode="wrap")
            handle.write(f"{_word(i)} {' '.join(f'{x:.4f}' for x in row.tolist())}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the videos (default: 1)")
    options = parser.parse_args()
    print(", ".join(f"{n:,} {what}" for what, n in write_folder(options.folder, options.scale).items()))


if __name__ == "__main__":
    main()
