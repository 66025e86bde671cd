"""Many runs: search, run store, executors, tables, and the `bench` command. In Python: `results`, `trials`, `curves`.

The three take what `bench table` takes, under the names of its options. Their frames have the same columns whatever has
been run so far. Importing this package imports neither pandas nor torch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

    Names = str | Sequence[str]
    Folder = str | os.PathLike[str]


def results(
    table: str,
    *,
    corpus: str | None = None,
    profile: str | None = None,
    rows: Names | None = None,
    study: Names | None = None,
    set: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    encoder: Mapping[str, str] | None = None,
    studies: int | None = None,
    protocol: str = "paper",
    mixed: bool = True,
    results: Folder | None = None,
    data: Folder | None = None,
) -> pandas.DataFrame:
    """`studies.results("table1", corpus="mosi")`: a line a finished seeded run of a table.

    table, row, study, run: where the run is from: the row's name, the id of its search and the run's.
    seed_index, seed: which of the study's seeded runs, from 1, and its seed.
    model, text, corpus, encoder: its setting.
    acc7, acc2, f1: FRACTIONS of the test split, 0.85 where `bench table` prints 85; corr, from -1 to 1; mae, in units
    of the label. Emotion corpora have "happy_acc" and so on, fractions too.
    parameters, train_seconds, seconds_per_epoch, test_seconds, peak_memory_mib: what it cost.
    valid_loss, best_epoch, environment, notes: of its record.
    config.NAME: every option of the model and its training; missing where the run's model has no such option.

    Arguments are the options of `bench table`: rows and study are a name, a list, or "A,B"; rows may be patterns. set,
    epochs, patience: only studies with these fixed options.  encoder: {"bert": name}.
    mixed: with False, rows whose runs differ in data, versions or environment are left out, as `bench table` does; so
    look at `environment` before you average.  results, data: folders.
    Raises UserError for an unknown table, corpus, profile, protocol, row or study, and where no results folder is.
    """
    from studies.aggregate.frame import results_frame

    return _read(
        results_frame,
        table,
        rows,
        studies,
        results,
        study,
        corpus=corpus,
        data=data,
        profile=profile,
        encoders=encoder,
        options=set,
        epochs=epochs,
        patience=patience,
        protocol=protocol,
        mixed=mixed,
    )


def trials(
    table: str,
    *,
    corpus: str | None = None,
    profile: str | None = None,
    rows: Names | None = None,
    study: Names | None = None,
    set: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    encoder: Mapping[str, str] | None = None,
    studies: int | None = None,
    results: Folder | None = None,
    data: Folder | None = None,
) -> pandas.DataFrame:
    """`studies.trials("table1", corpus="mosi")`: a line a trial of the searches behind a table.

    table, row, study, run: as in `results`.  trial: its number, from 0, as in Optuna's tools.
    state: "done", "failed", "training" (it has epochs, and no end yet) or "to do".  selected: whether it is the winner.
    valid_loss: the task loss on validation, by which the winner is chosen, at best_epoch.  epochs: how many it trained.
    seconds; reason, of a failure.  config.NAME: its options, as in `results`.

    Rows that were not searched have no lines: variants, which take the winner of their intact row, and Table 8.
    Arguments: as of `results`.
    """
    from studies.aggregate.frame import trials_frame

    return _read(
        trials_frame,
        table,
        rows,
        studies,
        results,
        study,
        corpus=corpus,
        data=data,
        profile=profile,
        encoders=encoder,
        options=set,
        epochs=epochs,
        patience=patience,
        mixed=True,
    )


def curves(
    table: str,
    *,
    corpus: str | None = None,
    profile: str | None = None,
    rows: Names | None = None,
    study: Names | None = None,
    set: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    encoder: Mapping[str, str] | None = None,
    studies: int | None = None,
    results: Folder | None = None,
    data: Folder | None = None,
) -> pandas.DataFrame:
    """`studies.curves("table1", corpus="mosi")`: a line an epoch of each seeded run, training ones too.

    table, row, study, run, seed_index, seed, state: as in `results` and `trials`.  epoch: from 1.
    train_loss: mean of the model's own loss over the epoch's steps, contrastive parts included.  valid_loss: the task
    loss over the whole validation split.
    Arguments: as of `results`.
    """
    from studies.aggregate.frame import curves_frame

    return _read(
        curves_frame,
        table,
        rows,
        studies,
        results,
        study,
        corpus=corpus,
        data=data,
        profile=profile,
        encoders=encoder,
        options=set,
        epochs=epochs,
        patience=patience,
        mixed=True,
    )


def _names(given: Names | None) -> list[str] | None:
    """ "A,B" or a list -> names; None: all."""
    if given is None:
        return None
    return [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]


def _read(
    frame: Callable[..., pandas.DataFrame],
    table: str,
    rows: Names | None,
    studies: int | None,
    results: Folder | None,
    study: Names | None,
    **asked: Any,
) -> pandas.DataFrame:
    """`frame` of the rows of a table. asked: as for studies.lookup.view_for."""
    from studies.lookup import pick_rows, table_spec, view_for

    spec = table_spec(table, studies)
    picked = pick_rows(spec, _names(rows))
    store, view, said = view_for(results, [spec], studies=_names(study) or (), **asked)
    if said:
        logging.getLogger(__name__).warning("%s.", said)
    return frame(spec, picked, store, view)
