"""The runs behind the tables, study by study: id, seed, metrics, and how to make each again."""

from __future__ import annotations

from collections.abc import Sequence

from studies.aggregate.cells import measures
from studies.document.blocks import Fold, Grid, Notice, Part, Section, Text, headings, numbers
from studies.document.words import NOTHING, count_of
from studies.report.scope import Scope, Use
from studies.store.record import RunRecord
from studies.tables import Column


def runs_id(study: str) -> str:
    """The id of a study's runs in the report, for links."""
    return f"runs-{study}"


def runs(scope: Scope) -> Section:
    shown = [use for use in scope.uses if use.runs]
    if not shown:
        return Section("runs", "Runs", (Notice("No seeded run is finished."),))
    said = Text(
        "The seeded runs that the tables average; a row's name in a table leads to its own. "
        "`bench show ID` says all that is known of a run, `bench verify ID` makes it again and compares bit by bit; "
        "both take --results FOLDER."
    )
    folds = tuple(_fold(use, scope) for use in shown)
    count = count_of(sum(len(use.runs) for use in shown), "run")
    return Section("runs", "Runs", (said, Part("runs-of-rows", f"Row by row ({count})", folds, closed=True)))


def _fold(use: Use, scope: Scope) -> Fold:
    columns = scope.results[use.rows[0].partition(" ")[0]].table.columns
    known = [column for column in columns if column.metric != "winner_loss"]  # of a trial, not of these runs
    grid = Grid(
        f"{runs_id(use.study.id)}-list",
        f"Study {use.study.id}, which fills {'; '.join(use.rows)}.",
        (*headings("Run", "Seed"), *numbers(*(column.heading for column in known)), *headings("Make again")),
        tuple(_line(record, known, scope.view.protocol) for record in use.runs),
        narrow=True,
    )
    title = f"{use.row.name} on {use.study.corpus}: {count_of(len(use.runs), 'seeded run')}"
    return Fold(runs_id(use.study.id), title, (grid,))


def _line(record: RunRecord, columns: Sequence[Column], protocol: str) -> tuple[str, ...]:
    found = measures(record, protocol)
    values = [found.get(column.metric) for column in columns]
    shown = [
        NOTHING if value is None else f"{column.scale * value:,.{column.decimals}f}"
        for column, value in zip(columns, values, strict=True)
    ]
    return (record.id, str(record.spec.seed), *shown, f"bench verify {record.id}")
