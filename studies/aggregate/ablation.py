"""Ablations by name, as overrides of one Config, and what they cost: the ablated model set against the intact one.

Both rows are searched: the ablated model gets draws of its own, as the rows of Table 4 do (the paper does not say).
Since draws and seeds are derived from model, corpus and front-end only, the two searches try the same configurations,
but for options that one of them does not read, and the seeded runs are pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hycon.errors import UserError, nearest
from studies.aggregate.cells import TableResult
from studies.registry import model_module, resolve
from studies.statistics.comparison import Comparison, benjamini_hochberg
from studies.store.run_store import RunStore
from studies.tables import EMOTION, SENTIMENT, Column, Row, TableSpec

BEYOND = "Intact and ablated model are each searched over the same draws; their runs share seeds."


def ablation_table(
    model: str, text: str, remove: Sequence[str], options: Mapping[str, Any], task: str = "sentiment"
) -> TableSpec:
    """A table of two rows: the intact model, and the model without `remove` and with `options`.  task: the corpus's.

    Raises UserError for a part that the model does not have, for parts that cannot be removed together, and where
    nothing would differ.
    """
    changes = {**_removed(model, remove), **options}
    bases = getattr(model_module(model), "INTACT", {})
    intact = {key: changes[key] for part in remove for key in bases.get(part, {})}
    if not changes:
        raise UserError("Nothing to ablate: give --remove PART or --set KEY=VALUE (see `bench ablate --list`).")
    if resolve(model, text, changes) == resolve(model, text, intact):
        said = ", ".join(f"{key}={value}" for key, value in changes.items())
        raise UserError(f"Nothing to ablate: {said} is what the intact {model} has already.")
    label = ", ".join([f"w/o {part}" for part in remove] + [f"{k}={v}" for k, v in options.items()])
    name = f"{model}-{text}"
    rows = (Row(name, model, text, intact), Row(f"{name} ({label})", model, text, changes))
    corpus, columns = ("iemocap", EMOTION) if task == "emotion" else ("mosi", SENTIMENT)
    return TableSpec("ablation", f"Ablation of {name}", corpus, columns, rows, task, BEYOND)


def _removed(model: str, remove: Sequence[str]) -> dict[str, Any]:
    """The overrides that remove those parts together."""
    known = getattr(model_module(model), "ABLATIONS", {})
    changes: dict[str, Any] = {}
    for part in remove:
        if not known:
            raise UserError(f"Model {model} names no parts to remove; see `bench ablate --list`.")
        if part not in known:
            raise UserError(f"Model {model} has no part {part!r} to remove; nearest: {nearest(part, known)}.")
        for key, value in known[part].items():
            if changes.setdefault(key, value) != value:
                raise UserError(f"{' and '.join(remove)} both set {key}: remove one of them, and give --set {key}=... ")
    return changes


@dataclass(frozen=True)
class Difference:
    """One column: ablated less intact, in printed units, with p adjusted over the columns (Benjamini-Hochberg)."""

    column: Column
    found: Comparison
    p_adjusted: float | None

    def numbers(self) -> dict[str, Any]:
        """As JSON and CSV have it."""
        found, scale = self.found, self.column.scale
        scaled = {"difference": found.difference, "low": found.low, "high": found.high}
        return {
            **{key: None if value is None else round(scale * value, 6) for key, value in scaled.items()},
            "p": found.p,
            "p_adjusted": self.p_adjusted,
            "n_intact": found.n_b,
            "n_ablated": found.n_a,
            "utterances": found.utterances,
            "paired": found.paired,
            "underpowered": found.underpowered,
            "seeds_needed": found.seeds_needed,
        }


def differences(result: TableResult, store: RunStore) -> list[Difference]:
    """What removing costs, column by column; empty where a row has no finished run."""
    from studies.aggregate.predictions import compare_records, group_of

    intact, ablated = result.rows[:2]
    if not intact.records or not ablated.records:
        return []
    groups = (group_of(store, ablated.records), group_of(store, intact.records))
    compared = [
        (column, found)
        for column in result.table.columns
        if (
            found := compare_records(
                store, ablated.records, intact.records, column.metric, protocol=result.protocol, groups=groups
            )
        )
    ]
    adjusted = benjamini_hochberg([found.p for _, found in compared])
    return [Difference(column, found, p) for (column, found), p in zip(compared, adjusted, strict=True)]
