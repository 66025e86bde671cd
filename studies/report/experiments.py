"""Published experiments: results folders below one folder, each read once, with what claims say by its runs.

    results/published/<name>/runs, studies, corpora    what `bench` writes, without labels, or without predictions
    results/published/<name>/about.md                  optional: what no record knows, in words and without numbers
    results/published/<name>/claims.json               optional: `bench claims --json` of the folder with predictions
    results/published/<name>/claims_beyond.json        optional: the same with `--claims beyond`

A corpus's labels are not published. Without them two rows can only be compared by one number a run. What was judged
with them, on the same runs, goes before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hycon.errors import UserError
from studies.aggregate.cells import TableResult
from studies.claims.by_runs import evaluate
from studies.claims.conditions import OFF
from studies.claims.file import claims_file, load_claims
from studies.claims.kept import KEPT, WITH_PREDICTIONS, with_predictions
from studies.claims.verdict import CONTRADICTED, UNDECIDED, ClaimResult, Part, way
from studies.lookup import View
from studies.report.scope import Scope, read_scope
from studies.statistics.comparison import LEVEL
from studies.store.run_store import RunStore
from studies.store.study import load_studies

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results/published"
NUMBER = re.compile(r"(?<![\w.-])\d[\d.,]*(?![\w-])")  # a number that is not part of a name, such as 3D-CNN
NO_SEEDS = "too few seeds for any verdict"
NO_DIFFERENCE = "no difference beyond chance"
NO_SIZE = "the interval does not tell whether the size is as claimed"
NUMBERS_ASKED = "it names a number, which is asked only of rows that were run as in the paper"
SEEDS_ALONE = (
    "Judged by one number a run: the intervals are over seeds alone. The predictions and labels, which would add the "
    "choice of the test utterances, are not published."
)


@dataclass(frozen=True)
class Experiment:
    """folder: the results folder.  several: whether it holds runs on other corpora too, so that commands name this
    one.  claims: "paper" and "beyond" -> verdicts.  judged: which of them were judged with the predictions."""

    folder: Path
    scope: Scope
    several: bool
    claims: Mapping[str, Sequence[ClaimResult]]
    judged: frozenset[str]

    @property
    def corpus(self) -> str:
        return self.scope.records[0].spec.corpus

    @property
    def title(self) -> str:
        return f"{self.folder.name}, {self.corpus}" if self.several else self.folder.name

    @property
    def tables(self) -> dict[str, TableResult]:
        """The tables that these runs were made for, in their order. HyCon's runs alone stand in nearly all of them:
        a table counts that shows a study which none with more of them does, and one with columns of its own, which
        shows nothing in place of others."""
        filled = self.scope.results
        measured = {name: {row.study for row in filled[name].rows if row.n and row.study} for name in filled}
        seen: set[str | None] = set()
        found = set()
        for name in sorted(measured, key=lambda name: (filled[name].table.robust, -len(measured[name]))):
            if not measured[name] <= seen or (filled[name].table.robust and measured[name]):
                found.add(name)
                seen |= measured[name]
        return {name: result for name, result in filled.items() if name in found}

    def judged_by(self, whose: str) -> str:
        """A sentence: whether the verdicts take the choice of test utterances into account."""
        return WITH_PREDICTIONS if whose in self.judged else SEEDS_ALONE

    def command(self, words: str) -> str:
        """A `bench` command that reads this experiment, from the root of the clone."""
        corpus = ["--corpus", self.corpus] if self.several else []
        return " ".join(["bench", words, *corpus, "--results", shown(self.folder)])


def shown(path: Path) -> str:
    """A path below the clone's root as from there."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def folders(root: Path) -> list[Path]:
    """The results folders directly below `root`, by name. Raises UserError where `root` is not there."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}.")
    return sorted(path for path in root.iterdir() if (path / "runs").is_dir() and (path / "studies").is_dir())


def experiments(root: Path) -> list[Experiment]:
    """All below `root` that have a finished run, in order of their names."""
    return [found for folder in folders(root) for found in read(folder)]


def read(folder: Path) -> list[Experiment]:
    """What a results folder holds: one experiment for each corpus with a finished run of a table.

    Raises UserError for claims.json of other runs than these.
    """
    store = RunStore(folder)
    corpora = sorted({study.corpus for study in load_studies(store)})
    several = len(corpora) > 1
    scopes = [read_scope(store, View(corpus=name) if several else View()) for name in corpora]
    return [_experiment(folder, scope, several) for scope in scopes if scope.records]


def _experiment(folder: Path, scope: Scope, several: bool) -> Experiment:
    claims: dict[str, Sequence[ClaimResult]] = {}
    judged = set()
    for whose, file in KEPT.items():
        claims[whose] = evaluate(scope.store, scope.view, family=load_claims(claims_file(whose)))
        if (folder / file).is_file() and not several:
            claims[whose] = with_predictions(claims[whose], folder / file)
            judged.add(whose)
    return Experiment(folder, scope, several, claims, frozenset(judged))


# ------------------------------------------------------------------------------------------------- claims


def verdict_of(claim: ClaimResult) -> str:
    """ "supported", or "contradicted on what was run, a larger difference than claimed": not run as in the paper."""
    against = claim.decisive if claim.verdict == CONTRADICTED else None
    where = " on what was run" if claim.caution and not claim.claim.own else ""
    return f"{claim.verdict}{where}" + (f", {way(against)}" if against else "")


def undecided(found: Sequence[ClaimResult]) -> Counter[str]:
    """Why claims are undecided, in a phrase each -> how many."""
    return Counter(_why(result) for result in found if result.verdict == UNDECIDED)


def _why(result: ClaimResult) -> str:
    """The reason that most of its undecided comparisons have."""
    open_ = [part for part in result.parts if part.verdict == UNDECIDED]
    said = [_open(part) for part in open_]
    return Counter(said).most_common(1)[0][0] if said else result.reason


def _open(part: Part) -> str:
    if part.reason.startswith(OFF):
        return NUMBERS_ASKED
    if part.reason or part.underpowered:
        return part.reason.split(":")[0] or NO_SEEDS
    same = part.contest.test == "gain" and part.contest.value == 0
    differ = part.p_adjusted is None or part.p_adjusted < LEVEL
    return NO_SIZE if same or (differ and part.contest.test != "better") else NO_DIFFERENCE


# ------------------------------------------------------------------------------------------------- words by hand


def about(folder: Path) -> str:
    """The folder's about.md, "" where there is none. Raises UserError where it holds a number: records have those."""
    file = folder / "about.md"
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8").strip()
    if number := NUMBER.search(text):
        raise UserError(f"{shown(file)} holds the number {number[0]}: numbers come from records and manifests.")
    return text
