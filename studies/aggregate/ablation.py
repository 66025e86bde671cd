"""Ablations: a table of the intact and the ablated model, and the comparison of the two.

The intact model is searched. The ablated one takes its winner's configuration, as the rows of Tables 4 to 7 do: sec.
4.4(3) fixes the weights of the losses for all of them, and another configuration would be a second difference. With
`--own-search` each is searched (the paper does not say what it did). The seeded runs are pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hycon.errors import UserError, check_known, nearest
from studies.aggregate.cells import TableResult
from studies.aggregate.render import FORMATS, as_dict, as_lines, grid, page_title
from studies.document import formats
from studies.document.blocks import Block, Caption, Grid, Text, headings, numbers
from studies.document.data import as_csv, as_json, rounded
from studies.document.text import WIDTH
from studies.document.words import between, p_value
from studies.registry import model_module, resolve, unread
from studies.statistics.cell import FEWEST
from studies.statistics.comparison import Comparison, adjusted
from studies.store.run_store import RunStore
from studies.tables import EMOTION, SENTIMENT, Column, Row, TableSpec

NONE = "No comparison: a row has no finished run."
BEYOND = "Runs of the intact and of the ablated model share seeds."


def ablation_table(
    model: str, text: str, remove: Sequence[str], options: Mapping[str, Any], task: str = "sentiment"
) -> TableSpec:
    """A table of two rows: the intact model, and the model without `remove` and with `options`.  task: the corpus's.

    Raises UserError for a part that the model does not have, for parts that cannot be removed together, and where
    nothing would differ.
    """
    changes = {**_removed(model, remove), **options}
    bases = getattr(model_module(model), "INTACT", {})
    intact = {key: changes[key] for part in remove for key in bases.get(part, {})}
    if not changes:
        raise UserError("Nothing to ablate: give --remove PART or --set KEY=VALUE (see `bench ablate --list`).")
    if resolve(model, text, changes) == resolve(model, text, intact):
        said = ", ".join(f"{key}={value}" for key, value in changes.items())
        raise UserError(f"Nothing to ablate: {said} is what the intact {model} has already.")
    if changes.keys() <= unread(model, text, intact) & unread(model, text, changes):
        raise UserError(f"Nothing to ablate: {', '.join(changes)} has no effect on {model} with text={text}.")
    label = ", ".join([f"w/o {part}" for part in remove] + [f"{k}={v}" for k, v in options.items()])
    name = f"{model}-{text}"
    base = Row(name, model, text, intact)
    rows = (base, Row(f"{name} ({label})", model, text, changes, intact=base))
    corpus, columns = ("iemocap", EMOTION) if task == "emotion" else ("mosi", SENTIMENT)
    return TableSpec("ablation", f"Ablation of {name}", corpus, columns, rows, task, BEYOND)


def _removed(model: str, remove: Sequence[str]) -> dict[str, Any]:
    """The overrides that remove those parts together."""
    known = getattr(model_module(model), "ABLATIONS", {})
    changes: dict[str, Any] = {}
    for part in remove:
        if not known:
            raise UserError(f"Model {model} names no parts to remove; see `bench ablate --list`.")
        if part not in known:
            raise UserError(f"Model {model} has no part {part!r} to remove; nearest: {nearest(part, known)}.")
        for key, value in known[part].items():
            if changes.setdefault(key, value) != value:
                raise UserError(f"{' and '.join(remove)} both set {key}: remove one of them, and give --set {key}=... ")
    return changes


@dataclass(frozen=True)
class Difference:
    """Ablated less intact in one column, with its p adjusted over the columns."""

    column: Column
    found: Comparison
    p_adjusted: float | None

    @property
    def printed(self) -> Comparison:
        """`found` in the unit of the table."""
        return self.found.printed(self.column.metric, self.column.scale)

    def numbers(self) -> dict[str, Any]:
        """As JSON and CSV have it, in the printed unit."""
        found = self.printed
        return {
            **{key: rounded(getattr(found, key)) for key in ("difference", "low", "high")},
            "p": found.p,
            "p_interval": found.p_interval,
            "p_adjusted": self.p_adjusted,
            "n_intact": found.n_b,
            "n_ablated": found.n_a,
            "utterances": found.utterances,
            "paired": found.paired,
            "underpowered": found.underpowered,
            "seeds_needed": found.seeds_needed,
        }


def differences(result: TableResult, store: RunStore) -> list[Difference]:
    """What removing costs, column by column; empty where a row has no finished run."""
    from studies.aggregate.predictions import compare_records, group_of

    intact, ablated = result.rows[:2]
    if not intact.records or not ablated.records:
        return []
    groups = (group_of(store, ablated.records), group_of(store, intact.records))
    compared = [
        (column, found)
        for column in result.table.columns
        if (
            found := compare_records(
                store, ablated.records, intact.records, column.metric, protocol=result.protocol, groups=groups
            )
        )
    ]
    found_p = adjusted([(found.p, found.p_interval) for _, found in compared])
    return [Difference(column, found, p) for (column, found), p in zip(compared, found_p, strict=True)]


# ------------------------------------------------------------------------------------------------- what is printed


def render_ablation(
    result: TableResult, found: Sequence[Difference], format: str, *, width: int = WIDTH, notes: bool = False
) -> str:
    """`result` (intact row first) and its `differences` in one of FORMATS: as a second table,
    as key `comparison` (json), or as columns of the ablated model's lines (csv). Raises UserError for another format.
    """
    check_known("format", format, FORMATS)
    differences = {one.column.metric: one.numbers() for one in found}
    if format == "json":
        return as_json({**as_dict(result), "comparison": differences})
    if format == "csv":
        ablated = result.rows[1].row.name
        return as_csv([_compared(x, differences) if x["row"] == ablated else x for x in as_lines(result)])
    below: Block = comparison(found) if found else Text(NONE)
    return formats.write([grid(result), below], format, page_title(result), width=width, notes=notes)


def comparison(found: Sequence[Difference]) -> Grid:
    """A line for each metric."""
    most = max((one.found for one in found), key=lambda c: c.utterances)
    runs = f"{most.n_a} pairs of runs of equal seeds" if most.paired else f"{most.n_a} and {most.n_b} runs, not paired"
    tested = f" on {most.utterances} utterances" if most.utterances else ""
    caption = Caption(
        f"Ablated less intact: {runs}{tested}.",
        rest=(
            f"Interval: over seeds {'and utterances' if most.utterances else 'alone: a row keeps no predictions'}.",
            "p: two-sided permutation test over seeds. Adjusted over the metrics (Benjamini-Hochberg): the larger of p "
            "and the interval’s own.",
        ),
    )
    heads = (*headings("Metric"), *numbers("ablated - intact"), *headings("95 % interval", "p", "p adjusted"))
    alike = len({_power(one) for one in found}) == 1
    notes = [note if alike else f"{one.column.heading}: {note}" for one in found if (note := _power(one))]
    return Grid(
        "ablation-difference",
        caption,
        heads,
        tuple(map(_line, found)),
        notes=tuple(dict.fromkeys(notes)),
        narrow=True,
    )


def _power(one: Difference) -> str:
    """Empty where there are seeds enough for a p below 0.05."""
    found = one.found
    return f"underpowered: p < 0.05 needs {found.seeds_needed} seeds a row at least" if found.underpowered else ""


def _line(one: Difference) -> tuple[str, ...]:
    found, column = one.printed, one.column
    show = f"{{:+,.{column.decimals + 1}f}}".format  # a decimal more than the table has: differences are small
    return (
        column.heading + ("" if column.higher_is_better else " (lower is better)"),
        show(found.difference),
        between(found.low, found.high, show, f"none below {FEWEST} runs"),
        p_value(found.p, "none"),
        p_value(one.p_adjusted, "none"),
    )


def _compared(line: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {**line, **{f"comparison_{key}": value for key, value in found.get(line["metric"], {}).items()}}
