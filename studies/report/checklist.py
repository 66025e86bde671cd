"""The reproducibility checklist, filled in from the results folder.

The items are those of the NLP reproducibility checklist (Dodge et al., "Show Your Work", EMNLP 2019, as EMNLP 2020 and
ACL/NAACL 2021 asked for it), in our words. An item is `complete` where every shown run has what it asks for, `partial`
where some have, and `missing` where none has; nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hycon.metrics import NARROW_PROTOCOLS
from studies.aggregate.cells import measures
from studies.document.blocks import Block, Cell, Grid, Part, Section, Text, headings, numbers, wide
from studies.document.words import NOTHING, count_of, mean_sd_of, span
from studies.report.provenance import UNKNOWN, environment_of
from studies.report.scope import Scope, Use
from studies.report.searches import energy, failed, hours, space_of, winner
from studies.store.record import RunRecord
from studies.tables import TABLES, Column, narrowed

# key -> (what is asked, the section or document that has the detail), in the checklist's order: results, searches, data
ASKED = {
    "model": (
        "Description of the mathematical setting, algorithm and model",
        "hycon/, baselines/; Deviations from the papers",
    ),
    "code": ("Source code with dependencies and the commit that ran", "Environments and data"),
    "device": ("Computing infrastructure", "Environments and data"),
    "time": ("Run time of each model, or energy", "Costs"),
    "parameters": ("Number of parameters of each model", "Costs"),
    "valid": ("Validation performance for each test result", "the table below"),
    "metrics": ("Metrics, and the code that computes them", "docs/protocol.md; hycon/metrics.py"),
    "runs": ("Number of runs: search trials and repeats", "Searches"),
    "bounds": ("Bounds for each hyper-parameter", "Searches"),
    "winner": ("Configuration of the best-performing model", "Searches"),
    "criterion": ("Method of choosing values, and the criterion", "docs/protocol.md"),
    "score": ("Validation score of the selected configuration", "Searches"),
    "summary": ("Summary statistics of the results", "Tables"),
    "splits": ("Number of examples and details of the splits", "Environments and data"),
    "language": ("Language of the data", NOTHING),
    "excluded": ("Excluded data and preprocessing", "Environments and data; docs/data.md"),
    "source": ("Where the data can be had, with checksums", "Environments and data; docs/data.md"),
}
Answers = dict[str, tuple[str, str]]  # key of ASKED -> (complete, partial or missing; the answer)


@dataclass(frozen=True)
class Item:
    asked: str
    state: str  # complete | partial | missing
    answer: str
    where: str  # the section or document that has the detail


def items(scope: Scope) -> list[Item]:
    """In the checklist's order."""
    found = _of_results(scope) | _of_searches(scope) | _of_data(scope)
    return [Item(asked, *found[key], where) for key, (asked, where) in ASKED.items()]


def checklist(scope: Scope) -> Section:
    found = items(scope)
    blocks: list[Block] = [
        Text(
            "The items of the NLP reproducibility checklist (Dodge et al. 2019), answered from the records. Complete: "
            "every shown run has it; partial: some have; missing: none has."
        ),
        Grid(
            "checklist-items",
            "Reproducibility checklist.",
            (*wide("Item"), *headings("State"), *wide("Answer", "Detail")),
            tuple((item.asked, Cell("", verdict=item.state), item.answer, item.where) for item in found),
        ),
    ]
    scores = tuple(grid for task in ("sentiment", "emotion") if (grid := validation_scores(scope, task)))
    blocks += [Part("validation", "The validation score beside each test score", scores, closed=True)] if scores else []
    return Section("checklist", "Reproducibility checklist", tuple(blocks))


def validation_scores(scope: Scope, task: str) -> Grid | None:
    """Each test score beside the validation score of the same runs; None where nothing of this task was measured."""
    uses = [use for use in scope.uses if use.runs and _task(use) == task]
    if not uses:
        return None
    protocol = scope.view.protocol
    columns = next(table for table in TABLES.values() if table.task == task).columns
    if protocol in NARROW_PROTOCOLS:
        columns = narrowed(columns)
    if task == "emotion":
        columns = tuple(column for column in columns if column.metric.startswith("average"))
    splits = ("valid", "test")
    scores = numbers(*(f"{column.heading}, {split}" for column in columns for split in splits))
    lines = [
        (
            use.row.name,
            use.study.corpus,
            *(_score(use.runs, split, column, protocol) for column in columns for split in splits),
        )
        for use in uses
    ]
    caption = f"Validation score for each test score ({task}): mean ± sd (n) of the same seeded runs."
    return Grid(f"validation-{task}", caption, (*headings("Row", "Corpus"), *scores), tuple(lines))


def _task(use: Use) -> str:
    return "emotion" if any("emotions" in record.metrics.get("test", {}) for record in use.runs) else "sentiment"


def _score(records: Sequence[RunRecord], split: str, column: Column, protocol: str) -> str:
    found = [measures(record, protocol, split).get(column.metric) for record in records]
    return mean_sd_of([column.scale * value for value in found if value is not None], column.decimals)


# ------------------------------------------------------------------------------------------------- items


def _state(found: Sequence[Any]) -> str:
    """Of the truth of each: all, some or none; nothing to ask is missing."""
    return "missing" if not any(found) else "complete" if all(found) else "partial"


def _over(records: Sequence[RunRecord], has: Callable[[RunRecord], Any]) -> str:
    return _state([has(record) for record in records])


def _of_results(scope: Scope) -> Answers:
    records = scope.records
    seeded = [record for use in scope.uses for record in use.runs]
    environments = {environment_of(record) for record in records}
    devices = sorted({device for device, _, _ in environments})
    commits = sorted({commit for _, _, commit in environments} - {UNKNOWN})
    said = ", ".join(commit[:12] + ("+" if commit.endswith("+") else "") for commit in commits) or NOTHING
    valid = sum(bool(record.metrics.get("valid")) for record in seeded)
    return {
        "model": ("complete", "One file for each model, with equation numbers."),
        "code": (
            _over(records, lambda r: r.commit and r.environment),
            said + ("; + marks modified code" if any(commit.endswith("+") for commit in commits) else ""),
        ),
        "device": (_over(records, lambda r: r.device), "; ".join(devices) or NOTHING),
        "time": (
            _over(records, lambda r: r.seconds is not None),
            f"{hours(records):.2f} run-hours in {len(records)} runs. {energy(records)}",
        ),
        "parameters": (
            _over(seeded, lambda r: r.parameters is not None),
            span([record.parameters for record in seeded if record.parameters is not None]),
        ),
        "valid": (
            _over(seeded, lambda r: r.valid_loss is not None and r.metrics.get("valid")),
            f"{valid} of {len(seeded)} seeded runs have it.",
        ),
        "metrics": ("complete", f"Protocol {scope.view.protocol}; all protocols are in every record."),
    }


def _of_searches(scope: Scope) -> Answers:
    uses = [use for use in scope.uses if use.study.searched]
    seeded = [len(use.runs) for use in scope.uses]
    bounds = [space_of(use.study) for use in uses]
    won = [use.study.selected is not None for use in uses]
    return {
        "runs": (
            _state([*(len(use.trials) + failed(use) >= len(use.study.trials) for use in uses), *seeded]),
            f"{span([len(use.study.trials) for use in uses])} trials for each searched row and {span(seeded)} "
            f"seeded runs for each row (the paper: 50, 5); {count_of(sum(map(failed, uses)), 'trial')} failed."
            if uses
            else "Nothing was searched.",
        ),
        "bounds": (_state(bounds), f"{sum(map(bool, bounds))} of {len(uses)} searches have them."),
        "winner": (_state(won), f"{sum(won)} of {len(uses)} searches have a winner."),
        "criterion": ("complete", "Uniform draws without repetition; lowest validation loss."),
        "score": (
            _state([(trial := winner(use)) and trial.valid_loss is not None for use in uses]),
            "The winner’s validation loss, and the seeded runs’.",
        ),
        "summary": (
            _state([runs > 1 for runs in seeded]),
            "Mean, sample standard deviation and n of every measured cell; a single run has no spread.",
        ),
    }


def _of_data(scope: Scope) -> Answers:
    manifests = list(scope.manifests.values())
    sizes = (f"{m.name}: {', '.join(f'{split} {n:,}' for split, n in m.sizes.items())}" for m in manifests)
    synthetic = ", ".join(m.name for m in manifests if m.synthetic)
    return {
        "splits": (_state([m.sizes for m in manifests]), "; ".join(sizes) or NOTHING),
        "language": (
            "missing",
            "Not recorded by importers." + (f" {synthetic}: made-up words." if synthetic else ""),
        ),
        "excluded": (
            _state([m.source or m.synthetic for m in manifests]),
            "Source, format and values set to 0 are in each manifest; what an importer drops is documented.",
        ),
        "source": (
            _state([m.files for m in manifests]),
            f"Made by this suite: {synthetic}."
            if synthetic
            else "Checksums of all files; the corpora are not ours to distribute.",
        ),
    }
