"""Whether a study and the runs that it names belong together.

A study file is believed in what it names: its seeded runs become a cell of a table. So whoever reads studies for their
numbers reads them here, and one whose runs are not its winner's is refused, not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from hycon.errors import UserError
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies


def sound_studies(store: RunStore) -> list[Study]:
    """All studies of a results folder, for reading numbers. Raises UserError for the first that is not sound.

    `bench run` loads them without this: it writes its own studies anew from their runs.
    """
    studies = load_studies(store)
    for study in studies:
        if why := unsound_in(store, study):
            raise UserError(
                f"Study {study.id} ({study.model}-{study.text} on {study.corpus}) in {store.root} is not sound: {why}. "
                "`bench doctor --repair` sets it aside."
            )
    return studies


def unsound_in(store: RunStore, study: Study) -> str | None:
    """`unsound`, by the finished runs of a store."""
    return unsound(study, lambda run: record.spec if (record := store.get(run)) else None)


def unsound(study: Study, spec_of: Callable[[str], RunSpec | None]) -> str | None:
    """Why the runs of a study cannot be its own, as part of a sentence; None where nothing speaks against them.

    spec_of: what a run has trained, None where that is not known. A study without trials of its own is compared with
    its fields alone.
    """
    for what, ids in (("trial", study.trials), ("seeded run", study.runs)):
        if twice := _repeated(ids):
            return f"it names {what} {twice} more than once"
    if both := sorted(set(study.trials) & set(study.runs)):
        return f"run {both[0]} is one of its trials and one of its seeded runs"
    if why := _of_no_kind(study):
        return why
    specs = {run: spec for run in study.runs if (spec := spec_of(run))}
    for run, spec in specs.items():
        if (spec.model, spec.text, spec.corpus) != (study.model, study.text, study.corpus):
            return f"run {run} is of {spec.model}-{spec.text} on {spec.corpus}"
    if specs and all(_elsewhere(study, spec) for spec in specs.values()):
        return "none of its seeded runs has its data, encoder and version of the model"
    return _other_winner(study, specs, spec_of) or _other_options(study, specs)


def _of_no_kind(study: Study) -> str | None:
    """Why its trials cannot be those of a search, of a variant or of a measurement."""
    if study.measured and (study.trials or study.winner_of is not None):
        return "it is measured, but has trials or another study's winner"
    if study.winner_of is not None and (len(study.trials) != 1 or study.winner_of == study.id):
        return f"it takes another study's winner, but has {len(study.trials)} trials"
    if study.runs and study.chosen is None:
        return "it has seeded runs, but no winner"
    return None


def _repeated(ids: Sequence[str]) -> str | None:
    times = Counter(ids)  # a forged study may name hundreds of thousands
    return next((run for run in ids if times[run] > 1), None)


def _elsewhere(study: Study, spec: RunSpec) -> bool:
    """Some runs of another version or of other data are no forgery: they are not averaged (--mixed), and said."""
    encoders = [(encoder or {}).get("sha256") for encoder in (study.encoder, spec.encoder)]
    return (
        spec.data != study.data
        or spec.source != study.source
        or encoders[0] != encoders[1]
        or (study.model_version != 0 and spec.version != study.model_version)
    )


def _other_winner(study: Study, specs: dict[str, RunSpec], spec_of: Callable[[str], RunSpec | None]) -> str | None:
    """Why the seeded runs are not those of one winner, which differ in their seed alone.

    The trial of a variant is its intact row's winner, whose options it changes: its runs are compared with each other.
    """
    winner = study.selected if study.searched and study.selected in range(len(study.trials)) else None
    first = (winner is not None and spec_of(study.trials[winner])) or next(iter(specs.values()), None)
    seeds: dict[tuple[int, str, int], str] = {}
    for run, spec in specs.items():
        if first and (spec.config, spec.training) != (first.config, first.training):
            return f"run {run} has other options than its winner"
        same = seeds.setdefault((spec.seed, spec.data, spec.version), run)
        if same != run:
            return f"runs {same} and {run} have one seed"
    return None


def _other_options(study: Study, specs: dict[str, RunSpec]) -> str | None:
    """Why the seeded runs do not have the options that the study says: its winner's draw, what was fixed, its row's."""
    said = {**(study.chosen or {}), **study.options, **study.row}
    for run, spec in specs.items():
        has = {**spec.config, **spec.training}
        for option, value in said.items():
            if has.get(option, value) != value or (option in study.row and option not in has):
                return f"run {run} has {option} = {has.get(option)}, not {value}"
    return None
