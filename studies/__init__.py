"""Many runs: search, run store, executors, tables, and the `bench` command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

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
    """`studies.results("table1", corpus="mosi")`: one row per seeded run of a table, for notebooks.

    Columns: row, run, model, text, corpus, seed, encoder, the metrics of the test split as fractions, costs,
    valid_loss, best_epoch, seconds, environment, notes. The runs are those that `bench table --mixed` shows: look at
    `environment` before you average. root: the results folder.  The other options: see studies.lookup.View. Raises
    UserError for an unknown table, corpus, profile or protocol.
    """
    from studies.aggregate.frame import frame
    from studies.lookup import View, results_root, table_spec
    from studies.store.run_store import RunStore

    view = View(corpus, data, profile, encoders or {}, protocol, mixed=True)
    return frame(table_spec(table), RunStore(results_root(root)), view)
