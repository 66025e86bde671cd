"""Whether the numbers in a record follow from what else it has: metrics from the predictions beside it, computed again,
validation loss and best epoch from the learning curve."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hycon.errors import UserError
from hycon.metrics import NARROW, NARROW_PROTOCOLS, WIDE, all_protocols, emotion_metrics, majority_metrics
from studies.store.record import RunRecord, RunSpec

TOLERANCE = 1e-6  # of a fraction or an MAE: sums may be rounded otherwise elsewhere, which is 1e-7 of single precision


def other_metrics(record: RunRecord, arrays: Mapping[str, np.ndarray]) -> str | None:
    """The first metric in the record that its predictions do not have, in words; None where all are theirs.

    Splits without predictions or labels are left out, and records of another version of the suite, whose metrics may
    be defined otherwise.
    """
    if record.spec.suite != RunSpec.__dataclass_fields__["suite"].default:
        return None
    for split in ("valid", "test"):
        prediction, label = (arrays.get(f"{split}_{kind}") for kind in ("prediction", "label"))
        if prediction is None or label is None:
            continue
        stored = record.metrics.get(split, {})
        try:
            found = dict(flat(_computed(prediction, label, stored)))
        except (UserError, ValueError) as error:
            return f"{split}: {str(error).rstrip('.')}"
        if not stored:
            return f"it has no metrics of {split}"
        for name, value in flat(stored):
            if name not in found or not _same(value, found[name]):
                return f"{split} {name} is {value}, its predictions give {found.get(name, 'no such metric')}"
    return None


def other_choice(record: RunRecord) -> str | None:
    """How the best epoch and its loss, by which a search ranks, are not those of the curve; None where they are."""
    known = [entry for entry in record.curve if entry.get("valid_loss") is not None]
    if not known or record.valid_loss is None:
        return None
    best = min(known, key=lambda entry: entry["valid_loss"])
    said = f"validation loss {record.valid_loss:g} in epoch {record.best_epoch}"
    if (record.best_epoch, record.valid_loss) == (best.get("epoch"), best["valid_loss"]):
        return None
    return f"{said}, its curve has the lowest, {best['valid_loss']:g}, in epoch {best.get('epoch')}"


def _computed(prediction: np.ndarray, label: np.ndarray, stored: Mapping[str, Any]) -> dict[str, Any]:
    """As studies.engines.one_run measures it."""
    if "emotions" not in stored:
        return all_protocols(prediction, label, NARROW if stored.keys() & NARROW_PROTOCOLS.keys() else WIDE)
    emotions = [name for name in stored["emotions"] if name != "average"]
    return {"emotions": emotion_metrics(prediction, label, emotions), "majority": majority_metrics(label, emotions)}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """("test mae", 0.7) and so on, of numbers in dicts of dicts."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, item in value.items():
        yield from flat(item, f"{name} {key}".strip())


def _same(stored: float | None, found: float | None) -> bool:
    if stored is None or found is None or not math.isfinite(found):
        return stored is None and (found is None or not math.isfinite(found))
    return abs(stored - found) <= TOLERANCE
