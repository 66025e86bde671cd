"""A study on disk: one search over a row in one setting, and the seeded runs of its winner.

It is written to results/studies/<id>.json before the search starts, and again when its winner is known. So a table can
be filled later without asking again how many trials or which encoder there were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hycon.data.manifest import Manifest
from hycon.errors import UserError
from hycon.files import write_atomic
from hycon.model_file import ModelFile
from studies.store.inside import make_folder, read_inside
from studies.store.record import canonical, read_object, without_source
from studies.store.run_store import RunStore, unwritable

STUDY_VERSION = 1


@dataclass(frozen=True)
class Study:
    """A search over one model in one setting, and its winner's seeded runs.

    row: the options that make the row what it is (HyCon-v2: beta).  options: what else was fixed, by the user or by
    the demo profile, epochs included.  draws: the configurations of the trials.
    trials: run ids, one a draw.  selected: index of the winner once it is known.  runs: the seeded runs' ids.
    number: the row's `study`, from 0.  space: parameter -> its choices, None in studies from before it was kept.
    winner_of: the id of the intact row's study whose winner this row takes; then the one draw and the one trial are
    that winner's, and no search was made for the row. None also in studies from before rows could do so.
    measured: neither searched nor stopped early; there are no draws.
    source: as in RunSpec.
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
    space: dict[str, list[Any]] | None = None
    winner_of: str | None = None
    measured: bool = False
    source: str | None = None
    version: int = STUDY_VERSION

    @property
    def searched(self) -> bool:
        """Whether the trials are this row's own search."""
        return not self.measured and self.winner_of is None

    @property
    def chosen(self) -> dict[str, Any] | None:
        """What the seeded runs have beside `row` and `options`; None while the search is under way."""
        if self.measured:
            return {}
        return None if self.selected is None else self.draws[self.selected]

    @property
    def winner(self) -> str | None:
        """The run id of the trial that was selected."""
        return None if self.selected is None else self.trials[self.selected]

    @property
    def id(self) -> str:
        encoder = self.encoder and self.encoder["sha256"]
        key: list[Any] = [self.model, self.text, self.data, self.row, self.options, encoder, self.trials]
        if self.measured:  # no trials, whose ids hold the rest
            key += ["measured", self.device, self.model_version, *([self.source] if self.source else [])]
        elif not self.searched:  # ids of searches are as they were before there was anything else
            key.append("winner of an intact row")
        return hashlib.sha256(canonical(key).encode()).hexdigest()[:16]


def conditions(study: Study) -> tuple[Any, ...]:
    """What two studies of one row have in common where they differ in trials, seeds and winner at most."""
    encoder = study.encoder and study.encoder["sha256"]
    kind = (study.measured, study.number, study.model_version)
    return (study.model, study.text, study.corpus, study.data, study.row, study.options, encoder, study.device, kind)


def goes_on(longer: Study, shorter: Study) -> bool:
    """Whether the search of `longer` begins with all trials of `shorter`."""
    same = conditions(longer) == conditions(shorter) and longer.searched == shorter.searched
    return same and longer.trials[: len(shorter.trials)] == shorter.trials


def save_study(store: RunStore, study: Study) -> None:
    text = json.dumps({"id": study.id, **without_source(dataclasses.asdict(study))}, indent=1, ensure_ascii=False)
    write_result(store, f"studies/{study.id}.json", text.encode())


def remember_corpus(store: RunStore, manifest: Manifest) -> None:
    """Keep the corpus's manifest beside the results, so that tables can be captioned where the corpus is not."""
    text = json.dumps(dataclasses.asdict(manifest), indent=1, ensure_ascii=False)
    write_result(store, f"corpora/{manifest.name}/manifest.json", text.encode())


def remember_model(store: RunStore, file: ModelFile) -> None:
    """Keep the content of a model's file from outside the repository, so that its runs can be verified later. Nothing
    executes it until it is given with --model."""
    write_result(store, f"models/{file.sha256[:16]}/{file.name}.py", file.content)


def write_result(store: RunStore, file: str, content: bytes) -> None:
    """A file of the results folder, whole or not at all. Raises UserError where it cannot be written."""
    path = store.root / file
    try:
        make_folder(store.root, path.parent)
        write_atomic(path, content)
    except OSError as error:
        raise unwritable(path, error) from error


def load_studies(store: RunStore) -> list[Study]:
    """All studies of a results folder, and of the one beside it those that it does not have.

    Raises UserError for one of a newer version; damaged ones are skipped.
    """
    found = (find_study(store, path.stem) for path in sorted((store.root / "studies").glob("*.json")))
    here = [study for study in found if study is not None]
    ids = {study.id for study in here}
    return here + [s for s in (load_studies(store.beside) if store.beside else ()) if s.id not in ids]


def unread_studies(store: RunStore) -> list[str]:
    """Names of the files that stand where studies do and cannot be read as such: cut off in a copy, or damaged."""
    paths = sorted((store.root / "studies").glob("*.json"))
    return [path.name for path in paths if not path.name.startswith(".") and find_study(store, path.stem) is None]


def is_beside(store: RunStore, study: Study) -> bool:
    """Whether a study is not in the results folder but in the one beside it."""
    return store.beside is not None and find_study(store, study.id) is None


def find_study(store: RunStore, study_id: str) -> Study | None:
    """One study of a results folder; None where it is not there, or damaged. Raises UserError as `load_studies`."""
    path = store.root / "studies" / f"{study_id}.json"
    try:
        study = read_study(read_inside(store.root, path), str(path))
    except (OSError, ValueError):
        return None
    return study if study.id == study_id else None  # what makes it another study was changed by hand


def read_study(content: bytes, name: str = "The study") -> Study:
    """A study file, which `name` names in messages.

    Raises ValueError where it is damaged, and UserError where a newer version of the suite wrote it.
    """
    study = msgspec.convert(read_object(content, name, STUDY_VERSION), Study)
    if study.encoder is not None and (lacking := {"name", "sha256"} - study.encoder.keys()):
        raise ValueError(f"its encoder has no {min(lacking)}")
    if len(study.draws) != len(study.trials):
        raise ValueError(f"it has {len(study.draws)} draws and {len(study.trials)} trials")
    if study.selected is not None and study.selected not in range(len(study.trials)):
        raise ValueError(f"its winner is {study.selected!r} of {len(study.trials)} trials")
    return study


def id_named(word: str, ids: Collection[str], what: str) -> str | None:
    """The one of `ids` that is `word`, or the only one that begins with it; None where none does. what: their noun.

    Raises UserError where several begin with it.
    """
    found = [word] if word in ids else [one for one in ids if word and one.startswith(word)]
    if len(found) > 1:
        shown = ", ".join(found[:4]) + (", ..." if len(found) > 4 else "")
        raise UserError(f"{word!r} does not name one {what}: {shown}; give more of its id.")
    return found[0] if found else None
