"""The paper's numbers: results/paper/table1.csv ... table8.csv, all 444 of Tables 1 to 8 as they are printed, and one
that the text of section 4.5.8 adds to Table 8: HyCon-v2's seconds on the test split.

Columns: table, section (where the paper discusses the table), corpus, row (the paper's name without its citation
mark), metric, value (the printed text: "0.710" and "118,679,809" stay so), quoted ("yes" where the paper itself took
the number from elsewhere: QMF and ICCN in Tables 1 and 2, every baseline of Table 3), bold (as printed), in_text ("yes"
where the text prints the number and no table does), note (what we know about the number). Tables 5, 7 and 8 name no
corpus: their HyCon rows are CMU-MOSI's.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from hycon.errors import UserError
from hycon.host import shipped

FIELDS = ("table", "section", "corpus", "row", "metric", "value", "quoted", "bold", "in_text", "note")


@dataclass(frozen=True)
class PaperValue:
    """text: as printed.  value: its number, in the paper's units (percent where the paper prints percent)."""

    text: str
    value: float
    quoted: bool
    bold: bool = False
    in_text: bool = False
    note: str = ""


def paper_value(table: str, corpus: str, row: str, metric: str) -> PaperValue | None:
    """What `table` prints for `row` and `metric` on `corpus`; None where it prints nothing."""
    return paper_table(table).get((corpus, row, metric))


def paper_table(table: str) -> Mapping[tuple[str, str, str], PaperValue]:
    """(corpus, row, metric) -> value, in printed order; empty for a table that the paper does not have.

    Raises UserError where the file is damaged.
    """
    if not re.fullmatch(r"[a-z0-9]+", table):
        return {}
    return _read(shipped("paper") / f"{table}.csv")


@lru_cache
def _read(path: Path) -> Mapping[tuple[str, str, str], PaperValue]:
    if not path.is_file():
        return MappingProxyType({})
    values: dict[tuple[str, str, str], PaperValue] = {}
    with open(path, encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        if tuple(reader.fieldnames or ()) != FIELDS:
            raise UserError(f"{path} has columns {reader.fieldnames}, expected {list(FIELDS)}: restore the file.")
        try:
            for line in reader:
                key = (line["corpus"], line["row"], line["metric"])
                if line["table"] != path.stem or key in values:
                    raise ValueError(f"{key} of {line['table']} does not belong here or is there twice")
                values[key] = PaperValue(
                    text=line["value"],
                    value=float(line["value"].replace(",", "")),
                    quoted=_yes(line["quoted"]),
                    bold=_yes(line["bold"]),
                    in_text=_yes(line["in_text"]),
                    note=line["note"],
                )
        except (ValueError, AttributeError, csv.Error) as error:
            raise UserError(f"{path}, line {reader.line_num}, is damaged ({error}): restore the file.") from error
    return MappingProxyType(values)


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"
