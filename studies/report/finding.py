"""What the published results show, for the README: three sentences, one table, one figure, all from the records.

    python -m studies.report.finding              print it
    python -m studies.report.finding README.md    put it into the page, between its two marks, and draw the figure

No number of it is typed by hand; a test compares the page with the records.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from studies.aggregate.cells import RowResult, TableResult
from studies.aggregate.obstacles import earlier_protocol
from studies.claims.by_paper import against_paper
from studies.claims.by_runs import evaluate
from studies.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED, ClaimResult
from studies.document.blocks import Cell, Grid, Heading, numbers
from studies.document.markdown import escape, fragment
from studies.document.words import count_of, mean_sd, span
from studies.report.marked import main
from studies.report.scope import Scope, read_scope
from studies.store.run_store import RunStore

ROOT = Path(__file__).parents[2]
FOLDER = "results/published/mosi_resampled"
TABLE = "table1"
FIGURE = "docs/finding.svg"
METRICS = ("acc2", "mae", "corr")  # what of the table fits beside the rows' names
OURS = ("HyCon-BERT", "HyCon-v2-BERT")


def generated() -> str:
    """In Markdown, without the marks around it."""
    scope = read_scope(RunStore(ROOT / FOLDER))
    result = scope.results[TABLE]
    claims = evaluate(scope.store, scope.view)
    said = [what_ran(scope, result), what_was_found(result), what_was_decided(claims, against_paper())]
    full = f"More: [results/published]({Path(FOLDER).parent}/README.md), and `bench report --results {FOLDER}`."
    picture = f"![Table 1 as dots: our means with intervals beside the paper's numbers]({FIGURE})"
    return "\n\n".join([escape(" ".join(said)) + " " + full, fragment([table(result)]).strip(), picture])


def what_ran(scope: Scope, result: TableResult) -> str:
    notes = "; ".join((*result.corpus.notes, *earlier_protocol(scope.records)))
    seeds = span(sorted({row.n for row in measured(result)}))
    ran, place = count_of(len(scope.records), "run"), f"in place of the paper's {result.table.corpus}"
    return f"{ran}, {seeds} seeds a row, on {result.corpus.name} {place}: {notes}."


def what_was_found(result: TableResult) -> str:
    """The best row by Acc2, and where HyCon's stand."""
    ranked = sorted(measured(result), key=lambda row: -_mean(row))
    best, *_ = ranked
    ours = [f"{row.row.name} {ordinal(i)} ({_acc2(row)})" for i, row in enumerate(ranked, 1) if row.row.name in OURS]
    first = f"Of {count_of(len(ranked), 'row')} {best.row.name} has the best mean Acc2, {_acc2(best)}"
    return f"{first}; {' and '.join(ours)}."


def what_was_decided(by_runs: Sequence[ClaimResult], by_paper: Sequence[ClaimResult]) -> str:
    runs, paper = (Counter(claim.verdict for claim in found) for found in (by_runs, by_paper))
    return (
        f"Of the paper's {len(by_runs)} comparative claims these runs support {runs[SUPPORTED]}, contradict "
        f"{runs[CONTRADICTED]} and leave {runs[UNDECIDED]} undecided; the paper's own tables contradict "
        f"{paper[CONTRADICTED]} of them."
    )


def table(result: TableResult) -> Grid:
    """The measured rows in a few columns, beside the paper's numbers."""
    columns = [column for column in result.table.columns if column.metric in METRICS]
    heads = [heading for c in columns for heading in (*numbers(c.heading), Heading("paper", number=True, of=c.heading))]
    lines = []
    for row in measured(result):
        line = [Cell(row.row.name)]
        for column in columns:
            entry = row.cells[column.metric]
            shown = mean_sd(entry.stat.mean, entry.stat.sd, entry.stat.n, column.decimals) if entry.stat else "–"
            line += [Cell(shown, best=entry.best), Cell(entry.paper.text if entry.paper else "–")]
        lines.append(tuple(line))
    cells = "mean ± sd (n) over seeded runs on the test split. Bold: best of the column."
    said = f"{result.table.title} on {result.corpus.name}: {cells}"
    return Grid("finding", said, (Heading("Model"), *heads), tuple(lines), narrow=True)


def measured(result: TableResult) -> list[RowResult]:
    return [row for row in result.rows if row.n]


def ordinal(place: int) -> str:
    return {1: "is first", 2: "is second", 3: "is third"}.get(place, f"is {place}th")


def _mean(row: RowResult) -> float:
    stat = row.cells["acc2"].stat
    return stat.mean if stat else float("-inf")


def _acc2(row: RowResult) -> str:
    stat = row.cells["acc2"].stat
    return mean_sd(stat.mean, stat.sd, stat.n, 1) if stat else "–"


def draw() -> None:
    """The figure of the page."""
    from studies.figures import figure

    scope = read_scope(RunStore(ROOT / FOLDER))
    (ROOT / FIGURE).write_bytes(figure("dots", scope.store, scope.view, table=TABLE).content)


if __name__ == "__main__":
    if sys.argv[1:]:
        draw()
    sys.exit(main(sys.argv[1:], "finding", generated))
