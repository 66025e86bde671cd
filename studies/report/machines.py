"""Where and when the published runs were made: by machine for the page of the folders, by folder for docs/evidence.md.

python -m studies.report.machines                     print the second
python -m studies.report.machines docs/evidence.md    put it into the page, between its two marks
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from studies.document.blocks import Grid, headings, numbers, wide
from studies.document.markdown import fragment
from studies.document.words import NOTHING
from studies.report.campaigns import campaign_files
from studies.report.experiments import PUBLISHED, Experiment, experiments
from studies.report.headline import tables_in_words
from studies.report.marked import main
from studies.report.provenance import days, environment_of
from studies.report.searches import hours
from studies.store.record import RunRecord

COMMIT = 8  # hex digits of a commit, enough to name it


def generated(root: Path = PUBLISHED) -> str:
    """In Markdown, without the marks around it: what each folder took."""
    found = experiments(root)
    if not found:
        return "There are no published runs of today's protocol yet."
    heads = (*headings("Folder", "Tables", "Campaigns"), *numbers("Runs", "Run-hours"), *headings("Devices", "Days"))
    said = (
        "Runs are those of the studies that the tables show; a folder may hold earlier, shorter searches too. "
        "Run-hours: the sum of their training times, however many ran side by side."
    )
    return fragment([Grid("made", said, heads, tuple(map(_line, found)))]).strip()


def _line(e: Experiment) -> tuple[str, ...]:
    records = e.scope.records
    devices = dict.fromkeys(environment_of(record)[0] for record in records)
    return (
        e.title,
        tables_in_words(e.tables) or NOTHING,
        ", ".join(name.removesuffix(".toml") for name in campaign_files(e)) or NOTHING,
        f"{len(records):,}",
        f"{hours(records):.1f}",
        "; ".join(devices),
        days(records),
    )


def machines(records: Sequence[RunRecord]) -> Grid:
    """A line for each device, number of threads, suite and set of versions."""
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        device, versions, _ = environment_of(record)
        groups.setdefault((device, str(record.spec.threads), str(record.spec.suite), versions), []).append(record)
    heads = (
        *headings("Device"),
        *numbers("Threads", "Suite", "Runs", "Run-hours"),
        *headings("Days", "Commits"),
        *wide("Versions"),
    )
    lines = tuple(
        (device, threads, suite, str(len(own)), f"{hours(own):.2f}", days(own), _commits(own), versions)
        for (device, threads, suite, versions), own in groups.items()
    )
    said = "Where and when; threads and suite (the version of the protocol) are those of each run."
    return Grid("machines", said, heads, lines)


def _commits(records: Iterable[RunRecord]) -> str:
    known = dict.fromkeys(r.commit[:COMMIT] + "+" * r.commit.endswith("+") for r in records if r.commit)
    return ", ".join(known) or NOTHING


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "machines", generated))
