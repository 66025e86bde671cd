"""What a model reads of a split where a modality is missing, dropped at some words, or noisy.

Drops and noise are drawn for each utterance by the hash of what they are for: the modality and the utterance's id. So
all models, seeds and text front-ends see the same words without audio, whatever their batches. A word's pieces share
its fate. The words that a share of 0.3 drops are among those that 0.5 drops; all of them is the modality missing.

What stands in place of what is dropped, at its place, so that lengths stay:

    audio, vision      rows of zeros, after scaling: what padding is, and with scale "standard" the train split's mean
    text as vectors    rows of zeros, which is what a word has that the word vectors do not know
    text as pieces     [UNK] for each piece, between [CLS] and [SEP] (as Yuan et al., TFR-Net, ACM MM 2021, do)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hycon.data.batch import Batch
from hycon.data.conditions import DRAWS, Condition
from hycon.data.corpus import Corpus
from hycon.data.manifest import MODALITIES
from hycon.data.prepare import WordPieces, deviations, permute, words_of
from hycon.data.ragged import Both, Ragged, each_step, rows_in_order, steps_of
from hycon.errors import UserError


@dataclass(frozen=True)
class Steps:
    """Of one modality: what each of its steps is of.

    count: (N,) words, or steps of an unaligned modality, of each utterance, also beyond what a model reads.
    first: (N,) where each utterance's words begin among all.  word: (R,) for each step in the batch, which word among
    all; -1 at special tokens.
    """

    count: Tensor
    first: Tensor
    word: Tensor


@dataclass(frozen=True)
class Intact:
    """A whole split as `prepare` gives it, and what is needed to take parts of it away.

    deviation: modality -> (d,) each feature's standard deviation over the train split, as the batch is scaled.
    unknown: the id of [UNK]; None for vectors.
    permuted: modalities that `batch` has not permuted yet, and that a model reads permuted.
    """

    split: str
    ids: Sequence[str]
    batch: Batch
    steps: dict[str, Steps]
    deviation: dict[str, Tensor]
    unknown: int | None = None
    permuted: Sequence[str] = ()

    def under(self, condition: Condition) -> Batch:
        """The batch under a condition; its label and its videos are those of the intact one."""
        change = self._noisy if condition.kind == "noise" else self._dropped
        changed: dict[str, Any] = {m: change(m, condition.amount) for m in condition.modalities}
        batch, videos = replace(self.batch, **changed, videos=None), self.batch.videos
        batch = permute(batch, self.permuted, self.split)
        return replace(batch, videos=videos and replace(videos, whole=batch))

    def _dropped(self, modality: str, share: float) -> Ragged:
        """The nearest whole number of each utterance's words; 1: all."""
        steps, rows = self.steps[modality], rows_in_order(getattr(self.batch, modality))
        dropped = torch.zeros(int(steps.count.sum()) + 1, dtype=torch.bool)  # the last: special tokens
        for id, first, count in zip(self.ids, steps.first.tolist(), steps.count.tolist(), strict=True):
            order = generator("dropped", modality, id).permutation(count)
            dropped[first + torch.from_numpy(order[: int(share * count + 0.5)])] = True
        gone = dropped[steps.word].to(rows.device)
        if rows.dim() > 1:
            return self._with_rows(modality, rows.masked_fill(gone[:, None], 0))
        if self.unknown is None:
            raise UserError("The tokenizer has no [UNK], which stands for words that are dropped.")
        return self._with_rows(modality, rows.masked_fill(gone, self.unknown))

    def _noisy(self, modality: str, level: float) -> Ragged:
        """One draw for each word and feature, repeated at its pieces; none at special tokens."""
        steps, rows = self.steps[modality], rows_in_order(getattr(self.batch, modality))
        width = rows.shape[1]
        noise = [
            generator("noise", modality, id).standard_normal((count, width), np.float32)
            for id, count in zip(self.ids, steps.count.tolist(), strict=True)
        ]
        drawn = torch.from_numpy(np.concatenate([*noise, np.zeros((1, width), np.float32)]))[steps.word]
        return self._with_rows(modality, rows + level * (drawn * self.deviation[modality]).to(rows.device))

    def _with_rows(self, modality: str, rows: Tensor) -> Ragged:
        """The modality's sequences with other rows, one sequence after the other."""
        sequences: Ragged = getattr(self.batch, modality)
        lengths = sequences.lengths
        return replace(sequences, rows=rows, starts=(lengths.cumsum(0) - lengths).to(rows.device))


def intact(
    corpus: Corpus,
    split: str,
    batch: Batch,
    text: str,
    tokenizer: WordPieces | None,
    scale: str,
    permuted: Sequence[str] = (),
) -> Intact:
    """Of a split that `prepare` made into `batch` with the same text, tokenizer and scale, and without permutation."""
    found = corpus.splits[split]
    words = words_of(found, text, tokenizer, batch.layout)  # modality -> the word of each step, -1: none; or nothing
    steps = {}
    for modality in MODALITIES:
        own = getattr(found, modality)
        spelt = modality == "text" and found.words is not None and text != "features"
        count = torch.tensor([len(sentence) for sentence in found.words or ()]) if spelt else own.lengths
        first = count.cumsum(0) - count
        lengths = Both.of(getattr(batch, modality).lengths)
        place = words[modality] if modality in words else steps_of(lengths)
        word = torch.where(place < 0, -1, place + each_step(first, lengths))
        steps[modality] = Steps(count, first, word)
    unknown = tokenizer.unk if tokenizer else None
    return Intact(split, found.ids, batch, steps, deviations(corpus, scale), unknown, permuted)


def generator(*axes: str) -> np.random.Generator:
    """Random numbers for what the axes name, and for nothing else: neither order nor number of draws matters."""
    digest = hashlib.sha256(json.dumps(["robustness", DRAWS, *axes]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
