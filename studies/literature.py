"""Numbers that others published: results/literature/*.csv. They are quoted († where they are printed), never judged,
and never stand in a measured row: data, features, selection and metrics differ.

Columns: model, dataset, metric, value (as printed; percent for acc and f1), spread (over seeds, where one is given),
protocol (of docs/protocol.md: "mmsa" has MAE, Corr and Acc7 on all utterances; acc2_has0 is y >= 0 on all, acc2_non0
y > 0 where y is not 0), lineage (who ran it), source.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from pathlib import Path

from hycon.errors import UserError
from hycon.host import shipped

METRICS = ("mae", "corr", "acc7", "acc2_has0", "acc2_non0", "f1_non0")


@dataclass(frozen=True)
class Quotation:
    """One number of a publication; see above."""

    model: str
    dataset: str
    metric: str
    value: str
    spread: str
    protocol: str
    lineage: str
    source: str


def quotations(folder: Path | None = None) -> list[Quotation]:
    """All of them, file by file. Raises UserError where a file is damaged."""
    names = [field.name for field in fields(Quotation)]
    found: list[Quotation] = []
    for path in sorted((folder or shipped("literature")).glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            if list(reader.fieldnames or ()) != names:
                raise UserError(f"{path} has columns {reader.fieldnames}, expected {names}: restore the file.")
            try:
                found += [_checked(Quotation(**line)) for line in reader]
            except (ValueError, TypeError, csv.Error) as error:
                raise UserError(f"{path}, line {reader.line_num}, is damaged ({error}): restore the file.") from error
    return found


def _checked(quotation: Quotation) -> Quotation:
    if quotation.metric not in METRICS:
        raise ValueError(f"{quotation.metric!r} is none of {', '.join(METRICS)}")
    for text in filter(None, (quotation.value, quotation.spread)):
        float(text)
    if not quotation.source or not quotation.lineage:
        raise ValueError("no source or no lineage")
    return quotation
