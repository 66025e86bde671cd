"""Ablations by name, as overrides of one Config; the names of Table 4's rows for HyCon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hycon.errors import UserError, nearest
from studies.registry import model_module
from studies.tables import EMOTION, SENTIMENT, Row, TableSpec


def ablation_table(
    model: str, text: str, remove: Sequence[str], options: Mapping[str, Any], task: str = "sentiment"
) -> TableSpec:
    """A table of two rows: the intact model, and the model without `remove` and with `options`.  task: the corpus's."""
    known = getattr(model_module(model), "ABLATIONS", {})
    if remove and not known:
        raise UserError(f"Model {model} names no parts to remove; see `bench list ablations`.")
    for part in remove:
        if part not in known:
            raise UserError(f"Model {model} has no part {part!r} to remove; nearest: {nearest(part, known)}.")
    if not remove and not options:
        raise UserError("Nothing to ablate: give --remove PART or --set KEY=VALUE (see `bench list ablations`).")
    changes: dict[str, Any] = {}
    for part in remove:
        changes.update(known[part])
    changes.update(options)
    intact = {key: value for key, value in changes.items() if key == "beta"}
    label = ", ".join([f"w/o {part}" for part in remove] + [f"{k}={v}" for k, v in options.items()])
    name = f"{model}-{text}"
    rows = (Row(name, model, text, intact), Row(f"{name} ({label})", model, text, changes))
    corpus, columns = ("iemocap", EMOTION) if task == "emotion" else ("mosi", SENTIMENT)
    return TableSpec("ablation", f"Ablation of {name}", corpus, columns, rows, task)
