"""The page of the published results, and the campaign files that made them, all of it from records and manifests:

    python -m studies.report.published results/published            write README.md and campaigns/*.toml there
    python -m studies.report.published results/published --check    compare: exit code 1 where a file differs

What stands where in a folder is in studies.report.experiments. Folders in which other such folders lie (an earlier
protocol) have a page of their own and are only linked.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hycon.data.manifest import PAPER, SPLITS, Manifest, named_after
from hycon.data.repeats import remarks
from hycon.errors import UserError
from hycon.files import write_atomic
from studies.aggregate.facts import ROW_NAMES
from studies.claims.render import OF_SIZES, effect
from studies.claims.verdict import DECIDED, NO_VERDICT, NOT_RUN, RUN_VERDICTS, ClaimResult
from studies.document.blocks import Bullets, Cell, Grid, Notice, Text, headings, numbers, wide
from studies.document.markdown import escape, fragment
from studies.document.words import NOTHING, count_of, sentence, settings
from studies.report.campaigns import campaign_files
from studies.report.experiments import Experiment, about, experiments, folders, shown, undecided, verdict_of
from studies.report.headline import headline, lacking, tables_in_words
from studies.report.machines import machines
from studies.report.scope import Use
from studies.report.searches import hours

PAGE, CAMPAIGNS = "README.md", "campaigns"
COMMAND = "python -m studies.report.published"
# Column of the runs -> how it is said where all rows have one value.
SAME = {4: "device {}", 7: "{} failed runs", 3: "set by hand: {}"}
WHOSE = {"paper": "the paper's", "beyond": "our questions on table beyond"}
HEAD = """# Published results

<!-- made by `{command} {root}`: a test compares this page with the records -->

Each folder is a results folder as `bench` writes it: `runs/<id>/record.json` (every trial and every seeded run, with
its configuration, learning curve, metrics in all protocols, versions and commit), `studies/` (which runs belong
together, and the search as an Optuna journal), `corpora/` (manifests, no data). The labels of the corpora are left out:
we may not distribute them. Where a folder has the predictions, `runs/<id>/outputs.npz`, and you have the corpus, give
its folder as `--data`: then `bench claims` judges by the predictions, as we did.

All numbers below come from the records. `bench table`, `claims`, `show`, `report` and `verify` read the folders.
[How they were made, and how to make them again](../../docs/evidence.md)."""


def files(root: Path) -> dict[Path, str]:
    """What belongs below a folder of results folders: the page, and a campaign file for rows that were run alike.

    Raises UserError as `experiments`.
    """
    found = experiments(root)
    campaigns = {root / CAMPAIGNS / name: text for e in found for name, text in campaign_files(e).items()}
    return {root / PAGE: page(root, found), **campaigns}


def page(root: Path, found: Sequence[Experiment]) -> str:
    """The page, ending in a newline."""
    empty = sorted({folder.name for folder in folders(root)} - {e.folder.name for e in found})
    parts = [HEAD.format(command=COMMAND, root=shown(root)), *_overview(found), *_unfinished(empty), *_elsewhere(root)]
    return "\n\n".join([*parts, *(part for e in found for part in _experiment(e))]) + "\n"


def _unfinished(names: Sequence[str]) -> list[str]:
    return [escape(f"No run of a table is finished in {', '.join(names)}.")] if names else []


def _elsewhere(root: Path) -> list[str]:
    """Links to folders with a page of their own."""
    found = [path for path in sorted(root.iterdir()) if path not in folders(root) and (path / PAGE).is_file()]
    return ["\n".join(f"- [{path.name}]({path.name}/{PAGE}): {_title(path / PAGE)}" for path in found)] if found else []


def _title(file: Path) -> str:
    return file.read_text(encoding="utf-8").lstrip("# ").partition("\n")[0]


def _overview(found: Sequence[Experiment]) -> list[str]:
    if not found:
        return ["There are no published runs of today's protocol yet."]
    heads = (*headings("Folder", "Tables"), *numbers("Runs", "Run-hours"), *numbers(*map(str.capitalize, RUN_VERDICTS)))
    lines = []
    for e in found:
        counts = Counter(claim.verdict for claim in e.claims["paper"])
        line = (
            e.title,
            tables_in_words(e.tables) or NOTHING,
            f"{len(e.scope.records):,}",
            f"{hours(e.scope.records):.1f}",
        )
        lines.append((*line, *(str(counts[verdict]) for verdict in RUN_VERDICTS)))
    said = "The folders, and how many of the paper's claims the runs of each support, contradict or leave open."
    if any(claim.caution for e in found for claim in e.claims["paper"] if claim.verdict in DECIDED):
        said += " Verdicts are on what was run, which is not what the paper ran."
    return [fragment([Grid("overview", said, heads, tuple(lines), narrow=True)]).strip()]


def _experiment(e: Experiment) -> list[str]:
    words = about(e.folder)
    tables = [part for name in e.tables for part in _table(e, name)] or ["No row of a table is finished yet."]
    claims = [part for whose in e.claims for part in _claims(e, whose)] or ["No claim can be judged yet."]
    blocks = [
        *([words] if words else []),
        "### Data and encoders",
        _data(e),
        "### Runs",
        fragment([_runs(e), machines(e.scope.records)]).strip(),
        *_made_by(e),
        "### Tables",
        *tables,
        "### Claims",
        *claims,
    ]
    return [f"## {e.title}", *blocks]


# ------------------------------------------------------------------------------------------------- data


def _data(e: Experiment) -> str:
    lines = [line for manifest in e.scope.manifests.values() for line in _manifest(manifest)]
    encoded = {r.spec.text: r.spec.encoder for r in e.scope.records if r.spec.encoder}
    known = {(ROW_NAMES.get(text, text), of["name"], of["sha256"]) for text, of in encoded.items()}
    lines += [f"Text encoder of the {kind} rows: {name}, sha256 {sha}." for kind, name, sha in sorted(known)]
    lines = lines or ["No manifest of the corpus is at hand."]
    return fragment([Bullets(tuple(lines)), *_differences(e)]).strip()


def _differences(e: Experiment) -> tuple[Notice | Bullets, ...]:
    """In what the rows of the paper's tables were not run as in the paper, beside what is said of the data."""
    rows = {row.study: row.obstacles for r in e.tables.values() if not r.table.beyond for row in r.rows if row.n}
    known = {note for manifest in e.scope.manifests.values() for note in (*manifest.notes, *remarks(manifest))}
    counts = Counter(reason for obstacles in rows.values() for reason in obstacles if reason not in known)
    apart = sum(map(bool, rows.values()))
    if not apart:
        return ()
    said = f"Not run as in the paper: {apart} of {count_of(len(rows), 'row')}, whose numbers get no verdict."
    return Notice(said), Bullets(tuple(f"{reason} ({count_of(n, 'row')})" for reason, n in counts.most_common()))


def _manifest(m: Manifest) -> list[str]:
    """What a corpus is, as its import wrote it down."""
    papers = named_after(m.name, PAPER)
    name = f"Corpus {m.name}" + (f", in place of the paper's {papers}" if papers not in (None, m.name) else "")
    sizes = ", ".join(f"{m.sizes[split]:,} {split}" for split in SPLITS if split in m.sizes)
    features = ", ".join(f"{modality} {size}" for modality, size in m.dims.items())
    rows = {"word": "one row a word", "step": "equal lengths"}.get(m.aligned, "not aligned with words")
    vectors = f"{m.vectors.get('file')} ({m.vectors.get('dim')}-d)" if m.vectors else "none"
    source = ", ".join(f"{key} {value}" for key, value in m.source.items())
    return [
        f"{name}: {sizes} utterances; checksum {m.sha256}.",
        f"Features: {features} numbers a row ({rows}); word vectors: {vectors}.",
        *map(sentence, (*m.notes, *remarks(m))),
        f"Imported from: {source}.",
    ]


# ------------------------------------------------------------------------------------------------- runs


def _runs(e: Experiment) -> Grid:
    """A line a row with runs. A column of SAME that is alike in all of them is said above the table."""
    uses = [use for use in e.scope.uses if use.done or use.failures]
    lines = [_run_line(use) for use in uses]
    alike = [i for i in SAME if len({line[i] for line in lines}) == 1]
    said = (
        "One line for each row; a variant takes the winning configuration of its intact row. Run-hours: the sum of the "
        "runs' training times, however many ran side by side."
    )
    if alike:
        said += f" All rows: {'; '.join(SAME[i].format(lines[0][i]) for i in alike)}."
    if empty := [use.row.name for use in e.scope.uses if use not in uses]:
        said += f" Without a finished run: {', '.join(empty)}."
    if e.scope.unshown:
        others = count_of(len(e.scope.unshown), "other study", "other studies")
        said += f" Not shown: {others} (`bench list studies`)."
    heads = (
        *headings("Row", "Search", "Seeds"),
        *wide("Set by hand"),
        *headings("Device"),
        *numbers("Run-hours", "Runs", "Failed"),
    )
    kept = [i for i in range(len(heads)) if i not in alike]
    rows = tuple(tuple(line[i] for i in kept) for line in lines)
    return Grid("runs", said, tuple(heads[i] for i in kept), rows, narrow=True)


def _run_line(use: Use) -> tuple[str, ...]:
    study = use.study
    if study.measured:
        search = "measured"
    elif study.winner_of and use.row.intact:
        search = f"winner of {use.row.intact.name}"
    else:
        search = count_of(len(study.trials), "trial")
        search = search if len(use.trials) == len(study.trials) else f"{len(use.trials)} of {search}"
    return (
        use.row.name,
        search,
        _seeds(len(use.runs), len(study.runs)),
        settings(study.options),
        ", ".join(sorted({record.spec.device for record in use.done})) or study.device,
        f"{hours(use.done):.2f}",
        str(len(use.done)),
        str(len(use.failures)),
    )


def _seeds(done: int, wanted: int) -> str:
    return "none yet" if not wanted else str(done) if done == wanted else f"{done} of {wanted}"


def _made_by(e: Experiment) -> list[str]:
    links = [f"[{name}]({CAMPAIGNS}/{name})" for name in campaign_files(e)]
    return [f"Made by `bench run` with {', '.join(links)}."] if links else []


# ------------------------------------------------------------------------------------------------- tables


def _table(e: Experiment, name: str) -> list[str]:
    result = e.tables[name]
    return [
        fragment([headline(result), *([Bullets(tuple(said))] if (said := lacking(result)) else [])]).strip(),
        _code(e.command(f"table {name}")),
    ]


def _code(*commands: str) -> str:
    return "\n".join(["```", *commands, "```"])


# ------------------------------------------------------------------------------------------------- claims


def _claims(e: Experiment, whose: str) -> list[str]:
    found = e.claims[whose]
    run = [claim for claim in found if claim.verdict != NOT_RUN]
    if not run:
        return []
    counts = Counter(claim.verdict for claim in run)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in RUN_VERDICTS if counts[verdict])
    lacking = len(found) - len(run)
    of = f"Of {count_of(len(found), 'claim')} ({WHOSE[whose]}) {lacking} lack runs of a row. Of the others: {said}."
    told = [claim for verdict in DECIDED for claim in run if claim.verdict == verdict]
    open_ = [f"{n} undecided: {why}." for why, n in undecided(run).most_common()]
    open_ += [f"{n} without a verdict: {why}." for why, n in _refused(run).most_common()]
    lines = [_told(claim) for claim in told]
    words = f"claims --claims {whose}" if whose != "paper" else "claims"
    return [
        fragment([Text(f"{of} {e.judged_by(whose)}")]).strip(),
        *([_decided(lines)] if lines else []),
        *([fragment([Bullets(tuple(open_))]).strip()] if open_ else []),
        _code(e.command(words)),
    ]


def _refused(found: Iterable[ClaimResult]) -> Counter[str]:
    return Counter(claim.reason.removeprefix("no verdict: ") for claim in found if claim.verdict == NO_VERDICT)


def _told(claim: ClaimResult) -> tuple[Cell | str, ...]:
    return (verdict_of(claim), f"“{claim.claim.quote}” ({claim.claim.place})", effect(claim.decisive) or claim.reason)


def _decided(lines: Sequence[tuple[Cell | str, ...]]) -> str:
    said = (
        "Decided, each with its deciding comparison: difference, 95 % interval, p, p adjusted over the table, and the "
        f"runs, in pairs of equal seeds where the rows share them. {OF_SIZES}"
    )
    grid = Grid("decided", said, (*headings("Verdict"), *wide("Claim", "Deciding comparison")), tuple(lines))
    return fragment([grid]).strip()


# ------------------------------------------------------------------------------------------------- the command


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 where --check finds another page, 2 for a mistake."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Write the page and the campaign files of the published results."
    )
    parser.add_argument("root", type=Path, help="the folder of results folders: results/published")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a file differs")
    options = parser.parse_args(arguments)
    try:
        made = files(options.root.resolve())
        stale = [path for path in (options.root.resolve() / CAMPAIGNS).glob("*.toml") if path not in made]
        if options.check:
            other = [path for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text]
            for path in (*other, *stale):
                print(f"{shown(path)} is not what the records say: run {COMMAND} {options.root}")
            return 1 if other or stale else 0
        for path in stale:
            path.unlink()
        for path, text in made.items():
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, text.encode())
            print(shown(path))
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
