"""Claims with their evidence, the paper against itself, and the figures, as sections of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError
from studies.document.blocks import Block, Bullets, Counts, Fold, Grid, Heading, Notice, Part, Picture, Section, Text
from studies.report.scope import Scope

if TYPE_CHECKING:
    from studies.claims.verdict import ClaimResult

    Claims = Sequence[ClaimResult]
else:
    Claims = Sequence

CLAIM_VERDICTS = ("supported", "contradicted", "undecided", "not run")
NOTHING = "–"
OTHER_SETTING = "not the paper’s"


def evaluated(scope: Scope) -> Claims:
    from studies.claims.by_runs import evaluate

    return evaluate(scope.store, scope.view)


def counts(found: Claims) -> Counts:
    counted = Counter(result.verdict for result in found)
    apart = sum(bool(result.caution) for result in found)
    setting = f", {apart} of them judged by runs that are not in the paper's setting" if apart else ""
    return Counts(
        f"Of the {len(found)} comparative claims of its text{setting}",
        tuple((verdict, counted[verdict]) for verdict in CLAIM_VERDICTS),
    )


def claims(found: Claims) -> Section:
    said = Text(
        "Each claim is taken apart into comparisons of two rows on one metric. p: two-sided permutation test, "
        "adjusted over the table's comparisons (Benjamini-Hochberg). Underpowered: with so few seeds no "
        "outcome could have been significant."
    )
    apart = sum(bool(result.caution) for result in found)
    warning = Notice(
        f"The runs behind {apart} of {len(found)} claims are not in the paper's setting: such a verdict is on what was "
        "run, not on the paper. Each claim says below in what its runs differ."
    )
    return Section(
        "claims",
        "Claims",
        (
            said,
            *((warning,) if apart else ()),
            claim_list("claim-list", "The paper's claims by our runs.", found, ""),
            *folds(found, ""),
        ),
    )


def paper_against_itself() -> Section:
    from studies.claims.by_paper import against_paper

    found = against_paper()
    counted = Counter(result.verdict for result in found)
    said = Counts(
        f"The same {len(found)} claims held against the numbers that the paper itself prints, which needs no run",
        tuple(sorted(counted.items(), key=lambda item: item[0] == "contradicted", reverse=True)),
    )
    grid = claim_list("claim-paper", "The paper's claims by its own tables.", found, "paper-")
    return Section("paper", "The paper against itself", (said, grid, *folds(found, "paper-")))


def claim_list(id: str, caption: str, found: Claims, prefix: str) -> Grid:
    """A line a claim. The setting is told where any claim's runs are not in the paper's."""
    setting = any(result.caution for result in found)
    heads = (Heading("Claim"), Heading("Verdict", badge=True), Heading("The paper’s words", wide=True))
    heads += (Heading("Why", wide=True), *((Heading("Setting"),) if setting else ()))
    rows = []
    for r in found:
        line = (r.claim.id, r.verdict, quotation(r.claim), r.reason)
        rows.append((*line, OTHER_SETTING if r.caution else "") if setting else line)
    return Grid(id, caption, heads, tuple(rows), tuple(_fold_id(r, prefix) if r.parts else "" for r in found))


def quotation(claim: Any) -> str:
    return f"“{claim.quote}” ({claim.place})"


def _fold_id(result: Any, prefix: str) -> str:
    return f"evidence-{prefix}{result.claim.id}"


def folds(found: Claims, prefix: str) -> list[Fold]:
    return [fold(result, prefix) for result in found if result.parts]


def fold(result: Any, prefix: str) -> Fold:
    """The comparisons that a claim is made of."""
    grid = Grid(
        f"parts-{prefix}{result.claim.id}",
        f"Comparisons of claim {result.claim.id}. Difference: first row minus second, in the table's unit.",
        (
            Heading("First row"),
            Heading("Second row"),
            Heading("Table"),
            Heading("Metric"),
            Heading("Difference", number=True),
            Heading("95 % interval"),
            Heading("p", number=True),
            Heading("p adjusted", number=True),
            Heading("n"),
            Heading("Verdict", badge=True),
            Heading("Remark", wide=True),
        ),
        tuple(_part_line(part) for part in result.parts),
    )
    said = (Text(quotation(result.claim)), Text(result.reason), *cautions(result))
    return Fold(_fold_id(result, prefix), result.claim.id, (*said, grid), result.verdict)


def cautions(result: Any) -> tuple[Block, ...]:
    return (Text(f"Caution: {result.caution}"),) if result.caution else ()


def _part_line(part: Any) -> tuple[str, ...]:
    interval = NOTHING if part.low is None or part.high is None else f"{_number(part.low)} to {_number(part.high)}"
    power = ""
    if part.underpowered:
        power = "underpowered" + (f": {part.seeds_needed} seeds a row would do" if part.seeds_needed else "")
    return (
        part.row_a,
        part.row_b or NOTHING,
        part.table,
        part.metric,
        NOTHING if part.difference is None else _number(part.difference),
        interval,
        _p(part.p),
        _p(part.p_adjusted),
        f"{part.n_a} and {part.n_b}" if part.n_a or part.n_b else NOTHING,
        part.verdict,
        "; ".join(filter(None, (power, part.reason))),
    )


def _number(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"


def _p(value: float | None) -> str:
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


# ------------------------------------------------------------------------------------------------- figures


def figures(scope: Scope) -> Section:
    """Those whose runs exist; the others are named with what they lack."""
    from studies.figures import FIGURES, figure

    drawn: list[Part] = []
    missing: list[str] = []
    for name, spec in FIGURES.items():
        try:
            made = figure(name, scope.store, scope.view)
        except UserError as error:
            missing.append(f"{spec.title}: {error}")
        else:
            drawn.append(Part(f"figure-{name}", made.title, (Picture(made),)))
    blocks: list[Block] = [*drawn]
    if missing:
        blocks += [Text("Not drawn:"), Bullets(tuple(missing))]
    return Section("figures", "Figures", tuple(blocks))
