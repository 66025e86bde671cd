"""Names as commands give them become objects: tables, rows, profiles, corpora, the results folder."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from hycon.data.manifest import PAPER, Manifest, corpus_folder, existing_folder, named_after, read_manifest
from hycon.errors import UserError, check_known, nearest
from hycon.metrics import PROTOCOL_NAMES, protocol_for
from studies.authors.rows import own_rows, with_models
from studies.authors.table_file import is_table_file, read_table_file
from studies.registry import MODELS, literal, source_of
from studies.store.inside import check_results, fit
from studies.store.outputs import Labels
from studies.store.run_store import RunStore
from studies.store.study import Study, id_named, is_beside, load_studies
from studies.tables import MEASURED_BATCH, MEASURED_EPOCHS, TABLES, Row, TableSpec, with_studies

DEMO_CORPORA = {"sentiment": "synthetic", "emotion": "synthetic_emotions"}  # task -> name
LIMITS = ("epochs", "patience")  # options that `bench run` has beside --set
FEW = 8  # chosen here: of so many studies the nearest ids are worth naming
# corpus -> task, of those that are known before anything is imported
TASKS = {name: task for task, name in DEMO_CORPORA.items()} | {table.corpus: table.task for table in TABLES.values()}

_WILD = re.compile(r"[*?\[\]]+")  # makes a name of rows a pattern


@dataclass(frozen=True)
class Profile:
    """How much is run. epochs, patience: None keeps each model's own.
    shares: the profile whose searches and seeded runs this one goes on with, under that profile's name in files."""

    name: str
    trials: int
    seeds: int
    epochs: int | None = None
    patience: int | None = None
    shares: str | None = None
    demo: bool = False  # made-up corpora, tiny sizes
    encoders: Mapping[str, str] = field(default_factory=dict)


PROFILES = {
    "paper": Profile("paper", trials=50, seeds=5),  # sec. 4.4(1)
    # Five pairs cannot give p < 0.05, whatever they are (the smallest is 2 / 2^5); ten give 0.002.
    "decisive": Profile("decisive", trials=50, seeds=10, shares="paper"),
    "demo": Profile("demo", 2, 2, epochs=5, demo=True, encoders={"bert": "demo", "xlnet": "demo"}),
}


def recorded_profile(name: str) -> str:
    """The name in the study files of a profile's studies."""
    return (PROFILES[name].shares if name in PROFILES else None) or name


@dataclass(frozen=True)
class View:
    """Which of a folder's results are read, and how. Raises UserError for an unknown profile or protocol.

    corpus: None for each table's own, or the profile's demo corpus.  data: the folder of corpora, as for
    `hycon.data.load`.  profile: only studies of this profile; None for all.  encoders: front-end -> short name of the
    pretrained encoder, only studies with it.  protocol: whose metrics.  mixed: average also runs that differ in data,
    versions or environment (studies.aggregate.comparability).  options: only studies that were run with these options
    (`--set`, and epochs and patience), and first of all those run with nothing else.  studies: ids of studies that fill
    their rows before any other.  given: options of the command as it gave them, for commands that are printed.
    """

    corpus: str | None = None
    data: str | os.PathLike | None = None
    profile: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    protocol: str = "paper"
    mixed: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    studies: tuple[str, ...] = ()
    given: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check_known("protocol", self.protocol, PROTOCOL_NAMES)
        if self.profile is not None:
            check_known("profile", self.profile, PROFILES)

    def corpus_of(self, table: TableSpec) -> str:
        """The corpus that `table` is read on."""
        return corpus_name(table, PROFILES[self.profile] if self.profile else None, self.corpus)


def options_of(view: View) -> list[str]:
    """The options with which a command runs what `view` shows."""
    named = [("--corpus", view.corpus), ("--profile", view.profile)]
    encoders = [word for kind, name in view.encoders.items() for word in ("--encoder", f"{kind}={name}")]
    words = [word for option, value in named if value for word in (option, value)]
    return [*words, *(view.given or encoders), *set_words(view.options)]


def set_words(options: Mapping[str, Any]) -> list[str]:
    """Options of a model and its training as a command has them: --epochs 5 --set margin=0.5."""
    pairs = ((f"--{k}", str(v)) if k in LIMITS else ("--set", f"{k}={v}") for k, v in options.items())
    return [word for pair in pairs for word in pair]


DEFAULT_VIEW = View()  # all that a table shows of the paper's corpora


def results_root(root: str | os.PathLike | None = None) -> Path:
    """Where runs live: the argument, else $BENCH_RESULTS, else ./results."""
    root = Path(root or os.environ.get("BENCH_RESULTS") or "results")
    return existing_folder(root, "a results folder (--results or BENCH_RESULTS)")


def stored_results(root: str | os.PathLike | None = None) -> Path:
    """`results_root` for who only reads. Raises UserError where no such folder is there."""
    folder = results_root(root)
    if not folder.is_dir():
        raise UserError(f"There is no results folder {folder}: run a table first, or give --results.")
    check_results(folder)
    return folder


def view_for(
    results: str | os.PathLike | None,
    tables: Collection[TableSpec],
    *,
    corpus: str | None = None,
    data: str | os.PathLike | None = None,
    profile: str | None = None,
    encoders: Mapping[str, str] | None = None,
    protocol: str = "paper",
    mixed: bool = False,
    options: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    studies: Sequence[str] = (),
    beside: str | os.PathLike | None = None,
) -> tuple[RunStore, View, str]:
    """What a reading command shows, by its options: of which folder, what of it, and a sentence where one is due.

    results: the folder, as for `results_root`.  tables: those that are read.  encoders: front-end -> name or folder.
    options: as of `--set`.  studies: ids, or beginnings of them.  beside: another results folder, from which the rows
    are taken that this one has no runs of. Where the folder holds nothing on the corpora that are asked for, see
    `held_view`. Raises UserError for unknown names and studies, for a folder that is not there, and as that does.
    """
    from hycon.pretrained import short_name

    limits = {name: most for name, most in (("epochs", epochs), ("patience", patience)) if most is not None}
    names = {kind: short_name(name) for kind, name in (encoders or {}).items()}
    view = View(corpus, data, profile, names, protocol, mixed, {**(options or {}), **limits})
    other = stored_results(beside) if beside else None
    if corpus:
        manifest_of(corpus, data, *filter(None, (results_root(results), other)))  # raises where there is none
    folder = stored_results(results)
    labels = Labels(data)
    store = RunStore(folder, beside=RunStore(other, labels=labels) if other else None, labels=labels)
    known = load_studies(store)
    named = [study_named(study, known, folder) for study in studies]
    for study in named:
        _check_shown(study, tables, corpus)
        if not any(view.corpus_of(table) == study.corpus for table in tables):
            view = dataclasses.replace(view, corpus=study.corpus)
    view = dataclasses.replace(view, studies=tuple(study.id for study in named))
    own = [study for study in known if not is_beside(store, study)]
    view, said = held_view(view, tables, own or known, folder)
    manifest = known_manifest(view.corpus, data, *store.roots) if view.corpus else None
    return store, in_range(view, manifest), said


def in_range(view: View, manifest: Manifest | None) -> View:
    """The view with the protocol that its name means for the labels of a corpus. Raises UserError where it has none."""
    if not manifest or manifest.task != "sentiment":
        return view
    return dataclasses.replace(view, protocol=protocol_for(view.protocol, manifest.label_bound))


def study_named(prefix: str, studies: Sequence[Study], results: Path) -> Study:
    """The study whose id is or begins with `prefix`. Raises UserError where that names none, or several."""
    by_id = {study.id: study for study in studies}
    if found := id_named(prefix, by_id, "study"):
        return by_id[found]
    hint = f"nearest: {nearest(prefix, by_id)}; " if by_id and len(by_id) <= FEW else ""
    raise UserError(f"No study {prefix!r} in {results} ({hint}`bench list studies` names them).")


def _check_shown(study: Study, tables: Collection[TableSpec], corpus: str | None) -> None:
    """Raises UserError where `study` can fill no row of the tables, or is on another corpus."""
    if corpus not in (None, study.corpus):
        raise UserError(f"Study {study.id} is on corpus {study.corpus}, not {corpus}.")
    if not any(is_of(study, row) for table in tables for row in table.rows):
        has = [table.name for table in TABLES.values() if any(is_of(study, row) for row in table.rows)]
        where = f"it is in {', '.join(has)}" if has else "no table has one"
        raise UserError(f"Study {study.id} is of no row of {', '.join(t.name for t in tables)}: {where}.")


def is_of(study: Study, row: Row) -> bool:
    """Whether it is a study of the row, on whatever corpus, with whatever options."""
    asked = (row.model, row.text, dict(row.config), row.study, row.measured, source_of(row.model))
    return (study.model, study.text, study.row, study.number, study.measured, study.source) == asked


def held_view(view: View, tables: Collection[TableSpec], studies: Sequence[Study], results: Path) -> tuple[View, str]:
    """The view of what a folder holds, where it holds nothing on the corpora of `view` and one other thing that fits
    the tables; and a sentence about that, "" where the view stays and nothing is to say.

    Raises UserError where there are several other things.
    """
    corpora = {view.corpus_of(table) for table in tables}
    fitting = [s for s in studies if view.profile is None or s.profile == recorded_profile(view.profile)]
    if not studies or any(study.corpus in corpora for study in fitting):
        return view, ""
    asked = " or ".join(sorted(corpora)) + (f", profile {view.profile}" if view.profile else "")
    others = [s for s in fitting if any(_serves(s.corpus, table, view, results) for table in tables)]
    found = {study.corpus for study in others}
    if view.corpus or not found:
        return view, f"{results} holds no runs on {asked}; it holds {held(studies)}"
    profiles = {study.profile for study in others}
    if profiles == {"demo"} and found <= set(DEMO_CORPORA.values()):
        view = dataclasses.replace(view, profile="demo")
    elif len(found) == 1:
        view = dataclasses.replace(view, corpus=next(iter(found)))
    else:
        raise UserError(f"{results} holds no runs on {asked}, but {held(others)}: name one with --corpus.")
    return view, f"{results} holds no runs on {asked}; shown: {held(others)}"


def held(studies: Iterable[Study]) -> str:
    """ "corpus synthetic (profile demo) and corpus mosi (profiles demo, paper)"."""
    profiles: dict[str, set[str]] = {}
    for study in studies:
        profiles.setdefault(study.corpus, set()).add(study.profile)
    return " and ".join(
        f"corpus {name} (profile{'s' if len(of) > 1 else ''} {', '.join(sorted(of))})"
        for name, of in sorted(profiles.items())
    )


def _serves(corpus: str, table: TableSpec, view: View, results: Path) -> bool:
    """Whether results on `corpus` belong in the table, which is about another: its labels are of that kind."""
    manifest = known_manifest(corpus, view.data, results)
    task = manifest.task if manifest else TASKS.get(corpus)
    return task in (None, table.task) and may_stand_for(corpus, table.corpus)


def may_stand_for(corpus: str, papers: str) -> bool:
    """mosi_resampled fills the tables on mosi, not the one on mosei; a corpus of any other name fills both."""
    return named_after(corpus, PAPER) in (None, papers)


def table_spec(name: str, studies: int | None = None) -> TableSpec:
    """The table of that name, or of the TOML file at that path (studies.authors.table_file).

    studies: how often each row is searched, in a table that repeats searches.
    """
    if not is_table_file(name):
        check_known("table", name, TABLES)
    table = read_table_file(name) if is_table_file(name) else TABLES[name]
    if studies is None or studies == table.studies:
        return table
    if table.studies == 1:
        repeating = ", ".join(t.name for t in TABLES.values() if t.studies > 1)
        raise UserError(f"--studies is {studies}, but {name} has one search a row; tables that repeat it: {repeating}.")
    if studies < 2:
        raise UserError(f"--studies is {studies}; expected at least 2: one search has no spread.")
    return with_studies(table, studies)


def profile_of(name: str, **changes: Any) -> Profile:
    """A named profile with trials, seeds, epochs or patience replaced where given."""
    check_known("profile", name, PROFILES)
    for key, value in changes.items():
        if value is not None and value < 1:
            raise UserError(f"--{key} is {value}; expected at least 1.")
    return dataclasses.replace(PROFILES[name], **{k: v for k, v in changes.items() if v is not None})


def pick_rows(table: TableSpec, names: Sequence[str] | None) -> list[Row]:
    """The rows of a table by the paper's names, or by patterns such as "HyCon*", each row once; all by default.

    Case does not matter. In a pattern, * is any text, ? one letter, [ab] one of these. Raises UserError for a name or
    pattern without a row.
    """
    if names is None:
        return list(table.rows)
    found: dict[str, Row] = {}
    for name in (name.strip() for name in names):
        exact = [row for row in table.rows if row.name.lower() == name.lower()]
        matching = exact or [row for row in table.rows if fnmatchcase(row.name.lower(), name.lower())]
        if not matching:
            known = [row.name for row in table.rows]
            if _WILD.search(name):
                raise UserError(f"{table.name} has no row that matches {name!r}; nearest: {_like(name, known)}.")
            raise UserError(f"{table.name} has no row {name!r}; nearest: {nearest(name, known)}.")
        found |= {row.name: row for row in matching}
    return list(found.values())


def _like(pattern: str, names: Sequence[str]) -> str:
    """The three names whose beginning, end or whole is most like what the pattern spells out."""
    from difflib import SequenceMatcher

    letters = _WILD.sub("", pattern).lower()
    size = len(letters)

    def likeness(name: str) -> float:
        parts = (name[:size], name[-size:], name)
        return max(SequenceMatcher(None, letters, part.lower()).ratio() for part in parts)

    return ", ".join(sorted(names, key=likeness, reverse=True)[:3])


def with_own(table: TableSpec, names: Sequence[str] | None, models: Sequence[str]) -> tuple[TableSpec, list[Row]]:
    """A table with the rows of `models`, and which of its rows are asked for: those named, all where none is.

    With models, their rows are asked for too, and alone where no row is named; some of them where some are named.
    """
    if not models:
        return table, pick_rows(table, names)
    table = with_models(table, models)
    own, named = own_rows(table, models), pick_rows(table, names) if names else []
    return table, named if any(row in own for row in named) else [*named, *own]


def fixed_options(row: Row, profile: Profile, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a study of the row has beside its draws: `options`, what the profile fixes, and what Table 8 does.

    Imports no torch: whoever reads a table asks too.
    """
    fixed = {**_demo_options(row), **options} if profile.demo else dict(options)
    for name in LIMITS:
        if most := getattr(profile, name):
            fixed.setdefault(name, most)
    if row.measured:
        fixed = {"batch_size": MEASURED_BATCH, "epochs": MEASURED_EPOCHS, **fixed}
        fixed["patience"] = fixed["epochs"]  # more than can pass: never stopped early
    return fixed


def _demo_options(row: Row) -> dict[str, Any]:
    """The demo profile's tiny, untrained encoders learn nothing at the paper's learning rate in five epochs."""
    tokens = row.text in ("bert", "xlnet")
    sizes = _demo_sizes(row.model).get("tokens" if tokens else "vectors", {})
    return {**sizes, **({"lr": 1e-3} if tokens else {})}


@cache
def _demo_sizes(model: str) -> dict[str, dict[str, Any]]:
    return (literal(model, "DEMO") if model in MODELS else None) or {}


def corpus_name(table: TableSpec, profile: Profile | None, corpus: str | None) -> str:
    """The corpus that was asked for, or the profile's for this kind of table, or the paper's."""
    demo = DEMO_CORPORA[table.task] if profile and profile.demo else None
    return corpus or demo or table.corpus


def corpus_for(name: str, data: str | os.PathLike | None, keep: bool = True) -> Manifest:
    """The manifest of a corpus; a demo corpus is made where it is missing (and with keep=False thrown away again)."""
    if name not in DEMO_CORPORA.values() or (corpus_folder(name, data) / "manifest.json").exists():
        return read_manifest(name, data)
    from tempfile import TemporaryDirectory

    from hycon.data.importers.synthetic import synthesize

    emotions = name == DEMO_CORPORA["emotion"]
    if keep:
        return synthesize(name, data, emotions=emotions)
    with TemporaryDirectory() as scratch:
        return synthesize(name, scratch, emotions=emotions)


def known_manifest(name: str, data: str | os.PathLike | None, *results: Path) -> Manifest | None:
    """The manifest of a corpus: from the data folder, else as a results folder remembers it; None where none has it."""
    if (corpus_folder(name, data) / "manifest.json").exists():
        return read_manifest(name, data)
    for folder in results:
        if fit(folder, corpus_folder(name, folder / "corpora") / "manifest.json"):
            return read_manifest(name, folder / "corpora")
    return None


def manifest_of(name: str, data: str | os.PathLike | None, *results: Path) -> Manifest:
    """As `known_manifest`, but a corpus of a table or of the demo that is nowhere yet has a blank one.

    Raises UserError for any other corpus that is nowhere, with the names of those in the data folder.
    """
    found = known_manifest(name, data, *results)
    if found is None and name in TASKS:
        return Manifest(name, TASKS[name], {}, {}, {}, {}, "word", {}, {}, synthetic=name in DEMO_CORPORA.values())
    return found or read_manifest(name, data)
