"""The reproducibility checklist, filled in from the results folder.

The items are those of the NLP reproducibility checklist (Dodge et al., "Show Your Work", EMNLP 2019, as EMNLP 2020 and
ACL/NAACL 2021 asked for it), in our words. An item is `complete` where every shown run has what it asks for, `partial`
where some have, and `missing` where none has; nothing is assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from studies.aggregate.cells import measures
from studies.document.blocks import Block, Grid, Heading, Section, Text
from studies.report.provenance import UNKNOWN, environment_of
from studies.report.scope import Scope, Use
from studies.report.searches import NOTHING, energy, hours, mean_sd, space_of, winner
from studies.store.record import RunRecord
from studies.tables import TABLES, Column


@dataclass(frozen=True)
class Item:
    asked: str
    state: str  # complete | partial | missing
    answer: str
    where: str  # the section or document that has the detail


def items(scope: Scope) -> list[Item]:
    """In the checklist's order: results, searches, data."""
    return [*_of_results(scope), *_of_searches(scope), *_of_data(scope)]


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
            (
                Heading("Item", wide=True),
                Heading("State", badge=True),
                Heading("Answer", wide=True),
                Heading("Detail", wide=True),
            ),
            tuple((item.asked, item.state, item.answer, item.where) for item in found),
        ),
    ]
    blocks += [grid for task in ("sentiment", "emotion") if (grid := validation_scores(scope, task))]
    return Section("checklist", "Reproducibility checklist", tuple(blocks))


def validation_scores(scope: Scope, task: str) -> Grid | None:
    """Each test score beside the validation score of the same runs; None where nothing of this task was measured."""
    uses = [use for use in scope.uses if use.runs and _task(use) == task]
    if not uses:
        return None
    protocol = scope.view.protocol
    columns = next(table for table in TABLES.values() if table.task == task).columns
    if task == "emotion":
        columns = tuple(column for column in columns if column.metric.startswith("average"))
    headings = [Heading("Row"), Heading("Corpus")]
    for column in columns:
        headings += [Heading(f"{column.heading}, valid", number=True), Heading(f"{column.heading}, test", number=True)]
    lines = [
        (
            use.row.name,
            use.study.corpus,
            *(_score(use.runs, split, column, protocol) for column in columns for split in ("valid", "test")),
        )
        for use in uses
    ]
    caption = f"Validation score for each test score ({task}): mean ± sd (n) of the same seeded runs."
    return Grid(f"validation-{task}", caption, tuple(headings), tuple(lines))


def _task(use: Use) -> str:
    return "emotion" if any("emotions" in record.metrics.get("test", {}) for record in use.runs) else "sentiment"


def _score(records: Sequence[RunRecord], split: str, column: Column, protocol: str) -> str:
    found = [measures(record, protocol, split).get(column.metric) for record in records]
    return mean_sd([column.scale * value for value in found if value is not None], column.decimals)


# ------------------------------------------------------------------------------------------------- items


def _state(found: Sequence[Any]) -> str:
    """Of the truth of each: all, some or none; nothing to ask is missing."""
    return "missing" if not any(found) else "complete" if all(found) else "partial"


def _over(records: Sequence[RunRecord], has: Callable[[RunRecord], Any]) -> str:
    return _state([has(record) for record in records])


def _of_results(scope: Scope) -> list[Item]:
    records = scope.records
    seeded = [record for use in scope.uses for record in use.runs]
    environments = {environment_of(record) for record in records}
    devices = sorted({device for device, _, _ in environments})
    commits = sorted({commit for _, _, commit in environments} - {UNKNOWN})
    counts = [record.parameters for record in seeded if record.parameters is not None]
    modified = any(commit.endswith("+") for commit in commits)
    return [
        Item(
            "Description of the mathematical setting, algorithm and model",
            "complete",
            "One file a model, with equation numbers.",
            "hycon/, baselines/; Deviations from the papers",
        ),
        Item(
            "Source code with dependencies and the commit that ran",
            _over(records, lambda r: r.commit and r.environment),
            (", ".join(map(_short, commits)) or NOTHING) + ("; + marks modified code" if modified else ""),
            "Environments and data",
        ),
        Item(
            "Computing infrastructure",
            _over(records, lambda r: r.device),
            "; ".join(devices) or NOTHING,
            "Environments and data",
        ),
        Item(
            "Run time of each model, or energy",
            _over(records, lambda r: r.seconds is not None),
            f"{hours(records):.2f} run-hours in {len(records)} runs. {energy(records)}",
            "Costs",
        ),
        Item(
            "Number of parameters of each model",
            _over(seeded, lambda r: r.parameters is not None),
            f"{min(counts):,} to {max(counts):,}" if counts else NOTHING,
            "Costs",
        ),
        Item(
            "Validation performance for each test result",
            _over(seeded, lambda r: r.valid_loss is not None and r.metrics.get("valid")),
            f"{sum(bool(r.metrics.get('valid')) for r in seeded)} of {len(seeded)} seeded runs have it.",
            "the table below",
        ),
        Item(
            "Metrics, and the code that computes them",
            "complete",
            f"Protocol {scope.view.protocol}; all protocols are in every record.",
            "docs/protocol.md; hycon/metrics.py",
        ),
    ]


def _of_searches(scope: Scope) -> list[Item]:
    uses = scope.uses
    drawn = [len(use.study.trials) for use in uses]
    seeds = [len(use.runs) for use in uses]
    failed = sum(map(_failures, uses))
    bounds = [space_of(scope.store, use.study.id) for use in uses]
    return [
        Item(
            "Number of runs: search trials and repeats",
            _state([len(use.trials) + _failures(use) >= len(use.study.trials) and use.runs for use in uses]),
            f"{_range(drawn)} trials and {_range(seeds)} seeded runs a row (the paper: 50, 5); {failed} trials failed."
            if uses
            else "Nothing was run.",
            "Searches",
        ),
        Item(
            "Bounds for each hyper-parameter",
            _state(bounds),
            f"{sum(map(bool, bounds))} of {len(uses)} searches have them.",
            "Searches",
        ),
        Item(
            "Configuration of the best-performing model",
            _state([use.study.selected is not None for use in uses]),
            f"{sum(use.study.selected is not None for use in uses)} of {len(uses)} searches have a winner.",
            "Searches",
        ),
        Item(
            "Method of choosing values, and the criterion",
            "complete",
            "Uniform draws without repetition; lowest validation loss.",
            "docs/protocol.md",
        ),
        Item(
            "Validation score of the selected configuration",
            _state([(won := winner(use)) and won.valid_loss is not None for use in uses]),
            "The winner’s validation loss, and the seeded runs’.",
            "Searches",
        ),
        Item(
            "Summary statistics of the results",
            _state([len(use.runs) > 1 for use in uses]),
            "Mean, sample standard deviation and n of every measured cell; a single run has no spread.",
            "Tables",
        ),
    ]


def _of_data(scope: Scope) -> list[Item]:
    manifests = list(scope.manifests.values())
    synthetic = [m.name for m in manifests if m.synthetic]
    return [
        Item(
            "Number of examples and details of the splits",
            _state([m.sizes for m in manifests]),
            "; ".join(f"{m.name}: {', '.join(f'{k} {v:,}' for k, v in m.sizes.items())}" for m in manifests) or NOTHING,
            "Environments and data",
        ),
        Item(
            "Language of the data",
            "missing",
            "Not recorded by importers." + (f" {', '.join(synthetic)}: made-up words." if synthetic else ""),
            NOTHING,
        ),
        Item(
            "Excluded data and preprocessing",
            _state([m.source or m.synthetic for m in manifests]),
            "Source, format and values set to 0 are in each manifest; what an importer drops is documented.",
            "Environments and data; docs/data.md",
        ),
        Item(
            "Where the data can be had, with checksums",
            _state([m.files for m in manifests]),
            "Checksums of all files; the corpora are not ours to distribute."
            if not synthetic
            else f"Made by this suite: {', '.join(synthetic)}.",
            "Environments and data; docs/data.md",
        ),
    ]


def _short(commit: str) -> str:
    return commit[:12] + ("+" if commit.endswith("+") else "")


def _failures(use: Use) -> int:
    return sum(failure.id in use.study.trials for failure in use.failures)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
