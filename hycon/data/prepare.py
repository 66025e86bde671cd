"""From a corpus to what a model reads: text front-end applied, on the device, gathered by index.

A whole split is one `Batch`; a mini-batch is `split.take(index)`, which copies no row. Front-ends:

    glove      words looked up in the corpus's word vectors (unknown words are zero vectors, counted in the manifest)
    features   the text vectors that came with the source
    bert       word pieces [CLS] w.. [SEP]; audio/vision rows repeated for each piece of a word, zero rows at the
               special tokens (MAG-BERT's driver; facts: first 48 pieces, nominal length 50, padding on the right)
    xlnet      pieces w.. [SEP] [CLS], nominal padding on the left
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hycon.data.batch import Batch, Layout, Videos, form_of
from hycon.data.corpus import Corpus, Split
from hycon.data.manifest import SPLITS
from hycon.data.ragged import Ragged
from hycon.data.videos import video_of
from hycon.errors import UserError

SCALES = ("none", "standard", "maxabs")


@dataclass(frozen=True)
class WordPieces:
    """What batching needs of a tokenizer. pieces: words -> one list of ids per word."""

    pieces: Callable[[Sequence[str]], list[list[int]]]
    cls: int
    sep: int
    pad: int


def prepare(
    corpus: Corpus,
    text: str,
    *,
    tokenizer: WordPieces | None = None,
    scale: str = "none",
    device: torch.device | str = "cpu",
) -> dict[str, Batch]:
    """{"train", "valid", "test"} -> Batch of the whole split, on `device`.

    tokenizer: needed by bert and xlnet.  scale: audio and vision by the train split's statistics, per feature:
    "standard" (zero mean, unit variance), "maxabs" (divided by the largest magnitude, as TFN's and MFN's code does).
    Raises UserError where the corpus cannot serve the front-end.
    """
    form_of(text)
    if scale not in SCALES:
        raise UserError(f"Unknown scale {scale!r}; expected one of {', '.join(SCALES)}.")
    scalers = {}
    if scale != "none":  # else the rows stay where they are mapped
        scalers = {m: _scaler(getattr(corpus.splits["train"], m).rows, scale) for m in ("audio", "vision")}
    look_up = _look_up(corpus, text, tokenizer)
    batches = {}
    for name in SPLITS:
        split = corpus.splits[name]
        changed: dict[str, Any] = {m: _apply(getattr(split, m), *scaler) for m, scaler in scalers.items()}
        scaled = replace(split, **changed)
        label = split.label.float() if corpus.manifest.task == "sentiment" else split.label.long()
        whole = look_up(scaled, label).to(device)
        batches[name] = replace(whole, videos=find_videos(split.ids, whole))
    return batches


def _scaler(rows: Tensor, scale: str) -> tuple[Tensor, Tensor]:
    """What to take off and what to divide by, (d,) each."""
    zero, one = torch.zeros(rows.shape[1]), torch.ones(rows.shape[1])
    if scale == "standard":
        deviation = rows.double().std(0, correction=0).float()
        return rows.double().mean(0).float(), torch.where(deviation > 1e-6, deviation, one)
    largest = rows.abs().amax(0)
    return zero, torch.where(largest > 0, largest, one)


def _apply(sequences: Ragged, shift: Tensor, divisor: Tensor) -> Ragged:
    return replace(sequences, rows=(sequences.rows - shift) / divisor)


def _own_vectors(corpus: Corpus, text: str) -> bool:
    """Whether the text is what came with the source: as asked for, or because that is GloVe and there are no words."""
    wordless = corpus.splits["train"].words is None
    return text == "features" or (text == "glove" and wordless and corpus.manifest.own_glove)


def serves(corpus: Corpus, text: str) -> bool:
    """Whether the steps of front-end `text` are aligned with audio and vision, sub-words as their words are.

    Raises UserError where the corpus cannot serve it at all.
    """
    name, manifest = corpus.name, corpus.manifest
    if _own_vectors(corpus, text):
        if "text" not in manifest.dims:
            raise UserError(f"Corpus {name!r} came without text vectors; use glove, bert or xlnet.")
        # over all splits: one odd sentence in the test split would break a model that needs aligned steps
        return all(len_equal(s.text, s.audio, s.vision) for s in corpus.splits.values() if s.text is not None)
    if corpus.splits["train"].words is None:
        raise UserError(f"Corpus {name!r} has no words, so {text} cannot be used; its own vectors are text=features.")
    if text == "glove" and corpus.vectors is None:
        raise UserError(
            f"Corpus {name!r} has no word vectors: import it with `--text-vectors FILE` (a GloVe text file)."
        )
    return manifest.aligned == "word"


def _look_up(corpus: Corpus, text: str, tokenizer: WordPieces | None) -> Callable[[Split, Tensor], Batch]:
    manifest, aligned = corpus.manifest, serves(corpus, text)
    if _own_vectors(corpus, text):
        return lambda split, label: _features(split, label, manifest, aligned)
    if text == "glove":
        assert corpus.vectors is not None
        vocabulary = {word: i + 1 for i, word in enumerate(corpus.vectors["words"])}
        matrix = corpus.vectors["matrix"]
        matrix = torch.cat([matrix.new_zeros(1, matrix.shape[1]), matrix])
        return lambda split, label: _glove(split, label, manifest, vocabulary, matrix)
    if tokenizer is None:
        raise UserError(f"The front-end {text} needs a tokenizer.")
    return lambda split, label: _pieces(split, label, manifest, text, tokenizer)


def _layout(manifest: Any, **changes: Any) -> Layout:
    return Layout(lengths=dict(manifest.lengths), aligned=manifest.aligned != "none", **changes)


def _cropped(text: Ragged, split: Split, label: Tensor, layout: Layout) -> Batch:
    return Batch(
        text.crop(layout.lengths["text"]),
        split.audio.crop(layout.lengths["audio"]),
        split.vision.crop(layout.lengths["vision"]),
        label,
        layout,
    )


def _features(split: Split, label: Tensor, manifest: Any, aligned: bool) -> Batch:
    assert split.text is not None
    return _cropped(split.text, split, label, replace(_layout(manifest), aligned=aligned))


def _glove(split: Split, label: Tensor, manifest: Any, vocabulary: dict[str, int], matrix: Tensor) -> Batch:
    words = split.words or []
    index = torch.tensor([vocabulary.get(word, 0) for sentence in words for word in sentence])
    lengths = torch.tensor([len(sentence) for sentence in words])
    text = Ragged(matrix[index], lengths.cumsum(0) - lengths, lengths)
    return _cropped(text, split, label, replace(_layout(manifest), aligned=manifest.aligned == "word"))


def len_equal(*sequences: Ragged) -> bool:
    return all(torch.equal(s.lengths, sequences[0].lengths) for s in sequences)


def _pieces(split: Split, label: Tensor, manifest: Any, text: str, tokenizer: WordPieces) -> Batch:
    """Sub-words, and for word-aligned corpora the row of audio and vision that each sub-word inherits."""
    words = split.words or []
    unique = sorted({word for sentence in words for word in sentence})
    pieces = dict(zip(unique, tokenizer.pieces(unique), strict=True))
    longest = manifest.lengths["text"] - 2
    before = [tokenizer.cls] if text == "bert" else []
    after = [tokenizer.sep] if text == "bert" else [tokenizer.sep, tokenizer.cls]
    ids, rows = [], []
    for sentence in words:
        own = [(piece, i) for i, word in enumerate(sentence) for piece in pieces[word]][:longest]
        ids.append(torch.tensor([*before, *(piece for piece, _ in own), *after]))
        rows.append(torch.tensor([*(-1 for _ in before), *(i for _, i in own), *(-1 for _ in after)]))
    layout = replace(
        _layout(manifest, tokens=True, side="right" if text == "bert" else "left"), aligned=manifest.aligned == "word"
    )
    tokens = Ragged.from_list(ids, pad=tokenizer.pad)
    if not layout.aligned:
        return _cropped(tokens, split, label, layout)
    layout = replace(layout, lengths=dict.fromkeys(layout.lengths, manifest.lengths["text"]))
    index = Ragged.from_list(rows)
    return Batch(tokens, _repeat(split.audio, index), _repeat(split.vision, index), label, layout)


def _repeat(sequences: Ragged, index: Ragged) -> Ragged:
    """Rows of `sequences` picked by `index` within each utterance; -1 gives a zero row."""
    start = torch.repeat_interleave(sequences.starts, index.lengths)
    source = torch.where(index.rows < 0, len(sequences.rows), start + index.rows)
    padded = torch.cat([sequences.rows, sequences.rows.new_zeros(1, sequences.rows.shape[1])])
    return Ragged(padded[source], index.starts, index.lengths)


def find_videos(ids: Sequence[str], whole: Batch) -> Videos:
    """The videos of a whole split; ids: its utterances', in order."""
    found = [video_of(id) for id in ids]
    if len({name for name, _ in found}) == 1:
        found = [(id, 0) for id in ids]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in found))}
    members: list[list[int]] = [[] for _ in numbers]
    for i in sorted(range(len(found)), key=lambda i: found[i][1]):
        members[numbers[found[i][0]]].append(i)
    place = torch.empty(len(found), dtype=torch.int64)
    for own in members:
        place[torch.tensor(own)] = torch.arange(len(own))
    video = torch.tensor([numbers[name] for name, _ in found])
    return Videos(whole, Ragged.from_list([torch.tensor(own) for own in members]), video, place)
