"""Whether runs can answer what a claim asks: of each other, of the paper's numbers, of the paper at all.

`unlike`: two rows that were not run under the same conditions are not compared. `off_the_number`: a number of the
paper's is set only against rows that were run as in the paper. `refused`: some data says nothing of the claim: of the
paper's, all that is not its corpus; of our own questions, synthetic data alone. `cautions`: what is compared all the
same, and has to be said beside the verdict.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from hycon.data.manifest import PAPER, named_after
from studies.aggregate.cells import RowResult
from studies.aggregate.obstacles import CorpusInfo, in_words, other_corpus, other_sizes
from studies.aggregate.table import OTHER_DATA, OTHER_WINNER
from studies.claims.kinds import Claim, Contest
from studies.claims.rows import COUNTED, Rows
from studies.claims.verdict import NOT_RUN, Part
from studies.store.record import RunRecord
from studies.tables import TABLES

OFF = "not run as in the paper"  # why a number of the paper's is not asked of rows
PAPER_DEVICE = "GTX 1080 Ti"  # sec. 4.4(3)
TRAINING = ("train_seconds", "seconds_per_epoch")  # depend on batch size and epochs, which sec. 4.5.8 holds equal
TIMES = (*TRAINING, "test_seconds")


# ------------------------------------------------------------------------------------------------- two rows


def unlike(metric: str, rows: Sequence[RowResult]) -> str:
    """Why runs of these rows cannot be held against each other; "" where they can."""
    return next(_differences(metric, rows), "")


def _differences(metric: str, rows: Sequence[RowResult]) -> Iterator[str]:
    records = [record for row in rows for record in row.records]
    suites = sorted({record.spec.suite for record in records})
    if len(suites) > 1 and metric not in COUNTED:
        yield f"the rows were run under different protocols (suites {' and '.join(map(str, suites))})"
    for row in rows:
        if OTHER_WINNER in row.obstacles:
            yield f"{row.row.name} is {OTHER_WINNER}"
    if len({_data(record) for record in records}) > 1:
        yield "the rows were run on different data"
    encoders = [(record.spec.text, record.spec.encoder) for record in records if record.spec.encoder]
    for (text, one), (other_text, other) in itertools.combinations(encoders, 2):
        if text == other_text and _differ(one, other):
            yield f"the rows have different text encoders ({one['name']} and {other['name']})"
    versions = sorted({(record.spec.model, record.spec.version) for record in records})
    if len(versions) > len({model for model, _ in versions}):
        yield "the rows were run with different versions of the model"
    budgets = list(dict.fromkeys(row.budget for row in rows))
    if len(budgets) > 1 and metric not in COUNTED:
        yield f"the rows were not searched alike: {'; '.join(budget or 'not at all' for budget in budgets)}"
    if metric in TIMES and len({record.device for record in records}) > 1:
        yield "the rows were timed on different machines"
    if metric in TRAINING and len({(r.spec.training.get("batch_size"), len(r.curve)) for r in records}) > 1:
        yield "the rows differ in batch size or epochs, which Table 8 holds equal"


def _data(record: RunRecord) -> str:
    """Its checksum; the corpus's data as it is now may have one of either version of the manifest's format: ""."""
    return record.spec.data if OTHER_DATA in record.notes else ""


def _differ(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two encoders have other weights. Checksums by different rules say nothing: then the names have to do."""
    same_rule = one.get("rule") == other.get("rule")
    return one["sha256"] != other["sha256"] if same_rule else one["name"] != other["name"]


# ------------------------------------------------------------------------------------------------- a number


def off_the_number(contest: Contest, rows: Sequence[RowResult]) -> str:
    """Why these rows cannot be set against the number that the contest names; "" where they can, or it names none."""
    named = contest.test in ("about", "at_most", "count") or (contest.test == "gain" and contest.value != 0)
    if not named:
        return ""
    if contest.metric in TIMES and not all(PAPER_DEVICE in (r.device or "") for row in rows for r in row.records):
        return f"timed on another machine than the paper's {PAPER_DEVICE}"
    against = [obstacle for row in rows for obstacle in row.obstacles]
    return f"{OFF}: {against[0]}" if against else ""


# ------------------------------------------------------------------------------------------------- the paper


def refused(claim: Claim, parts: Sequence[Part], corpora: Mapping[str, CorpusInfo]) -> str:
    """Why the runs say nothing of the claim; "" where they may, or where nothing was run."""
    for table in dict.fromkeys(part.table for part in parts if part.verdict != NOT_RUN):
        corpus = corpora[table]
        if corpus.synthetic:
            return "synthetic data"
        if claim.own:
            continue
        papers = named_after(corpus.name, PAPER)
        if papers is None or _has_own_table(papers, claim):
            return f"the corpus is {corpus.name}, not {TABLES[table].corpus}"
        if why := other_sizes(papers, corpus):
            return why
    return ""


def _has_own_table(corpus: str, claim: Claim) -> bool:
    """Whether the paper has the claim's rows on `corpus` too, in a table that the claim is not about."""
    about = [TABLES[table] for table in claim.tables]
    others = [table for table in TABLES.values() if table.corpus == corpus and not table.beyond]
    return corpus not in {table.corpus for table in about} and any(o.rows == t.rows for o in others for t in about)


def cautions(claim: Claim, parts: Sequence[Part], rows: Rows) -> list[str]:
    """Why the runs answer another question than the claim's, each said once; nothing where nothing was run.

    Of our own questions: on what the verdict is. They ask for no corpus, so none is another than theirs.
    """
    run = [part for part in parts if part.verdict != NOT_RUN]
    compared = [(part.metric, rows.row(side, part.metric)) for part in run for side in part.contest.sides]
    tables = list(dict.fromkeys(part.table for part in run)) if claim.own else []
    asked = {reason for table in tables for reason in other_corpus(TABLES[table], rows.corpora[table])}
    said = [f"judged on {_named(rows.corpora[table])}" for table in tables]
    said += [obstacle for _, row in compared for obstacle in row.obstacles if obstacle not in asked]
    failed = [(row.failed, row.failed + row.n, row.row.name) for _, row in compared if row.failed]
    said += [f"{n} of {of} runs of {name} failed and are left out" for n, of, name in failed]
    said += [f"{row.row.name} was not run here, but taken from {row.origin}" for _, row in compared if row.origin]
    told = {rows.corpora[table].name for table in claim.tables}
    if run and len(told) < len(claim.tables):
        said.append(f"the claim is about {claim.corpus}, the runs are all on {' and '.join(sorted(told))}")
    timed = {record.device or "" for metric, row in compared if metric in TIMES for record in row.records}
    if any(PAPER_DEVICE not in device for device in timed):
        said.append(f"times are of another machine than the paper's {PAPER_DEVICE}, and of our implementations")
    return list(dict.fromkeys(said))


def _named(corpus: CorpusInfo) -> str:
    """ "mosi_cut (7/7/7 utterances)"."""
    return corpus.name + (f" ({in_words(corpus.sizes)} utterances)" if corpus.sizes else "")
