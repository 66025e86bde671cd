"""The small made-up corpora that a model is checked on: the demo corpus with word vectors, and one with text vectors of
its own in place of words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from hycon.data import Utterance, convert
from hycon.data import load as load_corpus
from hycon.data.batch import Batch
from hycon.data.corpus import Split
from hycon.data.importers.synthetic import LENGTH, hash_vector, synthesize
from hycon.data.manifest import MODALITIES

SIZES = {"train": 40, "valid": 16, "test": 16}
WIDTH = 9  # of the text vectors


class MadeUp:
    """root: a folder where the corpora are made."""

    def __init__(self, root: str | os.PathLike):
        self.root = Path(root)
        synthesize("words", root, sizes=SIZES)
        splits = load_corpus("words", root).splits
        described = {name: [_described(split, i) for i in range(len(split.ids))] for name, split in splits.items()}
        lengths = dict.fromkeys(MODALITIES, LENGTH)
        convert("vectors", described, source={"file": "vectors"}, root=root, lengths=lengths)
        self.splits = cache(self._splits)

    def _splits(self, text: str, scale: str = "none") -> Mapping[str, Batch]:
        """The splits as the front-end reads them, with the demo encoder behind bert and xlnet."""
        from hycon.data.prepare import prepare
        from hycon.pretrained import identify, load_tokenizer

        tokenizer = load_tokenizer(text, identify(text, "demo")) if text in ("bert", "xlnet") else None
        corpus = load_corpus("vectors" if text == "features" else "words", self.root)
        return prepare(corpus, text, tokenizer=tokenizer, scale=scale)


def _described(split: Split, i: int) -> Utterance:
    assert split.words is not None  # made with words
    words = split.words[i]
    return Utterance(
        id=split.ids[i],
        label=split.label[i].numpy(),
        words=words,
        text=np.stack([hash_vector(word)[:WIDTH] for word in words]),
        audio=_rows(split.audio, i),
        vision=_rows(split.vision, i),
    )


def _rows(sequences, i: int) -> np.ndarray:
    start, length = int(sequences.starts[i]), int(sequences.lengths[i])
    return sequences.rows[start : start + length].numpy()
