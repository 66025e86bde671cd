"""What columns and figures show of a run's robustness, and what is said where it was not measured.

Beside the metrics under each condition ("missing_audio_acc2", "noise_vision_0.5_mae") there is one number a modality:
"auc_audio_acc2", the area under the metric as the share of words without audio goes from 0 (the intact test split) to 1
(audio is missing), by the trapezoidal rule. The share has no unit, so the area is a mean of the metric over shares.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hycon.data.conditions import dropping
from hycon.data.manifest import MODALITIES
from hycon.metrics import of_protocol
from studies.document.words import count_of
from studies.lookup import View, options_of
from studies.store.record import RunRecord
from studies.tables import TABLES, TableSpec

KINDS = ("auc_", "missing_", "dropped_", "noise_")  # with which the names begin
EMOTIONS = "emotions"  # where metrics of emotions stand, in place of a protocol's
NOT_MEASURED = "robustness not measured"
Curve = list[tuple[float, float | None]]


def undisturbed(metric: str) -> str:
    """ "missing_audio_acc2" -> "acc2", "auc_text_mae" -> "mae": the metric itself, whatever the condition."""
    for kind, modality in itertools.product(("missing_", "auc_"), MODALITIES):
        metric = metric.removeprefix(f"{kind}{modality}_")
    return metric


def of_split(found: Mapping[str, Any], protocol: str) -> Mapping[str, Any]:
    """Name -> fraction, of a split: those of a protocol, or for emotions "happy_acc" and so on."""
    return flat(found[EMOTIONS]) if EMOTIONS in found else of_protocol(found, protocol)


def flat(by_emotion: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{emotion}_{kind}": value for emotion, scores in by_emotion.items() for kind, value in scores.items()}


def robust_measures(record: RunRecord, protocol: str, whole: Mapping[str, Any]) -> dict[str, Any]:
    """Name -> fraction, or None where it is undefined; empty where it was not measured. whole: of the intact split."""
    if not record.robust:
        return {}
    found = {name: of_split(metrics, protocol) for name, metrics in record.robustness.items()}
    known: dict[str, Any] = {f"{name}_{m}": value for name, metrics in found.items() for m, value in metrics.items()}
    for modality in MODALITIES:
        known |= {f"auc_{modality}_{metric}": area(curve(modality, metric, whole, known)) for metric in whole}
    return known


def curve(modality: str, metric: str, whole: Mapping[str, Any], known: Mapping[str, Any]) -> Curve:
    """(share of words without the modality, metric), from 0 to 1."""
    return [(0.0, whole.get(metric)), *((x, known.get(f"{name}_{metric}")) for x, name in dropping(modality).items())]


def area(points: Curve) -> float | None:
    """By the trapezoidal rule; None where a point is undefined."""
    known = [(x, y) for x, y in points if y is not None]
    if len(known) < len(points):
        return None
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(known))


def unmeasured(records: Sequence[RunRecord]) -> str:
    """Why robustness columns of a row are empty, or of fewer runs than the others, in short; "" where they are not."""
    done = [record for record in records if record.status == "done"]
    lacking = sum(not record.robust for record in done)
    if not lacking:
        return ""
    return NOT_MEASURED + ("" if lacking == len(done) else f" in {lacking} of {len(done)}")


def coarse(table: TableSpec, one_row: Sequence[str]) -> list[str]:
    """A sentence where shares are of one row. one_row: the modalities with one row an utterance."""
    if not table.robust or not one_row:
        return []
    have = f"{' and '.join(one_row).capitalize()} {'has' if len(one_row) == 1 else 'have'}"
    return [
        f"{have} one row an utterance here, of which shares below 0.5 drop nothing and all others everything: an area "
        "is 0.45 of the intact metric and 0.55 of that without the modality."
    ]


def remedy(table: TableSpec, rows: Sequence[str], view: View) -> list[str]:
    """A sentence for the caption: how to get what `rows` lack."""
    if not rows:
        return []
    named = [] if len(rows) == len(TABLES.get(table.name, table).rows) else ["--rows", ",".join(rows)]
    command = shlex.join(["bench", "run", table.name, *named, *options_of(view)])
    return [
        f"{NOT_MEASURED} in {count_of(len(rows), 'row')}: `{command}` trains their runs once more, to the same bits, "
        "and adds it to their records"
    ]
