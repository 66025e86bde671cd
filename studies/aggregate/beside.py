"""What a results folder beside one's own (`--with`) has nothing of."""

from __future__ import annotations

from collections.abc import Collection

from studies.lookup import View, held
from studies.store.run_store import RunStore
from studies.store.study import load_studies
from studies.tables import TableSpec


def none_beside(store: RunStore, view: View, tables: Collection[TableSpec]) -> str:
    """Where the folder beside has nothing on the corpora that are shown, what it has; else empty."""
    corpora = {view.corpus_of(table) for table in tables}
    studies = load_studies(store.beside) if store.beside else []
    if store.beside is None or any(study.corpus in corpora for study in studies):
        return ""
    what = f"it holds {held(studies)}, which is not comparable" if studies else "it holds no studies"
    return f"nothing is taken from {store.beside.root}: it has no runs on {' and '.join(sorted(corpora))}; {what}"
