"""The runs of a table as a pandas DataFrame: what `studies.results` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studies.aggregate.cells import measures
from studies.aggregate.comparability import environment_class
from studies.aggregate.table import table_result
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.tables import TableSpec

if TYPE_CHECKING:
    import pandas


def frame(table: TableSpec, store: RunStore, view: View) -> pandas.DataFrame:
    """One row per finished seeded run that fills a row of the table; see `studies.results` for the columns."""
    import pandas

    lines: list[dict[str, Any]] = [
        {
            "row": row.row.name,
            "run": record.id,
            "model": record.spec.model,
            "text": record.spec.text,
            "corpus": record.spec.corpus,
            "seed": record.spec.seed,
            "encoder": (record.spec.encoder or {}).get("name"),
            **measures(record, view.protocol),
            "valid_loss": record.valid_loss,
            "best_epoch": record.best_epoch,
            "seconds": record.seconds,
            "environment": ", ".join(environment_class(record).values()),
            "notes": "; ".join(record.notes),
        }
        for row in table_result(table, store, view).rows
        for record in row.records
    ]
    return pandas.DataFrame(lines) if lines else pandas.DataFrame(columns=["row", "run", "model", "text", "corpus"])
