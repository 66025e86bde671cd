"""What MulT's and MMSA's pickles share: {"train", "valid", "test"} -> dicts of arrays that are padded to one length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hycon.data.importers.common import describe, numbers
from hycon.data.manifest import MODALITIES, SPLITS
from hycon.errors import UserError


def splits_with(content: Any, keys: Iterable[str]) -> bool:
    """Whether `content` has a dict for every split, each with one of `keys`."""
    return isinstance(content, dict) and all(
        isinstance(content.get(split), dict) and any(key in content[split] for key in keys) for split in SPLITS
    )


def arrays_of(raw: Mapping[str, Any], keys: Iterable[str], place: str) -> dict[str, np.ndarray]:
    """modality -> (N, T, d) of a split; UserError where one of `keys` is missing or an array has another shape."""
    missing = [key for key in keys if key not in raw]
    if missing:
        raise UserError(f"{place} has no {' and no '.join(missing)}; found {describe(raw)}.")
    return {m: numbers(raw[m], f"{m} in {place}", 3) for m in MODALITIES}


def check_counts(values: Mapping[str, Any], place: str) -> None:
    """Raises UserError where the values are not of one length."""
    counts = {key: len(value) for key, value in values.items()}
    if len(set(counts.values())) != 1:
        raise UserError(f"{place} has different numbers of utterances: {counts}.")


def padded_lengths(arrays: Mapping[str, Mapping[str, np.ndarray]], where: str) -> dict[str, int]:
    """modality -> T; UserError where a split is padded to another length."""
    steps = {split: tuple(own[m].shape[1] for m in MODALITIES) for split, own in arrays.items()}
    if len(set(steps.values())) != 1:
        raise UserError(
            f"{where} has sequences of different padded lengths in its splits (text, audio, vision): {steps}."
        )
    return dict(zip(MODALITIES, steps["train"], strict=True))
