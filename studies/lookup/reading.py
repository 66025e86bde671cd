"""The results folder that a command reads, and what it shows of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hycon.data.manifest import Manifest, existing_folder
from hycon.errors import UserError, nearest
from hycon.metrics import protocol_for
from studies.lookup.corpora import DEMO_CORPORA, TASKS, known_manifest, manifest_of, may_stand_for
from studies.lookup.profiles import recorded_profile
from studies.lookup.view import View
from studies.registry import source_of
from studies.store.inside import check_results
from studies.store.outputs import Labels
from studies.store.run_store import RunStore
from studies.store.study import Study, id_named, is_beside, load_studies
from studies.tables import TABLES, Row, TableSpec

FEW = 8  # chosen here: of so many studies the nearest ids are worth naming


def results_root(root: str | os.PathLike | None = None) -> Path:
    """Where runs live: the argument, else $BENCH_RESULTS, else ./results."""
    root = Path(root or os.environ.get("BENCH_RESULTS") or "results")
    return existing_folder(root, "a results folder (--results or BENCH_RESULTS)")


def stored_results(root: str | os.PathLike | None = None) -> Path:
    """`results_root` for who only reads. Raises UserError where no such folder is there."""
    folder = results_root(root)
    if not folder.is_dir():
        raise UserError(f"There is no results folder {folder}: run a table first, or give --results.")
    check_results(folder)
    return folder


def view_for(
    results: str | os.PathLike | None,
    tables: Collection[TableSpec],
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    profile: str | None = None,
    encoders: Mapping[str, str] | None = None,
    protocol: str = "paper",
    mixed: bool = False,
    options: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    studies: Sequence[str] = (),
    beside: str | os.PathLike | None = None,
) -> tuple[RunStore, View, str]:
    """What a reading command shows, by its options: of which folder, what of it, and a sentence where one is due.

    results: the folder, as for `results_root`.  tables: those that are read.  encoders: front-end -> name or folder.
    options: as of `--set`.  studies: ids, or beginnings of them.  beside: another results folder, from which the rows
    are taken that this one has no runs of. Where the folder holds nothing on the corpora that are asked for, see
    `held_view`. Raises UserError for unknown names and studies, for a folder that is not there, and as that does.
    """
    from hycon.pretrained import short_name

    limits = {name: most for name, most in (("epochs", epochs), ("patience", patience)) if most is not None}
    names = {kind: short_name(name) for kind, name in (encoders or {}).items()}
    view = View(corpus, data, profile, names, protocol, mixed, {**(options or {}), **limits})
    other = stored_results(beside) if beside else None
    if corpus:
        manifest_of(corpus, data, *filter(None, (results_root(results), other)))  # raises where there is none
    folder = stored_results(results)
    labels = Labels(data)
    store = RunStore(folder, beside=RunStore(other, labels=labels) if other else None, labels=labels)
    known = load_studies(store)
    named = [study_named(study, known, folder) for study in studies]
    for study in named:
        _check_shown(study, tables, corpus)
        if not any(view.corpus_of(table) == study.corpus for table in tables):
            view = dataclasses.replace(view, corpus=study.corpus)
    view = dataclasses.replace(view, studies=tuple(study.id for study in named))
    own = [study for study in known if not is_beside(store, study)]
    view, said = held_view(view, tables, own or known, folder)
    manifest = known_manifest(view.corpus, data, *store.roots) if view.corpus else None
    return store, in_range(view, manifest), said


def in_range(view: View, manifest: Manifest | None) -> View:
    """The view with the protocol that its name means for the labels of a corpus. Raises UserError where it has none."""
    if not manifest or manifest.task != "sentiment":
        return view
    return dataclasses.replace(view, protocol=protocol_for(view.protocol, manifest.label_bound))


def study_named(prefix: str, studies: Sequence[Study], results: Path) -> Study:
    """The study whose id is or begins with `prefix`. Raises UserError where that names none, or several."""
    by_id = {study.id: study for study in studies}
    if found := id_named(prefix, by_id, "study"):
        return by_id[found]
    hint = f"nearest: {nearest(prefix, by_id)}; " if by_id and len(by_id) <= FEW else ""
    raise UserError(f"No study {prefix!r} in {results} ({hint}`bench list studies` names them).")


def _check_shown(study: Study, tables: Collection[TableSpec], corpus: str | None) -> None:
    """Raises UserError where `study` can fill no row of the tables, or is on another corpus."""
    if corpus not in (None, study.corpus):
        raise UserError(f"Study {study.id} is on corpus {study.corpus}, not {corpus}.")
    if not any(is_of(study, row) for table in tables for row in table.rows):
        has = [table.name for table in TABLES.values() if any(is_of(study, row) for row in table.rows)]
        where = f"it is in {', '.join(has)}" if has else "no table has one"
        raise UserError(f"Study {study.id} is of no row of {', '.join(t.name for t in tables)}: {where}.")


def is_of(study: Study, row: Row) -> bool:
    """Whether it is a study of the row, on whatever corpus, with whatever options."""
    asked = (row.model, row.text, dict(row.config), row.study, row.measured, source_of(row.model))
    return (study.model, study.text, study.row, study.number, study.measured, study.source) == asked


def held_view(view: View, tables: Collection[TableSpec], studies: Sequence[Study], results: Path) -> tuple[View, str]:
    """The view of what a folder holds, where it holds nothing on the corpora of `view` and one other thing that fits
    the tables; and a sentence about that, "" where the view stays and nothing is to say.

    Raises UserError where there are several other things.
    """
    corpora = {view.corpus_of(table) for table in tables}
    fitting = [s for s in studies if view.profile is None or s.profile == recorded_profile(view.profile)]
    if not studies or any(study.corpus in corpora for study in fitting):
        return view, ""
    asked = " or ".join(sorted(corpora)) + (f", profile {view.profile}" if view.profile else "")
    others = [s for s in fitting if any(_serves(s.corpus, table, view, results) for table in tables)]
    found = {study.corpus for study in others}
    if view.corpus or not found:
        return view, f"{results} holds no runs on {asked}; it holds {held(studies)}"
    profiles = {study.profile for study in others}
    if profiles == {"demo"} and found <= set(DEMO_CORPORA.values()):
        view = dataclasses.replace(view, profile="demo")
    elif len(found) == 1:
        view = dataclasses.replace(view, corpus=next(iter(found)))
    else:
        raise UserError(f"{results} holds no runs on {asked}, but {held(others)}: name one with --corpus.")
    return view, f"{results} holds no runs on {asked}; shown: {held(others)}"


def held(studies: Iterable[Study]) -> str:
    """ "corpus synthetic (profile demo) and corpus mosi (profiles demo, paper)"."""
    profiles: dict[str, set[str]] = {}
    for study in studies:
        profiles.setdefault(study.corpus, set()).add(study.profile)
    return " and ".join(
        f"corpus {name} (profile{'s' if len(of) > 1 else ''} {', '.join(sorted(of))})"
        for name, of in sorted(profiles.items())
    )


def _serves(corpus: str, table: TableSpec, view: View, results: Path) -> bool:
    """Whether results on `corpus` belong in the table, which is about another: its labels are of that kind."""
    manifest = known_manifest(corpus, view.data, results)
    task = manifest.task if manifest else TASKS.get(corpus)
    return task in (None, table.task) and may_stand_for(corpus, table.corpus)
