"""Many runs: search, run store, executors, tables, and the `bench` command."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    options: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    study: str | Sequence[str] = (),
) -> pandas.DataFrame:
    """`studies.results("table1", corpus="mosi")`: one row per seeded run of a table, for notebooks.

    Columns: row, run, model, text, corpus, seed, encoder, the metrics of the test split as fractions, costs,
    valid_loss, best_epoch, seconds, environment, notes. The runs are those that `bench table --mixed` shows: look at
    `environment` before you average. root: the results folder.  options: as of `--set`.  study: an id, or several.  The
    other options: see studies.lookup.View. Raises UserError for an unknown table, corpus, profile, protocol or study.
    """
    from studies.aggregate.frame import frame
    from studies.lookup import table_spec, view_for

    spec = table_spec(table)
    store, view, said = view_for(
        root,
        [spec],
        corpus=corpus,
        data=data,
        profile=profile,
        encoders=encoders,
        protocol=protocol,
        mixed=True,
        options=options,
        epochs=epochs,
        patience=patience,
        studies=[study] if isinstance(study, str) else study,
    )
    if said:
        logging.getLogger(__name__).warning("%s.", said)
    return frame(spec, store, view)
