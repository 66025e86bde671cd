"""Corpora by name: which one a table is on, and its manifest."""

from __future__ import annotations

import os
from pathlib import Path

from hycon.data.manifest import PAPER, Manifest, corpus_folder, named_after, read_manifest
from studies.lookup.profiles import Profile
from studies.store.inside import fit
from studies.tables import TABLES, TableSpec

DEMO_CORPORA = {"sentiment": "synthetic", "emotion": "synthetic_emotions"}  # task -> name
# corpus -> task, of those that are known before anything is imported
TASKS = {name: task for task, name in DEMO_CORPORA.items()} | {table.corpus: table.task for table in TABLES.values()}


def corpus_name(table: TableSpec, profile: Profile | None, corpus: str | None) -> str:
    """The corpus that was asked for, or the profile's for this kind of table, or the paper's."""
    demo = DEMO_CORPORA[table.task] if profile and profile.demo else None
    return corpus or demo or table.corpus


def may_stand_for(corpus: str, papers: str) -> bool:
    """mosi_resampled fills the tables on mosi, not the one on mosei; a corpus of any other name fills both."""
    return named_after(corpus, PAPER) in (None, papers)


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
