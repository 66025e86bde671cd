"""From a corpus to what a model reads: audio and vision scaled, the text front-end applied, on the device.

Front-ends:

    glove      words looked up in the corpus's word vectors (unknown words are zero vectors, counted in the manifest)
    features   the text vectors that came with the source
    bert       word pieces [CLS] w.. [SEP]; audio/vision rows repeated for each piece of a word, zero rows at the
               special tokens (MAG-BERT's driver; facts: first 48 pieces, nominal length 50, padding on the right)
    xlnet      pieces w.. [SEP] [CLS], nominal padding on the left

What was measured on the train split or came with the corpus is an `Inputs`: with it, and no corpus, `batching` reads
other utterances as those of the run were read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hycon.data.batch import Batch, Layout, Videos, form_of
from hycon.data.corpus import Corpus, Split
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.data.ragged import Both, Ragged
from hycon.data.videos import video_of
from hycon.errors import UserError, check_known

SCALES = ("none", "standard", "maxabs")
PERMUTABLE = ("audio", "vision")


@dataclass(frozen=True)
class WordPieces:
    """What batching needs of a tokenizer. pieces: words -> one list of ids per word.  unk: for words that are dropped
    (hycon.data.robustness)."""

    pieces: Callable[[Sequence[str]], list[list[int]]]
    cls: int
    sep: int
    pad: int
    unk: int | None = None


@dataclass(frozen=True)
class Inputs:
    """What turns utterances into what a model reads.

    text: the front-end.  layout: nominal lengths, and whether steps are aligned; of the sequences before the front-end.
    own: whether the text is vectors that come with each utterance.  vectors: {"words": [...], "matrix": (V, d)}, of
    glove.  scalers: modality -> (what to take off, what to divide by), (d,) each.
    """

    text: str
    layout: Layout
    own: bool = False
    vectors: Mapping[str, Any] | None = None
    scalers: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def inputs_of(corpus: Corpus, text: str, *, scale: str = "none") -> Inputs:
    """scale: by the train split's statistics, per feature, "standard" (audio and vision to zero mean and unit variance)
    or "maxabs" (vision by its largest magnitude, as TFN's and MFN's code).

    Raises UserError where the corpus cannot serve the front-end.
    """
    form_of(text)
    check_known("scale", scale, SCALES)
    scalers = _scalers(corpus, scale)
    layout = Layout(lengths=dict(corpus.manifest.lengths), aligned=serves(corpus, text))
    own = _own_vectors(corpus, text)
    return Inputs(text, layout, own, corpus.vectors if text == "glove" and not own else None, scalers)


def batching(inputs: Inputs, tokenizer: WordPieces | None = None) -> Callable[[Split], Batch]:
    """From utterances to a Batch on the CPU, without videos. tokenizer: needed by bert and xlnet."""
    apply = _front_end(inputs, tokenizer)

    def batch(split: Split) -> Batch:
        scaled: dict[str, Any] = {m: _scaled(getattr(split, m), *scaler) for m, scaler in inputs.scalers.items()}
        return apply(replace(split, **scaled))

    return batch


def prepare(
    corpus: Corpus,
    text: str,
    *,
    tokenizer: WordPieces | None = None,
    scale: str = "none",
    permuted: str = "",
    device: torch.device | str = "cpu",
) -> dict[str, Batch]:
    """{"train", "valid", "test"} -> Batch of the whole split, on `device`.

    permuted: modalities that are taken from other utterances (`permute`), such as "audio,vision".
    Raises UserError where the corpus cannot serve the front-end.
    """
    batch, chosen = batching(inputs_of(corpus, text, scale=scale), tokenizer), permuted_modalities(permuted)

    def mixed(name: str) -> Callable[[Split], Batch]:
        return lambda split: permute(batch(split), chosen, name)

    return {name: whole_batch(corpus.splits[name], mixed(name), corpus.manifest.task, device) for name in SPLITS}


def whole_batch(split: Split, batch: Callable[[Split], Batch], task: str, device: torch.device | str = "cpu") -> Batch:
    """The Batch of a whole split, with the videos of its utterances, on `device`."""
    label = split.label.float() if task == "sentiment" else split.label.long()
    whole = batch(replace(split, label=label)).to(device)
    index = torch.arange(len(whole), device=device)
    return replace(whole, videos=find_videos(split.ids, whole).to(whole.label.device), index=index)


def deviations(corpus: Corpus, scale: str) -> dict[str, Tensor]:
    """{"audio", "vision"} -> (d,): the standard deviation of each feature over the train split, once it is scaled."""
    scalers = _scalers(corpus, scale)
    found = {}
    for m in ("audio", "vision"):
        deviation = getattr(corpus.splits["train"], m).rows.double().std(0, correction=0).float()
        found[m] = deviation / scalers[m][1] if m in scalers else deviation
    return found


def _scalers(corpus: Corpus, scale: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Of the modalities that are scaled; the rows of others stay where they are mapped."""
    which = {"none": (), "maxabs": ("vision",), "standard": ("audio", "vision")}[scale]
    return {m: _scaler(getattr(corpus.splits["train"], m).rows, scale) for m in which}


def _scaler(rows: Tensor, scale: str) -> tuple[Tensor, Tensor]:
    """What to take off and what to divide by, (d,) each."""
    zero, one = torch.zeros(rows.shape[1]), torch.ones(rows.shape[1])
    if scale == "standard":
        deviation = rows.double().std(0, correction=0).float()
        return rows.double().mean(0).float(), torch.where(deviation > 1e-6, deviation, one)
    largest = rows.abs().amax(0)
    return zero, torch.where(largest > 0, largest, one)


def _scaled(sequences: Ragged, shift: Tensor, divisor: Tensor) -> Ragged:
    return replace(sequences, rows=(sequences.rows - shift) / divisor)


# ------------------------------------------------------------------------------------------------------ permutation


def permuted_modalities(names: str) -> tuple[str, ...]:
    """ "audio,vision" -> ("audio", "vision"); "" -> (). Raises UserError for anything but some of PERMUTABLE, in their
    order."""
    found = tuple(names.split(",")) if names else ()
    if found != tuple(m for m in PERMUTABLE if m in found):
        raise UserError(f"permuted is {names!r}; expected {','.join(PERMUTABLE)}, one of them, or nothing.")
    return found


def permute(whole: Batch, modalities: Sequence[str], split: str) -> Batch:
    """A split in which every utterance has the `modalities` of another one: text and label say nothing about them.

    They are taken from one and the same utterance, so that audio and vision still belong together. The order is one
    cycle through the split, drawn from the seed that "permuted" and the split's name make: the same in every run.
    """
    if not modalities or len(whole) < 2:
        return whole
    seed = int.from_bytes(hashlib.sha256(f"permuted {split}".encode()).digest()[:7])
    cycle = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    source = torch.empty_like(cycle)
    source[cycle] = cycle.roll(1)
    taken: dict[str, Any] = {m: getattr(whole, m).take(source) for m in modalities}
    return replace(whole, **taken, layout=replace(whole.layout, aligned=False))


# ------------------------------------------------------------------------------------------------------- front-ends


def _own_vectors(corpus: Corpus, text: str) -> bool:
    """Whether the text is what came with the source: as asked for, or because that is GloVe and there are no words."""
    wordless = corpus.splits["train"].words is None
    return text == "features" or (text == "glove" and wordless and corpus.manifest.own_glove)


def serves(corpus: Corpus, text: str) -> bool:
    """Whether the steps of front-end `text` are aligned with audio and vision, word pieces as their words are.

    Word pieces take the rows of their words only where all of train, valid and test have one row per word; so that no
    valid or test utterance decides how a model is trained, a corpus where only train has them is refused.
    Otherwise the answer decides whether a model may run, and changes no number.

    Raises UserError where the corpus cannot serve it at all.
    """
    name, manifest = corpus.name, corpus.manifest
    if _own_vectors(corpus, text):
        if "text" not in manifest.dims:
            raise UserError(f"Corpus {name!r} came without text vectors; use glove, bert or xlnet.")
        # over all splits: one odd sentence in the test split would break a model that needs aligned steps
        every = [(s.text, s.audio, s.vision) for s in corpus.splits.values() if s.text is not None]
        return all(torch.equal(t.lengths, other.lengths) for t, *others in every for other in others)
    if corpus.splits["train"].words is None:
        raise UserError(f"Corpus {name!r} has no words, so {text} cannot be used; its own vectors are text=features.")
    if text == "glove" and corpus.vectors is None:
        raise UserError(
            f"Corpus {name!r} has no word vectors: import it with `--text-vectors FILE` (a GloVe text file)."
        )
    if form_of(text) == "tokens" and manifest.aligned != "word" and (odd := _odd_utterance(corpus)):
        raise UserError(f"Corpus {name!r} has one row per word in train but not in {odd}, so {text} cannot be used.")
    return manifest.aligned == "word"


def _odd_utterance(corpus: Corpus) -> str | None:
    """The first utterance of valid or test without one row per word, if all of train have one: "'id' (test)"."""
    if not _one_row_per_word(corpus.splits["train"]).all():
        return None
    for name in ("valid", "test"):
        odd = torch.nonzero(~_one_row_per_word(corpus.splits[name]))
        if len(odd):
            return f"{corpus.splits[name].ids[int(odd[0])]!r} ({name})"
    return None


def _one_row_per_word(split: Split) -> Tensor:
    """(N,) bool: whether an utterance has as many rows of audio and of vision as words."""
    words = torch.tensor([len(sentence) for sentence in split.words or ()])
    return (words == split.audio.lengths) & (words == split.vision.lengths)


def _front_end(inputs: Inputs, tokenizer: WordPieces | None) -> Callable[[Split], Batch]:
    """From a scaled split to its Batch."""
    text, layout = inputs.text, inputs.layout
    if inputs.own:
        return lambda split: _batch(split, split.text, layout)
    if text == "glove":
        assert inputs.vectors is not None
        vocabulary = {word: i + 1 for i, word in enumerate(inputs.vectors["words"])}
        matrix = inputs.vectors["matrix"]
        matrix = torch.cat([matrix.new_zeros(1, matrix.shape[1]), matrix])  # row 0: unknown words
        return lambda split: _batch(split, _word_vectors(split, vocabulary, matrix), layout)
    if tokenizer is None:
        raise UserError(f"The front-end {text} needs a tokenizer.")
    layout = replace(layout, tokens=True, side="right" if text == "bert" else "left")
    return lambda split: _pieces(split, text, tokenizer, layout)


def _batch(split: Split, text: Ragged | None, layout: Layout) -> Batch:
    """Each modality keeps its own steps; those beyond its nominal length are left out, at the end."""
    assert text is not None
    text, audio, vision = (
        sequences.crop(layout.lengths[m])
        for m, sequences in zip(MODALITIES, (text, split.audio, split.vision), strict=True)
    )
    return Batch(text, audio, vision, split.label, layout)


def _word_vectors(split: Split, vocabulary: dict[str, int], matrix: Tensor) -> Ragged:
    words = split.words or []
    index = torch.tensor([vocabulary.get(word, 0) for sentence in words for word in sentence])
    lengths = torch.tensor([len(sentence) for sentence in words])
    return Ragged(matrix[index], lengths.cumsum(0) - lengths, lengths)


def _pieces(split: Split, text: str, tokenizer: WordPieces, layout: Layout) -> Batch:
    """Word pieces, and for word-aligned corpora the row of audio and vision that each piece inherits."""
    tokens, index = _tokens(split, text, tokenizer, layout.lengths["text"])
    if not layout.aligned:
        return _batch(split, tokens, layout)
    layout = replace(layout, lengths=dict.fromkeys(layout.lengths, layout.lengths["text"]))
    return Batch(tokens, _repeat(split.audio, index), _repeat(split.vision, index), split.label, layout)


def _tokens(split: Split, text: str, tokenizer: WordPieces, nominal: int) -> tuple[Ragged, Ragged]:
    """Word pieces between their special tokens, and for each which word of its utterance it is of, -1: of none."""
    words = split.words or []
    unique = sorted({word for sentence in words for word in sentence})
    pieces = dict(zip(unique, tokenizer.pieces(unique), strict=True))
    before = [tokenizer.cls] if text == "bert" else []
    after = [tokenizer.sep] if text == "bert" else [tokenizer.sep, tokenizer.cls]
    ids, rows = [], []
    for sentence in words:
        own = [(piece, i) for i, word in enumerate(sentence) for piece in pieces[word]][: nominal - 2]
        ids.append(torch.tensor([*before, *(piece for piece, _ in own), *after]))
        rows.append(torch.tensor([*(-1 for _ in before), *(i for _, i in own), *(-1 for _ in after)]))
    return Ragged.from_list(ids, pad=tokenizer.pad), Ragged.from_list(rows)


def words_of(split: Split, text: str, tokenizer: WordPieces | None, layout: Layout) -> dict[str, Tensor]:
    """Modality -> (R,) for each of its steps in the split's Batch, which word of its utterance it is of, -1: of none.
    Of modalities that are left out, step t is of word t."""
    if not layout.tokens or tokenizer is None:
        return {}
    _, index = _tokens(split, text, tokenizer, layout.lengths["text"])
    return dict.fromkeys(MODALITIES if layout.aligned else ("text",), index.rows)


def _repeat(sequences: Ragged, index: Ragged) -> Ragged:
    """Rows of `sequences` picked by `index` within each utterance; -1 gives a zero row."""
    start = torch.repeat_interleave(sequences.starts, index.lengths)
    source = torch.where(index.rows < 0, len(sequences.rows), start + index.rows)
    padded = torch.cat([sequences.rows, sequences.rows.new_zeros(1, sequences.rows.shape[1])])
    return Ragged(padded[source], index.starts, index.lengths)


# ----------------------------------------------------------------------------------------------------------- videos


def find_videos(ids: Sequence[str], whole: Batch) -> Videos:
    """The videos of a whole split; ids: its utterances', in order."""
    found = [video_of(id) for id in ids]
    if len({name for name, _ in found}) == 1:
        found = [(id, 0) for id in ids]
    members: dict[str, list[int]] = {name: [] for name, _ in found}
    for i in sorted(range(len(found)), key=lambda i: found[i][1]):
        members[found[i][0]].append(i)
    place = torch.empty(len(found), dtype=torch.int64)
    for own in members.values():
        place[torch.tensor(own)] = torch.arange(len(own))
    numbers = {name: i for i, name in enumerate(members)}
    video = torch.tensor([numbers[name] for name, _ in found])
    of_videos = Ragged.from_list([torch.tensor(own) for own in members.values()])
    return Videos(whole, of_videos, Both.of(video), Both.of(place))
