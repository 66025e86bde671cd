"""What a row of a table asks to be run: the trials of its search, and the seeded runs of its winner.

A variant (an ablation) has no search: it follows its intact row, whose winner's configuration it takes, with its own
options in place of the winner's. Only `--own-search` searches it. Rows of Table 8 are measured: no search at all.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hycon.data.manifest import Manifest
from hycon.errors import UserError
from studies.lookup import Profile, corpus_for, corpus_name, fixed_options, recorded_profile
from studies.registry import MODELS
from studies.search.draws import draw
from studies.search.seeds import derive_seed
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, load_studies
from studies.tables import Row, TableSpec


@dataclass(frozen=True)
class Setting:
    """What a command fixes for all rows of a table."""

    manifest: Manifest
    profile: Profile
    encoders: Mapping[str, dict[str, str]]  # "bert"/"xlnet" -> {"name", "sha256"}
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)  # --set
    own_search: bool = False  # variants too are searched, each by itself
    absent: frozenset[str] = frozenset()  # encoders that are not on this machine: only a dry run has any


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
    own_search: bool = False,
    dry: RunStore | None = None,
) -> Setting:
    """What a command fixes for all rows. encoders: front-end -> name or folder; only those that rows need are read.

    own_search: variants too are searched.  dry: for a dry run on this store. Nothing is fetched or left behind: a demo
    corpus that has to be made is thrown away again, and an encoder that is not here is the one that the store's studies
    with its name have.
    """
    from hycon.pretrained import DEFAULT, identify

    if any(row.measured for row in rows) and (profile.patience or "patience" in (options or {})):
        raise UserError(
            "--patience is for early stopping; a measurement has none: each run takes all its epochs. Leave it out."
        )
    manifest = corpus_for(corpus_name(table, profile, corpus), data, keep=dry is None)
    check_task(table, manifest)
    names = {**DEFAULT, **profile.encoders, **(encoders or {})}
    needed = {row.text for row in rows if row.model in MODELS} & set(DEFAULT)
    if dry is None:
        identified, absent = {kind: identify(kind, names[kind]) for kind in sorted(needed)}, set[str]()
    else:
        identified, absent = _remembered({kind: names[kind] for kind in sorted(needed)}, dry)
    device = device.split(":")[0]
    return Setting(manifest, profile, identified, device, dict(options or {}), own_search, frozenset(absent))


def check_task(table: TableSpec, manifest: Manifest) -> None:
    """Raises UserError where the labels of the corpus are not of the table's kind."""
    if manifest.task != table.task:
        raise UserError(
            f"{table.name} is about {table.task}s; the labels of corpus {manifest.name} are {manifest.task}s."
        )


def _remembered(names: Mapping[str, str], store: RunStore) -> tuple[dict[str, dict[str, str]], set[str]]:
    """Front-end -> its encoder as it is here, or as studies had it; and the front-ends whose encoder is not here."""
    from hycon.pretrained import identify, short_name

    found, absent = {}, set()
    for kind, name in names.items():
        try:
            found[kind] = identify(kind, name, fetch=False)
        except UserError:
            absent.add(kind)
            known = (study.encoder for study in load_studies(store) if study.text == kind and study.encoder)
            unknown = {"name": short_name(name), "sha256": ""}
            found[kind] = next((encoder for encoder in known if encoder["name"] == unknown["name"]), unknown)
    return found, absent


def built(rows: Sequence[Row]) -> list[Row]:
    """The rows whose model exists."""
    return [row for row in rows if row.model in MODELS]


def options_of(row: Row, setting: Setting) -> dict[str, Any]:
    """What the user, the profile and, for Table 8, the measurement fix."""
    return fixed_options(row, setting.profile, setting.options)


def row_of(spec: RunSpec, rows: Sequence[Row]) -> Row | None:
    """Which of `rows` a run is of: the one with most of the options that it has; None where it is of none."""
    options = {**spec.config, **spec.training}
    fitting = [r for r in rows if (r.model, r.text) == (spec.model, spec.text) and r.config.items() <= options.items()]
    return max(fitting, key=lambda row: len(row.config), default=None)


def follows(row: Row, setting: Setting) -> Row | None:
    """The row whose winner `row` takes; None for a row that is searched, or measured."""
    return None if setting.own_search else row.intact


def searched_rows(rows: Sequence[Row], setting: Setting) -> list[Row]:
    """The rows whose searches `rows` need, each study once: their own, or those of the rows that they follow."""
    needed = (follows(row, setting) or row for row in rows if not row.measured)
    asked = {row.key: row for row in reversed(rows)}  # under the names that the caller knows
    return list({row.key: asked.get(row.key, row) for row in needed}.values())


def trial_specs(row: Row, setting: Setting) -> tuple[Study, list[RunSpec]]:
    """The study of a searched row as planned, and the specs of its trials."""
    from studies.registry import search_space

    options = options_of(row, setting)
    space = search_space(row.model, row.text, configuration({}, row.config, options))
    axes = _axes(row, setting)
    draws = draw(space, setting.profile.trials, *axes, "search")
    planned = [configuration(d, row.config, options) for d in draws]
    specs = [_spec(row, setting, overrides, (*axes, "trial", i)) for i, overrides in enumerate(planned)]
    choices = {name: list(choices) for name, choices in space.items()}
    return _study(row, setting, draws=draws, trials=[spec.id for spec in specs], space=choices), specs


def following(row: Row, setting: Setting, intact: Study) -> Study:
    """The study of a variant: the configuration of the intact row's winner, changed where the row's differs."""
    assert intact.selected is not None
    draws, trials = [intact.draws[intact.selected]], [intact.trials[intact.selected]]
    return _with_runs(row, setting, _study(row, setting, draws=draws, trials=trials, selected=0, winner_of=intact.id))


def measurement(row: Row, setting: Setting) -> Study:
    """The study of a row that is measured, not searched."""
    return _with_runs(row, setting, _study(row, setting, draws=[], trials=[], measured=True))


def expected(row: Row, setting: Setting, search: Study | None) -> Study:
    """The study of a row, be its search at an end or not: the first draw stands for a winner that is still unknown.

    search: of the row itself or of the one that it follows; None where it is measured.
    """
    if row.measured:
        return measurement(row, setting)
    assert search is not None
    search = search if search.selected is not None else dataclasses.replace(search, selected=0)
    return following(row, setting, search) if follows(row, setting) else search


def _study(row: Row, setting: Setting, **found: Any) -> Study:
    from studies.registry import source_of

    return Study(
        model=row.model,
        text=row.text,
        corpus=setting.manifest.name,
        data=setting.manifest.sha256,
        row=dict(row.config),
        options=options_of(row, setting),
        encoder=setting.encoders.get(row.text),
        device=setting.device,
        profile=recorded_profile(setting.profile.name),
        model_version=_version(row.model),
        number=row.study,
        source=source_of(row.model),
        **found,
    )


def _with_runs(row: Row, setting: Setting, study: Study) -> Study:
    return dataclasses.replace(study, runs=[spec.id for spec in repeat_specs(row, setting, study)])


def repeat_specs(row: Row, setting: Setting, study: Study) -> list[RunSpec]:
    """The seeded runs of the configuration that the study has chosen."""
    assert study.chosen is not None
    axes = _axes(row, setting)
    overrides = configuration(study.chosen, study.row, study.options)
    return [_spec(row, setting, overrides, (*axes, "repeat", i)) for i in range(setting.profile.seeds)]


def configuration(drawn: Mapping[str, Any], row: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides of a run: a draw, its own or an intact row's; over it what was fixed, by the user or the profile;
    over all what makes the row."""
    return {**drawn, **fixed, **row}


def seed_of(study: Study, what: str, number: int) -> int:
    """The seed of a study's "trial" of that number, or of its seeded run ("repeat"), counted from 0."""
    return derive_seed(*_named(study.model, study.corpus, study.text, study.number), what, number)


def _axes(row: Row, setting: Setting) -> tuple[object, ...]:
    """What the row's draws and seeds are derived from; the options are not among them, so a variant's seeded runs are
    pairs with its intact row's."""
    return _named(row.model, setting.manifest.name, row.text, row.study)


def _named(model: str, corpus: str, text: str, study: int) -> tuple[object, ...]:
    return (model, corpus, text, "study", study) if study else (model, corpus, text)


def _spec(row: Row, setting: Setting, overrides: Mapping[str, Any], axes: Sequence[object]) -> RunSpec:
    from hycon.config import settings
    from hycon.precision import check_trainable
    from studies.registry import resolve, source_of

    config, training = resolve(row.model, row.text, overrides)
    check_trainable(training.precision, setting.device)
    return RunSpec(
        model=row.model,
        version=_version(row.model),
        text=row.text,
        corpus=setting.manifest.name,
        data=setting.manifest.sha256,
        config=settings(config),
        training=settings(training),
        seed=derive_seed(*axes),
        encoder=setting.encoders.get(row.text),
        device=setting.device,
        source=source_of(row.model),
    )


def _version(model: str) -> int:
    """A model's VERSION. Raises UserError for anything but a whole number: a record with it could not be read again."""
    from studies.registry import model_module, path_of

    version = model_module(model).VERSION
    if type(version) is not int:
        raise UserError(f"VERSION in {path_of(model)} is {version!r}; expected a whole number, such as VERSION = 1.")
    return version
