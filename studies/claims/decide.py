"""What would decide an undecided claim: which tables to run, with how many seeds a row.

With n pairs of runs no p is below 2 / 2^n, with n against n runs none below 2 / C(2n, n). Adjusted over the m questions
of a table's family it is at most m times as much, where nothing else differs. So many seeds are asked for that even
then it can be below the level.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studies.aggregate.obstacles import is_paper_encoder
from studies.claims.kinds import Contest, row_of
from studies.claims.rows import COUNTED, Rows
from studies.claims.verdict import UNDECIDED, Part
from studies.lookup import set_words
from studies.statistics.comparison import LEVEL
from studies.statistics.permutation import smallest_p
from studies.tables import TABLES

PROFILE, SEEDS = "decisive", 10  # of studies.lookup; what five seeds leave open, ten decide in most families


def family_sizes(contests: Iterable[Contest]) -> dict[str, int]:
    """Table -> distinct questions with a p that claims ask of it."""
    asked: dict[str, set[tuple]] = {}
    for contest in contests:
        if contest.b and contest.metric not in COUNTED:
            asked.setdefault(contest.table, set()).add(question(contest))
    return {table: len(found) for table, found in asked.items()}


def question(contest: Contest) -> tuple:
    """What a comparison asks: rows and metric, in whatever order and by whatever claim."""
    return frozenset((contest.a, contest.b)), contest.metric


def seeds_for(contest: Contest, family: int) -> int:
    """Runs of each row with which this comparison can be decided. family: questions of its table."""
    if contest.b is None:
        return SEEDS
    a, b = row_of(contest.a), row_of(contest.b)
    paired = (a.model, a.text) == (b.model, b.text)  # seeds are derived from these
    n = SEEDS
    while family * smallest_p(n, n, paired) >= LEVEL:
        n += 1
    return n


def commands(parts: Sequence[Part], families: Mapping[str, int], rows: Rows) -> tuple[str, ...]:
    """The commands whose runs would decide what is undecided of `parts`, one a table; none where seeds would not."""
    wanted: dict[str, int] = {}
    for part in parts:
        if part.verdict != UNDECIDED or part.metric in COUNTED or not part.more_runs:
            continue
        seeds = seeds_for(part.contest, families.get(part.table, 1))
        if not part.reason and min(part.n_a, part.n_b or part.n_a) >= seeds:
            continue  # rows that were not run alike need other runs, however many they have
        for side in part.contest.sides:
            wanted[side.table] = max(seeds, wanted.get(side.table, 0))
    return tuple(_command(table, seeds, rows) for table, seeds in wanted.items())


def _command(table: str, seeds: int, rows: Rows) -> str:
    words = ["bench", "run", table, "--profile", PROFILE]
    if seeds > SEEDS:
        words += ["--seeds", str(seeds)]
    if rows.corpora[table].name != TABLES[table].corpus:
        words += ["--corpus", rows.corpora[table].name]
    words += rows.view.given
    if "--encoder" not in rows.view.given:
        words += [word for text, name in encoders(rows, table).items() for word in ("--encoder", f"{text}={name}")]
    return shlex.join([*words, *set_words({**set_by_hand(rows, table), **rows.view.options})])


def set_by_hand(rows: Rows, table: str) -> Mapping[str, Any]:
    """What was set by hand for all rows of the table that have runs; nothing where it was not the same for all."""
    found = [options for side, options in rows.by_hand.items() if side.table == table]
    return found[0] if found and all(options == found[0] for options in found) else {}


def encoders(rows: Rows, table: str) -> dict[str, str]:
    """Front-end -> the encoder of all runs of the table with it, where it is not the paper's, which is the default."""
    found: dict[str, set[str]] = {}
    for spec in (record.spec for side, row in rows.of.items() if side.table == table for record in row.records):
        if spec.encoder:
            found.setdefault(spec.text, set()).add(spec.encoder["name"])
    single = {text: next(iter(names)) for text, names in sorted(found.items()) if len(names) == 1}
    return {text: name for text, name in single.items() if not is_paper_encoder(text, name)}
