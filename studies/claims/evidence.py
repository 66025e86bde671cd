"""What claims are judged on: the seeded runs of rows, their predictions, and their representations.

`separation` is the number behind section 4.5.6: how far the two classes lie apart in the multimodal representation of
the test split, not in its t-SNE picture (studies.statistics.separation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hycon.errors import UserError
from studies.aggregate.cells import RowResult, measures
from studies.aggregate.predictions import compare_records, group_of, separation_of
from studies.claims.kinds import METRICS, SEPARATION
from studies.statistics.cell import CellStat, cell, range_of
from studies.statistics.comparison import Comparison, Group, compare_seeded
from studies.store.record import RunRecord
from studies.store.run_store import RunStore


@dataclass
class Evidence:
    """The runs of a store. What is read or computed is kept: many claims ask for the same."""

    store: RunStore
    protocol: str
    groups: dict[tuple[str, ...], Group | None] = field(default_factory=dict)
    separations: dict[str, float | None] = field(default_factory=dict)
    compared: dict[tuple, Comparison | None] = field(default_factory=dict)

    def stat(self, row: RowResult, metric: str) -> CellStat | None:
        """Mean, spread and interval of the row's runs, in the printed unit."""
        values = self._values(row.records, metric)
        return cell([METRICS[metric].scale * v for v in values], range_of(metric)) if values else None

    def compare(self, a: RowResult, b: RowResult, metric: str) -> Comparison | None:
        """The runs of a against those of b, as fractions; None where one has no value."""
        key = (_ids(a.records), _ids(b.records), metric)
        if key not in self.compared:
            self.compared[key] = self._compare(a.records, b.records, metric)
        return self.compared[key]

    def _compare(self, a: Sequence[RunRecord], b: Sequence[RunRecord], metric: str) -> Comparison | None:
        if metric != SEPARATION.metric:
            groups = (self._group(a), self._group(b)) if a and b else None
            return compare_records(self.store, a, b, metric, protocol=self.protocol, groups=groups) if groups else None
        first, second = (
            [(r.spec.seed, v) for r in records if (v := self._separation(r)) is not None] for records in (a, b)
        )
        return compare_seeded(first, second) if first and second else None

    def _group(self, records: Sequence[RunRecord]) -> Group | None:
        key = _ids(records)
        if key not in self.groups:
            self.groups[key] = group_of(self.store, records)
        return self.groups[key]

    def _values(self, records: Sequence[RunRecord], metric: str) -> list[float]:
        if metric == SEPARATION.metric:
            found = [self._separation(record) for record in records]
        else:
            found = [measures(record, self.protocol).get(metric) for record in records]
        return [float(value) for value in found if value is not None]

    def _separation(self, record: RunRecord) -> float | None:
        if record.id not in self.separations:
            try:
                self.separations[record.id] = separation_of(self.store, record)
            except UserError:  # published records may come without predictions
                self.separations[record.id] = None
        return self.separations[record.id]


def _ids(records: Sequence[RunRecord]) -> tuple[str, ...]:
    return tuple(record.id for record in records)
