"""What others published of a table's rows, to be set below it: quoted numbers, no verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hycon.data.manifest import named_after
from studies.aggregate.cells import TableResult
from studies.document.blocks import Cell, Grid, headings, numbers
from studies.document.words import NOTHING
from studies.literature import Quotation, quotations, quotations_in
from studies.tables import LITERATURE

SHOWN = {  # metric -> heading; as studies.literature defines them
    "mae": "MAE",
    "corr": "Corr",
    "acc7": "Acc7",
    "acc2_has0": "Acc2 has0",
    "acc2_non0": "Acc2 non0",
    "f1_non0": "F1 non0",
}
SAID = (
    "Published by others on {dataset}, quoted and not measured here. Each line differs from ours and from the others "
    "in data, features, selection or metrics: no verdicts. has0: y ≥ 0 against y < 0, all utterances; non0: y > 0 "
    "against y < 0."
)
AUTHORS = "authors"  # the lineage of a model's own paper, which stands first


def published(result: TableResult) -> list[Quotation]:
    """Of the rows of a table that is set beside the literature, on the corpus that it stands for; else nothing."""
    where, corpus = result.table.published, result.corpus
    if not where:
        return []
    every = quotations() if where == LITERATURE else quotations_in(Path(where))
    known = named_after(corpus.name, sorted({q.dataset for q in every}))
    dataset = known or (result.table.corpus if corpus.synthetic else None)
    order = {row.row.name: place for place, row in enumerate(result.rows)}
    found = [q for q in every if q.dataset == dataset and q.model in order]
    return sorted(found, key=lambda q: (order[q.model], q.lineage != AUTHORS))


def published_grid(result: TableResult) -> list[Grid]:
    """A line for each model and lineage; no grid where nothing is published."""
    found = published(result)
    if not found:
        return []
    lines: dict[tuple[str, str], dict[str, Cell]] = {(q.model, q.lineage): {} for q in found}
    for q in found:
        lines[q.model, q.lineage][q.metric] = Cell(f"{q.value} ± {q.spread}" if q.spread else q.value, quoted=True)
    metrics = [metric for metric in SHOWN if any(metric in line for line in lines.values())]
    rows: tuple[tuple[Cell | str, ...], ...] = tuple(
        (model, *(line.get(metric, Cell(NOTHING)) for metric in metrics), lineage)
        for (model, lineage), line in lines.items()
    )
    heads = (*headings("Model"), *numbers(*(SHOWN[metric] for metric in metrics)), *headings("Run by"))
    sources: dict[str, dict[str, None]] = {}
    for q in found:
        sources.setdefault(q.lineage, {})[q.source] = None
    notes = tuple(f"{lineage}: {'; '.join(known)}." for lineage, known in sources.items())
    caption = SAID.format(dataset=found[0].dataset)
    return [Grid(f"published-{result.table.name}", caption, heads, rows, notes=notes, narrow=True)]


def published_of(result: TableResult, row: str) -> list[dict[str, Any]]:
    """`published` of one row, for programs; numbers in the table's unit."""
    return [
        {
            "metric": q.metric,
            "value": float(q.value),
            "spread": float(q.spread) if q.spread else None,
            **{name: getattr(q, name) for name in ("dataset", "protocol", "lineage", "source")},
        }
        for q in published(result)
        if q.model == row
    ]
