"""The runs of a table as a pandas DataFrame, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from studies.aggregate.cells import measures
from studies.aggregate.comparability import environment_class
from studies.aggregate.table import table_result
from studies.lookup import profile_of, results_root, table_spec
from studies.store.run_store import RunStore

if TYPE_CHECKING:
    import pandas


def results(
    table: str,
    *,
    corpus: str | None = None,
    profile: str | None = None,
    encoders: Mapping[str, str] | None = None,
    data: str | os.PathLike | None = None,
    root: str | os.PathLike | None = None,
    protocol: str = "paper",
) -> pandas.DataFrame:
    """One row per seeded run of a table, for notebooks: row, run, seed, metrics of the test split, epochs, seconds.

    The runs are those that `bench table --mixed` shows, with the class of their environment: look at it before you
    average. Raises UserError for an unknown table, corpus, profile or protocol.
    """
    import pandas

    store = RunStore(results_root(root))
    spec = table_spec(table)
    if profile:
        profile_of(profile)
    found = table_result(
        spec, store, corpus=corpus, data=data, profile=profile, encoders=encoders, protocol=protocol, mixed=True
    )
    lines: list[dict[str, Any]] = [
        {
            "row": row.row.name,
            "run": record.id,
            "model": record.spec.model,
            "text": record.spec.text,
            "corpus": record.spec.corpus,
            "seed": record.spec.seed,
            "encoder": (record.spec.encoder or {}).get("name"),
            **measures(record, protocol),
            "valid_loss": record.valid_loss,
            "best_epoch": record.best_epoch,
            "seconds": record.seconds,
            "environment": ", ".join(environment_class(record).values()),
            "notes": "; ".join(record.notes),
        }
        for row in found.rows
        for record in row.records
    ]
    return pandas.DataFrame(lines) if lines else pandas.DataFrame(columns=["row", "run", "model", "text", "corpus"])
