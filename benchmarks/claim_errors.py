"""How often the claims on Table 4 are decided, by made-up runs of which the truth is known. No predictions are made up.

    python benchmarks/claim_errors.py 600

Each row has ten runs, of seeds that all rows share. The sd between seeds is the tolerance of docs/protocol.md, and the
metrics go together as CORRELATION has it, which was chosen here. The truth is a gain of HyCon and HyCon-v2 over all
other rows, which do not differ. `benchmarks/intervals.md` has the results.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from studies.claims.decide import question
from studies.claims.file import load_claims
from studies.claims.kinds import Claim, Contest, contests
from studies.claims.verdict import DECIDED, SUPPORTED, UNDECIDED, Part, fold, judged, orientation
from studies.statistics.cell import TOLERANCES
from studies.statistics.comparison import adjusted, compare_values

METRICS = ("acc7", "acc2", "f1", "mae", "corr")
CORRELATION = (
    (1.0, 0.4, 0.4, -0.5, 0.4),
    (0.4, 1.0, 0.98, -0.5, 0.5),
    (0.4, 0.98, 1.0, -0.5, 0.5),
    (-0.5, -0.5, -0.5, 1.0, -0.8),
    (0.4, 0.5, 0.5, -0.8, 1.0),
)
SHARED = 0.36  # chosen here: of the variance between seeds, what rows of equal seeds have in common
BETTER = ("HyCon", "HyCon-v2")
SEEDS = 10


def claims_of_table4() -> list[Claim]:
    """Those on its five metrics that name no level."""
    return [c for c in load_claims() if c.tables == ("table4",) and c.kind != "level" and c.id != "clusters"]


def runs(rows: Sequence[str], gain: float, rng: np.random.Generator) -> dict[tuple[str, str], np.ndarray]:
    """(row, metric) -> (SEEDS,) values. gain: of BETTER, in tolerances."""
    root = np.linalg.cholesky(np.array(CORRELATION))
    common = rng.normal(size=(SEEDS, len(METRICS)))
    found = {}
    for row in rows:
        own = rng.normal(size=common.shape)
        drawn = (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own) @ root.T
        for metric, values in zip(METRICS, drawn.T, strict=True):
            better = gain * orientation(metric) * (row in BETTER)
            found[row, metric] = TOLERANCES[metric].value * (values + better)
    return found


def verdicts(claims: Sequence[Claim], gain: float, rng: np.random.Generator) -> dict[str, str]:
    """Claim -> its verdict on one set of runs, by the rules of studies.claims.by_runs."""
    asked = list(dict.fromkeys(contest for claim in claims for contest in contests(claim)))
    rows = list(dict.fromkeys(side.row for contest in asked for side in contest.sides))
    values = runs(rows, gain, rng)
    parts = {contest: _compared(contest, values) for contest in asked}
    tests = {question(contest): (part.p, part.p_interval) for contest, part in parts.items()}
    p = dict(zip(tests, adjusted(list(tests.values())), strict=True))
    found = {
        contest: judged(replace(part, p_adjusted=p[question(contest)]), TOLERANCES[contest.metric].value)
        for contest, part in parts.items()
    }
    return {c.id: fold(c, [found[contest] for contest in contests(c)], SUPPORTED, UNDECIDED) for c in claims}


def _compared(contest: Contest, values: dict[tuple[str, str], np.ndarray]) -> Part:
    assert contest.b is not None
    a, b = (values[side.row, contest.metric] for side in (contest.a, contest.b))
    one = compare_values(a.tolist(), b.tolist(), paired=True)
    numbers = {name: getattr(one, name) for name in ("difference", "low", "high", "p", "p_interval", "underpowered")}
    return Part(contest, "mosi", "", **numbers)


def rates(gain: float, times: int, seed: int = 0) -> dict[str, Counter[str]]:
    """Claim -> how often it got each verdict."""
    rng, claims = np.random.default_rng(seed), claims_of_table4()
    found: dict[str, Counter[str]] = {claim.id: Counter() for claim in claims}
    for _ in range(times):
        for name, verdict in verdicts(claims, gain, rng).items():
            found[name][verdict] += 1
    return found


def main(times: int) -> None:
    for gain in (0.0, 1.0, 2.0):
        print(f"gain of {gain:g} tolerances")
        for name, counts in rates(gain, times).items():
            shares = ", ".join(f"{verdict} {100 * counts[verdict] / times:.1f} %" for verdict in DECIDED)
            print(f"  {name}: {shares}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
