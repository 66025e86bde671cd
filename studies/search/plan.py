"""What a row of a table asks to be run: the trials of its search, and the seeded runs of its winner."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hycon.data.manifest import Manifest
from hycon.errors import UserError
from studies.lookup import Profile, corpus_for, corpus_name
from studies.registry import MODELS
from studies.search.draws import draw
from studies.search.seeds import derive_seed
from studies.store.record import RunSpec
from studies.store.study import Study
from studies.tables import Row, TableSpec


@dataclass(frozen=True)
class Setting:
    """What a command fixes for all rows of a table."""

    manifest: Manifest
    profile: Profile
    encoders: Mapping[str, dict[str, str]]  # "bert"/"xlnet" -> {"name", "sha256"}
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)  # --set


def setting_for(
    table: TableSpec,
    rows: Sequence[Row],
    profile: Profile,
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    encoders: Mapping[str, str] | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    keep: bool = True,
) -> Setting:
    """What a command fixes for all rows. encoders: front-end -> name or folder; only those that rows need are read.

    keep: whether a demo corpus that has to be made stays in the data folder.
    """
    from hycon.pretrained import DEFAULT, identify

    manifest = corpus_for(corpus_name(table, profile, corpus), data, keep)
    if manifest.task != table.task:
        raise UserError(
            f"{table.name} is about {table.task}s; the labels of corpus {manifest.name} are {manifest.task}s."
        )
    names = {**DEFAULT, **profile.encoders, **(encoders or {})}
    needed = {row.text for row in rows if row.model in MODELS} & set(DEFAULT)
    identified = {kind: identify(kind, names[kind]) for kind in sorted(needed)}
    return Setting(manifest, profile, identified, device.split(":")[0], dict(options or {}))


def built(rows: Sequence[Row]) -> list[Row]:
    """The rows whose model exists."""
    return [row for row in rows if row.model in MODELS]


def trial_specs(row: Row, setting: Setting) -> tuple[Study, list[RunSpec]]:
    """The study of a row as planned, and the specs of its trials."""
    from studies.registry import search_space

    options = {**demo_options(row, setting), **setting.options}
    if setting.profile.epochs:
        options.setdefault("epochs", setting.profile.epochs)
    overrides = {**row.config, **options}
    space = search_space(row.model, row.text, overrides)
    axes = _axes(row, setting)
    draws = draw(space, setting.profile.trials, *axes, "search")
    specs = [_spec(row, setting, {**overrides, **d}, (*axes, "trial", i)) for i, d in enumerate(draws)]
    study = Study(
        model=row.model,
        text=row.text,
        corpus=setting.manifest.name,
        data=setting.manifest.sha256,
        row=dict(row.config),
        options=options,
        encoder=setting.encoders.get(row.text),
        device=setting.device,
        profile=setting.profile.name,
        draws=draws,
        trials=[spec.id for spec in specs],
        model_version=specs[0].version,
        number=row.study,
        space={name: list(choices) for name, choices in space.items()},
    )
    return study, specs


def repeat_specs(row: Row, setting: Setting, study: Study) -> list[RunSpec]:
    """The seeded runs of the study's winner."""
    assert study.selected is not None
    overrides = {**study.row, **study.options, **study.draws[study.selected]}
    axes = _axes(row, setting)
    return [_spec(row, setting, overrides, (*axes, "repeat", i)) for i in range(setting.profile.seeds)]


def _axes(row: Row, setting: Setting) -> tuple[object, ...]:
    """What the row's draws and seeds are derived from; the options are not among them, so variants share both."""
    axes = (row.model, setting.manifest.name, row.text)
    return (*axes, "study", row.study) if row.study else axes


def _spec(row: Row, setting: Setting, overrides: Mapping[str, Any], axes: Sequence[object]) -> RunSpec:
    from hycon.config import settings
    from studies.registry import model_module, resolve

    config, training = resolve(row.model, row.text, overrides)
    return RunSpec(
        model=row.model,
        version=model_module(row.model).VERSION,
        text=row.text,
        corpus=setting.manifest.name,
        data=setting.manifest.sha256,
        config=settings(config),
        training=dataclasses.asdict(training),
        seed=derive_seed(*axes),
        encoder=setting.encoders.get(row.text),
        device=setting.device,
    )


def demo_options(row: Row, setting: Setting) -> dict[str, Any]:
    """The demo profile's tiny, untrained encoders learn nothing at the paper's learning rate in five epochs."""
    if not setting.profile.demo:
        return {}
    from hycon.data.batch import form_of
    from studies.registry import model_module

    form = form_of(row.text)
    sizes = getattr(model_module(row.model), "DEMO", {}).get(form, {})
    return {**sizes, **({"lr": 1e-3} if form == "tokens" else {})}
