"""MMSA's pickles (`aligned_50.pkl`, `unaligned_50.pkl`): {"train", "valid", "test"} -> dict of arrays.

raw_text: N transcripts.  text: (N, 50, 768) BERT features, [CLS] and [SEP] included.  text_bert: (N, 3, 50) ids, mask,
segment ids.  audio, vision: (N, T, d).  audio_lengths, vision_lengths: N (unaligned).  id: "video$_$clip".
regression_labels: N numbers in [-3, 3].
Source: Mao et al., ACL 2022 demo, the authors' repository MMSA (format only).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hycon.data.importers.common import Imported, Utterance, describe, identity, numbers, text_of
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError


def recognise(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(content.get(split), dict) and ("regression_labels" in content[split] or "raw_text" in content[split])
        for split in SPLITS
    )


def parse(content: Any, where: str) -> Imported:
    """Utterances of an unpickled file called `where`; UserError where it is not of this format."""
    if not recognise(content):
        raise UserError(
            f"{where} is not in the mmsa format: expected train, valid, test, each with raw_text, text, audio, vision, "
            f"id and regression_labels; found {describe(content)}."
        )
    splits = {split: _split(content[split], f"{split} of {where}") for split in SPLITS}
    steps = {split: tuple(np.shape(content[split][m])[1] for m in MODALITIES) for split in SPLITS}
    if len(set(steps.values())) != 1:
        raise UserError(
            f"{where} has sequences of different padded lengths in its splits (text, audio, vision): {steps}."
        )
    return Imported(splits, lengths=dict(zip(MODALITIES, steps["train"], strict=True)))


def _split(raw: dict[str, Any], place: str) -> list[Utterance]:
    missing = [key for key in (*MODALITIES, "raw_text", "id", "regression_labels") if key not in raw]
    if missing:
        raise UserError(f"{place} has no {' and no '.join(missing)}; found {describe(raw)}.")
    arrays = {m: numbers(raw[m], f"{m} in {place}", 3) for m in MODALITIES}
    labels = numbers(raw["regression_labels"], f"regression_labels in {place}", np.ndim(raw["regression_labels"]))
    labels = labels.reshape(-1)
    counts = {key: len(value) for key, value in {**arrays, "regression_labels": labels}.items()}
    counts |= {key: len(raw[key]) for key in ("raw_text", "id")}
    if len(set(counts.values())) != 1:
        raise UserError(f"{place} has different numbers of utterances: {counts}.")
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
        if bert.shape != (len(arrays["text"]), 3, steps["text"]):
            expected = (len(arrays["text"]), 3, steps["text"])
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
