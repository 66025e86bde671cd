"""MMSA's pickles (`aligned_50.pkl`, `unaligned_50.pkl`): {"train", "valid", "test"} -> dict of arrays.

raw_text: N transcripts.  text: (N, 50, 768) BERT features, [CLS] and [SEP] included.  text_bert: (N, 3, 50) ids, mask,
segment ids.  audio, vision: (N, T, d).  audio_lengths, vision_lengths: N (unaligned).  id: "video$_$clip".
regression_labels: N numbers in [-3, 3].

CH-SIMS's (`unaligned_39.pkl`) and CH-SIMS v2's files have this form too, in Chinese, with labels in [-1, 1], and with
labels of each modality beside them (regression_labels_T, _A, _V). The range is read off the file: labels of modalities
are there, and all labels lie in [-1, 1]. What has no place in a corpus of ours is left out and named in the manifest:
the labels of modalities, and further splits such as v2's unlabelled train_mix.
Sources: Mao et al., ACL 2022 demo; Yu et al., ACL 2020; Liu et al., ICMI 2022; the authors' repositories MMSA and
ch-sims-v2 (format only).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from hycon.data.importers.common import Imported, Utterance, identity, numbers, pickle_fits, pickled, text_of
from hycon.data.importers.padded import arrays_of, check_counts, padded_lengths, splits_with
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError
from hycon.metrics import NARROW

KEYS = (*MODALITIES, "raw_text", "id", "regression_labels")
OF_MODALITIES = tuple(f"{kind}_labels_{m}" for kind in ("regression", "classification") for m in "TAV")
# Chinese characters as BERT's tokenizers count them: the blocks of CJK ideographs, none of Japanese kana or Hangul
CHINESE = re.compile(
    "([\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    "\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f])"
)


def _fits(content: Any) -> bool:
    return splits_with(content, ("regression_labels", "raw_text"))


def recognise(path: Path) -> bool:
    return pickle_fits(path, _fits)


def read(path: Path, name: str) -> Imported:
    """Utterances of the file; UserError where it is not of this format."""
    content = pickled(path, "mmsa", _fits, f"train, valid, test, each with {', '.join(KEYS)}")
    arrays = {split: arrays_of(content[split], KEYS, f"{split} of {path.name}") for split in SPLITS}
    of_modalities = [key for key in OF_MODALITIES if all(key in content[split] for split in SPLITS)]
    zeroed = _without_infinities(arrays) if of_modalities else {}
    splits = {split: _utterances(content[split], arrays[split], f"{split} of {path.name}") for split in SPLITS}
    narrow = bool(of_modalities) and all(abs(u.label) <= NARROW for split in SPLITS for u in splits[split])
    left_out = [*of_modalities, *(text_of(key) for key in content if key not in SPLITS)]
    return Imported(
        splits,
        lengths=padded_lengths(arrays, path.name),
        label_range=(-NARROW, NARROW) if narrow else None,
        details={**({"left_out": left_out} if left_out else {}), **({"zeroed_vision": zeroed} if zeroed else {})},
    )


def words_in(transcript: str) -> list[str]:
    """The words: each Chinese character, and what else white space divides.

    BERT's tokenizers divide Chinese text likewise, so `bert-base-chinese` reads the same tokens as from the sentence.
    """
    return CHINESE.sub(r" \1 ", transcript).split()


def _without_infinities(arrays: dict[str, dict[str, np.ndarray]]) -> dict[str, int]:
    """Put 0 in place of -inf in vision, as CH-SIMS v2's own loader does; split -> how many, where there are any."""
    found = {split: np.isneginf(own["vision"]) for split, own in arrays.items()}
    for split, at in found.items():
        arrays[split]["vision"][at] = 0.0
    return {split: int(at.sum()) for split, at in found.items() if at.any()}


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
            words=words_in(text_of(raw["raw_text"][i])),
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
