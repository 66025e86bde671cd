"""What would decide an undecided claim: which tables to run, with how many seeds a row.

With n pairs of runs no p is below 2 / 2^n, with n against n runs none below 2 / C(2n, n). Adjusted over the m questions
of a table's family it is at most m times as much, where nothing else differs. So many seeds are asked for that even
then it can be below the level, if all permutations are counted. Where they are drawn (studies.statistics.comparison),
no p is below 2 / 10,000, so in a family of several hundred questions one comparison alone stays undecided.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence

from studies.claims.kinds import Contest, Side
from studies.claims.verdict import LEVEL, UNDECIDED, Part
from studies.lookup import View
from studies.tables import TABLES, Row

PROFILE, SEEDS = "decisive", 10  # of studies.lookup; what five seeds leave open, ten decide in most families
COUNTED = ("parameters",)  # compared, not tested


def family_sizes(contests: Iterable[Contest]) -> dict[str, int]:
    """Table -> distinct questions with a p that claims ask of it."""
    asked: dict[str, set[tuple]] = {}
    for contest in contests:
        if contest.b and contest.metric not in COUNTED:
            asked.setdefault(contest.table, set()).add(question(contest))
    return {table: len(found) for table, found in asked.items()}


def question(contest: Contest) -> tuple:
    """The same for two claims that ask the same."""
    return frozenset((contest.a, contest.b)), contest.metric


def seeds_for(contest: Contest, family: int) -> int:
    """Runs of each row with which this comparison can be decided. family: questions of its table."""
    if contest.b is None:
        return SEEDS
    a, b = _row(contest.a), _row(contest.b)
    paired = (a.model, a.text) == (b.model, b.text)  # seeds are derived from these
    n = SEEDS
    while 2 * family / (2**n if paired else math.comb(2 * n, n)) >= LEVEL:
        n += 1
    return n


def commands(parts: Sequence[Part], families: Mapping[str, int], view: View) -> tuple[str, ...]:
    """The commands whose runs would decide what is undecided of `parts`, one a table; none where seeds would not."""
    wanted: dict[str, int] = {}
    for part in parts:
        seeds = seeds_for(part.contest, families.get(part.table, 1))
        elsewhere = part.contest.b is None and part.reason  # a machine's time against the paper's, say
        if part.verdict != UNDECIDED or part.metric in COUNTED or elsewhere:
            continue
        if min(part.n_a, part.n_b or part.n_a) >= seeds:
            continue
        for side in (part.contest.a, part.contest.b):
            if side:
                wanted[side.table] = max(seeds, wanted.get(side.table, 0))
    return tuple(_command(table, seeds, view) for table, seeds in wanted.items())


def _command(table: str, seeds: int, view: View) -> str:
    words = ["bench", "run", table, "--profile", PROFILE]
    if seeds > SEEDS:
        words += ["--seeds", str(seeds)]
    if view.corpus and view.corpus != TABLES[table].corpus:
        words += ["--corpus", view.corpus]
    for kind, name in view.encoders.items():
        words += ["--encoder", f"{kind}={name}"]
    for key, value in view.options.items():
        words += [f"--{key}", str(value)] if key in ("epochs", "patience") else ["--set", f"{key}={value}"]
    return shlex.join(words)


def _row(side: Side) -> Row:
    return next(row for row in TABLES[side.table].rows if row.name == side.row)
