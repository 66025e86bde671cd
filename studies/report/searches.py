"""Searches and costs: the bounds, the trials, the winner and its validation loss; time, memory and energy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from hycon.errors import UserError
from studies.document.blocks import Bullets, Fold, Grid, Notice, Part, Section, Text, headings, numbers, wide
from studies.document.words import NOTHING, mean_sd_of, plain, settings, span
from studies.registry import MODELS, literal, search_space
from studies.report.scope import Scope, Use
from studies.store.record import RunRecord
from studies.store.study import Study


def space_of(study: Study) -> dict[str, list[Any]] | None:
    """Parameter -> its choices; None where neither the study nor this suite knows them.

    Studies from before they kept their space were drawn from the space of their model's VERSION.
    """
    if study.space is not None:
        return study.space
    if study.model not in MODELS or literal(study.model, "VERSION") != study.model_version:
        return None
    try:
        space = search_space(study.model, study.text, {**study.options, **study.row})
    except UserError:
        return None  # a front-end or an option that the model no longer has
    return {name: list(choices) for name, choices in space.items()}


def winner(use: Use) -> RunRecord | None:
    """The trial that was selected."""
    return next((record for record in use.trials if record.id == use.study.winner), None)


def failed(use: Use) -> int:
    """How many of its trials."""
    return sum(failure.id in use.study.trials for failure in use.failures)


# ------------------------------------------------------------------------------------------------- searches


def searches(scope: Scope) -> Section:
    uses = [use for use in scope.uses if use.study.searched]
    if not uses:
        return Section("searches", "Searches", (Notice("No search was run."),))
    said = Text(
        "All configurations of a search are drawn before anything runs, uniformly from the choices of the space. "
        "The lowest validation loss wins; the test split plays no part. Then the winner is trained again with new "
        "seeds, and only those runs are in the tables."
    )
    grid = Grid(
        "search-summary",
        "One line for each search. Validation loss: the task loss over the validation split at the best epoch.",
        (
            *headings("Row", "Corpus"),
            *numbers("Trials done", "Trials failed", "Size of the space"),
            *numbers("Winner’s validation loss", "Validation loss of the seeded runs"),
            *wide("Winning configuration", "Fixed"),
        ),
        tuple(_search_line(use) for use in uses),
    )
    others = tuple(_unsearched(use) for use in scope.uses if not use.study.searched)
    title = f"{len(others)} rows without a search of their own"
    without = [Part("unsearched", title, (Bullets(others),), True)] if others else []
    details = Part("search-details", "Bounds and winner of each search", tuple(map(_details, uses)), closed=True)
    return Section("searches", "Searches", (said, grid, *without, details))


def _unsearched(use: Use) -> str:
    study = use.study
    if study.measured:
        return f"{use.row.name} on {study.corpus} was not searched but measured, with {settings(study.options)} fixed."
    taken = settings({**(study.chosen or {}), **study.options, **study.row})
    return (
        f"{use.row.name} on {study.corpus} was not searched: it has its intact row’s winner’s configuration, {taken}."
    )


def _search_line(use: Use) -> tuple[str, ...]:
    study, won = use.study, winner(use)
    space = space_of(study)
    losses = [record.valid_loss for record in use.runs if record.valid_loss is not None]
    return (
        use.row.name,
        study.corpus,
        f"{len(use.trials)} of {len(study.trials)}",
        str(failed(use)),
        f"{math.prod(len(choices) for choices in space.values()):,}" if space else NOTHING,
        f"{won.valid_loss:.4f}" if won and won.valid_loss is not None else NOTHING,
        mean_sd_of(losses, 4),
        settings(study.chosen) if study.chosen is not None else "search under way",
        settings({**study.options, **study.row}),
    )


def _details(use: Use) -> Fold:
    study = use.study
    space = space_of(study)
    chosen = study.chosen or {}
    names = list(dict.fromkeys(name for drawn in study.draws for name in drawn))
    lines = [
        (
            name,
            ", ".join(plain(choice) for choice in space[name]) if space and name in space else "not recorded",
            str(len({json.dumps(drawn.get(name)) for drawn in study.draws})),
            plain(chosen[name]) if name in chosen else NOTHING,
        )
        for name in names
    ]
    grid = Grid(
        f"space-{study.id}",
        f"Bounds of the search for {use.row.name} on {study.corpus}, study {study.id}, which fills "
        f"{'; '.join(use.rows)}.",
        (*headings("Hyper-parameter"), *wide("Choices"), *numbers("Drawn"), *headings("Winner")),
        tuple(lines),
    )
    return Fold(f"search-{study.id}", f"{use.row.name} on {study.corpus}: bounds and winner", (grid,))


# ------------------------------------------------------------------------------------------------- costs


def hours(records: Sequence[RunRecord]) -> float:
    """Run-hours: the sum of the runs' training times, however many ran side by side."""
    return sum(record.seconds or 0.0 for record in records) / 3600


def energy(records: Sequence[RunRecord]) -> str:
    """In words: kWh by the devices' own counters, or that none measured it."""
    known = [record.energy_joules for record in records if record.energy_joules is not None]
    if not known:
        return "Energy: not measured; no device reported it."
    return (
        f"Energy: {sum(known) / 3.6e6:.3g} kWh in {len(known)} of {len(records)} runs, by the counters of the whole "
        "devices; runs side by side on one device count it more than once."
    )


def costs(scope: Scope) -> Section:
    records = scope.records
    if not records:
        return Section("costs", "Costs", (Notice("Nothing was run."),))
    unknown = sum(record.seconds is None for record in records)
    said = (
        f"{len(records)} finished runs took {hours(records):.2f} run-hours of training: the sum over runs, not the "
        f"time on the wall, and without the {sum(len(use.failures) for use in scope.uses)} failed runs."
    )
    if unknown:
        said += f" {unknown} runs did not record their time."
    grid = Grid(
        "cost-summary",
        "Search and seeded runs together; times of the seeded runs are mean ± sd (n). Times on shared or different "
        "machines do not compare; the machines are listed below.",
        (
            *headings("Row", "Corpus"),
            *numbers("Runs", "Run-hours", "Parameters"),
            *numbers("One run [s]", "One epoch [s]", "Test split [s]", "Peak memory [MiB]"),
        ),
        tuple(_cost_line(use) for use in scope.uses if use.done),
    )
    return Section("costs", "Costs", (Text(said), Text(energy(records)), grid))


def _cost_line(use: Use) -> tuple[str, ...]:
    measured = use.runs or use.trials

    def over(name: str, decimals: int) -> str:
        return mean_sd_of([value for r in measured if (value := getattr(r, name)) is not None], decimals)

    return (
        use.row.name,
        use.study.corpus,
        str(len(use.done)),
        f"{hours(use.done):.3f}",
        span([record.parameters for record in measured if record.parameters is not None]),
        over("seconds", 1),
        over("seconds_per_epoch", 2),
        over("test_seconds", 3),
        over("peak_memory_mib", 0),
    )
