"""Numbers that others published: results/literature/*.csv. They are quoted († where they are printed), never judged,
and never stand in a measured row: data, features, selection and metrics differ.

Columns: model, dataset, metric, value (as printed; percent for acc and f1), spread (over seeds, where one is given),
protocol (of docs/protocol.md: "mmsa" has MAE, Corr and Acc7 on all utterances; acc2_has0 is y >= 0 on all, acc2_non0
y > 0 where y is not 0), lineage (who ran it), source.
"""

from __future__ import annotations

import csv
import math
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
    return [found for path in sorted((folder or shipped("literature")).glob("*.csv")) for found in quotations_in(path)]


def quotations_in(path: Path) -> list[Quotation]:
    """Those of a file, ours or one's own. Raises UserError where it cannot be read, which names the line."""
    names = [field.name for field in fields(Quotation)]
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True, restval="", restkey="further")
            try:
                if list(reader.fieldnames or ()) != names:
                    raise ValueError(f"expected {','.join(names)}")
                return [_checked(line) for line in reader]
            except (ValueError, csv.Error) as error:
                raise UserError(f"{path}, line {reader.line_num}: {error}; correct or restore the file.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _checked(line: dict[str, str]) -> Quotation:
    if "further" in line:
        raise ValueError("it has too many fields (one with a comma needs quotes)")
    if line["metric"] not in METRICS:
        raise ValueError(f"metric {line['metric']!r} is none of {', '.join(METRICS)}")
    for name in ("value", "spread") if line["spread"] else ("value",):
        if not math.isfinite(float(line[name])):
            raise ValueError(f"{name} is {line[name]}")
    for name in ("model", "dataset", "lineage", "source"):
        if not line[name]:
            raise ValueError(f"it has no {name}")
    return Quotation(**line)
