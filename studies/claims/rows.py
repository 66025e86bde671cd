"""The rows that claims compare, as the results folder has them now.

A number of parameters does not depend on the seed, and every run has it. So a row of Table 8 that was not run there is
counted on runs of the same model in another table of the corpus, if they are as in the paper. Its search may have
chosen a size there (MFN's memory), which Table 8 has from the model's default configuration; the claim's reason names
the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from studies.aggregate.cells import RowResult
from studies.aggregate.obstacles import CorpusInfo
from studies.aggregate.table import table_result
from studies.claims.kinds import Contest, Side, row_of
from studies.lookup import DEFAULT_VIEW, View
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.tables import TABLES

COUNTED = ("parameters",)  # metrics that are compared, not tested


@dataclass(frozen=True)
class Rows:
    """of: every row of the tables that are compared.  corpora: table -> the one that it is read on.  counted: rows
    that were not run -> where the same model was, to be asked for its parameters only.  view: how they were read.
    by_hand: a row with runs -> the options that its study has beside the searched ones."""

    of: Mapping[Side, RowResult]
    corpora: Mapping[str, CorpusInfo]
    counted: Mapping[Side, Side]
    view: View = DEFAULT_VIEW
    by_hand: Mapping[Side, Mapping[str, Any]] = field(default_factory=dict)

    def row(self, side: Side, metric: str) -> RowResult:
        return self.of[self.counted.get(side, side) if metric in COUNTED else side]


def read_rows(found: Sequence[Contest], store: RunStore, view: View) -> Rows:
    """Of all rows in `found`. Trains nothing and imports no torch."""
    studies = sound_studies(store)
    results: dict[str, dict[str, RowResult]] = {}
    corpora: dict[str, CorpusInfo] = {}

    def rows_of(table: str) -> dict[str, RowResult]:
        if table not in results:
            result = table_result(TABLES[table], store, view, studies=studies)
            results[table], corpora[table] = {row.row.name: row for row in result.rows}, result.corpus
        return results[table]

    for table in sorted({side.table for contest in found for side in contest.sides}):
        rows_of(table)
    asked = dict.fromkeys(side for contest in found if contest.metric in COUNTED for side in contest.sides)
    counted: dict[Side, Side] = {}
    for side in asked:
        if not rows_of(side.table)[side.row].n:
            others = [(other, rows_of(other.table)[other.row]) for other in same_model(side)]
            as_in_the_paper = [other for other, row in others if row.n and not row.obstacles]
            if as_in_the_paper:
                counted[side] = as_in_the_paper[0]
    of = {Side(table, name): row for table, named in results.items() for name, row in named.items()}
    options = {study.id: study.options for study in studies}
    by_hand = {side: options[row.study] for side, row in of.items() if row.study in options}
    return Rows(of, corpora, counted, view, by_hand)


def same_model(side: Side) -> Iterable[Side]:
    """Rows of other tables on the same corpus with the same model, front-end and options."""
    own = row_of(side)
    for name, table in TABLES.items():
        if name != side.table and table.corpus == TABLES[side.table].corpus:
            yield from (
                Side(name, row.name)
                for row in table.rows
                if (row.model, row.text, row.config, row.study) == (own.model, own.text, own.config, 0)
            )
