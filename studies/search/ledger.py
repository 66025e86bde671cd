"""The ledger of a search: an Optuna study, so that Optuna's own tools (dashboard, importances) open it.

It is a view of the run store, made anew whenever a search ends: <results>/studies/<id>.journal, or a study in the
database of --storage. Nothing here reads it, so a damaged or changed ledger stands in nobody's way.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from hycon.files import temporary
from studies.store.inside import make_folder
from studies.store.record import canonical
from studies.store.run_store import RunStore
from studies.store.study import Study


def write_ledger(store: RunStore, study: Study, losses: Sequence[float | None]) -> None:
    """Write `study` for Optuna, in place of what is there. trial.number is the index of the draw.

    losses: validation loss of each draw, None for a failed run.  Raises UserError where it cannot be written.
    """
    if store.storage is None:
        _write_journal(store.root / "studies" / f"{study.id}.journal", study, losses)
        return
    with store.storage.alone():
        _write_database(store.storage.sqlalchemy_url(), study, losses)


def _write_journal(path: Path, study: Study, losses: Sequence[float | None]) -> None:
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    temp = temporary(path)
    try:
        make_folder(path.parent.parent, path.parent)
        # The temporary file is this process's own: it needs none of Optuna's locks, which are files beside it.
        backend = JournalFileBackend(str(temp), lock_obj=threading.Lock())  # type: ignore[arg-type]
        _fill(JournalStorage(backend), study, losses)
        os.replace(temp, path)  # also where a link is there: it is not followed
    except OSError as error:
        raise UserError(f"Cannot write the search's ledger {path}: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()


def _write_database(url: str, study: Study, losses: Sequence[float | None]) -> None:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if _name(study) in optuna.get_all_study_names(url):
            optuna.delete_study(study_name=_name(study), storage=url)
        _fill(url, study, losses)
    except (ImportError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]  # the URL is not printed: it holds the password
        raise UserError(f"Cannot write the search's ledger in its database ({reason}): try again.") from error


def _name(study: Study) -> str:
    return f"{study.model}-{study.text}-{study.corpus}-{study.id}"


def _fill(storage: Any, study: Study, losses: Sequence[float | None]) -> None:
    """Create the study in an Optuna storage, with all its trials."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import TrialState, create_trial

    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution([_plain(choice) for choice in choices])
        for name, choices in (study.space or {}).items()
    }
    trials = []
    for values, loss in zip(study.draws, losses, strict=True):
        params = {name: _plain(value) for name, value in values.items()}
        if loss is not None and math.isfinite(loss):
            trials.append(create_trial(value=loss, params=params, distributions=space))
        else:
            trials.append(create_trial(state=TrialState.FAIL, params=params, distributions=space))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        optuna.create_study(storage=storage, study_name=_name(study), direction="minimize").add_trials(trials)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _plain(value: Any) -> Any:
    """Optuna's choices are numbers, strings, bools and None; anything else becomes its JSON text."""
    return value if value is None or isinstance(value, bool | int | float | str) else canonical(value)
