"""What would let a test split say more than it may: phrases for captions, none where nothing is found.

    videos      utterances whose video, by their ids, is in another split too: the same speaker, place and topic
    sentences   transcripts that stand word for word in train, or, of test, in valid, which chooses
    features    one whose mean over an utterance is the label, or nearly

The paper's corpora are split by video. Features that stand in several splits are counted in repeats.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hycon.data.corpus import strings_of
from hycon.data.importers.repeats import BLOCK, PHRASE
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.data.repeats import REPEATED, percent
from hycon.data.videos import video_of

# A correlation with the label, chosen here. Single features of CMU-MOSI reach 0.46 in audio and vision, 0.67 in vision
# by a network that was trained on these labels, and 0.86 in text by one; the demo corpus has 0.95.
TELLING = 0.98
FEWEST = 30  # utterances from which a correlation is looked at, chosen here: among few, chance brings some near 1


def leaks(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Phrases such as "21 % of the test split's sentences stand word for word in train". arrays: those of
    corpus.safetensors."""
    strings = {split: strings_of(arrays, split) for split in SPLITS}
    return [*_videos(strings), *_sentences(strings), *_features(arrays)]


def _videos(strings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A split whose ids all begin alike names no videos (hycon.data.videos); an id that names none is its own."""
    videos = {split: [video_of(id)[0] for id in strings[split]["ids"]] for split in SPLITS}
    named = {split: set(own) if len(set(own)) > 1 else set() for split, own in videos.items()}
    for split in ("test", "valid"):
        others = set().union(*(named[other] for other in SPLITS if other != split))
        share = float(np.mean([video in named[split] & others for video in videos[split]]))
        if share > REPEATED:
            yield f"{percent(share)} of the {split} split's utterances are, by their ids, of videos in other splits too"
            return


def _sentences(strings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Of PHRASE words at least: shorter ones recur in speech."""
    if "words" not in strings["train"]:
        return
    for split, other in (("test", "train"), ("test", "valid"), ("valid", "train")):
        there = {tuple(words) for words in strings[other]["words"]}
        said = strings[split]["words"]
        share = float(np.mean([len(words) >= PHRASE and tuple(words) in there for words in said]))
        if share > REPEATED:
            yield f"{percent(share)} of the {split} split's sentences stand word for word in {other}"
            return


def _features(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    for modality in MODALITIES:
        for split in SPLITS:
            rows, label = arrays.get(f"{split}.{modality}.rows"), arrays[f"{split}.label"]
            if rows is None or len(label) < FEWEST:
                continue
            found = _correlations(rows, arrays[f"{split}.{modality}.offsets"], label)
            if found.max() > TELLING:
                yield (
                    f"feature {int(found.argmax())} of {modality}, counted from 0, tells the label: its means over "
                    f"the {split} split's utterances correlate with it by {found.max():.2f}"
                )
                break


def _correlations(rows: np.ndarray, offsets: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(d,): each feature's largest correlation with a label, without sign. rows: (R, d).  label: (N,) or (N, E)."""
    means = _means(rows, offsets)
    labels = label.reshape(len(label), -1).astype(np.float64)
    means, labels = _standardised(means), _standardised(labels)
    return np.abs(means.T @ labels).max(1)


def _means(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(N, d) float64, a few utterances at a time: a copy of all rows may not fit in the memory."""
    means = np.empty((len(offsets) - 1, rows.shape[1]))
    start = 0
    while start < len(means):
        last = np.searchsorted(offsets, offsets[start] + BLOCK // rows.shape[1], side="right") - 1
        stop = min(max(start + 1, int(last)), len(means))
        own = rows[offsets[start] : offsets[stop]].astype(np.float64)
        means[start:stop] = np.add.reduceat(own, offsets[start:stop] - offsets[start], axis=0)
        start = stop
    return means / np.diff(offsets)[:, None]


def _standardised(x: np.ndarray) -> np.ndarray:
    """(N, d) with columns of mean 0 and length 1; those of one value throughout become 0."""
    centred = x - x.mean(0)
    length = np.sqrt((centred**2).sum(0))
    still = length <= 1e-9 * np.maximum(1.0, np.abs(x).max(0))  # rounding leaves a little of what does not vary
    return centred / np.where(still, np.inf, length)
