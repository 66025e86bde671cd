"""A study only grows: what a results folder holds already of the rows that a command asks for.

Fewer trials than are stored are no other search: the stored one is kept, with its winner. More go on with it, since all
draws are made up front. A winner that changes is run with as many seeds as the one before it had, so that no cell of a
table loses runs; what the earlier winner's runs gave stays beside it.
A search without a winner is no obstacle: who stopped a long one may ask for a shorter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from studies.search.plan import Setting, expected, follows, searched_rows, trial_specs
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.store.soundness import unsound_in
from studies.store.study import Study, conditions, goes_on, load_studies
from studies.tables import Row


def stored_studies(store: RunStore) -> list[Study]:
    """All studies of a folder whose runs are their own; the others are as if they were not there."""
    return [study for study in load_studies(store) if not unsound_in(store, study)]


def planned_search(row: Row, setting: Setting, stored: Sequence[Study]) -> tuple[Study, list[RunSpec]]:
    """The study of a searched row, and the specs of the trials to run: none where a longer search of it is stored."""
    study, specs = trial_specs(row, setting)
    longer = [s for s in stored if len(s.trials) > len(study.trials) and s.selected is not None and goes_on(s, study)]
    return (max(longer, key=lambda s: len(s.trials)), []) if longer else (study, specs)


def grown(setting: Setting, study: Study, stored: Sequence[Study], store: RunStore) -> Setting:
    """`setting` with as many seeds as it asks for, or as any study of the same row has finished where that is more."""
    seeds = max(setting.profile.seeds, finished_seeds(study, stored, store))
    return dataclasses.replace(setting, profile=dataclasses.replace(setting.profile, seeds=seeds))


def finished_seeds(study: Study, stored: Sequence[Study], store: RunStore) -> int:
    """The most finished seeded runs that a study of its row and conditions has, whichever its winner and search."""
    alike = [s for s in stored if conditions(s) == conditions(study)]
    return max((sum(map(store.has, s.runs)) for s in alike), default=0)


def said_of_fewer(rows: Sequence[Row], setting: Setting, stored: Sequence[Study], store: RunStore) -> list[str]:
    """A sentence for the rows of which less is asked for than is stored, one for all that have the same numbers."""
    groups: dict[str, list[str]] = {}
    searched = searched_rows(rows, setting)
    for row in (*(row for row in searched if row not in rows), *rows):
        if said := _fewer(row, setting, stored, store, row in searched, row in rows):
            groups.setdefault(said, []).append(row.name)
    return [f"{', '.join(names)}: {said}." for said, names in groups.items()]


def _fewer(row: Row, setting: Setting, stored: Sequence[Study], store: RunStore, searched: bool, seeded: bool) -> str:
    """Of one row; "" where all that is stored is asked for. searched, seeded: what the command asks of it."""
    planned, specs = (None, []) if row.measured else planned_search(follows(row, setting) or row, setting, stored)
    counts = [("trial", setting.profile.trials, len(planned.trials))] if planned and searched and not specs else []
    seeds = 0
    if seeded:
        seeds = finished_seeds(expected(row, setting, planned), stored, store)
        counts.append(("seed", setting.profile.seeds, seeds))
    said = [f"{few} {what}{'s' if few != 1 else ''} asked for, {n} stored" for what, few, n in counts if n > few]
    if not said:
        return ""
    idle = not [spec for spec in specs if not store.has(spec.id)] and (not seeded or setting.profile.seeds <= seeds)
    return f"{', '.join(said)}; " + ("nothing is run, what is stored is shown" if idle else "what is stored is kept")
