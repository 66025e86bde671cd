"""What `bench run` and `bench ablate` say when they end: what was done, where it is, and what to look at next; for a
dry run, what there is to do."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.claims.file import CLAIMS
from studies.cli.selection import PLACES, given_options
from studies.document.text import wrapped
from studies.document.words import count_of

if TYPE_CHECKING:
    from studies.search.plan import Setting
    from studies.search.run import Forecast, Outcome
    from studies.store.study import Study

FEW = 3  # winners at the edge of a grid that are named each; chosen here


def closing(outcome: Outcome, options: Any, root: Path, seconds: float, width: int) -> str:
    """One paragraph, and below it the commands to go on with, which work as printed."""
    from studies.engines.history import duration

    parts = [f"{count_of(outcome.done, 'run')} done in {duration(seconds)}"]
    if outcome.skipped:
        parts.append(f"{outcome.skipped} were done before")
    if outcome.failed:
        parts.append(f"{len(outcome.failed)} failed (the same command tries them again)")
    said = f"bench: {', '.join(parts)}. All is in {root.absolute()}. Next:"
    return "\n".join([wrapped(said, width), *(f"  {command}" for command in commands(options, outcome))])


def commands(options: Any, outcome: Outcome) -> list[str]:
    """The commands that show what a run has left, with its options; before them, where a model of one's own failed,
    the one that says in words what is wrong with it."""
    table = getattr(options, "table", None)
    places = given_options(options, ("profile", "corpus", *PLACES))
    if table is None:  # of an ablation, which no command reads alone
        reading = [["report", *places], ["list", "runs", *given_options(options, ("results",))]]
    else:
        fixed = given_options(options, ("epochs", "patience", "set"))
        own = given_options(options, ("model",))
        failed = {spec.model for spec, _ in outcome.failed}
        reading = [["check-model", file] for file in options.model if Path(file).stem in failed]
        if not (outcome.done or outcome.skipped):  # nothing to be shown
            reading.append(["status", table, *own, *places, *fixed])
        else:
            reading += [["table", table, *own, *places, *fixed], ["report", *own, *places, *fixed]]
            whose = ["--claims", table] if table in CLAIMS else []
            reading += [] if own else [["claims", *whose, *places, *fixed]]
    return [shlex.join([program(), *command]) for command in reading]


def program() -> str:
    """How this program is called: `bench` where that leads to it, else as it was called."""
    called = Path(sys.argv[0])
    found = shutil.which("bench")
    if called.name != "bench" or os.sep not in sys.argv[0] or (found and Path(found).absolute() == called.absolute()):
        return "bench"
    return sys.argv[0]


def edges(studies: Sequence[Study]) -> list[str]:
    """A sentence for each search whose winner lies at the edge of a grid; one for all where they are many."""
    from studies.search.edges import at_edge

    said, short = [], []
    for study in studies:
        found = at_edge(study.space or {}, study.chosen or {}) if study.searched else []
        if found:
            row = "-".join([study.model, study.text, *(f"{key}={value}" for key, value in study.row.items())])
            ends = ", ".join(f"{option} = {value} ({end})" for option, value, end in found)
            said.append(f"the winner of {row} lies at the edge of its grid: {ends}.")
            short.append(f"{row} ({', '.join(option for option, *_ in found)})")
    if len(said) > FEW:
        return [f"{len(said)} winners lie at the edge of their grids: {', '.join(short)}."]
    return said


def forecast_text(forecasts: Sequence[Forecast], setting: Setting, workers: int, width: int) -> str:
    """The runs to do, a line for each row, and about how long they will take in all."""
    from studies.document.blocks import headings, numbers
    from studies.document.text import table

    lines = [[f.row, str(f.trials), str(f.seeds), f.text] for f in forecasts]
    heads = (*headings("row"), *numbers("trials to do", "seeded runs to do"), *headings("time, one after the other"))
    said = [_total(forecasts, setting.device, workers)]
    for kind in sorted(setting.absent):
        encoder = setting.encoders[kind]
        counted = (
            "the stored runs with that name count as its" if encoder["sha256"] else "none of its runs counts as done"
        )
        said.append(f"The {kind} encoder {encoder['name']} is not on this machine; {counted}.")
    return "\n".join([table(heads, lines, width), "", *(wrapped(sentence, width) for sentence in said)])


def _total(forecasts: Sequence[Forecast], device: str, workers: int) -> str:
    from studies.engines.history import duration

    runs, seconds = sum(f.trials + f.seeds for f in forecasts), sum(f.seconds for f in forecasts)
    unknown = sum(f.unknown for f in forecasts)
    if not runs:
        return "0 runs: all is done."
    if unknown == runs:
        return f"{count_of(runs, 'run')}, time unknown: no run of their kinds has finished in this results folder."
    time = f"about {seconds / 3600:.2f} {device}-hours, {duration(seconds / workers)} on {count_of(workers, 'worker')}"
    if unknown:
        said = (
            f"{count_of(runs, 'run')}, of {unknown} of which the time is unknown: none of their kind has finished here."
        )
        said += f" The others: {time}."
    else:
        said = f"{count_of(runs, 'run')}: {time}."
    return (
        f"{said} An estimate from finished runs of the same model, data, device and precision: those with the same "
        "most epochs, or else seconds an epoch times the most epochs, which early stopping may cut short."
    )
