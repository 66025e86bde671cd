"""`bench diff`: two results folders, cell by cell, with an interval and a p for every difference.

Where both folders keep the predictions, runs are compared by studies.statistics.comparison (paired by seed where
seeds are shared), else by one number per run. The p-values of a table are adjusted together.
Rows with the same runs and the same numbers are not tested. Every other row is followed by what may explain a
difference: data, versions, environments, search, chosen configuration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hycon.data.manifest import Manifest, named_after
from hycon.errors import UserError
from studies.aggregate.cells import NOT_RUN, RowResult
from studies.aggregate.comparability import identities
from studies.aggregate.predictions import compare_records, group_of
from studies.aggregate.table import table_result
from studies.document.blocks import headings
from studies.document.text import table as aligned
from studies.document.words import p_value
from studies.lookup import DEFAULT_VIEW, View, manifest_of
from studies.statistics.comparison import Comparison, Group, adjusted
from studies.store.inside import check_results
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.tables import TABLES, Column, Row, TableSpec
from studies.trust.archive import outcome

SAME, COMPARED, ONLY_A, ONLY_B = "same runs", "compared", "only in A", "only in B"


@dataclass(frozen=True)
class CellDiff:
    """Printed units. difference: A less B, over the `compared` runs of each side: where seeds are paired, those that
    both have.  mean_a, mean_b: over all runs.  p_adjusted: over all tested cells of the table.
    low, high, p: None where a side has one run, or the runs are the same."""

    metric: str
    mean_a: float | None
    mean_b: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_interval: float | None = None
    p_adjusted: float | None = None
    paired: bool = False
    compared: int | None = None  # pairs; None where they are not paired
    utterances: int = 0  # 0: compared by one number per run
    underpowered: bool = False
    seeds_needed: int | None = None


@dataclass(frozen=True)
class RowDiff:
    """status: same runs | compared | only in A | only in B.  said: what may explain a difference, or why a side has no
    runs."""

    row: str
    status: str
    n_a: int
    n_b: int
    cells: tuple[CellDiff, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableDiff:
    table: TableSpec
    corpus: str
    synthetic: bool
    rows: tuple[RowDiff, ...]


def diff(
    a: RunStore,
    b: RunStore,
    view: View = DEFAULT_VIEW,
    *,
    table: TableSpec | None = None,
    rows: Sequence[Row] | None = None,
) -> list[TableDiff]:
    """Folder `a` against `b`: one table or all, on one corpus or on all that either has studies of. Tables and rows
    without runs on either side are left out. Raises UserError where a folder is not there or neither holds a run."""
    for store in (a, b):
        if not store.root.is_dir():
            raise UserError(f"{store.root} is not there: give two results folders.")
        check_results(store.root)
    found = []
    for manifest, spec in _asked(a, b, table, view):
        shown = dataclasses.replace(view, corpus=manifest.name)
        first, second = (table_result(spec, store, shown, rows=rows, manifest=manifest) for store in (a, b))
        pairs = [
            (x, y)
            for x, y in zip(first.rows, second.rows, strict=False)
            if (x.records or y.records) and not (x.origin and y.origin)  # of --with on both sides: neither's own
        ]
        if pairs:
            spec = dataclasses.replace(spec, columns=first.table.columns)  # the corpus's own emotions
            lines = [_row(a, b, x, y, spec.columns, first.protocol) for x, y in pairs]
            found.append(TableDiff(spec, manifest.name, first.corpus.synthetic, tuple(_adjusted(lines))))
    if not found:
        raise UserError(f"Neither {a.root} nor {b.root} holds a finished seeded run of what was asked for.")
    return found


def _asked(a: RunStore, b: RunStore, table: TableSpec | None, view: View) -> Iterator[tuple[Manifest, TableSpec]]:
    """(corpus, table), each corpus with the tables that the paper shows of it; any other with all of its task."""
    held = {study.corpus for store in (a, b) for study in sound_studies(store)}
    for name in [view.corpus] if view.corpus else sorted(held):
        manifest = dataclasses.replace(manifest_of(name, view.data, *a.roots, *b.roots), name=name)
        paper = named_after(name, {spec.corpus for spec in TABLES.values()})
        seen: list[tuple] = []
        for spec in [table] if table else TABLES.values():
            shape = (spec.columns, [row.name for row in spec.rows])  # Table 2 is Table 1 on another corpus
            if spec.robust and not table:
                continue  # Table 1's runs again, and most folders know no more of them
            if spec.task == manifest.task and (table or (shape not in seen and spec.corpus == (paper or spec.corpus))):
                seen.append(shape)
                yield manifest, spec


# ------------------------------------------------------------------------------------------------- a row


def _row(a: RunStore, b: RunStore, x: RowResult, y: RowResult, columns: Sequence[Column], protocol: str) -> RowDiff:
    if not (x.records and y.records):
        status, other = (ONLY_A, y) if x.records else (ONLY_B, x)
        told = other.reason not in ("", NOT_RUN)
        missing = (f"{'B' if x.records else 'A'}: {other.reason}",) if told else ()
        return RowDiff(x.row.name, status, x.n, y.n, tuple(_means(x, y, c) for c in columns), missing)
    said = tuple(_explained(x, y))
    said = (*(f"{side}: taken from {row.origin}" for side, row in (("A", x), ("B", y)) if row.origin), *said)
    mine, theirs = ({r.id: outcome(r) for r in row.records} for row in (x, y))
    cells = tuple(_means(x, y, column) for column in columns)
    if mine == theirs and not any(cell.difference for cell in cells):  # times may differ where numbers do not
        return RowDiff(x.row.name, SAME, x.n, y.n, cells, said)
    shared = mine.keys() & theirs.keys()
    if shared:
        changed = sum(mine[run] != theirs[run] for run in shared)
        said = (f"{len(shared)} runs have the same specification, {changed} of them other numbers", *said)
    groups, why = _groups(a, x.records, b, y.records)
    if why:
        said = (*said, why)
    cells = tuple(
        _cell(
            cell,
            compare_records(a, x.records, y.records, column.metric, protocol=protocol, store_b=b, groups=groups),
            column,
        )
        for cell, column in zip(cells, columns, strict=True)
    )
    pairs = next((cell.compared for cell in cells if cell.compared), None)
    if pairs is not None and pairs < max(x.n, y.n):
        said = (f"A - B is over the {pairs} seeds that both sides have", *said)
    return RowDiff(x.row.name, COMPARED, x.n, y.n, cells, said)


def _groups(
    a: RunStore, mine: Sequence[RunRecord], b: RunStore, theirs: Sequence[RunRecord]
) -> tuple[tuple[Group | None, Group | None], str]:
    """Both sides' predictions, or none and why the comparison has one number per run only."""
    first, second = group_of(a, mine), group_of(b, theirs)
    if first is None or second is None:
        which = " and ".join(side for side, group in (("A", first), ("B", second)) if group is None)
        return (None, None), f"compared by one number per run: {which} keeps no predictions"
    if not np.array_equal(first.label, second.label):
        return (None, None), "compared by one number per run: the utterances are not the same"
    return (first, second), ""


def _means(x: RowResult, y: RowResult, column: Column) -> CellDiff:
    means = [stat.mean if (stat := row.cells[column.metric].stat) else None for row in (x, y)]
    gap = means[0] - means[1] if means[0] is not None and means[1] is not None else None
    return CellDiff(column.metric, means[0], means[1], gap)


def _cell(cell: CellDiff, found: Comparison | None, column: Column) -> CellDiff:
    if found is None:
        return cell

    found = found.printed(column.metric, column.scale)
    return dataclasses.replace(
        cell,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        p_interval=found.p_interval,
        paired=found.paired,
        compared=found.n_a if found.paired else None,
        utterances=found.utterances,
        underpowered=found.underpowered,
        seeds_needed=found.seeds_needed,
    )


def _explained(x: RowResult, y: RowResult) -> Iterator[str]:
    """What, beside chance, may make the two sides differ."""
    found = identities([*x.records, *y.records])
    aspects = [found[: len(x.records)], found[len(x.records) :]]
    for aspect in aspects[0][0]:
        mine, theirs = (" and ".join(dict.fromkeys(found[aspect] for found in side)) for side in aspects)
        if mine != theirs:
            yield f"{aspect}: {mine} in A, {theirs} in B"
    if x.budget != y.budget:
        yield f"search: {x.budget} in A, {y.budget} in B"
    chosen = [{**row.records[0].spec.training, **row.records[0].spec.config} for row in (x, y)]
    options = [k for k in {**chosen[0], **chosen[1]} if chosen[0].get(k) != chosen[1].get(k)]
    if options:
        shown = ", ".join(f"{k} {chosen[0].get(k)} in A, {chosen[1].get(k)} in B" for k in options[:4])
        yield f"chosen configuration: {shown}" + (f" and {len(options) - 4} more" if len(options) > 4 else "")


def _adjusted(rows: Sequence[RowDiff]) -> Iterator[RowDiff]:
    found = iter(adjusted([(cell.p, cell.p_interval) for row in rows for cell in row.cells]))
    for row in rows:
        yield dataclasses.replace(
            row, cells=tuple(dataclasses.replace(cell, p_adjusted=next(found)) for cell in row.cells)
        )


# ------------------------------------------------------------------------------------------------- shown


def as_dicts(found: Sequence[TableDiff]) -> list[dict[str, Any]]:
    """For --json: one object per table and corpus."""
    return [
        {
            "table": one.table.name,
            "corpus": one.corpus,
            "synthetic": one.synthetic,
            "rows": [
                {
                    "row": row.row,
                    "status": row.status,
                    "n_a": row.n_a,
                    "n_b": row.n_b,
                    "said": list(row.said),
                    "metrics": {(d := dataclasses.asdict(cell)).pop("metric"): d for cell in row.cells},
                }
                for row in one.rows
            ],
        }
        for one in found
    ]


def text(found: Sequence[TableDiff]) -> str:
    """A block per table: the compared cells, then what is said of rows, then the rows that are the same."""
    return "\n\n".join(map(_block, found)) + "\n"


def _block(one: TableDiff) -> str:
    head = f"{one.table.name} on {one.corpus}" + (" (SYNTHETIC DATA)" if one.synthetic else "")
    columns = {column.metric: column for column in one.table.columns}
    lines = [
        [row.row, columns[cell.metric].heading, *_shown(row, cell, columns[cell.metric])]
        for row in one.rows
        if row.status == COMPARED
        for cell in row.cells
    ]
    parts = [head]
    if lines:
        heads = headings("Model", "metric", "A (n)", "B (n)", "A - B", "95 % interval", "p", "adjusted")
        parts.append(aligned(heads, lines))
    parts += [f"{row.row}: {said}" for row in one.rows for said in row.said]
    for status, words in ((SAME, "the same runs with the same numbers"), (ONLY_A, ONLY_A), (ONLY_B, ONLY_B)):
        names = [row.row for row in one.rows if row.status == status]
        if names:
            parts.append(f"{words}: {', '.join(names)}")
    return "\n".join(parts)


def _shown(row: RowDiff, cell: CellDiff, column: Column) -> list[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:,.{column.decimals}f}"

    sides = [
        f"{number(mean)} ({n})" if mean is not None else "–"
        for mean, n in ((cell.mean_a, row.n_a), (cell.mean_b, row.n_b))
    ]
    interval = "–" if cell.low is None else f"{number(cell.low)} to {number(cell.high)}"
    p = p_value(cell.p)
    if cell.underpowered:
        p += f" (underpowered: {cell.seeds_needed} seeds)"
    return [*sides, number(cell.difference), interval, p, p_value(cell.p_adjusted)]
