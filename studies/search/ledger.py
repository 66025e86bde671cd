"""Random search: all configurations are drawn before anything runs, and ranked by validation loss afterwards.

The draws are hashes (studies.search.seeds), so a resumed search goes on with the same ones; Optuna's RandomSampler
would draw its first points again. Optuna gets a ledger of the search, which its own tools (dashboard, importances)
open.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from studies.search.seeds import derive_seed
from studies.store.record import canonical

# ------------------------------------------------------------------------------------------------- draws


# ------------------------------------------------------------------------------------------------- the ledger


def ledger(
    where: Path | str,
    study_name: str,
    draws: Sequence[Mapping[str, Any]],
    space: Mapping[str, Sequence[Any]],
    finished: Mapping[int, float | None],
) -> None:
    """Bring the Optuna study `study_name` up to date; trial.number is the index of the draw.

    where: a journal file, one per study, or the URL of a database (postgresql://...) that several machines share.
    finished: index -> validation loss, or None for a failed run. What was told before stays told.
    Idempotent. A journal that was torn is set aside as *.torn, a study that contradicts the store (other draws, or
    another result) as *.old, and written anew: the store is the truth. Raises UserError where it cannot be written.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    losses = {i: x if x is not None and math.isfinite(x) else None for i, x in finished.items()}
    journal = None if "://" in str(where) else Path(where)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _alone(journal):
            if journal is not None and (journal.is_symlink() or not whole(journal)):  # a link leads out of the folder
                os.replace(journal, journal.with_name(journal.name + ".torn"))
            _bring_up_to_date(where, journal, study_name, draws, space, losses)
    except OSError as error:
        raise UserError(f"Cannot write the search's ledger {where}: {error.strerror or error}.") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"Cannot write the search's ledger in its database ({reason}): try again.") from error
    finally:
        optuna.logging.set_verbosity(verbosity)


def _bring_up_to_date(where, journal: Path | None, study_name: str, draws, space, losses) -> None:
    import optuna
    from optuna.distributions import CategoricalDistribution

    distributions = {name: CategoricalDistribution([_plain(c) for c in space[name]]) for name in space}
    wanted = [{name: _plain(value) for name, value in values.items()} for values in draws]
    study = _open(where, journal, study_name)
    told = _told(study, wanted, distributions)
    if told is None or any(told[i] != losses[i] for i in told.keys() & losses.keys()):
        if journal is None:
            optuna.delete_study(study_name=study_name, storage=str(where))
        else:
            os.replace(journal, journal.with_name(journal.name + ".old"))
        study = _open(where, journal, study_name)
    _mirror(study, wanted, distributions, {**(told or {}), **losses})


def _open(where: Path | str, journal: Path | None, study_name: str):
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from sqlalchemy.exc import SQLAlchemyError

    # Named, though every trial is enqueued: Optuna's default sampler changed between versions 4 and 5.
    sampler = optuna.samplers.RandomSampler(seed=derive_seed("ledger", study_name) % 2**32)
    try:
        storage = str(where) if journal is None else JournalStorage(JournalFileBackend(str(journal)))
        return optuna.create_study(
            storage=storage, sampler=sampler, study_name=study_name, direction="minimize", load_if_exists=True
        )
    except (ImportError, SQLAlchemyError) as error:  # the URL itself is not printed: it may hold a password
        reason = str(error).splitlines()[0]
        raise UserError(f"Cannot open the database of the search's ledger ({reason}): check its URL.") from error


def _told(study, wanted, distributions) -> dict[int, float | None] | None:
    """Results in the study so far; None where its trials are not the first ones of `wanted`."""
    told: dict[int, float | None] = {}
    for number, trial in enumerate(study.get_trials(deepcopy=False)[: len(wanted)]):
        waiting = trial.state.name == "WAITING"
        held = trial.system_attrs.get("fixed_params") if waiting else trial.params
        # A ledger killed in the middle of `ask` leaves a running trial with only some of its parameters.
        if held != wanted[number] or not (waiting or trial.distributions == distributions):
            return None
        if trial.state.is_finished():
            told[number] = trial.value if trial.state.name == "COMPLETE" else None
    return told


def _mirror(study, wanted, distributions, losses) -> None:
    from optuna.trial import TrialState

    for values in wanted[len(study.get_trials(deepcopy=False)) :]:
        study.enqueue_trial(values)
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask(distributions)  # takes the lowest waiting number
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial.number in losses:
            loss = losses[trial.number]
            study.tell(trial.number, loss, state=TrialState.FAIL if loss is None else TrialState.COMPLETE)


def _plain(value: Any) -> Any:
    """Optuna's choices are numbers, strings, bools and None; anything else becomes its JSON text."""
    return value if value is None or isinstance(value, bool | int | float | str) else canonical(value)


def whole(journal: Path) -> bool:
    """False where a killed writer or a full disk left a partial line: Optuna would never read past it again."""
    try:
        content = journal.read_bytes()
    except FileNotFoundError:
        return True
    try:
        return not content or (content.endswith(b"\n") and all(json.loads(line) for line in content.splitlines()))
    except ValueError:
        return False


@contextlib.contextmanager
def _alone(journal: Path | None) -> Iterator[None]:
    """One `bench` at a time in a journal; two would each enqueue all trials."""
    if journal is None:
        yield
        return
    journal.parent.mkdir(parents=True, exist_ok=True)
    with open(journal.with_name(journal.name + ".guard"), "ab") as handle:
        with contextlib.suppress(OSError):  # a file system without locks: the ledger is rebuilt when it disagrees
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Optuna's own lock, left by a process that was killed: it would be waited for 30 s.
            for left in journal.parent.glob(f"{journal.name}.lock*"):
                left.unlink(missing_ok=True)
        yield
