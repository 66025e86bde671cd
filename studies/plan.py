"""From "run this row" to runs: a study is one search plus the seeded runs of its winner.

A study is written to results/studies/<id>.json before it starts, and again when its winner is known, so that tables
can be assembled later without asking again how many trials or which encoder there were. Validation chooses; the test
split is measured in every run and read by tables only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hycon.data.corpus import Manifest
from hycon.errors import UserError
from studies.runs import RunRecord, RunSpec, canonical, is_list, is_object
from studies.store import RunStore, write_atomic
from studies.tables import Row

STUDY_VERSION = 1


@dataclass(frozen=True)
class Profile:
    """How much is run. epochs: None keeps each model's own."""

    name: str
    trials: int
    seeds: int
    epochs: int | None = None
    demo: bool = False  # made-up corpora, tiny sizes
    encoders: Mapping[str, str] = field(default_factory=dict)


PROFILES = {
    "paper": Profile("paper", trials=50, seeds=5),  # sec. 4.4(1)
    "demo": Profile("demo", 2, 2, epochs=5, demo=True, encoders={"bert": "demo", "xlnet": "demo"}),
}


@dataclass(frozen=True)
class Study:
    """A search over one model in one setting, and its winner's seeded runs.

    row: the options that make the row what it is (HyCon-v2: beta).  options: what else was fixed, by the user or by
    the demo profile, epochs included.  draws: the configurations of the trials.
    trials: run ids, one a draw.  selected: index of the winner once it is known.  runs: the seeded runs' ids.
    number: the row's `study`, from 0.
    """

    model: str
    text: str
    corpus: str
    data: str
    row: dict[str, Any]
    options: dict[str, Any]
    encoder: dict[str, str] | None
    device: str
    profile: str
    draws: list[dict[str, Any]]
    trials: list[str]
    selected: int | None = None
    runs: list[str] = field(default_factory=list)
    model_version: int = 0  # the model's VERSION; 0 in studies from before it was kept
    number: int = 0
    version: int = STUDY_VERSION

    @property
    def id(self) -> str:
        key = [
            self.model,
            self.text,
            self.data,
            self.row,
            self.options,
            self.encoder and self.encoder["sha256"],
            self.trials,
        ]
        return hashlib.sha256(canonical(key).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Setting:
    """What a command fixes for all rows of a table."""

    manifest: Manifest
    profile: Profile
    encoders: Mapping[str, dict[str, str]]  # "bert"/"xlnet" -> {"name", "sha256"}
    device: str = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)  # --set


def trial_specs(row: Row, setting: Setting) -> tuple[Study, list[RunSpec]]:
    """The study of a row as planned, and the specs of its trials."""
    from studies.registry import search_space
    from studies.search import draw

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
    )
    return study, specs


def _axes(row: Row, setting: Setting) -> tuple[object, ...]:
    """What the row's draws and seeds are derived from; the options are not among them, so variants share both."""
    axes = (row.model, setting.manifest.name, row.text)
    return (*axes, "study", row.study) if row.study else axes


def repeat_specs(row: Row, setting: Setting, study: Study) -> list[RunSpec]:
    """The seeded runs of the study's winner."""
    assert study.selected is not None
    overrides = {**study.row, **study.options, **study.draws[study.selected]}
    axes = _axes(row, setting)
    return [_spec(row, setting, overrides, (*axes, "repeat", i)) for i in range(setting.profile.seeds)]


def _spec(row: Row, setting: Setting, overrides: Mapping[str, Any], axes: Sequence[object]) -> RunSpec:
    from hycon.options import settings
    from studies.registry import model_module, resolve
    from studies.seeds import derive_seed

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
    from hycon.data.batching import form_of
    from studies.registry import model_module

    form = form_of(row.text)
    sizes = getattr(model_module(row.model), "DEMO", {}).get(form, {})
    return {**sizes, **({"lr": 1e-3} if form == "tokens" else {})}


# ------------------------------------------------------------------------------------------------- on disk


def save_study(store: RunStore, study: Study) -> None:
    text = json.dumps({"id": study.id, **dataclasses.asdict(study)}, indent=1, ensure_ascii=False)
    write_result(store, f"studies/{study.id}.json", text.encode())


def remember_corpus(store: RunStore, manifest: Manifest) -> None:
    """Keep the corpus's manifest beside the results, so that tables can be captioned where the corpus is not."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
    write_result(store, f"corpora/{manifest.name}/manifest.json", text.encode())


def write_result(store: RunStore, file: str, content: bytes) -> None:
    """A file of the results folder, whole or not at all. Raises UserError where it cannot be written."""
    path = store.root / file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"Cannot write {path} ({reason}): free space, or give another --results.") from error


def load_studies(store: RunStore) -> list[Study]:
    """All studies of a results folder. Raises UserError for one of a newer version; damaged ones are skipped."""
    studies = []
    for path in sorted((store.root / "studies").glob("*.json")):
        try:
            studies.append(read_study(path.read_bytes(), str(path)))
        except (ValueError, TypeError, AttributeError, RecursionError):
            continue
    return studies


def read_study(content: bytes, name: str = "it") -> Study:
    """A study file. Raises UserError for one of a newer version; ValueError, TypeError or AttributeError where it is
    damaged. name: what the sentence calls it."""
    raw = json.loads(content)
    if raw.get("version", 0) > STUDY_VERSION:
        raise UserError(f"{name} was written by a newer version of this suite: upgrade.")
    known = {f.name for f in dataclasses.fields(Study)}
    study = Study(**{k: v for k, v in raw.items() if k in known})
    texts = (study.model, study.text, study.corpus, study.data, study.device, study.profile)
    kinds = [isinstance(text, str) for text in texts]
    kinds += [is_object(study.row), is_object(study.options), study.encoder is None or is_object(study.encoder)]
    kinds += [is_list(study.draws, is_object)]
    kinds += [is_list(names, lambda name: isinstance(name, str)) for names in (study.trials, study.runs)]
    kinds += [isinstance(number, int) for number in (study.model_version, study.number)]
    if not all(kinds):
        raise ValueError("a field of it is not of its kind")
    if study.selected is not None and study.selected not in range(min(len(study.trials), len(study.draws))):
        raise ValueError(f"its winner is {study.selected!r} of {len(study.trials)} trials")
    return study


def study_of(
    row: Row,
    studies: Iterable[Study],
    corpus: str,
    profile: str | None,
    encoders: Mapping[str, str],
    data: str | None = None,
) -> Study | None:
    """The study that fills a row: of the asked profile and encoder where asked; then one on the data that the corpus
    holds now (`data`, its sha256) before one on what it held earlier; then the model's newest version; then the most
    thorough one."""
    fitting = [
        s
        for s in studies
        if (s.model, s.text, s.corpus, s.row, s.number) == (row.model, row.text, corpus, dict(row.config), row.study)
        and (profile is None or s.profile == profile)
        and (row.text not in encoders or (s.encoder or {}).get("name") == encoders[row.text])
    ]
    return max(fitting, key=lambda s: (s.data == data, s.model_version, len(s.runs), len(s.trials), s.id), default=None)


# ------------------------------------------------------------------------------------------------- doing it


def run_rows(
    rows: Sequence[Row],
    setting: Setting,
    store: RunStore,
    execute: Callable[[list[RunSpec]], Any],
) -> list[Study]:
    """Search every row, choose on validation, run the winners' seeds. execute: brings specs to an end.

    Safe to repeat: what is done is not done again. Returns a study per row, without winner where every trial failed.
    """
    planned = [(row, *trial_specs(row, setting)) for row in rows]
    remember_corpus(store, setting.manifest)
    known = {study.id for study in load_studies(store)}  # may have a winner already, which a table shows meanwhile
    for _, study, _ in planned:
        if study.id not in known:
            save_study(store, study)
    execute([spec for _, _, specs in planned for spec in specs])
    chosen = [(row, choose_winner(store, study, row, setting, specs)) for row, study, specs in planned]
    won = [(row, study) for row, study in chosen if study.selected is not None]
    execute([spec for row, study in won for spec in repeat_specs(row, setting, study)])
    return [study for _, study in chosen]


def choose_winner(store: RunStore, study: Study, row: Row, setting: Setting, specs: Sequence[RunSpec]) -> Study:
    """The study with its winner by validation loss (None where every trial failed), saved and entered in the ledger."""
    from studies.registry import search_space
    from studies.search import ledger, select

    records: dict[int, RunRecord | None] = {i: store.get(spec.id) for i, spec in enumerate(specs)}
    selected = select(records.items())
    study = dataclasses.replace(study, selected=selected)
    if selected is not None:
        study = dataclasses.replace(study, runs=[spec.id for spec in repeat_specs(row, setting, study)])
    save_study(store, study)
    space = search_space(row.model, row.text, {**study.row, **study.options})
    losses = {i: r.valid_loss if r else None for i, r in records.items()}
    name = f"{study.model}-{study.text}-{study.corpus}-{study.id}"
    if store.storage is None:
        ledger(store.root / "studies" / f"{study.id}.journal", name, study.draws, space, losses)
    else:
        with store.storage.alone():
            ledger(store.storage.sqlalchemy_url(), name, study.draws, space, losses)
    return study
