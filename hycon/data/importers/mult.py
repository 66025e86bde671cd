"""MulT's pickles (`mosi_data.pkl`, `mosei_senti_data.pkl`, `iemocap_data.pkl`, and their `_noalign` forms).

{"train", "valid", "test"} -> {"text" (N, T, 300) GloVe vectors, "audio", "vision", "labels", "id"}; there are no words.
labels: (N, 1, 1) sentiment, or (N, 4, 2) one-hot absent/present for neutral, happy, sad, angry.
id: absent, (N,) or (N, 3) with video, start and end, as strings or bytes.
Source: Tsai et al., ACL 2019, the authors' repository Multimodal-Transformer (format only).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.importers.common import Imported, Utterance, describe, identity, pickle_fits, pickled, score, text_of
from hycon.data.importers.padded import arrays_of, check_counts, padded_lengths, splits_with
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError

EMOTIONS = ["neutral", "happy", "sad", "angry"]  # the file's order


def _fits(content: Any) -> bool:
    return splits_with(content, ("labels",))


def recognise(path: Path) -> bool:
    return pickle_fits(path, _fits)


def read(path: Path, name: str) -> Imported:
    """Utterances of the file; UserError where it is not of this format."""
    content = pickled(path, "mult", _fits, "train, valid, test, each with text, audio, vision, labels")
    places = {split: f"{split} of {path.name}" for split in SPLITS}
    arrays = {split: arrays_of(content[split], MODALITIES, places[split]) for split in SPLITS}
    for split in SPLITS:
        check_counts(arrays[split], places[split])
    lengths = padded_lengths(arrays, path.name)
    labels = {split: _labels(content[split]["labels"], len(arrays[split]["text"]), places[split]) for split in SPLITS}
    kinds = {emotional for _, emotional in labels.values()}
    if len(kinds) != 1:
        raise UserError(f"{path.name} has sentiment labels in one split and emotion labels in another.")
    ids = _ids({split: content[split].get("id") for split in SPLITS}, arrays, path.name)
    aligned = len(set(lengths.values())) == 1
    splits = {
        split: [
            Utterance(id=ids[split][i], label=label, **_trim({m: arrays[split][m][i] for m in MODALITIES}, aligned))
            for i, label in enumerate(labels[split][0])
        ]
        for split in SPLITS
    }
    return Imported(splits, lengths=lengths, emotions=EMOTIONS if True in kinds else None)


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


def _ids(raw: dict[str, Any], arrays: dict[str, dict[str, np.ndarray]], where: str) -> dict[str, list[str]]:
    """split -> ids; the places' numbers where the file has none.

    Rows of video, start, end become "video[k]": k is the rank of the start among the video's segments in the file.
    """
    rows: dict[str, list[list[str]]] = {}
    for split, value in raw.items():
        count = len(arrays[split]["text"])
        known = np.asarray([f"{split}_{i}" for i in range(count)] if value is None else value)
        if known.shape[:1] != (count,):
            raise UserError(f"{split} of {where} has {count} utterances but ids of shape {known.shape}.")
        rows[split] = [_row(row, f"utterance {i} of {split} in {where}") for i, row in enumerate(known)]
    starts: dict[str, set[tuple[float, float]]] = {}
    for row in (row for own in rows.values() for row in own if len(row) >= 3):
        starts.setdefault(row[0], set()).add(_interval(row, where))
    ranks = {video: sorted(pairs) for video, pairs in starts.items()}

    def named(row: list[str]) -> str:
        return f"{row[0]}[{ranks[row[0]].index(_interval(row, where))}]" if len(row) >= 3 else row[0]

    return {split: [named(row) for row in own] for split, own in rows.items()}


def _row(row: Any, place: str) -> list[str]:
    """The id, or video, start and end, as text."""
    first, *others = np.atleast_1d(row)
    return [identity(first, place), *(text_of(value) for value in others)]


def _interval(row: list[str], where: str) -> tuple[float, float]:
    try:
        return float(row[1]), float(row[2])
    except ValueError as error:
        raise UserError(f"{where} has the id {row}; expected video, start and end in seconds.") from error


def _trim(sequences: dict[str, np.ndarray], aligned: bool) -> dict[str, Any]:
    """Without the padding: zero rows at either end, where aligned those that are zero in all three modalities."""
    used = {m: (rows != 0).any(1) for m, rows in sequences.items()}
    if aligned:
        used = dict.fromkeys(sequences, np.logical_or.reduce(list(used.values())))
    return {m: rows[_span(used[m])] for m, rows in sequences.items()}


def _span(used: np.ndarray) -> slice:
    """From the first to the last used row; an utterance without any keeps its first row."""
    index = np.flatnonzero(used)
    return slice(int(index[0]), int(index[-1]) + 1) if len(index) else slice(0, 1)
