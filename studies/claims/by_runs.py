"""The paper's claims by our runs.

A claim is made of parts, each a comparison of two rows (studies.claims.kinds). A part is tested by
studies.statistics.comparison on the seeded runs' predictions of the test split; p-values are adjusted over all parts
that the claims of one table ask for. A part is supported where its 95 % interval excludes "no difference" on the
claimed side and its adjusted p is below 0.05, also where the sentence says only "higher"; contradicted where both hold
on the other side. Parameters are counts: they are compared, not tested. A number that the paper quotes is never
compared with a measured one: a quoted row counts only if it was run here. Synthetic data gives no verdict, nor does a
corpus that bears the name of the paper's and has other sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hycon.errors import UserError
from studies.aggregate.cells import RowResult
from studies.aggregate.obstacles import CorpusInfo, is_paper_encoder, other_sizes
from studies.aggregate.table import OTHER_WINNER, table_result
from studies.claims.decide import COUNTED, commands, family_sizes, question
from studies.claims.evidence import Evidence
from studies.claims.file import load_claims
from studies.claims.kinds import METRICS, Claim, Contest, Side, contests
from studies.claims.verdict import (
    CONTRADICTED,
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
from studies.statistics.comparison import benjamini_hochberg
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.tables import TABLES

PAPER_DEVICE = "GTX 1080 Ti"  # sec. 4.4(3)
TRAINING = ("train_seconds", "seconds_per_epoch")  # depend on batch size and epochs, which sec. 4.5.8 holds equal
TIMES = (*TRAINING, "test_seconds")


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
    distinct = list(dict.fromkeys(contest for found in made.values() for contest in found))
    rows, corpora = _rows(distinct, store, view)
    evidence = Evidence(store, view.protocol)
    parts = _adjusted({c: _measured(c, rows, evidence, corpora[c.table].name) for c in distinct})
    sizes = family_sizes(distinct)
    return [_result(claim, [parts[c] for c in made[claim.id]], rows, corpora, sizes, view) for claim in asked]


def _rows(found: Sequence[Contest], store: RunStore, view: View) -> tuple[dict[Side, RowResult], dict[str, CorpusInfo]]:
    """The rows that are compared, and the corpus that each of their tables is read on."""
    needed = sorted({side.table for contest in found for side in (contest.a, contest.b) if side})
    studies = sound_studies(store)
    results = {name: table_result(TABLES[name], store, view, studies=studies) for name in needed}
    rows = {Side(name, row.row.name): row for name, result in results.items() for row in result.rows}
    return rows, {name: result.corpus for name, result in results.items()}


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
    part = Part(contest, corpus, NOT_RUN, n_a=a.n, n_b=b.n if b else 0)
    if lacking := _lacking(contest.metric, [row for row in (a, b) if row], evidence):
        return replace(part, reason=lacking)
    stat = evidence.stat(a, contest.metric)
    other = evidence.stat(b, contest.metric) if b else None
    assert stat is not None  # nothing is lacking
    part = replace(part, verdict="", a=stat.mean, b=other.mean if other else None)
    if contest.test == "count":
        return _counted(part, a)
    if unlike := _unlike(contest.metric, [row for row in (a, b) if row]):
        return replace(part, verdict=UNDECIDED, difference=stat.mean - other.mean if other else None, reason=unlike)
    if b is None:
        return _against_number(part, stat, a)
    if other and contest.metric == "parameters":
        difference = stat.mean - other.mean
        return replace(part, difference=difference, low=difference, high=difference)
    return _compared(part, a, b, evidence)


def _lacking(metric: str, rows: Sequence[RowResult], evidence: Evidence) -> str:
    """Why there is nothing to compare; "" where both rows have values."""
    for row in rows:
        if not row.n:
            status = "quoted by the paper, not run here" if row.status == "quoted" else row.reason or row.status
            return f"{row.row.name}: {status}"
    known = all(evidence.stat(row, metric) for row in rows)
    return "" if known else f"the runs hold no {METRICS[metric].heading}"


def _unlike(metric: str, rows: Sequence[RowResult]) -> str:
    """Why runs of these rows cannot be held against each other; "" where they can."""
    records = [record for row in rows for record in row.records]
    suites = sorted({record.spec.suite for record in records})
    if len(suites) > 1 and metric not in COUNTED:
        return f"the rows were run under different protocols (suites {' and '.join(map(str, suites))})"
    if any(OTHER_WINNER in row.obstacles for row in rows):
        return f"{next(row.row.name for row in rows if OTHER_WINNER in row.obstacles)} is {OTHER_WINNER}"
    if metric in TIMES and len({record.device for record in records}) > 1:
        return "the rows were timed on different machines"
    if metric in TRAINING and len({(r.spec.training.get("batch_size"), len(r.curve)) for r in records}) > 1:
        return "the rows differ in batch size or epochs, which Table 8 holds equal"
    return ""


def _against_number(part: Part, stat: CellStat, row: RowResult) -> Part:
    """A row against a number of the paper's words; a time only where it was measured on the paper's device."""
    claimed = part.contest.value
    part = replace(part, difference=stat.mean - claimed)
    if part.metric == "test_seconds" and not all(PAPER_DEVICE in (r.device or "") for r in row.records):
        return replace(part, verdict=UNDECIDED, reason=f"timed on another machine than the paper's {PAPER_DEVICE}")
    low, high = (None if x is None else x - claimed for x in (stat.low, stat.high))
    few = stat.n < FEWEST
    return replace(part, low=low, high=high, underpowered=few, seeds_needed=FEWEST if few else None)


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
        n_a=found.n_a,
        n_b=found.n_b,
        underpowered=found.underpowered,
        seeds_needed=found.seeds_needed,
    )


def _counted(part: Part, row: RowResult) -> Part:
    """Our count against the printed one. It is the text encoder's for the most part, so another one says nothing."""
    printed = paper_value(part.table, TABLES[part.table].corpus, part.row_a, part.metric)
    assert printed is not None and part.a is not None  # rows of "count" are checked to be printed
    part = replace(part, b=printed.value, difference=part.a - printed.value)
    if not is_paper_encoder(row.row.text, row.encoder or ""):
        return replace(part, verdict=UNDECIDED, reason=f"its text encoder is {row.encoder}")
    return replace(part, verdict=SUPPORTED if part.difference == 0 else CONTRADICTED)


def _adjusted(parts: Mapping[Contest, Part]) -> dict[Contest, Part]:
    """With p-values adjusted within each table's family, and verdicts."""
    families: dict[str, dict[tuple, float | None]] = {}
    for contest, part in parts.items():
        families.setdefault(part.table, {})[question(contest)] = part.p  # asked by two claims, it is one test
    adjusted = {
        table: dict(zip(family, benjamini_hochberg(list(family.values())), strict=True))
        for table, family in families.items()
    }
    return {
        contest: judged(replace(part, p_adjusted=adjusted[part.table][question(contest)]), tolerance_of(contest.metric))
        for contest, part in parts.items()
    }


# ------------------------------------------------------------------------------------------------- claims


def _result(
    claim: Claim,
    parts: Sequence[Part],
    rows: Mapping[Side, RowResult],
    corpora: Mapping[str, CorpusInfo],
    families: Mapping[str, int],
    view: View,
) -> ClaimResult:
    caution = "; ".join(_cautions(claim, parts, rows, corpora))
    if refused := _refused(parts, corpora):
        known = tuple(part if part.verdict == NOT_RUN else replace(part, verdict=NO_VERDICT) for part in parts)
        return ClaimResult(claim, NO_VERDICT, known, f"no verdict: {refused}", caution, decisive(known, NO_VERDICT))
    if claim.implementation:
        told = (SUPPORTED, CONTRADICTED)
        parts = [replace(part, verdict=UNDECIDED) if part.verdict in told else part for part in parts]
        verdict = fold(claim, parts, SUPPORTED, UNDECIDED)
        reason = claim.implementation if verdict == UNDECIDED else _reason(parts)
        return ClaimResult(claim, verdict, tuple(parts), reason, caution, decisive(parts, verdict))
    verdict = fold(claim, parts, SUPPORTED, UNDECIDED)
    decide = commands(parts, families, view) if verdict == UNDECIDED else ()
    return ClaimResult(claim, verdict, tuple(parts), _reason(parts), caution, decisive(parts, verdict), decide)


def _refused(parts: Sequence[Part], corpora: Mapping[str, CorpusInfo]) -> str:
    """Why the runs say nothing of the paper; "" where they may, or where nothing was run."""
    for part in parts:
        corpus, papers = corpora[part.table], TABLES[part.table].corpus
        if part.verdict != NOT_RUN and corpus.synthetic:
            return "synthetic data"
        if part.verdict != NOT_RUN and corpus.name == papers and (why := other_sizes(papers, corpus)):
            return why
    return ""


def _cautions(
    claim: Claim, parts: Sequence[Part], rows: Mapping[Side, RowResult], corpora: Mapping[str, CorpusInfo]
) -> list[str]:
    """Why the runs answer another question than the claim's, each said once; nothing where nothing was run."""
    run = [part for part in parts if part.verdict != NOT_RUN]
    sides = [side for part in run for side in (part.contest.a, part.contest.b) if side]
    said = [obstacle for side in sides for obstacle in rows[side].obstacles]
    told = {corpora[table].name for table in claim.tables}
    if run and len(told) < len(claim.tables):
        said.append(f"the claim is about {claim.corpus}, the runs are all on {' and '.join(sorted(told))}")
    timed = {r.device for part in run if part.metric in TIMES for r in rows[part.contest.a].records}
    if any(PAPER_DEVICE not in device for device in timed):
        said.append(f"times are of another machine than the paper's {PAPER_DEVICE}, and of our implementations")
    return list(dict.fromkeys(said))


def _reason(parts: Sequence[Part]) -> str:
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
    return "; ".join(said)
