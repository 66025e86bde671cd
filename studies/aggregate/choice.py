"""Which study fills a row of a table, when a results folder holds several of it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hycon.data.manifest import Manifest
from studies.aggregate.obstacles import is_paper_encoder
from studies.lookup import DEFAULT_VIEW, PROFILES, View, fixed_options, is_of, recorded_profile
from studies.store.run_store import RunStore
from studies.store.study import Study, goes_on, is_beside
from studies.tables import Row, TableSpec


class Rank(NamedTuple):
    """Why a study fills a row before another: the first field in which they differ decides, and more is better.

    So a side experiment never takes the place of a study that was run as in the paper, and a study that has just begun
    takes no place before it has a finished run; a longer search of the same row waits for all of its seeded runs.
    """

    begun: bool  # it has a finished seeded run
    here: bool  # it is in the results folder, not in the one beside it (--with)
    options: int  # 2: the paper's, or what the view says; 1: those of its own profile; 0: others
    encoder: int  # as for the options; of a row without a text encoder: 2
    present: bool  # on the data that the corpus holds now
    version: int  # the model's VERSION
    suite: int  # the version of what all models share
    follows: int  # of a variant whose seeded runs have all ended: 2: it changes the winner that its intact row has now;
    # 1: another; 0: it was searched by itself, or has runs to do
    whole: bool  # at least the profile's trials, and all its seeded runs have ended
    done: int  # finished seeded runs
    latest: str  # when its last seeded run began; another device or a changed search space raises no VERSION
    trials: int
    id: str


OTHERWISE = "it has another profile, encoder or options than are asked for"
# What is said of a study that fills no row because of the field of its Rank.
BEHIND = {
    "begun": "it has no finished seeded run",
    "here": "it is in the folder of --with",
    "options": "it was run with other options",
    "encoder": "it was run with another text encoder",
    "present": "the corpus holds other data now",
    "version": "its model has a newer VERSION",
    "suite": "it was run under an earlier protocol",
    "follows": "it does not change the winner that its intact row has now, or has seeded runs to do",
    "whole": "it has fewer trials, or seeded runs to do",
    "done": "it has fewer seeded runs",
    "latest": "its seeded runs were made earlier",
    "trials": "it has fewer trials",
    "id": "the other has the same number of trials and runs",
}


@dataclass(frozen=True)
class Choice:
    """best: fills the row; None where no study fits.  others: further studies of the row on the corpus, without those
    that `best` goes on with.  behind: study id -> why it does not fill the row.
    intact: of a variant, the study that fills its intact row.  stale: it changes another winner than that one has."""

    best: Study | None
    others: tuple[Study, ...] = ()
    behind: Mapping[str, str] = field(default_factory=dict)
    intact: Study | None = None
    stale: bool = False


def choose(
    row: Row,
    studies: Iterable[Study],
    corpus: str,
    view: View = DEFAULT_VIEW,
    data: str | None = None,
    store: RunStore | None = None,
) -> Choice:
    """The study that fills a row, and those that do not. data: sha256 of the corpus as it is now.

    store: where its runs are; None: all seeded runs that a study names are taken for finished. A study that the view
    names fills its row whatever else there is; the others must have the view's profile, encoder and options.
    """
    studies = list(studies)
    of_row = [s for s in studies if s.corpus == corpus and is_of(s, row)]
    named = [s for s in of_row if s.id in view.studies]
    fitting = named or [s for s in of_row if _fits(s, row, view)]
    intact = choose(row.intact, studies, corpus, view, data, store).best if row.intact else None
    ranks = {s.id: _rank(s, row, view, data, intact, store) for s in of_row}
    best = max(fitting, key=lambda s: ranks[s.id], default=None)
    if best is None:
        return Choice(None, tuple(of_row), {s.id: OTHERWISE for s in of_row}, intact)
    later = {s.id: f"its search goes on in {best.id}" for s in of_row if s is not best and _part_of(s, best)}
    others = tuple(s for s in of_row if s is not best and s.id not in later)
    behind = {s.id: _behind(ranks[s.id], ranks[best.id]) if s in fitting else OTHERWISE for s in others}
    return Choice(best, others, later | behind, intact, _stale(best, intact))


def choices(
    table: TableSpec, view: View, studies: Sequence[Study], manifest: Manifest, store: RunStore | None = None
) -> dict[str, Choice]:
    """Row name -> what `choose` says of it."""
    corpus = view.corpus_of(table)
    return {row.name: choose(row, studies, corpus, view, manifest.sha256, store) for row in table.rows}


# ------------------------------------------------------------------------------------------------- internals


def _fits(study: Study, row: Row, view: View) -> bool:
    """Whether it has the view's encoder, options and profile."""
    if row.text in view.encoders and (study.encoder or {}).get("name") != view.encoders[row.text]:
        return False
    if view.options:
        asked = fixed_options(row, PROFILES.get(view.profile or study.profile, PROFILES["paper"]), view.options)
        if any(study.options.get(key) != asked[key] for key in view.options):
            return False
    return view.profile is None or study.profile == recorded_profile(view.profile)


def _options(study: Study, row: Row, view: View) -> int:
    """See Rank.options: what a command with the view's options would give, and nothing else."""
    for level, profile in ((2, view.profile or "paper"), (1, study.profile)):
        if profile in PROFILES and study.options == fixed_options(row, PROFILES[profile], view.options):
            return level
    return 0


def _encoder(study: Study, row: Row, view: View) -> int:
    """See Rank.encoder."""
    if study.encoder is None or row.text in view.encoders:
        return 2
    name = study.encoder["name"]
    for level, profile in ((2, view.profile or "paper"), (1, study.profile)):
        own = PROFILES[profile].encoders.get(row.text) if profile in PROFILES else None
        if name == own if own else is_paper_encoder(row.text, name):
            return level
    return 0


def _rank(study: Study, row: Row, view: View, data: str | None, intact: Study | None, store: RunStore | None) -> Rank:
    done = [record for run in study.runs if (record := store.get(run))] if store else []
    ended = len(done) + sum(store.failed(run) is not None for run in study.runs) if store else len(study.runs)
    finished = len(done) if store else len(study.runs)
    whole = _enough(study, view) and finished > 0 and ended == len(study.runs)
    return Rank(
        begun=finished > 0,
        here=store is None or not is_beside(store, study),
        options=_options(study, row, view),
        encoder=_encoder(study, row, view),
        present=study.data == data,
        version=study.model_version,
        suite=done[0].spec.suite if done else 0,
        follows=0 if not (study.winner_of and whole) else 1 if _stale(study, intact) else 2,
        whole=whole,
        done=finished,
        latest=max((record.started or "" for record in done), default=""),
        trials=len(study.trials),
        id=study.id,
    )


def _enough(study: Study, view: View) -> bool:
    """Whether the search has the profile's trials, or all that its space has. True where there is none."""
    profile = PROFILES.get(view.profile or study.profile)
    if not study.searched or profile is None or len(study.trials) >= profile.trials:
        return True
    return study.space is not None and len(study.trials) >= math.prod(len(c) for c in study.space.values())


def _part_of(study: Study, best: Study) -> bool:
    """Whether `best` goes on with all of it: an earlier stage of the same search, with the same winner."""
    return goes_on(best, study) and set(study.runs) <= set(best.runs)


def _behind(rank: Rank, best: Rank) -> str:
    """Why a study that fits the row does not fill it."""
    return next((BEHIND[name] for name in Rank._fields if getattr(rank, name) != getattr(best, name)), BEHIND["id"])


def _stale(study: Study, intact: Study | None) -> bool:
    """Whether it is a variant's that changes another winner than `intact` has, or has other options."""
    if study.winner_of is None or intact is None:
        return False
    return (study.winner, study.options) != (intact.winner, intact.options)
