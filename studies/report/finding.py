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

from hycon.pretrained import DEFAULT
from studies.aggregate.cells import RowResult, TableResult
from studies.aggregate.obstacles import PAPER_ENCODERS, earlier_protocol, in_words, is_paper_encoder
from studies.claims.by_paper import against_paper
from studies.claims.kinds import METRICS, row_of
from studies.claims.render import OF_SIZES, SIZES, effect, number, runs_of
from studies.claims.verdict import (
    CONTRADICTED,
    DECIDED,
    JUDGED,
    NO_VERDICT,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    ClaimResult,
    Part,
)
from studies.document.blocks import Bullets, Grid, headings, wide
from studies.document.markdown import escape, fragment
from studies.document.words import NOTHING, count_of, listed, mean_sd, one_line, p_value, sentence, span
from studies.report.experiments import PUBLISHED, ROOT, Experiment, experiments, read, shown, verdict_of
from studies.report.headline import headline, measured, tables_in_words
from studies.report.marked import main
from studies.report.sections import label
from studies.statistics.comparison import LEVEL, adjusted

EARLIER = PUBLISHED / "old_protocol/mosi_resampled"
FIGURE = "docs/finding.svg"
OURS = ("HyCon-BERT", "HyCon-v2-BERT", "HyCon", "HyCon-v2")
LOSSES = ("table4", "table6", "table7")  # what the paper's claims on its losses are about
ASKED = ("hycon-beats-text", "hycon-v2-beats-text", "audio-and-vision-help")  # of our own questions
SHOWN = ("acc2", "mae", "corr")  # the metrics of ASKED


def generated(root: Path = PUBLISHED, earlier: Path = EARLIER) -> str:
    """In Markdown, without the marks around it."""
    first, others = chosen(root, earlier)
    result = main_table(first)
    said = [
        f"**What was run.** {escape(what_ran(first))}",
        f"**What came out.** {escape(what_was_found(result))}",
        f"**What the paper claims.** {escape(what_was_decided(first))}",
    ]
    blocks = [*said, *on_losses(first), *on_text([first, *others])]
    if others:
        blocks += ["**Beside it.**", fragment([Bullets(tuple(map(in_a_line, others)))]).strip()]
    picture = f"![{label(result.table.name)} as dots: our means with intervals beside the paper's numbers]({FIGURE})"
    more = f"More: [results/published]({shown(root)}/README.md), and `{first.command('report')}`."
    return "\n\n".join([*blocks, fragment([headline(result)]).strip(), picture, more])


def chosen(root: Path, earlier: Path) -> tuple[Experiment, list[Experiment]]:
    """The experiment that comes first, and the others; without those that have no row yet."""
    found = [e for e in experiments(root) if e.tables] or read(earlier)
    first = max(found, key=_told)  # of equals the first by name
    return first, [e for e in found if e is not first]


def _told(e: Experiment) -> tuple[int, int]:
    """Claims on losses, and all claims, on which it has a verdict."""
    on_losses, on_all = (sum(c.verdict in JUDGED for c in found) for found in (losses(e), e.claims["paper"]))
    return on_losses, on_all


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
    encoders = sorted({(r.spec.text, r.spec.encoder["name"]) for r in e.scope.records if r.spec.encoder})
    notes += [f"text encoder {name}{_in_place(text, name)}" for text, name in encoders]
    notes += _searches(e)
    seeds = span({row.n for table in e.tables.values() for row in measured(table)})
    ran, papers = count_of(len(e.scope.records), "run"), result.table.corpus
    place = "" if e.corpus == papers else f" in place of the paper's {papers}"
    return " ".join([f"{ran}, {seeds} seeds a row, on {e.corpus}{place}.", *map(sentence, notes)])


def _searches(e: Experiment) -> list[str]:
    """ "search of 3 trials", or "search of 5 rows: 3 trials; of 1 row: 50 trials": none is left out."""
    rows = {row.study: row.budget for t in e.tables.values() for row in measured(t) if not row.row.measured}
    counts = Counter(budget for budget in rows.values() if budget)
    if not counts:
        return []
    alike = len(counts) == 1
    return ["search of " + "; of ".join(b if alike else f"{count_of(n, 'row')}: {b}" for b, n in counts.items())]


def _in_place(text: str, encoder: str) -> str:
    own = is_paper_encoder(text, encoder) or text not in PAPER_ENCODERS
    return "" if own else f" in place of {PAPER_ENCODERS[text][0]}"


def what_was_found(result: TableResult) -> str:
    """The best rows by Acc2, and where HyCon's stand. Means that are equal as printed share a place, as they share the
    table's mark."""
    ranked = sorted((row for row in measured(result) if "acc2" in row.cells), key=lambda row: -_mean(row))
    if not ranked:
        return "No row has an Acc2."
    best = [row for row in ranked if _mean(row) == _mean(ranked[0])]
    places = {row.row.name: 1 + sum(_mean(other) > _mean(row) for other in ranked) for row in ranked}
    names, means = listed([row.row.name for row in best]), listed([_acc2(row) for row in best])
    have = f"{names} {'has' if len(best) == 1 else 'share'} the best mean Acc2, {means}"
    ours = [row for row in ranked if _ours(row) and row not in best]
    others = "".join(f" {row.row.name} {ordinal(places[row.row.name])}, {_acc2(row)}." for row in ours)
    rows = f"Of {count_of(len(ranked), 'row')} of {label(result.table.name)} with runs"
    return f"{rows}, {have}.{others}{_alone(result)}"


def _alone(result: TableResult) -> str:
    """A sentence where HyCon was run against word vectors only, whose rows lack what a pretrained encoder knows."""
    others = [row for row in result.rows if row.row.text in DEFAULT and not _ours(row)]
    ours = [row for row in measured(result) if _ours(row)]
    alone = ours and others and not any(row.n for row in others)
    return f" No other row of {label(result.table.name)} on a pretrained text encoder was run." if alone else ""


def _ours(row: RowResult) -> bool:
    return row.row.name in OURS


def what_was_decided(e: Experiment) -> str:
    found = e.claims["paper"]
    asked = {claim.claim.id for claim in found}
    paper = [c for c in against_paper() if c.claim.id in asked and c.verdict == CONTRADICTED]
    narrowly = sum(sum(part.verdict == CONTRADICTED for part in claim.parts) == 1 for claim in paper)
    task = " and ".join(sorted({claim.claim.task for claim in found}))
    tested, not_run = differences(found), sum(claim.verdict == NOT_RUN for claim in found)
    beyond = sum(p is not None and p < LEVEL for p in tested.values())
    return (
        f"Of the paper's {len(found)} comparative claims on {task} these runs {_counts(found)}; {not_run} are not run. "
        f"That is said of what was run, not of the paper's setting. Of the {len(tested)} differences of two rows on "
        f"one metric that they ask about, {beyond} are beyond chance (p below {LEVEL}, adjusted over all of them). "
        f"The paper's own tables contradict {len(paper)} of the claims, {narrowly} of them in one comparison alone."
    )


def differences(found: Sequence[ClaimResult]) -> dict[tuple, float | None]:
    """Two rows and a metric -> the p of their difference, adjusted over all of them. A difference that several tables
    show is one test, with one p in all; the families of the tables, which verdicts go by, do not bound their union."""
    tests: dict[tuple, tuple[float | None, float | None]] = {}
    for part in (part for claim in found for part in claim.parts if part.p is not None):
        key = frozenset(row_of(side).key for side in part.contest.sides), part.metric
        tests[key] = part.p, part.p_interval
    return dict(zip(tests, adjusted(list(tests.values())), strict=True))


def _counts(found: Sequence[ClaimResult]) -> str:
    """ "support 2, contradict 1 and leave 9 undecided"."""
    counts = Counter(claim.verdict for claim in found)
    said = f"support {counts[SUPPORTED]}, contradict {counts[CONTRADICTED]} and leave {counts[UNDECIDED]} undecided"
    none = counts[NO_VERDICT]
    return said + (f"; {none} {'gets' if none == 1 else 'get'} no verdict on such data" if none else "")


def losses(e: Experiment) -> list[ClaimResult]:
    return [claim for claim in e.claims["paper"] if set(claim.claim.tables) <= set(LOSSES)]


def on_losses(e: Experiment) -> list[str]:
    """The paper's claims on its losses: how many of each verdict, and those that are decided."""
    found = losses(e)
    run = [claim for claim in found if claim.verdict in JUDGED]
    if not run or not set(LOSSES) & set(e.tables):
        return []
    lead = (
        f"**On the losses** ({tables_in_words(LOSSES)}) the paper makes {count_of(len(found), 'claim')}. These runs "
        f"bear on {len(run)} of them: they {_counts(run)}. {e.judged_by('paper')}"
    )
    told = [claim for verdict in DECIDED for claim in run if claim.verdict == verdict]
    if any(claim.decisive and claim.decisive.contest.test in SIZES for claim in told):
        lead += f" {OF_SIZES}"
    lines = [f"{verdict_of(c)}: “{c.claim.quote}” ({c.claim.place}). {effect(c.decisive) or c.reason}." for c in told]
    return [lead, *([fragment([Bullets(tuple(lines))]).strip()] if lines else [])]


def on_text(found: Sequence[Experiment]) -> list[str]:
    """Whether audio and vision help at all: HyCon against the text alone, and against permuted audio and vision."""
    lines = [_asked(e, claim) for e in found for claim in _questions(e)]
    if not lines:
        return []
    heads = (*wide("Rows", "Corpus"), *headings("Runs", *(METRICS[name].heading for name in SHOWN), "Verdict"))
    said = (
        "Difference of the means, its 95 % interval, and the adjusted p; the lower the MAE, the better. Supported: the "
        "first row is better on all three."
    )
    if few := _too_few(found):
        said += f" A line of {' or '.join(few)} is undecided whatever its numbers: so few give no p below {LEVEL}."
    lead = "**Do audio and vision help?** Our own questions, not the paper's."
    return [lead, fragment([Grid("asked", said, heads, tuple(lines))]).strip()]


def _questions(e: Experiment) -> list[ClaimResult]:
    """The claims of ASKED that were run."""
    known = (claim for claim in e.claims["beyond"] if claim.claim.id in ASKED)
    return [claim for claim in known if claim.verdict in JUDGED]


def _too_few(found: Sequence[Experiment]) -> list[str]:
    """ "5 pairs": numbers of runs with which no outcome could have been significant."""
    parts = (part for e in found for claim in _questions(e) for part in claim.parts if part.underpowered)
    return list(dict.fromkeys(map(runs_of, parts)))


def _asked(e: Experiment, claim: ClaimResult) -> tuple[str, ...]:
    """A line of `on_text`. What was read of the corpus stands beside it where that was set by hand."""
    of = {part.metric: part for part in claim.parts}
    one = of[SHOWN[0]]
    read = {use.study.options["modalities"] for use in e.scope.uses if "modalities" in use.study.options}
    corpus = e.corpus + (f" ({' and '.join(sorted(read)).replace(',', ' and ')} alone)" if read else "")
    shown = (_difference(of[name]) for name in SHOWN)
    return f"{one.row_a} against {one.row_b}", corpus, runs_of(one), *shown, claim.verdict


def _difference(part: Part) -> str:
    if part.difference is None:
        return part.reason or NOTHING
    said = number(part, part.difference, "+")
    if part.low is not None and part.high is not None:
        said += f" [{number(part, part.low)}, {number(part, part.high)}]"
    return said + (f", p {p_value(part.p_adjusted)}" if part.p_adjusted is not None else "")


def in_a_line(e: Experiment) -> str:
    not_run = sum(claim.verdict == NOT_RUN for claim in e.claims["paper"])
    claims = f"Of the paper's claims they {_counts(e.claims['paper'])}; {not_run} are not run."
    return " ".join(filter(None, (f"{e.title}: {what_ran(e)}", what_was_found(main_table(e)), claims)))


def ordinal(place: int) -> str:
    """ "is first", "is 4th", "is 21st"."""
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"is { {1: 'first', 2: 'second', 3: 'third'}.get(place, f'{place}{ending}') }"


def _mean(row: RowResult) -> float:
    """As printed."""
    stat = row.cells["acc2"].stat
    return round(stat.mean, METRICS["acc2"].decimals) if stat else float("-inf")


def _acc2(row: RowResult) -> str:
    stat = row.cells["acc2"].stat
    short = f" ({one_line(row.reason)})" if row.reason else ""
    return f"{mean_sd(stat.mean, stat.sd, 0, 1)} over {count_of(stat.n, 'seed')}{short}" if stat else NOTHING


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
