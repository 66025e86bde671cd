"""What the published results show, for the README: some sentences, one table, one figure, all from the records.

    python -m studies.report.finding              print it
    python -m studies.report.finding README.md    put it into the page, between its two marks, and draw the figure

The experiment that judges most of the paper's claims on its losses comes first, the others have a line each. Until
there is one of today's protocol, it is EARLIER's. No number of it is typed by hand; a test compares the page with the
records.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from studies.aggregate.cells import RowResult, TableResult
from studies.aggregate.obstacles import earlier_protocol, in_words
from studies.claims.by_paper import against_paper
from studies.claims.render import effect
from studies.claims.verdict import CONTRADICTED, NO_VERDICT, NOT_RUN, SUPPORTED, UNDECIDED, ClaimResult
from studies.document.blocks import Bullets
from studies.document.markdown import escape, fragment
from studies.document.words import count_of, mean_sd, span
from studies.report.experiments import ROOT, Experiment, experiments, read, shown, verdict_of
from studies.report.headline import headline, measured, tables_in_words
from studies.report.marked import main
from studies.report.sections import label

PUBLISHED = ROOT / "results/published"
EARLIER = PUBLISHED / "old_protocol/mosi_resampled"
FIGURE = "docs/finding.svg"
OURS = ("HyCon-BERT", "HyCon-v2-BERT", "HyCon", "HyCon-v2")
LOSSES = ("table4", "table6", "table7")  # what the paper's claims on its losses are about
ASKED = ("hycon-beats-text", "hycon-v2-beats-text", "audio-and-vision-help")  # of our own questions
DECIDED = (SUPPORTED, CONTRADICTED)


def generated(root: Path = PUBLISHED, earlier: Path = EARLIER) -> str:
    """In Markdown, without the marks around it."""
    first, others = chosen(root, earlier)
    result = main_table(first)
    said = filter(None, (what_ran(first), what_was_found(result), what_was_decided(first)))
    more = f"More: [results/published]({shown(root)}/README.md), and `{first.command('report')}`."
    blocks = [escape(" ".join(said)) + " " + more, *on_losses(first), *on_text(first)]
    if others:
        blocks += ["Beside it:", fragment([Bullets(tuple(map(in_a_line, others)))]).strip()]
    picture = f"![{label(result.table.name)} as dots: our means with intervals beside the paper's numbers]({FIGURE})"
    return "\n\n".join([*blocks, fragment([headline(result)]).strip(), picture])


def chosen(root: Path, earlier: Path) -> tuple[Experiment, list[Experiment]]:
    """The experiment that comes first, and the others; without those that have no row yet."""
    found = [e for e in experiments(root) if e.tables] or read(earlier)
    first = max(found, key=_told)  # of equals the first by name
    return first, [e for e in found if e is not first]


def _told(e: Experiment) -> tuple[int, int]:
    """Claims on losses, and all claims, on which it has a verdict."""
    return tuple(sum(c.verdict not in (NOT_RUN, NO_VERDICT) for c in f) for f in (losses(e), e.claims["paper"]))  # type: ignore[return-value]


def main_table(e: Experiment) -> TableResult:
    """The table with most measured rows."""
    plain = [result for result in e.tables.values() if not result.table.robust]
    return max(plain or e.tables.values(), key=lambda result: len(measured(result)))


# ------------------------------------------------------------------------------------------------- in words


def what_ran(e: Experiment) -> str:
    result = main_table(e)
    sizes = result.corpus.sizes
    notes = [f"{in_words(sizes)} utterances"] if sizes else []
    notes += [*result.corpus.notes, *earlier_protocol(e.scope.records)]
    encoders = sorted({r.spec.encoder["name"] for r in e.scope.records if r.spec.encoder})
    notes += [f"text encoder {' and '.join(encoders)}"] if encoders else []
    budgets = {row.budget for table in e.tables.values() for row in measured(table) if not row.row.measured}
    notes += [f"search of {budget}" for budget in budgets if budget] if len(budgets) == 1 else []
    seeds = span({row.n for table in e.tables.values() for row in measured(table)})
    ran, papers = count_of(len(e.scope.records), "run"), result.table.corpus
    place = "" if e.corpus == papers else f" in place of the paper's {papers}"
    return f"{ran}, {seeds} seeds a row, on {e.corpus}{place}" + (f": {'; '.join(notes)}." if notes else ".")


def what_was_found(result: TableResult) -> str:
    """The best row by Acc2, and where HyCon's stand."""
    ranked = sorted((row for row in measured(result) if "acc2" in row.cells), key=lambda row: -_mean(row))
    if not ranked:
        return ""
    best, *_ = ranked
    ours = [f"{row.row.name} {ordinal(i)} ({_acc2(row)})" for i, row in enumerate(ranked, 1) if row.row.name in OURS]
    first = f"Of {count_of(len(ranked), 'row')} of {label(result.table.name)} {best.row.name} has the best mean Acc2"
    return f"{first}, {_acc2(best)}" + (f"; {' and '.join(ours)}." if ours else ".")


def what_was_decided(e: Experiment) -> str:
    found = e.claims["paper"]
    paper = Counter(claim.verdict for claim in against_paper())
    return (
        f"Of the paper's {len(found)} comparative claims these runs {_counts(found)}; the paper's own tables "
        f"contradict {paper[CONTRADICTED]} of them."
    )


def _counts(found: Sequence[ClaimResult]) -> str:
    """ "support 2, contradict 1 and leave 9 undecided"."""
    counts = Counter(claim.verdict for claim in found)
    said = f"support {counts[SUPPORTED]}, contradict {counts[CONTRADICTED]} and leave {counts[UNDECIDED]} undecided"
    return said + (f"; {counts[NO_VERDICT]} get no verdict on such data" if counts[NO_VERDICT] else "")


def losses(e: Experiment) -> list[ClaimResult]:
    return [claim for claim in e.claims["paper"] if set(claim.claim.tables) <= set(LOSSES)]


def on_losses(e: Experiment) -> list[str]:
    """The paper's claims on its losses: how many of each verdict, and those that are decided."""
    found = losses(e)
    run = [claim for claim in found if claim.verdict not in (NOT_RUN, NO_VERDICT)]
    if not run or not set(LOSSES) & set(e.tables):
        return []
    lead = f"**On the losses** ({tables_in_words(LOSSES)}) the paper makes {count_of(len(found), 'claim')}. "
    lead += (
        f"These runs judge {len(run)} of them: they {_counts(run)}. That is said of what was run, not of the paper's "
    )
    lead += f"setting. {e.judged_by('paper')}"
    told = [claim for verdict in DECIDED for claim in run if claim.verdict == verdict]
    lines = [f"{verdict_of(c)}: “{c.claim.quote}” ({c.claim.place}). {effect(c.decisive) or c.reason}." for c in told]
    return [lead, *([fragment([Bullets(tuple(lines))]).strip()] if lines else [])]


def on_text(e: Experiment) -> list[str]:
    """Whether audio and vision help at all: HyCon against the text alone, and against permuted audio and vision."""
    asked = [claim for claim in e.claims["beyond"] if claim.claim.id in ASKED and claim.verdict != NOT_RUN]
    if not asked:
        return []
    lines = [f"{verdict_of(claim)}: {claim.claim.quote}. {_effects(claim)}." for claim in asked]
    return ["**Do audio and vision help?** Our own questions:", fragment([Bullets(tuple(lines))]).strip()]


def _effects(claim: ClaimResult) -> str:
    """Of all its comparisons; rows are named where they are others than before."""
    said, before = [], ""
    for part in claim.parts:
        rows = f"{part.row_a} against {part.row_b}, "
        said.append(effect(part).removeprefix(rows if rows == before else ""))
        before = rows
    return "; ".join(said)


def in_a_line(e: Experiment) -> str:
    claims = f"Of the paper's claims they {_counts(e.claims['paper'])}."
    return " ".join(filter(None, (f"{e.title}: {what_ran(e)}", what_was_found(main_table(e)), claims)))


def ordinal(place: int) -> str:
    return {1: "is first", 2: "is second", 3: "is third"}.get(place, f"is {place}th")


def _mean(row: RowResult) -> float:
    stat = row.cells["acc2"].stat
    return stat.mean if stat else float("-inf")


def _acc2(row: RowResult) -> str:
    stat = row.cells["acc2"].stat
    return mean_sd(stat.mean, stat.sd, stat.n, 1) if stat else "–"


def draw() -> None:
    """The figure of the page."""
    from studies.figures import figure

    first, _ = chosen(PUBLISHED, EARLIER)
    made = figure("dots", first.scope.store, first.scope.view, table=main_table(first).table.name)
    (ROOT / FIGURE).write_bytes(made.content)


if __name__ == "__main__":
    if sys.argv[1:]:
        draw()
    sys.exit(main(sys.argv[1:], "finding", generated))
