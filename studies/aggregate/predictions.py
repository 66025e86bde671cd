"""From finished runs in a store to what studies.statistics.comparison compares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hycon.data.videos import video_of
from hycon.errors import UserError
from studies.aggregate.cells import measures
from studies.aggregate.robustness import KINDS
from studies.statistics.comparison import Comparison, Group, compare, compare_seeded
from studies.statistics.separation import centroid_ratio
from studies.store.outputs import NAMES
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.tables import COST

COSTS = {column.metric for column in COST}


def group_of(store: RunStore, records: Sequence[RunRecord]) -> Group | None:
    """The predictions of `records`, finished runs of one row, on the test split; None where there are no runs, or one's
    are not kept.

    Raises UserError where the runs are not of the same utterances, and where a file does not have its record's sha256.
    """
    if not records or not all(_kept(store, record) for record in records):
        return None
    arrays = [store.predictions(record.id, ("test_id", "test_label", "test_prediction")) for record in records]
    for name in ("test_id", "test_label"):
        odd = [
            r.id for r, found in zip(records, arrays, strict=True) if not np.array_equal(found[name], arrays[0][name])
        ]
        if odd:
            raise UserError(
                f"Runs {records[0].id} and {odd[0]} were measured on other utterances or labels: compare runs of one "
                "corpus."
            )
    predictions = np.stack([found["test_prediction"] for found in arrays])
    seeds = tuple(record.spec.seed for record in records)
    return Group(predictions, arrays[0]["test_label"], seeds, _videos(arrays[0]["test_id"]))


def compare_records(
    store: RunStore,
    a: Sequence[RunRecord],
    b: Sequence[RunRecord],
    metric: str,
    *,
    protocol: str = "paper",
    store_b: RunStore | None = None,
    groups: tuple[Group | None, Group | None] | None = None,
) -> Comparison | None:
    """Finished runs of row a against those of row b on the test split; None where a side has no value of `metric`.

    metric: of studies.aggregate.cells.measures ("acc2", "happy_f1", "train_seconds").  store_b: where b's runs are,
    if not in `store`.  groups: what `group_of` gave for a and b, if it was called already; reading takes longer than
    comparing. By the stored predictions where both rows have them, else (costs, published records) by one number per
    run. Raises UserError where the rows are not of the same utterances.
    """
    known_a, known_b = (
        [(r.spec.seed, v) for r in rs if (v := measures(r, protocol).get(metric)) is not None] for rs in (a, b)
    )
    if not known_a or not known_b:
        return None
    if metric not in COSTS and not metric.startswith(KINDS):  # of these no predictions are kept
        first, second = groups or (group_of(store, a), group_of(store_b or store, b))
        if first and second:
            return compare(first, second, metric, protocol=protocol, emotions=emotions_of(a))
    return compare_seeded(known_a, known_b)


def separation_of(store: RunStore, record: RunRecord) -> float | None:
    """How far the two classes of the test split lie apart in a run's multimodal representation (centroid_ratio); None
    where it has none that is kept, and for emotions. Raises UserError where its predictions are not there."""
    bare = store.has_outputs(record.id)
    arrays = store.outputs(record.id) if bare else without_labels(store.predictions(record.id, ("test_label",)))
    number = float(arrays.get("separation", math.nan))
    return None if math.isnan(number) else number


def without_labels(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of a run's predictions, what may be published where labels may not: see studies.store.outputs.

    A label of 0 is positive, as it is by default where pairs are made (docs/protocol.md, A3).
    """
    kept = {name: array for name, array in arrays.items() if name in NAMES}
    points, label = arrays.get("test_multimodal"), arrays.get("test_label")
    if points is not None and label is not None and label.ndim == 1:
        kept["separation"] = np.array(centroid_ratio(points, label >= 0), np.float64)
    return kept


def emotions_of(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The emotions that the runs were measured on, in the order of their labels; () for sentiment."""
    found = records[0].metrics.get("test", {}).get("emotions", {}) if records else {}
    return tuple(name for name in found if name != "average")


def _videos(ids: np.ndarray) -> np.ndarray | None:
    """(N,): the video that each id names; None where they name none (hycon.data.videos), or all the same."""
    names = np.array([video_of(str(id))[0] for id in ids])
    return names if 1 < len(set(names)) < len(names) else None


def _kept(store: RunStore, record: RunRecord) -> bool:
    return record.predictions is not None and store.has_predictions(record.id)
