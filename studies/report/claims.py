"""Claims with their evidence, the paper against itself, and the figures, as sections of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hycon.errors import UserError
from studies.claims.by_paper import against_paper
from studies.claims.by_runs import evaluate
from studies.claims.file import claims_file, load_claims
from studies.claims.kept import before
from studies.claims.kinds import Claim
from studies.claims.render import caution_of, runs_of, seeds_alone, to_decide
from studies.claims.verdict import CONTRADICTED, JUDGED, NOT_RUN, RUN_VERDICTS, UNDECIDED, ClaimResult
from studies.claims.verdict import Part as Comparison
from studies.document.blocks import (
    Block,
    Bullets,
    Cell,
    Counts,
    Fold,
    Grid,
    Notice,
    Part,
    Picture,
    Section,
    Text,
    headings,
    numbers,
    wide,
)
from studies.document.words import NOTHING, between, count_of, p_value
from studies.report.scope import Scope

Claims = Sequence[ClaimResult]
OTHER_SETTING = "not the paper’s"
OWN_TITLE = "The suite’s own claims, not the paper’s"
OURS = "beyond"  # the suite's own claims, results/claims_beyond.toml


def evaluated(scope: Scope) -> Claims:
    return before(evaluate(scope.store, scope.view), scope.store, scope.view, "paper")


def own_evaluated(scope: Scope) -> Claims:
    """The suite's own claims; none on a corpus of another kind of labels."""
    found = evaluate(scope.store, scope.view, family=load_claims(claims_file(OURS)))
    return before(found, scope.store, scope.view, OURS)


def counts(found: Claims) -> Counts:
    apart = _apart(found)
    setting = f" ({apart} by runs that are not in the paper's setting)" if apart else ""
    return _counted(f"Of the {len(found)} comparative claims of its text{setting}", found)


def _counted(label: str, found: Claims) -> Counts:
    counted = Counter(result.verdict for result in found)
    return Counts(label, tuple((verdict, counted[verdict]) for verdict in RUN_VERDICTS))


def _apart(found: Claims) -> str:
    """ "8 of 8 verdicts": how many are by runs that are not in the paper's setting; "" for none."""
    judged = [result for result in found if result.verdict in JUDGED]
    apart = sum(bool(result.caution) for result in judged)
    return f"{apart} of {count_of(len(judged), 'verdict')}" if apart else ""


def claims(found: Claims) -> Section:
    said = Text(
        "Each claim is a set of comparisons of two rows on one metric. p: two-sided permutation test. Adjusted: the "
        "larger of it and of the interval's own p, over the table's comparisons (Benjamini-Hochberg). Underpowered: so "
        "few seeds that no outcome could be significant."
    )
    apart = _apart(found)
    warning = Notice(
        f"The runs behind {apart} are not in the paper's setting: such a verdict is on what was run, not on the paper. "
        "Each claim says below in what its runs differ."
    )
    alone = tuple(map(Text, seeds_alone(found)))
    blocks: list[Block] = [said, *alone, *((warning,) if apart else ()), *_lists(found, "", "The paper's claims")]
    return Section("claims", "Claims", (*blocks, *evidence_of(found, "")))


def _lists(found: Claims, prefix: str, whose: str, words: str = "The paper’s words") -> list[Block]:
    """The claims of which runs tell something, and what would decide them; the others closed."""
    shown = [result for result in found if result.verdict in JUDGED]
    shown.sort(key=lambda result: result.verdict == UNDECIDED)
    rest = [result for result in found if result.verdict not in JUDGED]
    blocks: list[Block] = []
    if shown:
        blocks.append(claim_list(f"{prefix}claim-list", f"{whose} by our runs.", shown, prefix, words))
    blocks += to_decide(found, f"{prefix}decide")
    if rest:
        said = f"{whose} of which no run tells anything yet."
        grid = claim_list(f"{prefix}claim-rest", said, rest, prefix, words)
        title = f"{count_of(len(rest), 'claim')} not run, or without a verdict"
        blocks.append(Part(f"{prefix}claims-rest", title, (grid,), True))
    return blocks


def own_claims(found: Claims) -> Section:
    """What the suite asks beyond the paper: a list where runs tell something, else one sentence."""
    said = Text(
        "These are questions of this suite, not claims of the paper, and count in no number above. They are about the "
        f"table {OURS}: controls, HyCon and what came after it, judged by the same tests as the paper's claims."
        + _judged_on(found)
    )
    if all(part.verdict == NOT_RUN for result in found for part in result.parts):
        none = Text(f"No run tells anything of the {count_of(len(found), 'claim')} yet: `bench run {OURS}`.")
        return Section("own-claims", OWN_TITLE, (said, none))
    counts = _counted(f"Of the suite's own {count_of(len(found), 'claim')}", found)
    lists = [*map(Text, seeds_alone(found)), *_lists(found, "own-", "The suite's own claims", "Our words")]
    return Section("own-claims", OWN_TITLE, (said, counts, *lists, *evidence_of(found, "own-")))


def _judged_on(found: Claims) -> str:
    """ " Corpus: mosi."; "" where nothing was run."""
    corpora = sorted({part.corpus for result in found for part in result.parts if part.verdict != NOT_RUN})
    return f" Corpus: {', '.join(corpora)}." if corpora else ""


def paper_against_itself() -> Section:
    found = against_paper()
    counted = Counter(result.verdict for result in found)
    said = Counts(
        f"All {len(found)} claims held against the numbers that the paper itself prints, which needs no run",
        tuple(sorted(counted.items(), key=lambda item: item[0] == "contradicted", reverse=True)),
    )
    against = [result for result in found if result.verdict == CONTRADICTED]
    rest = [result for result in found if result not in against]
    grid = claim_list("claim-paper", "Claims that the paper's own tables contradict.", against, "paper-")
    other = claim_list("claim-paper-rest", "The paper's other claims by its own tables.", rest, "paper-")
    title = f"{count_of(len(rest), 'claim')} that its tables bear out or leave open"
    part = Part("claims-paper-rest", title, (other,), True)
    return Section("paper", "The paper against itself", (said, grid, part, *evidence_of(found, "paper-")))


def claim_list(id: str, caption: str, found: Claims, prefix: str, words: str = "The paper’s words") -> Grid:
    """A line for each claim. There is a column for the setting where the runs of any claim are not in the paper's."""
    setting = any(result.caution and not result.claim.own for result in found)
    heads = (*headings("Claim", "Verdict"), *wide(words, "Why"), *headings(*["Setting"] * setting))
    rows = []
    for r in found:
        name = Cell(r.claim.id, link=_fold_id(r, prefix) if r.parts else "")
        line: tuple[Cell | str, ...] = (name, Cell("", verdict=r.verdict), quotation(r.claim), r.reason)
        rows.append((*line, OTHER_SETTING if r.caution else "") if setting else line)
    return Grid(id, caption, heads, tuple(rows))


def quotation(claim: Claim) -> str:
    return f"“{claim.quote}” ({claim.place})"


def _fold_id(result: ClaimResult, prefix: str) -> str:
    return f"evidence-{prefix}{result.claim.id}"


def evidence_of(found: Claims, prefix: str) -> list[Part]:
    """One closed part with the comparisons of each claim; none where there are none."""
    folds = tuple(fold(result, prefix) for result in found if result.parts)
    return [Part(f"evidence-{prefix or 'runs-'}all", "The comparisons behind each claim", folds, True)] if folds else []


def fold(result: ClaimResult, prefix: str) -> Fold:
    """The comparisons that a claim is made of."""
    grid = Grid(
        f"parts-{prefix}{result.claim.id}",
        f"Comparisons of claim {result.claim.id}. Difference: first row minus second, in the table's unit.",
        (
            *headings("First row", "Second row", "Table", "Metric"),
            *numbers("Difference"),
            *headings("95 % interval"),
            *numbers("p", "p adjusted"),
            *headings("n", "Verdict"),
            *wide("Remark"),
        ),
        tuple(map(_part_line, result.parts)),
    )
    said = [Text(quotation(result.claim)), Text(result.reason)]
    said += [Text(caution_of(result))] if result.caution else []
    return Fold(_fold_id(result, prefix), result.claim.id, (*said, grid), result.verdict)


def _part_line(part: Comparison) -> tuple[str | Cell, ...]:
    power = ""
    if part.underpowered:
        power = "underpowered" + (f": {part.seeds_needed} seeds a row would do" if part.seeds_needed else "")
    return (
        part.row_a,
        part.row_b or NOTHING,
        part.table,
        part.metric,
        NOTHING if part.difference is None else _number(part.difference),
        between(part.low, part.high, _number),
        p_value(part.p),
        p_value(part.p_adjusted),
        runs_of(part) or NOTHING,
        Cell("", verdict=part.verdict),
        "; ".join(filter(None, (power, part.reason))),
    )


def _number(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 1000 else f"{value:+.3g}"


# ------------------------------------------------------------------------------------------------- figures


def figures(scope: Scope) -> Section:
    """The figures whose runs exist; the others are named with what they lack."""
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
