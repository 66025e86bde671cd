"""What was judged while a folder's predictions were there: they hold a corpus's labels, so they are not published.

Without them two rows can only be compared by one number a run. `bench claims --json` of the folder with predictions is
published as claims.json. Where it is of the same runs, its verdicts are shown in place of those by one number a run.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from studies.claims.verdict import CONTRADICTED, NO_VERDICT, NOT_RUN, ClaimResult, Part, called, ways
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.store.study import load_studies

KEPT = {"paper": "claims.json", "beyond": "claims_beyond.json"}  # whose claims -> what was judged with predictions
NUMBERS = ("difference", "low", "high", "p", "p_interval", "p_adjusted")
SAME = 2e-6  # two means that are printed with six decimals
WITH_PREDICTIONS = "Judged by the predictions of the test split, which are not published: they hold the labels."

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
    """`found`, with the verdicts of `file`. Raises UserError where that is not of the same runs."""
    try:
        known = {item["id"]: item for item in json.loads(file.read_text(encoding="utf-8"))}
        return [_judged(result, known[result.claim.id]) for result in found]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
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


def _part(part: Part, known: Mapping[str, Any]) -> Part:
    for name in ("table", "row_a", "metric", "n_a", "n_b"):
        if getattr(part, name) != known[name] and part.verdict != NOT_RUN:
            raise ValueError(f"{name} of {part.row_a} is {known[name]!r}, by the records {getattr(part, name)!r}")
    for name in ("a", "b"):
        ours, theirs = getattr(part, name), known[name]
        if ours is not None and (theirs is None or not math.isclose(ours, theirs, rel_tol=0, abs_tol=SAME)):
            row = part.row_a if name == "a" else part.row_b
            raise ValueError(f"{part.metric} of {row} is {theirs}, by the records {ours:.6f}")
    names = (*NUMBERS, "verdict", "underpowered", "seeds_needed", "reason", "n_a", "n_b", "paired", "a", "b")
    return dataclasses.replace(part, seeds_alone=False, **{name: known[name] for name in names})
