"""MulT's pickles (`mosi_data.pkl`, `mosei_senti_data.pkl`, `iemocap_data.pkl`, and their `_noalign` forms).

{"train", "valid", "test"} -> {"text" (N, T, 300) GloVe vectors, "audio", "vision", "labels", "id"}; there are no words.
labels: (N, 1, 1) sentiment, or (N, 4, 2) one-hot absent/present for neutral, happy, sad, angry.
id: absent, (N,) or (N, 3) with video, start and end, as strings or bytes.
Source: Tsai et al., ACL 2019, the authors' repository Multimodal-Transformer (format only).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hycon.data.importers.common import Imported, Utterance, describe, identity, numbers, score, text_of
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError

EMOTIONS = ["neutral", "happy", "sad", "angry"]  # the file's order


def recognise(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(split), dict) and "labels" in content[split] for split in SPLITS
    )


def parse(content: Any, where: str) -> Imported:
    """Utterances of an unpickled file called `where`; UserError where it is not of this format."""
    if not recognise(content):
        raise UserError(
            f"{where} is not in the mult format: expected train, valid, test, each with text, audio, vision, labels; "
            f"found {describe(content)}."
        )
    arrays = {split: _arrays(content[split], f"{split} of {where}") for split in SPLITS}
    counts = {split: len(arrays[split]["text"]) for split in SPLITS}
    steps = {split: tuple(arrays[split][m].shape[1] for m in MODALITIES) for split in SPLITS}
    if len(set(steps.values())) != 1:
        raise UserError(
            f"{where} has sequences of different padded lengths in its splits (text, audio, vision): {steps}."
        )
    labels = {split: _labels(content[split]["labels"], counts[split], f"{split} of {where}") for split in SPLITS}
    kinds = {emotional for _, emotional in labels.values()}
    if len(kinds) != 1:
        raise UserError(f"{where} has sentiment labels in one split and emotion labels in another.")
    ids = _ids({split: content[split].get("id") for split in SPLITS}, counts, where)
    lengths = dict(zip(MODALITIES, steps["train"], strict=True))
    aligned = len(set(lengths.values())) == 1
    splits = {
        split: [_utterance(ids[split][i], labels[split][0][i], arrays[split], i, aligned) for i in range(counts[split])]
        for split in SPLITS
    }
    return Imported(splits, lengths=lengths, emotions=EMOTIONS if True in kinds else None)


def _utterance(identity: str, label: Any, arrays: dict[str, np.ndarray], i: int, aligned: bool) -> Utterance:
    rows = _trim({m: array[i] for m, array in arrays.items()}, aligned)
    return Utterance(id=identity, label=label, text=rows["text"], audio=rows["audio"], vision=rows["vision"])


def _arrays(split: dict[str, Any], place: str) -> dict[str, np.ndarray]:
    missing = [m for m in MODALITIES if m not in split]
    if missing:
        raise UserError(f"{place} has no {' and no '.join(missing)}; found {describe(split)}.")
    arrays = {m: numbers(split[m], f"{m} in {place}", 3) for m in MODALITIES}
    counts = {m: len(array) for m, array in arrays.items()}
    if len(set(counts.values())) != 1:
        raise UserError(f"{place} has different numbers of utterances per modality: {counts}.")
    return arrays


def _labels(raw: Any, count: int, place: str) -> tuple[list[Any], bool]:
    """One label per utterance, and whether they are emotions."""
    labels = np.asarray(raw)
    if labels.dtype.kind not in "biuf" or len(labels.shape) == 0 or len(labels) != count:
        raise UserError(f"The labels in {place} are {describe(labels)} of {labels.dtype}; expected {count} of numbers.")
    if labels.shape[1:] == (len(EMOTIONS), 2):
        if not np.isin(labels, (0, 1)).all() or not (labels.sum(-1) == 1).all():
            raise UserError(f"The labels in {place} are not one-hot pairs (absent, present) per emotion.")
        return list(labels.argmax(-1).astype(np.int64)), True
    if labels.size != count:
        expected = f"({count}, 1, 1) or ({count}, {len(EMOTIONS)}, 2)"
        raise UserError(f"The labels in {place} have shape {labels.shape}; expected {expected}.")
    return [score(label, f"utterance {i} in {place}") for i, label in enumerate(labels)], False


def _ids(raw: dict[str, Any], counts: dict[str, int], where: str) -> dict[str, list[str]]:
    """Rows of video, start, end become "video[k]": k is the rank of the start among the video's segments here."""
    known = {split: np.asarray(value) for split, value in raw.items() if value is not None}
    for split, value in known.items():
        if value.shape[:1] != (counts[split],):
            raise UserError(f"{split} of {where} has {counts[split]} utterances but ids of shape {value.shape}.")
    rows = {
        split: [_row(row, f"utterance {i} of {split} in {where}") for i, row in enumerate(value)]
        for split, value in known.items()
    }
    starts: dict[str, set[tuple[float, float]]] = {}
    for row in (row for split in rows for row in rows[split] if len(row) >= 3):
        starts.setdefault(row[0], set()).add(_interval(row, where))
    rank = {video: {pair: k for k, pair in enumerate(sorted(pairs))} for video, pairs in starts.items()}
    return {
        split: [
            f"{row[0]}[{rank[row[0]][_interval(row, where)]}]" if len(row) >= 3 else row[0]
            for row in rows[split]
        ]
        if split in rows
        else [f"{split}_{i}" for i in range(counts[split])]
        for split in SPLITS
    }  # fmt: skip


def _row(row: Any, place: str) -> list[str]:
    """The id, or video, start and end, as text."""
    first, *others = np.atleast_1d(row)
    return [identity(first, place), *(text_of(value) for value in others)]


def _interval(row: list[str], where: str) -> tuple[float, float]:
    try:
        return float(row[1]), float(row[2])
    except ValueError as error:
        raise UserError(f"{where} has the id {row}; expected video, start and end in seconds.") from error


def _trim(sequences: dict[str, np.ndarray], aligned: bool) -> dict[str, np.ndarray]:
    """Without the padding: zero rows at either end, where aligned those that are zero in all three modalities."""
    used = {m: (rows != 0).any(1) for m, rows in sequences.items()}
    if aligned:
        used = dict.fromkeys(sequences, np.logical_or.reduce(list(used.values())))
    return {m: rows[_span(used[m])] for m, rows in sequences.items()}


def _span(used: np.ndarray) -> slice:
    """From the first to the last used row; an utterance without any keeps its first row."""
    index = np.flatnonzero(used)
    return slice(int(index[0]), int(index[-1]) + 1) if len(index) else slice(0, 1)
