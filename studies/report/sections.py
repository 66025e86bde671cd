"""The report in full: what stands at its top, the verdicts in numbers, the tables, and every other section in order."""

from __future__ import annotations

from collections import Counter

from studies.aggregate.cells import Entry, TableResult
from studies.aggregate.published import published_grid
from studies.aggregate.render import grid
from studies.claims.verdict import DECIDED, UNDECIDED
from studies.document.blocks import (
    Block,
    Bullets,
    Counts,
    Document,
    Fold,
    Grid,
    Notice,
    Part,
    Section,
    Text,
    headings,
    numbers,
)
from studies.document.words import count_of
from studies.report import claims as evidence
from studies.report.checklist import checklist
from studies.report.deviations import section as deviations
from studies.report.provenance import days, provenance
from studies.report.runs import runs, runs_id
from studies.report.scope import Scope
from studies.report.searches import costs, hours, searches
from studies.statistics.cell import TOO_FEW, VERDICTS

CELL_VERDICTS = ("reproduced", "differs", "inconclusive", TOO_FEW, "not comparable", "quoted", "not run")
assert set(VERDICTS) < set(CELL_VERDICTS)
SETTLED = {"reproduced": "reproduced", "differs": "that differ"}
MOST_REMARKS = 8  # chosen here: a banner of more is not read


def document(scope: Scope) -> Document:
    """Everything that a results folder says about the paper."""
    claims, own = evidence.evaluated(scope), evidence.own_evaluated(scope)
    sections = (
        summary(scope, claims),
        tables(scope),
        evidence.claims(claims),
        *([evidence.own_claims(own)] if own else []),
        evidence.paper_against_itself(),
        evidence.figures(scope),
        searches(scope),
        runs(scope),
        costs(scope),
        provenance(scope),
        deviations(),
        checklist(scope),
    )
    return Document("HyCon: reproduction report", lead(scope, claims), banner(scope), sections)


def lead(scope: Scope, claims: evidence.Claims) -> str:
    """What these runs settle, then what they are."""
    records = scope.records
    corpora = ", ".join(sorted({use.study.corpus for use in scope.uses})) or "none"
    said = f"Corpora: {corpora}. Metrics: protocol {scope.view.protocol}. "
    if not records:
        return said + "No run is finished."
    said = f"{settled(scope, claims)} {said}"
    when = f", {days(records)}" if any(record.started for record in records) else ""
    return said + f"{len(records)} finished runs, {hours(records):.2f} run-hours{when}."


def settled(scope: Scope, claims: evidence.Claims) -> str:
    """One sentence: verdicts on the paper's claims and numbers that are no "undecided"."""
    by_claims = Counter(result.verdict for result in claims)
    by_numbers = Counter(entry.verdict for result in scope.results.values() for entry in printed(result))
    found = [f"{by_claims[word]} of {count_of(len(claims), 'claim')} {word}" for word in DECIDED if by_claims[word]]
    found += [f"{count_of(by_numbers[word], 'number')} {said}" for word, said in SETTLED.items() if by_numbers[word]]
    open_ = by_claims[UNDECIDED] + by_numbers["inconclusive"]
    if found:
        apart = any(result.caution for result in claims if result.verdict in DECIDED)
        return f"Settled{' on what was run, which is not what the paper ran' if apart else ''}: {', '.join(found)}."
    return "Settled: nothing yet" + (
        f"; {count_of(open_, 'verdict')} {'is' if open_ == 1 else 'are'} open." if open_ else "."
    )


def banner(scope: Scope) -> tuple[Block, ...]:
    """Synthetic data first, then each difference between what was run and what the paper ran."""
    said: list[Block] = []
    synthetic = sorted(name for name, manifest in scope.manifests.items() if manifest.synthetic)
    if synthetic:
        said.append(Notice(f"SYNTHETIC DATA ({', '.join(synthetic)}): these numbers say nothing about the paper."))
    rows = _apart(scope)
    if not scope.records:
        return (*said, Notice("Nothing is measured yet: the tables below show the paper's numbers only."))
    known = {"synthetic data", *(note for name in synthetic for note in scope.manifests[name].notes)}  # said above
    counted = Counter(reason for obstacles in rows for reason in obstacles if reason not in known)
    if counted:
        apart = sum(map(bool, rows))
        measured = f"{apart} of {len(rows)} measured rows"
        said.append(Notice(f"Not run as in the paper: {measured}, whose numbers get no verdict."))
        reasons = [f"{reason} ({count_of(n, 'row')})" for reason, n in counted.most_common()]
        more = len(reasons) - MOST_REMARKS
        said.append(Bullets((*reasons[:MOST_REMARKS], *([f"and {more} more, in the captions"] if more > 0 else []))))
    return tuple(said)


def _apart(scope: Scope) -> list[tuple[str, ...]]:
    """Why each measured row of the paper's tables cannot be compared with the paper's; () where it can.

    A row that several tables show, as they show HyCon's, is one where they show the same runs.
    """
    found: dict[frozenset[str], dict[str, None]] = {}
    for result in scope.results.values():
        for row in result.rows if not result.table.beyond else ():
            if row.n:
                found.setdefault(frozenset(record.id for record in row.records), {}).update(
                    dict.fromkeys(row.obstacles)
                )
    return [tuple(obstacles) for obstacles in found.values()]


# ------------------------------------------------------------------------------------------------- summary


def summary(scope: Scope, claims: evidence.Claims) -> Section:
    total = Counter(entry.verdict for result in scope.results.values() for entry in printed(result))
    lines = []
    for name, result in scope.results.items():
        found = Counter(entry.verdict for entry in printed(result))
        measured = sum(row.status == "measured" for row in result.rows)
        models = sum(row.status != "reference" for row in result.rows)
        lines.append(
            (
                f"{label(name)}: {result.table.title}",
                result.corpus.name,
                f"{measured} of {models}",
                *(str(found[verdict]) for verdict in CELL_VERDICTS),
            )
        )
    verdicts = Grid(
        "verdict-counts",
        "Numbers that the paper prints, by our verdict on them. Reproduced: our 95 % interval lies within the "
        "tolerance around the paper's number; differs: outside it; inconclusive: across its edge; too few seeds: "
        "one or two runs have no interval; not comparable: measured, but not as in the paper.",
        (*headings("Table", "Corpus"), *numbers("Rows measured", *(v.capitalize() for v in CELL_VERDICTS))),
        tuple(lines),
    )
    counted = Counts(_numbers(scope), tuple((verdict, total[verdict]) for verdict in CELL_VERDICTS))
    return Section("summary", "Summary", (counted, evidence.counts(claims), verdicts))


def _numbers(scope: Scope) -> str:
    """ "Of the 444 numbers of the paper's tables and 1 of its text": a table has them on the paper's corpora only."""
    every = [entry for result in scope.results.values() for entry in printed(result)]
    of_text = sum(entry.paper is not None and entry.paper.in_text for entry in every)
    said = f"Of the {count_of(len(every) - of_text, 'number')} of the paper's tables"
    return said + (f" and {of_text} of its text" if of_text else "")


def printed(result: TableResult) -> list[Entry]:
    """The cells for which the paper prints a number."""
    return [entry for row in result.rows for entry in row.cells.values() if entry.paper is not None]


# ------------------------------------------------------------------------------------------------- tables


def label(name: str) -> str:
    """ "Table 1" for table1; a table that the paper does not have keeps its name."""
    number = name.removeprefix("table")
    return f"Table {number}" if number.isdecimal() else name


def _without(result: TableResult) -> str:
    """Words behind a title where no row is measured; HTML opens such a table on request."""
    return "" if any(row.status == "measured" for row in result.rows) else " (no row is measured here)"


def _published(result: TableResult) -> list[Fold]:
    """Closed: what others published of the table's models."""
    grids = published_grid(result)
    return [Fold(f"fold-{one.id}", "Published numbers of these models: quoted, not measured", (one,)) for one in grids]


def tables(scope: Scope) -> Section:
    parts = [
        Part(
            f"part-{name}",
            f"{label(name)}: {result.table.title}{_without(result)}",
            (grid(result, runs_id), *_published(result)),
            bool(_without(result)),
        )
        for name, result in scope.results.items()
    ]
    beside = any(result.beside_paper for result in scope.results.values())
    said = "Ours beside the paper's. The paper prints no spread; ours" if beside else "The spread"
    return Section(
        "tables", "Tables", (Text(f"{said} is the sample standard deviation over seeds."), *parts), parts=True
    )
