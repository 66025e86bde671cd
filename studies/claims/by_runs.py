"""The paper's claims by our runs: `evaluate`. By the paper's own tables: `against_paper`, of studies.claims.by_paper.

A claim is made of parts, each a comparison of two rows (studies.claims.file). A part is tested by
studies.statistics.comparison on the seeded runs' predictions of the test split; p-values are adjusted over all parts
that the claims of one table ask for. A part is supported where its 95 % interval excludes "no difference" on the
claimed side and its adjusted p is below 0.05, also where the paper's sentence says only "higher"; contradicted where
both hold on the other side. Parameters are counts: they are compared, not tested. A row that the paper quotes has no
runs unless it was run here; a quoted number is never set against a measured one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hycon.errors import UserError, nearest
from studies.aggregate.cells import RowResult, is_paper_encoder
from studies.aggregate.table import table_result
from studies.claims.by_paper import against_paper
from studies.claims.evidence import Evidence
from studies.claims.file import METRICS, Claim, Contest, Side, contests, load_claims
from studies.claims.verdict import (
    CONTRADICTED,
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
)
from studies.lookup import DEFAULT_VIEW, View, manifest_of
from studies.paper import paper_value
from studies.statistics.cell import tolerance_of
from studies.statistics.comparison import Comparison, benjamini_hochberg
from studies.store.run_store import RunStore
from studies.store.study import load_studies
from studies.tables import TABLES

__all__ = ["Claim", "ClaimResult", "Part", "against_paper", "evaluate", "load_claims", "pick"]

PAPER_DEVICE = "GTX 1080 Ti"  # sec. 4.4(3)
CAUTIONS = {  # metric -> how its numbers come about otherwise than the paper's (sec. 4.4(3) and 4.5.8)
    "train_seconds": "training ends by early stopping and batch sizes are searched, the paper's are the same for all",
    "test_seconds": f"times are of another machine than the paper's {PAPER_DEVICE}",
}


def pick(claims: Sequence[Claim], ids: Sequence[str]) -> tuple[Claim, ...]:
    """The claims of these ids, each once. Raises UserError with the nearest ids."""
    by_id = {claim.id: claim for claim in claims}
    for name in ids:
        if name not in by_id:
            raise UserError(f"No claim {name!r}; nearest: {nearest(name, by_id)} (see `bench list claims`).")
    return tuple(by_id[name] for name in dict.fromkeys(ids))


def evaluate(store: RunStore, view: View = DEFAULT_VIEW, *, claims: Sequence[Claim] | None = None) -> list[ClaimResult]:
    """The verdict on every claim (or `claims`) by the finished runs that `bench table` shows with this view.

    With a corpus, only the claims about its kind of labels are judged. p-values are adjusted over all claims of a
    table, whichever are asked for.  Raises UserError for an unknown corpus, and for `claims` that the corpus cannot
    answer. Trains nothing and imports no torch.
    """
    task = manifest_of(view.corpus, view.data, store.root).task if view.corpus else None
    everything = [claim for claim in load_claims() if task in (None, claim.task)]
    asked = everything if claims is None else list(claims)
    for claim in asked:
        if task not in (None, claim.task):
            raise UserError(f"Claim {claim.id} is about {claim.task}s; the labels of corpus {view.corpus} are {task}s.")
    families = {table for claim in asked for table in claim.tables}
    made = {
        claim.id: [c for c in _distinct(contests(claim), view) if c.table in families]
        for claim in (*everything, *asked)
    }
    needed = {side.table for found in made.values() for c in found for side in (c.a, c.b) if side}
    studies = load_studies(store)
    results = {name: table_result(TABLES[name], store, view, studies=studies) for name in sorted(needed)}
    rows = {Side(name, row.row.name): row for name, result in results.items() for row in result.rows}
    evidence = Evidence(store, view.protocol)
    corpora = {name: result.corpus.name for name, result in results.items()}
    parts = _adjusted(
        {c: _measured(c, rows, evidence, corpora[c.table]) for found in made.values() for c in dict.fromkeys(found)}
    )
    return [_result(claim, [parts[c] for c in made[claim.id]], rows, corpora) for claim in asked]


def _distinct(found: Sequence[Contest], view: View) -> tuple[Contest, ...]:
    """One of those that come to the same, when two tables are read on one corpus."""
    read_on = {name: view.corpus_of(table) for name, table in TABLES.items()}
    first: dict[tuple, Contest] = {}
    for c in found:
        first.setdefault((read_on[c.table], c.a.row, c.b and c.b.row, c.metric, c.test, c.value), c)
    return tuple(first.values())


# ------------------------------------------------------------------------------------------------- parts


def _measured(contest: Contest, rows: Mapping[Side, RowResult], evidence: Evidence, corpus: str) -> Part:
    """The numbers of a part; its verdict is there only where it is "not run", or follows from counts alone."""
    a, b = rows[contest.a], rows[contest.b] if contest.b else None
    blank = Part(contest, corpus, NOT_RUN, n_a=a.n, n_b=b.n if b else 0)
    for row in (a, b):
        if row and not row.n:
            status = "quoted by the paper, not run here" if row.status == "quoted" else row.reason or row.status
            return dataclasses.replace(blank, reason=f"{row.row.name}: {status}")
    stats = [evidence.stat(row, contest.metric) for row in (a, b) if row]
    if None in stats:
        return dataclasses.replace(blank, reason=f"the runs hold no {METRICS[contest.metric].heading}")
    means = [stat.mean for stat in stats if stat]
    blank = dataclasses.replace(blank, verdict="", a=means[0], b=means[1] if b else None)
    if contest.test == "count":
        return _counted(blank, a)
    if b is None:
        assert stats[0] is not None
        if contest.metric == "test_seconds" and not all(PAPER_DEVICE in (r.device or "") for r in a.records):
            reason = f"timed on another machine than the paper's {PAPER_DEVICE}"
            return dataclasses.replace(blank, difference=means[0] - contest.value, verdict=UNDECIDED, reason=reason)
        low, high = ((x - contest.value if x is not None else None) for x in (stats[0].low, stats[0].high))
        return dataclasses.replace(blank, difference=means[0] - contest.value, low=low, high=high)
    if contest.metric == "parameters":
        difference = means[0] - means[1]
        return dataclasses.replace(blank, difference=difference, low=difference, high=difference)
    try:
        found = evidence.compare(a, b, contest.metric)
    except UserError as error:  # other utterances, a damaged file: the other claims can still be judged
        return dataclasses.replace(blank, verdict=NOT_RUN, reason=str(error).rstrip("."))
    assert found is not None  # both rows have values
    return _compared(blank, found)


def _compared(part: Part, found: Comparison) -> Part:
    scale = METRICS[part.metric].scale
    low, high = (None if x is None else scale * x for x in (found.low, found.high))
    return dataclasses.replace(
        part,
        difference=scale * found.difference,
        low=low,
        high=high,
        p=found.p,
        n_a=found.n_a,
        n_b=found.n_b,
        underpowered=found.underpowered,
        seeds_needed=found.seeds_needed,
    )


def _counted(part: Part, row: RowResult) -> Part:
    """Our count against the printed one. It is the text encoder's for the most part, so another one says nothing."""
    printed = paper_value(part.table, TABLES[part.table].corpus, part.row_a, part.metric)
    assert printed is not None and part.a is not None  # rows of "count" are checked to be printed
    part = dataclasses.replace(part, b=printed.value, difference=part.a - printed.value)
    if not is_paper_encoder(row.row.text, row.encoder or ""):
        return dataclasses.replace(part, verdict=UNDECIDED, reason=f"its text encoder is {row.encoder}")
    return dataclasses.replace(part, verdict=SUPPORTED if part.difference == 0 else CONTRADICTED)


def _adjusted(parts: Mapping[Contest, Part]) -> dict[Contest, Part]:
    """With p-values adjusted within each table's family, and verdicts."""
    families: dict[str, dict[tuple, float | None]] = {}
    for contest, part in parts.items():
        families.setdefault(part.table, {})[_question(contest)] = part.p  # asked by two claims, it is one test
    found: dict[Contest, Part] = {}
    for table, family in families.items():
        adjusted = dict(zip(family, benjamini_hochberg(list(family.values())), strict=True))
        for contest, part in parts.items():
            if part.table == table:
                part = dataclasses.replace(part, p_adjusted=adjusted[_question(contest)])
                found[contest] = judged(part, tolerance_of(contest.metric))
    return found


def _question(contest: Contest) -> tuple:
    return frozenset((contest.a, contest.b)), contest.metric


# ------------------------------------------------------------------------------------------------- claims


def _result(
    claim: Claim, parts: Sequence[Part], rows: Mapping[Side, RowResult], corpora: Mapping[str, str]
) -> ClaimResult:
    verdict = fold(claim, parts, SUPPORTED, UNDECIDED)
    caution = "; ".join(_cautions(claim, parts, rows, corpora))
    return ClaimResult(claim, verdict, tuple(parts), _reason(parts, verdict), caution, decisive(parts, verdict))


def _cautions(
    claim: Claim, parts: Sequence[Part], rows: Mapping[Side, RowResult], corpora: Mapping[str, str]
) -> list[str]:
    """Why the runs answer another question than the claim's, each said once; nothing where nothing was run."""
    run = [part for part in parts if part.verdict != NOT_RUN]
    sides = [side for part in run for side in (part.contest.a, part.contest.b) if side]
    said = [obstacle for side in sides for obstacle in rows[side].obstacles]
    told = {corpora[table] for table in claim.tables}
    if run and len(told) < len(claim.tables):
        said.append(f"the claim is about {claim.corpus}, the runs are all on {' and '.join(sorted(told))}")
    said += [CAUTIONS[part.metric] for part in run if part.metric in CAUTIONS]
    return list(dict.fromkeys(said))


def _reason(parts: Sequence[Part], verdict: str) -> str:
    """How many parts hold, which do not, and what would tell."""
    of = {v: [part for part in parts if part.verdict == v] for v in (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_RUN)}
    said = [f"{len(of[SUPPORTED])} of {len(parts)} hold"]
    if of[CONTRADICTED]:
        said.append(f"the other way in {len(of[CONTRADICTED])}: {few([called(p) for p in of[CONTRADICTED]])}")
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
    return "; ".join(said)
