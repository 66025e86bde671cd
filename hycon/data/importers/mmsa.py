"""MMSA's pickles (`aligned_50.pkl`, `unaligned_50.pkl`): {"train", "valid", "test"} -> dict of arrays.

raw_text: N transcripts.  text: (N, 50, 768) BERT features, [CLS] and [SEP] included.  text_bert: (N, 3, 50) ids, mask,
segment ids.  audio, vision: (N, T, d).  audio_lengths, vision_lengths: N (unaligned).  id: "video$_$clip".
regression_labels: N numbers in [-3, 3].
Source: Mao et al., ACL 2022 demo, the authors' repository MMSA (format only).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.importers.common import Imported, Utterance, identity, numbers, pickle_fits, pickled, text_of
from hycon.data.importers.padded import arrays_of, check_counts, padded_lengths, splits_with
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError

KEYS = (*MODALITIES, "raw_text", "id", "regression_labels")


def _fits(content: Any) -> bool:
    return splits_with(content, ("regression_labels", "raw_text"))


def recognise(path: Path) -> bool:
    return pickle_fits(path, _fits)


def read(path: Path, name: str) -> Imported:
    """Utterances of the file; UserError where it is not of this format."""
    content = pickled(path, "mmsa", _fits, f"train, valid, test, each with {', '.join(KEYS)}")
    arrays = {split: arrays_of(content[split], KEYS, f"{split} of {path.name}") for split in SPLITS}
    return Imported(
        {split: _utterances(content[split], arrays[split], f"{split} of {path.name}") for split in SPLITS},
        lengths=padded_lengths(arrays, path.name),
    )


def _utterances(raw: dict[str, Any], arrays: dict[str, np.ndarray], place: str) -> list[Utterance]:
    labels = numbers(raw["regression_labels"], f"regression_labels in {place}", np.ndim(raw["regression_labels"]))
    labels = labels.reshape(-1)
    check_counts({**arrays, "regression_labels": labels, "raw_text": raw["raw_text"], "id": raw["id"]}, place)
    if not all(isinstance(text, str | bytes) for text in raw["raw_text"]):
        raise UserError(f"raw_text in {place} does not hold strings.")
    ids = [identity(raw["id"][i], f"utterance {i} of {place}") for i in range(len(labels))]
    lengths = _lengths(raw, arrays, ids, place)
    return [
        Utterance(
            id=ids[i],
            label=float(labels[i]),
            words=text_of(raw["raw_text"][i]).split(),
            **{m: arrays[m][i, : lengths[m][i]] for m in MODALITIES},
        )
        for i in range(len(labels))
    ]


def _lengths(raw: dict[str, Any], arrays: dict[str, np.ndarray], ids: list[str], place: str) -> dict[str, np.ndarray]:
    """Rows that are no padding, at least one: text by BERT's mask; audio and vision as text where all three are
    aligned, else by the file's own lengths. Zero rows inside a sequence are kept."""
    steps = {m: arrays[m].shape[1] for m in MODALITIES}
    if "text_bert" in raw:
        bert = numbers(raw["text_bert"], f"text_bert in {place}", 3)
        expected = (len(arrays["text"]), 3, steps["text"])
        if bert.shape != expected:
            raise UserError(f"text_bert in {place} has shape {bert.shape}; expected {expected}.")
        text = _whole(bert[:, 1].sum(1), steps["text"], ids, f"text_bert in {place}")
    else:
        text = _last_used(arrays["text"])
    lengths = {"text": text}
    for modality in ("audio", "vision"):
        own = raw.get(f"{modality}_lengths")
        if len(set(steps.values())) == 1:
            lengths[modality] = text
        elif own is None:
            lengths[modality] = _last_used(arrays[modality])
        else:
            what = f"{modality}_lengths in {place}"
            lengths[modality] = _whole(numbers(own, what, 1), steps[modality], ids, what)
    return lengths


def _whole(lengths: np.ndarray, steps: int, ids: list[str], what: str) -> np.ndarray:
    """(N,) lengths from 1 to `steps` as integers; UserError naming the utterance where one is not."""
    if len(lengths) != len(ids):
        raise UserError(f"{what} has {len(lengths)} entries, expected {len(ids)}.")
    for name, length in zip(ids, lengths.tolist(), strict=True):
        if length not in range(1, steps + 1):
            raise UserError(f"{what} gives {name!r} {length:g} rows; expected 1 to {steps}, the padded length.")
    return lengths.astype(int)


def _last_used(array: np.ndarray) -> np.ndarray:
    """(N,) index after the last row that is not zero."""
    used = (array != 0).any(2)
    return np.where(used.any(1), used.shape[1] - used[:, ::-1].argmax(1), 1)
