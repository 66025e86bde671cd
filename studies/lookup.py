"""Names as commands give them become objects: tables, rows, profiles, corpora, the results folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hycon.data.manifest import Manifest, corpus_folder, existing_folder, read_manifest
from hycon.errors import UserError, check_known, nearest
from hycon.metrics import PROTOCOLS
from studies.authors.rows import own_rows, with_models
from studies.authors.table_file import is_table_file, read_table_file
from studies.store.inside import fit
from studies.tables import TABLES, Row, TableSpec, with_studies

DEMO_CORPORA = {"sentiment": "synthetic", "emotion": "synthetic_emotions"}  # task -> name
# corpus -> task, of those that are known before anything is imported
TASKS = {name: task for task, name in DEMO_CORPORA.items()} | {table.corpus: table.task for table in TABLES.values()}


@dataclass(frozen=True)
class Profile:
    """How much is run. epochs, patience: None keeps each model's own.
    shares: the profile whose searches and seeded runs this one goes on with, under that profile's name in files."""

    name: str
    trials: int
    seeds: int
    epochs: int | None = None
    patience: int | None = None
    shares: str | None = None
    demo: bool = False  # made-up corpora, tiny sizes
    encoders: Mapping[str, str] = field(default_factory=dict)


PROFILES = {
    "paper": Profile("paper", trials=50, seeds=5),  # sec. 4.4(1)
    # Five pairs cannot give p < 0.05, whatever they are (the smallest is 2 / 2^5); ten give 0.002.
    "decisive": Profile("decisive", trials=50, seeds=10, shares="paper"),
    "demo": Profile("demo", 2, 2, epochs=5, demo=True, encoders={"bert": "demo", "xlnet": "demo"}),
}


def recorded_profile(name: str) -> str:
    """The name in the study files of a profile's studies."""
    return (PROFILES[name].shares if name in PROFILES else None) or name


@dataclass(frozen=True)
class View:
    """Which of a folder's results are read, and how. Raises UserError for an unknown profile or protocol.

    corpus: None for each table's own, or the profile's demo corpus.  data: the folder of corpora, as for
    `hycon.data.load`.  profile: only studies of this profile; None for all.  encoders: front-end -> short name of the
    pretrained encoder, only studies with it.  protocol: whose metrics.  mixed: average also runs that differ in data,
    versions or environment (studies.aggregate.comparability).
    """

    corpus: str | None = None
    data: str | os.PathLike | None = None
    profile: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "paper"
    mixed: bool = False

    def __post_init__(self) -> None:
        check_known("protocol", self.protocol, PROTOCOLS)
        if self.profile is not None:
            check_known("profile", self.profile, PROFILES)

    def corpus_of(self, table: TableSpec) -> str:
        """The corpus that `table` is read on."""
        return corpus_name(table, PROFILES[self.profile] if self.profile else None, self.corpus)


DEFAULT_VIEW = View()  # all that a table shows of the paper's corpora


def results_root(root: str | os.PathLike | None = None) -> Path:
    """Where runs live: the argument, else $BENCH_RESULTS, else ./results."""
    root = Path(root or os.environ.get("BENCH_RESULTS") or "results")
    return existing_folder(root, "a results folder (--results or BENCH_RESULTS)")


def table_spec(name: str, studies: int | None = None) -> TableSpec:
    """The table of that name, or of the TOML file at that path (studies.authors.table_file).

    studies: how often each row is searched, in a table that repeats searches.
    """
    if not is_table_file(name):
        check_known("table", name, TABLES)
    table = read_table_file(name) if is_table_file(name) else TABLES[name]
    if studies is None or studies == table.studies:
        return table
    if table.studies == 1:
        repeating = ", ".join(t.name for t in TABLES.values() if t.studies > 1)
        raise UserError(f"--studies is {studies}, but {name} has one search a row; tables that repeat it: {repeating}.")
    if studies < 2:
        raise UserError(f"--studies is {studies}; expected at least 2: one search has no spread.")
    return with_studies(table, studies)


def profile_of(name: str, **changes: Any) -> Profile:
    """A named profile with trials, seeds, epochs or patience replaced where given."""
    check_known("profile", name, PROFILES)
    for key, value in changes.items():
        if value is not None and value < 1:
            raise UserError(f"--{key} is {value}; expected at least 1.")
    return dataclasses.replace(PROFILES[name], **{k: v for k, v in changes.items() if v is not None})


def pick_rows(table: TableSpec, names: Sequence[str] | None) -> list[Row]:
    """The rows of a table by the paper's names (case does not matter), all of them by default."""
    by_name = {row.name.lower(): row for row in table.rows}
    if names is None:
        return list(table.rows)
    names = [name.strip() for name in names]
    for name in names:
        if name.lower() not in by_name:
            known = [row.name for row in table.rows]
            raise UserError(f"{table.name} has no row {name!r}; nearest: {nearest(name, known)}.")
    return [by_name[name.lower()] for name in dict.fromkeys(names)]


def asked_rows(table: TableSpec, names: Sequence[str] | None, models: Sequence[str]) -> tuple[TableSpec, list[Row]]:
    """A table with the rows of `models`, and which of its rows are asked for: those named, all where none is.

    With models, their rows are asked for too, and alone where no row is named; some of them where some are named.
    """
    if not models:
        return table, pick_rows(table, names)
    table = with_models(table, models)
    own, named = own_rows(table, models), pick_rows(table, names) if names else []
    return table, named if any(row in own for row in named) else [*named, *own]


def corpus_name(table: TableSpec, profile: Profile | None, corpus: str | None) -> str:
    """The corpus that was asked for, or the profile's for this kind of table, or the paper's."""
    demo = DEMO_CORPORA[table.task] if profile and profile.demo else None
    return corpus or demo or table.corpus


def corpus_for(name: str, data: str | os.PathLike | None, keep: bool = True) -> Manifest:
    """The manifest of a corpus; a demo corpus is made where it is missing (and with keep=False thrown away again)."""
    if name not in DEMO_CORPORA.values() or (corpus_folder(name, data) / "manifest.json").exists():
        return read_manifest(name, data)
    from tempfile import TemporaryDirectory

    from hycon.data.importers.synthetic import synthesize

    emotions = name == DEMO_CORPORA["emotion"]
    if keep:
        return synthesize(name, data, emotions=emotions)
    with TemporaryDirectory() as scratch:
        return synthesize(name, scratch, emotions=emotions)


def known_manifest(name: str, data: str | os.PathLike | None, *results: Path) -> Manifest | None:
    """The manifest of a corpus: from the data folder, else as a results folder remembers it; None where none has it."""
    if (corpus_folder(name, data) / "manifest.json").exists():
        return read_manifest(name, data)
    for folder in results:
        if fit(folder, corpus_folder(name, folder / "corpora") / "manifest.json"):
            return read_manifest(name, folder / "corpora")
    return None


def manifest_of(name: str, data: str | os.PathLike | None, *results: Path) -> Manifest:
    """As `known_manifest`, but a corpus of a table or of the demo that is nowhere yet has a blank one.

    Raises UserError for any other corpus that is nowhere, with the names of those in the data folder.
    """
    found = known_manifest(name, data, *results)
    if found is None and name in TASKS:
        return Manifest(name, TASKS[name], {}, {}, {}, {}, "word", {}, {}, synthetic=name in DEMO_CORPORA.values())
    return found or read_manifest(name, data)
