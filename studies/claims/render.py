"""Verdicts on claims as text, Markdown, HTML, LaTeX or JSON. A caution stands with every verdict that has one.

Text has one line for each claim: verdict, id, how many parts hold, the beginning of the quotation, and the deciding
part with its effect, interval, p and n. The other formats have the whole quotation, and why the verdict is what it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from hycon.errors import check_known
from studies.claims.kept import WITH_PREDICTIONS
from studies.claims.kinds import METRICS
from studies.claims.verdict import (
    CANNOT,
    CONSISTENT,
    CONTRADICTED,
    NO_VERDICT,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    ClaimResult,
    Part,
)
from studies.document import formats
from studies.document.blocks import Block, Bullets, Cell, Grid, Heading, Section, headings, wide
from studies.document.data import as_json, rounded
from studies.document.text import WIDTH, wrapped
from studies.document.words import count_of, p_value

FORMATS = (*formats.FORMATS, "json")
QUOTE = 60  # characters of a quotation on its line
QUOTED_FROM = 160  # characters of a line from which on a quotation has room beside the deciding comparison; chosen here
UNQUOTED = "The quotations do not fit here: --format md and --id have them."
DECIDING = "What could decide undecided claims:"
TO_DECIDE = "What could decide undecided claims, with the same --results and --data:"
LETTERED = "Verdicts with a letter are not about the paper's own setting:"
OWN_LETTERED = "The verdicts with a letter:"
SEEDS_ALONE = (
    "The predictions of some runs, or the labels to them, are not at hand (published results come without labels, "
    "which the corpus has): those intervals are over seeds alone, and leave out the choice of the test utterances."
)
KEPT_VERDICTS = (
    f"{WITH_PREDICTIONS} The folder keeps these verdicts in a file, whose rows, seeds and means are those of its runs."
)
NUMBERED = ("gain", "slight", "great", "about", "at_most")  # tests against a number
SIZES = {"great": "read as: a gain of at least", "slight": "read as: a gain of at most", "gain": "claimed: a gain of"}
OF_SIZES = "p asks whether there is any difference; the interval tells whether it is as large as the words say."


def render_claims(results: Sequence[ClaimResult], format: str, *, detailed: bool = False, width: int = WIDTH) -> str:
    """`results` in one of FORMATS, ending in a newline. detailed: every part of each (text and md; JSON always has).

    width: characters of a line of text. Commands are never broken.  Raises UserError for an unknown format.
    """
    check_known("format", format, FORMATS)
    if format == "json":
        return as_json(as_list(results))
    if format == "text" and detailed:
        return "\n\n".join(_detail(result, width) for result in results) + "\n"
    if format == "text":
        return formats.write([_short(results, width)], format, "Claims", width=width) + _commands(results, width)
    blocks: list[Block] = [_whole(results), *to_decide(results)]
    if format == "md" and detailed:
        blocks += [_parts(result) for result in results]
    return formats.write(blocks, format, "Claims")


# ------------------------------------------------------------------------------------------------- tables


def _short(results: Sequence[ClaimResult], width: int) -> Grid:
    """A line for each claim, to be read on a terminal; without its quotation where that would have no room. Where some
    were run, those of which nothing was are named below."""
    quoted = width >= QUOTED_FROM
    run = [r for r in results if any(part.verdict != NOT_RUN for part in r.parts)] or results
    rows = [(_verdict(r), r.claim.id, held(r), *((_quotation(r),) if quoted else ()), _line(r)) for r in run]
    sentences = ("Quotation", "Deciding comparison") if quoted else ("Deciding comparison",)
    others = ", ".join(r.claim.id for r in results if r not in run)
    unrun = (f"Not run: {others}. --id says which rows are missing.",) if others else ()
    notes = (*unrun, *(() if quoted else (UNQUOTED,)), *seeds_alone(results))
    heads = (*headings("Verdict", "Claim", "Parts"), *wide(*sentences))
    return Grid("claims", f"{summary(results)}.", heads, tuple(rows), notes=notes, lettered=_lettered(results))


def _quotation(result: ClaimResult) -> str:
    return textwrap.shorten(result.claim.quote, QUOTE, placeholder=" ...")


def _whole(results: Sequence[ClaimResult]) -> Grid:
    heads = (Heading("Verdict"), *wide("Claim"), Heading("Parts", number=True), *wide("Deciding comparison"))
    rows = [
        (
            _verdict(r),
            Cell(f"“{r.claim.quote}” ({r.claim.place})", id=f"claim-{r.claim.id}"),
            held(r),
            "\n".join(dict.fromkeys((_line(r), r.reason))),
        )
        for r in results
    ]
    notes = seeds_alone(results)
    return Grid("claims", f"{summary(results)}.", heads, tuple(rows), name=1, notes=notes, lettered=_lettered(results))


def _lettered(results: Sequence[ClaimResult]) -> str:
    return OWN_LETTERED if all(result.claim.own for result in results) else LETTERED


def seeds_alone(results: Sequence[ClaimResult]) -> tuple[str, ...]:
    """A sentence where intervals leave out the choice of the utterances, or predictions that are not here decided."""
    if any(result.kept for result in results):
        return (KEPT_VERDICTS,)
    return (SEEDS_ALONE,) if any(part.seeds_alone for result in results for part in result.parts) else ()


def caution_of(result: ClaimResult) -> str:
    """As a sentence; "" where there is none."""
    said = f"{result.caution}."
    if not result.caution:
        return ""
    return said[:1].upper() + said[1:] if result.claim.own else f"Caution: {said}"


def _verdict(result: ClaimResult) -> Cell:
    return Cell("", verdict=result.verdict, note=result.caution)


def to_decide(results: Sequence[ClaimResult], id: str = "decide") -> list[Block]:
    """The commands that would decide what is undecided, each with its claims; nothing where there are none."""
    rows = tuple((command, ", ".join(ids)) for command, ids in _deciding(results).items())
    return [Grid(id, TO_DECIDE, (*headings("Command"), *wide("Claims")), rows)] if rows else []


def _commands(results: Sequence[ClaimResult], width: int) -> str:
    """`to_decide` for a terminal: each command on a line of its own, to be copied, and below it the claims."""
    found = _deciding(results)
    said = [f"{command}\n{textwrap.indent(wrapped(', '.join(ids), width - 2), '  ')}" for command, ids in found.items()]
    return "\n".join(["", DECIDING, "", *said, ""]) if said else ""


def _deciding(results: Sequence[ClaimResult]) -> dict[str, list[str]]:
    """Command -> the claims that it would decide."""
    claims: dict[str, list[str]] = {}
    for result in results:
        for command in result.decide:
            claims.setdefault(command, []).append(result.claim.id)
    return claims


def _line(result: ClaimResult) -> str:
    return result.reason if result.verdict in (NOT_RUN, NO_VERDICT) else effect(result.decisive) or result.reason


# ------------------------------------------------------------------------------------------------- every part


def _detail(result: ClaimResult, width: int) -> str:
    claim = result.claim
    said = [f"{result.verdict}: {claim.id} ({claim.place}; {claim.table}, {claim.corpus}; {claim.kind})"]
    said.append(wrapped(f'"{claim.quote}"', width))
    said += [wrapped(f"Read as: {claim.note}", width)] if claim.note else []
    said.append(wrapped(f"{result.reason}.", width))
    said += [wrapped(caution_of(result), width)] if result.caution else []
    said += [wrapped(sentence, width) for sentence in seeds_alone([result])]
    said += [f"To decide it: {command}" for command in result.decide]
    parts = (f"{part.verdict:18} {part.corpus:10} {effect(part)}{_needs(part)}" for part in result.parts)
    said += [textwrap.fill(part, width, initial_indent="  ", subsequent_indent=" " * 6) for part in parts]
    return "\n".join(said)


def _parts(result: ClaimResult) -> Section:
    items = tuple(f"{part.verdict}: {effect(part)}{_needs(part)}" for part in result.parts)
    return Section(result.claim.id, result.claim.id, (Bullets(items),))


def _needs(part: Part) -> str:
    return f", underpowered: {part.seeds_needed} seeds at the least" if part.underpowered else ""


# ------------------------------------------------------------------------------------------------- in words


def effect(part: Part | None) -> str:
    """ "HyCon against HyCon-v2, Acc2: +1.4 [0.2, 2.6], p = 0.012, adjusted 0.030, n = 5 + 5"; or printed numbers.

    Runs that are paired by seed: "n = 5 pairs"."""
    if part is None:
        return ""
    column = METRICS[part.metric]
    against = f" against {part.row_b}" if part.row_b else ""
    if part.difference is None:
        return f"{part.row_a}{against}, {column.heading}: {part.reason}"
    if not part.row_b:
        against = f" against {number(part, part.a - part.difference) if part.a is not None else '?'}"
    said = f"{part.row_a}{against}, {column.heading}: {number(part, part.difference, '+')}"
    if part.low is not None and part.high is not None and part.metric != "parameters":
        said += f" [{number(part, part.low)}, {number(part, part.high)}]"
    said += _claimed(part)
    if part.p is not None and part.p_adjusted is not None:
        p = p_value(part.p)
        said += f", p {'' if p.startswith('<') else '= '}{p}, adjusted {p_value(part.p_adjusted)}"
    if part.n_a:
        said += f", n = {runs_of(part, ' + ')}"
    elif part.a is not None and part.b is not None:
        said += f" ({number(part, part.a)}, {number(part, part.b)})"
    return said


def runs_of(part: Part, between: str = " and ") -> str:
    """ "5 pairs" of equal seeds, "5 and 6", or "5" where a row is set against a number."""
    return count_of(part.n_a, "pair") if part.paired else between.join(str(n) for n in (part.n_a, part.n_b) if n)


def _claimed(part: Part) -> str:
    """ " (claimed: a gain of 1.4)" where the words name a number, " (read as: a gain of at least 1.0)" where the number
    is ours: "great" names none."""
    words, size = SIZES.get(part.contest.test), number(part, part.contest.value)
    return f" ({words} {size})" if words and part.contest.value else ""


def number(part: Part, value: float, sign: str = "") -> str:
    return f"{value:{sign},.{METRICS[part.metric].decimals}f}"


def held(result: ClaimResult) -> str:
    """ "14/15": how many parts hold."""
    return f"{sum(part.verdict in (SUPPORTED, CONSISTENT) for part in result.parts)}/{len(result.parts)}"


def summary(results: Sequence[ClaimResult]) -> str:
    """ "50 claims: 3 supported, 47 not run"."""
    verdicts = [result.verdict for result in results]
    order = (SUPPORTED, CONSISTENT, CONTRADICTED, UNDECIDED, CANNOT, NO_VERDICT, NOT_RUN)
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in order if verdict in verdicts)
    return count_of(len(results), "claim") + (f": {counts}" if counts else "")


# ------------------------------------------------------------------------------------------------- for programs


def as_list(results: Sequence[ClaimResult]) -> list[dict[str, Any]]:
    """What --format json prints. Numbers in the printed unit, None for what was not measured."""
    return [
        {
            **{name: getattr(r.claim, name) for name in ("id", "quote", "place")},
            "table": list(r.claim.tables),
            "corpus": r.claim.corpus.split(" and "),
            **{name: getattr(r.claim, name) for name in ("kind", "note")},
            **{name: getattr(r, name) for name in ("verdict", "kept", "reason", "caution")},
            "decide": list(r.decide),
            "decisive": r.parts.index(r.decisive) if r.decisive else None,
            "parts": [_part(part) for part in r.parts],
        }
        for r in results
    ]


def _part(part: Part) -> dict[str, Any]:
    numbers = ("a", "b", "difference", "low", "high", "p", "p_interval", "p_adjusted")
    return {
        "table": part.table,
        "corpus": part.corpus,
        "row_a": part.row_a,
        "row_b": part.row_b or None,
        "metric": part.metric,
        "test": part.contest.test,
        "claimed": part.contest.value if part.contest.test in NUMBERED else None,
        **{name: rounded(getattr(part, name)) for name in numbers},
        **{name: getattr(part, name) for name in ("n_a", "n_b", "paired", "verdict", "underpowered")},
        **{name: getattr(part, name) for name in ("seeds_needed", "seeds_alone", "reason")},
    }
