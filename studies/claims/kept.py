"""What was judged while a folder's predictions and labels were there: a corpus's labels are not published.

Without them two rows can only be compared by one number a run. `bench claims --json` of the folder with predictions is
published as claims.json. Where it is of the same runs, its verdicts are shown in place of those by one number a run.
Where the predictions are published without labels and the corpus is at hand, claims are judged by these instead.

Of the file, only the ends of intervals and their p are taken on trust, where a comparison needs predictions. Rows,
seeds, means, differences and the p of the permutation test must be those of the records, and each verdict must follow
from the numbers beside it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from studies.claims.kinds import Claim
from studies.claims.verdict import (
    CONTRADICTED,
    NO_VERDICT,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    ClaimResult,
    Part,
    called,
    fold,
    judged,
    ways,
)
from studies.lookup import View
from studies.statistics.cell import tolerance_of
from studies.store.inside import read_inside
from studies.store.run_store import RunStore
from studies.store.study import load_studies

KEPT = {"paper": "claims.json", "beyond": "claims_beyond.json"}  # whose claims -> what was judged with predictions
NUMBERS = ("difference", "low", "high", "p", "p_interval", "p_adjusted")
BY_RUNS = ("difference", "p")  # by one number a run: the permutation test is of the runs alone
OF_RECORDS = NUMBERS[:-1]  # where no predictions are needed; p_adjusted is over all comparisons of a table
SAME = 2e-6  # two numbers that are printed with six decimals
WITH_PREDICTIONS = "Judged by the predictions of the test split with its labels, which may not be published."

log = logging.getLogger(__name__)


def before(found: Sequence[ClaimResult], store: RunStore, view: View, whose: str) -> list[ClaimResult]:
    """`found`, with the verdicts that the folder keeps of the same runs. whose: claims, of KEPT.

    `found` stays as it is if no comparison lacks predictions, if the folder keeps no verdicts or has several corpora,
    if another folder is set beside it, or if `view` chooses among its runs. A file of other runs is logged, not used.
    """
    file = store.root / KEPT[whose]
    if not any(part.seeds_alone for result in found for part in result.parts) or not file.is_file():
        return list(found)
    if store.beside is not None or _picks(view) or len({study.corpus for study in load_studies(store)}) != 1:
        return list(found)
    try:
        kept = with_predictions(found, file)
    except UserError as error:
        log.warning("bench: not used: %s", error)
        return list(found)
    return [
        dataclasses.replace(k, decide=f.decide if k.verdict == f.verdict else ())
        for k, f in zip(kept, found, strict=True)
    ]


def _picks(view: View) -> bool:
    return bool(view.encoders or view.options or view.studies or view.protocol != "paper")


def with_predictions(found: Sequence[ClaimResult], file: Path) -> list[ClaimResult]:
    """`found`, with the verdicts of `file`. Raises UserError where that is not of the same runs, or where one of its
    verdicts does not follow from its numbers."""
    try:
        known = {item["id"]: item for item in json.loads(read_inside(file.parent, file))}
        return [_judged(result, known[result.claim.id]) for result in found]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(
            f"{file} is not what `bench claims --json` prints of these runs ({type(error).__name__}: {error}): make it "
            "again from the folder with predictions, or remove it."
        ) from error


def _judged(result: ClaimResult, item: Mapping[str, Any]) -> ClaimResult:
    parts = tuple(_part(part, known) for part, known in zip(result.parts, item["parts"], strict=True))
    decisive = None if item["decisive"] is None else parts[item["decisive"]]
    against = [part for part in parts if part.verdict == CONTRADICTED]
    if item["verdict"] != NO_VERDICT and not all(said in item["reason"] for said in ways(against, called)):
        raise ValueError(f"of {item['id']} its reason is not that of its comparisons")
    _check_verdict(result, parts, item["verdict"])
    return dataclasses.replace(
        result,
        verdict=item["verdict"],
        parts=parts,
        reason=item["reason"],
        caution=result.caution or item["caution"],  # without predictions a claim may have no part that was run
        decisive=decisive,
        decide=(),
        kept=True,
    )


def _check_verdict(result: ClaimResult, parts: Sequence[Part], verdict: str) -> None:
    """Raises ValueError where the verdict on a claim does not follow from those on its comparisons, or one of these
    from its numbers. Whether there is to be none at all is known without predictions."""
    claim = result.claim
    if NO_VERDICT in (verdict, result.verdict):
        if result.verdict not in (verdict, NOT_RUN):
            raise ValueError(f"of {claim.id} the verdict is {verdict!r}, by the records {result.verdict!r}")
        return
    for part, ours in zip(parts, result.parts, strict=True):
        if not _follows(part, ours, claim):
            raise ValueError(
                f"of {claim.id} the verdict on {called(part)}, {part.verdict!r}, is not that of its numbers"
            )
    if (by_parts := fold(claim, parts, SUPPORTED, UNDECIDED)) != verdict:
        raise ValueError(f"of {claim.id} the verdict is {verdict!r}, by its comparisons {by_parts!r}")


def _follows(part: Part, ours: Part, claim: Claim) -> bool:
    """Whether a comparison's verdict is that of its numbers, which are rounded. ours: by the records alone."""
    if part.verdict == NOT_RUN:  # also of predictions that were of other utterances
        return bool(part.reason)
    if bool(part.reason) != bool(ours.reason) and ours.verdict != NOT_RUN:
        return False
    if part.reason or claim.implementation:  # undecided, whatever the numbers
        return part.verdict == UNDECIDED
    if part.contest.test == "count":  # no interval decides it
        return part.verdict == ours.verdict
    if part.p is not None:
        none = 1.0 if part.low is None else -1.0  # an adjusted p is lacking only where the interval is
        adjusted = none if part.p_adjusted is None else part.p_adjusted
        if not max(part.p, part.p_interval or 0.0) - SAME <= adjusted <= 1.0:
            return False
    found, tolerance = set(), tolerance_of(part.metric)
    for by, of_p in itertools.product((0.0, -SAME, SAME), repeat=2):
        low, high = (None if x is None else x + sign * by for x, sign in ((part.low, -1), (part.high, 1)))
        p = None if part.p_adjusted is None else part.p_adjusted + of_p
        found.add(judged(dataclasses.replace(part, verdict="", low=low, high=high, p_adjusted=p), tolerance).verdict)
    return part.verdict in found


def _part(part: Part, known: Mapping[str, Any]) -> Part:
    run = part.verdict != NOT_RUN
    for name in ("table", "row_a", "metric", "n_a", "n_b", "underpowered"):
        if getattr(part, name) != known[name] and run:
            raise ValueError(f"{name} of {part.row_a} is {known[name]!r}, by the records {getattr(part, name)!r}")
    for name in ("a", "b"):
        ours, theirs = getattr(part, name), known[name]
        if ours is not None and not _same(ours, theirs):
            row = part.row_a if name == "a" else part.row_b
            raise ValueError(f"{part.metric} of {row} is {theirs}, by the records {ours:.6f}")
    for name in OF_RECORDS if run and known["verdict"] != NOT_RUN else ():
        if (name in BY_RUNS or not part.seeds_alone) and not _same(getattr(part, name), known[name]):
            raise ValueError(f"{name} of {called(part)} is {known[name]}, by the records {getattr(part, name)}")
    names = (*NUMBERS, "verdict", "underpowered", "seeds_needed", "reason", "n_a", "n_b", "paired", "a", "b")
    return dataclasses.replace(part, seeds_alone=False, **{name: known[name] for name in names})


def _same(ours: float | None, theirs: float | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return math.isclose(ours, theirs, rel_tol=0, abs_tol=SAME)
