"""The paper's claims by our runs.

A claim is made of parts, each a comparison of two rows (studies.claims.kinds). A part is tested by
studies.statistics.comparison on the seeded runs' predictions of the test split; p-values are adjusted over all parts
that the claims of one table ask for and that were run. A part is supported where its 95 % interval excludes "no
difference" on the claimed side and its adjusted p is below 0.05, also where the sentence says only "higher";
contradicted where both hold on the other side. Parameters are counts: they are compared, not tested. A number that the
paper quotes is never compared with a measured one: a quoted row counts only if it was run here. What the runs can
answer at all is in studies.claims.conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hycon.busy import counted
from hycon.errors import UserError
from studies.aggregate.cells import RowResult
from studies.claims.conditions import TIMES, cautions, off_the_number, refused, unlike
from studies.claims.decide import commands, family_sizes, question
from studies.claims.evidence import Evidence
from studies.claims.file import load_claims
from studies.claims.kinds import METRICS, SEPARATION, Claim, Contest, contests
from studies.claims.rows import COUNTED, Rows, read_rows
from studies.claims.verdict import (
    CONTRADICTED,
    DECIDED,
    NO_VERDICT,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    ClaimResult,
    Part,
    called,
    decisive,
    few,
    fold,
    judged,
    ways,
)
from studies.lookup import DEFAULT_VIEW, View, manifest_of
from studies.paper import paper_value
from studies.statistics.cell import FEWEST, CellStat, tolerance_of
from studies.statistics.comparison import adjusted
from studies.store.run_store import RunStore
from studies.tables import COST, TABLES

NO_PREDICTIONS = {column.metric for column in (*COST, SEPARATION)}  # one number a run is all there is of them


def evaluate(
    store: RunStore,
    view: View = DEFAULT_VIEW,
    *,
    claims: Sequence[Claim] | None = None,
    family: Sequence[Claim] | None = None,
) -> list[ClaimResult]:
    """The verdict on every claim (or `claims`) by the finished runs that `bench table` shows with this view.

    family: the claims that these are some of; the paper's if None. p-values are adjusted over all of a table's,
    whichever are asked for. With a corpus, only the claims about its kind of labels are judged.
    Raises UserError for an unknown corpus, and for `claims` that the corpus cannot answer. Trains nothing and imports
    no torch.
    """
    task = manifest_of(view.corpus, view.data, *store.roots).task if view.corpus else None
    everything = [claim for claim in (load_claims() if family is None else family) if task in (None, claim.task)]
    asked = everything if claims is None else list(claims)
    for claim in asked:
        if task not in (None, claim.task):
            raise UserError(f"Claim {claim.id} is about {claim.task}s; the labels of corpus {view.corpus} are {task}s.")
    families = {table for claim in asked for table in claim.tables}
    made = {
        claim.id: [c for c in _distinct(contests(claim), view) if c.table in families]
        for claim in (*everything, *asked)
    }
    distinct = list(dict.fromkeys(contest for found in made.values() for contest in found))
    rows = read_rows(distinct, store, view)
    evidence = Evidence(store, view.protocol)
    parts = _adjusted({c: _measured(c, rows, evidence) for c in counted(distinct, "comparison")})
    sizes = family_sizes(distinct)
    return [_result(claim, [parts[c] for c in made[claim.id]], rows, sizes) for claim in asked]


def _distinct(found: Sequence[Contest], view: View) -> tuple[Contest, ...]:
    """One of those that come to the same, when two tables are read on one corpus."""
    read_on = {name: view.corpus_of(table) for name, table in TABLES.items()}
    first: dict[tuple, Contest] = {}
    for c in found:
        first.setdefault((read_on[c.table], c.a.row, c.b and c.b.row, c.metric, c.test, c.value), c)
    return tuple(first.values())


# ------------------------------------------------------------------------------------------------- parts


def _measured(contest: Contest, rows: Rows, evidence: Evidence) -> Part:
    """The numbers of a part; its verdict is there only where they alone do not tell it."""
    both = [rows.row(side, contest.metric) for side in contest.sides]
    a, b = both[0], both[1] if contest.b else None
    part = Part(contest, rows.corpora[contest.table].name, NOT_RUN, n_a=a.n, n_b=b.n if b else 0)
    if lacking := _lacking(contest.metric, both, evidence):
        return replace(part, reason=lacking)
    stat = evidence.stat(a, contest.metric)
    other = evidence.stat(b, contest.metric) if b else None
    assert stat is not None  # nothing is lacking
    part = replace(part, verdict="", a=stat.mean, b=other.mean if other else None)
    if other and (why := unlike(contest.metric, both)):
        decidable = contest.metric not in TIMES
        return replace(part, verdict=UNDECIDED, difference=stat.mean - other.mean, reason=why, more_runs=decidable)
    if contest.test == "count":
        part = _counted(part)
    elif b is None:
        part = _against_number(part, stat)
    elif other and contest.metric in COUNTED:
        difference = stat.mean - other.mean
        part = replace(part, difference=difference, low=difference, high=difference)
    else:
        part = _compared(part, a, b, evidence)
    if part.verdict != NOT_RUN and (why := off_the_number(contest, both)):
        return replace(part, verdict=UNDECIDED, reason=why, more_runs=False)
    return part


def _lacking(metric: str, rows: Sequence[RowResult], evidence: Evidence) -> str:
    """Why there is nothing to compare; "" where both rows have values."""
    for row in rows:
        if not row.n:
            status = "quoted by the paper, not run here" if row.status == "quoted" else row.reason or row.status
            return f"{row.row.name}: {status}"
    known = all(evidence.stat(row, metric) for row in rows)
    return "" if known else f"the runs hold no {METRICS[metric].heading}"


def _compared(part: Part, a: RowResult, b: RowResult, evidence: Evidence) -> Part:
    try:
        found = evidence.compare(a, b, part.metric)
    except UserError as error:  # other utterances, a damaged file: the other claims can still be judged
        return replace(part, verdict=NOT_RUN, reason=str(error).rstrip("."))
    assert found is not None  # both rows have values
    found = found.printed(part.metric, METRICS[part.metric].scale)
    return replace(
        part,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=found.p,
        p_interval=found.p_interval,
        n_a=found.n_a,
        n_b=found.n_b,
        underpowered=found.underpowered,
        seeds_needed=found.seeds_needed,
        paired=found.paired,
        seeds_alone=found.utterances == 0 and part.metric not in NO_PREDICTIONS,
    )


def _against_number(part: Part, stat: CellStat) -> Part:
    claimed, few = part.contest.value, stat.n < FEWEST
    low, high = (None if x is None else x - claimed for x in (stat.low, stat.high))
    needed = FEWEST if few else None
    return replace(part, difference=stat.mean - claimed, low=low, high=high, underpowered=few, seeds_needed=needed)


def _counted(part: Part) -> Part:
    """Our count against the printed one."""
    printed = paper_value(part.table, TABLES[part.table].corpus, part.row_a, part.metric)
    assert printed is not None and part.a is not None  # rows of "count" are checked to be printed
    part = replace(part, b=printed.value, difference=part.a - printed.value)
    return replace(part, verdict=SUPPORTED if part.difference == 0 else CONTRADICTED)


def _adjusted(parts: Mapping[Contest, Part]) -> dict[Contest, Part]:
    """With p-values adjusted within each table's family, and verdicts."""
    families: dict[str, dict[tuple, tuple[float | None, float | None]]] = {}
    for contest, part in parts.items():  # asked by two claims, it is one test
        families.setdefault(part.table, {})[question(contest)] = part.p, part.p_interval
    found = {
        table: dict(zip(family, adjusted(list(family.values())), strict=True)) for table, family in families.items()
    }
    return {
        contest: judged(replace(part, p_adjusted=found[part.table][question(contest)]), tolerance_of(contest.metric))
        for contest, part in parts.items()
    }


# ------------------------------------------------------------------------------------------------- claims


def _result(claim: Claim, parts: Sequence[Part], rows: Rows, families: Mapping[str, int]) -> ClaimResult:
    caution = "; ".join(cautions(claim, parts, rows))
    if why := refused(claim, parts, rows.corpora):
        known = tuple(part if part.verdict == NOT_RUN else replace(part, verdict=NO_VERDICT) for part in parts)
        return ClaimResult(claim, NO_VERDICT, known, f"no verdict: {why}", caution, decisive(known, NO_VERDICT))
    if claim.implementation:
        parts = [replace(part, verdict=UNDECIDED) if part.verdict in DECIDED else part for part in parts]
    verdict = fold(claim, parts, SUPPORTED, UNDECIDED)
    undecided = verdict == UNDECIDED
    reason = (undecided and claim.implementation) or _reason(parts, rows)
    decide = commands(parts, families, rows) if undecided and not claim.implementation else ()
    return ClaimResult(claim, verdict, tuple(parts), reason, caution, decisive(parts, verdict), decide)


def _reason(parts: Sequence[Part], rows: Rows) -> str:
    """How many parts hold, which do not, and what would tell."""
    of = {v: [part for part in parts if part.verdict == v] for v in (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN)}
    said = [f"{len(of[SUPPORTED])} of {len(parts)} hold"]
    said += ways(of[CONTRADICTED], called)
    if of[UNDECIDED]:
        leaning = sum(part.gain > 0 for part in of[UNDECIDED] if part.contest.test == "better")
        lean = f" ({leaning} lean to the claim)" if leaning else ""
        names = [called(p) + (f" ({p.reason})" if p.reason else "") for p in of[UNDECIDED]]
        said.append(f"undecided in {len(of[UNDECIDED])}{lean}: {few(names)}")
        needed = [part.seeds_needed for part in of[UNDECIDED] if part.underpowered and part.seeds_needed]
        if needed:
            said.append(f"underpowered in {len(needed)}: each row needs {max(needed)} seeds at the least")
    if of[NOT_RUN]:
        said.append(f"not run in {len(of[NOT_RUN])}: {few([part.reason for part in of[NOT_RUN]])}")
    sides = [side for part in parts if part.metric in COUNTED for side in part.contest.sides if side in rows.counted]
    if sides:
        named = [f"{side.row} on {rows.counted[side].table}" for side in sides]
        said.append(f"counted where the model was run: {few(named)}")
    return "; ".join(said)
