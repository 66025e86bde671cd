"""Verdicts on claims as text, Markdown, HTML, LaTeX or JSON. A caution stands with every verdict that has one.

Text has one line a claim: verdict, id, how many parts hold, the beginning of the quotation, and the deciding part with
its effect, interval, p and n. Cautions are lettered and written out below, in HTML they stand beside the verdict.
"""

from __future__ import annotations

import html
import json
import string
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from hycon.errors import check_known
from studies.aggregate.render import STYLE, WIDTH, escape_latex, escape_markdown
from studies.claims.kinds import METRICS
from studies.claims.verdict import (
    CANNOT,
    CONSISTENT,
    CONTRADICTED,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    ClaimResult,
    Part,
)

QUOTE = 60  # characters of a quotation on its line
PRECISION = 3  # decimals of a p-value
LETTERED = "Verdicts with a letter are not about the paper's own setting:"


def render_claims(results: Sequence[ClaimResult], format: str, *, detailed: bool = False) -> str:
    """`results` in one of FORMATS, ending in a newline. detailed: every part of each (text and md; JSON always has).

    Raises UserError for an unknown format.
    """
    check_known("format", format, FORMATS)
    return FORMATS[format](results, detailed)


# ------------------------------------------------------------------------------------------------- in words


def effect(part: Part | None) -> str:
    """ "HyCon against HyCon-v2, Acc2: +1.4 [0.2, 2.6], p = 0.012, adjusted 0.030, n = 5 + 5"; or printed numbers."""
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
    if part.p is not None and part.p_adjusted is not None:
        said += f", p = {part.p:.{PRECISION}f}, adjusted {part.p_adjusted:.{PRECISION}f}"
    if part.n_a:
        said += f", n = {part.n_a}" + (f" + {part.n_b}" if part.n_b else "")
    elif part.a is not None and part.b is not None:
        said += f" ({number(part, part.a)}, {number(part, part.b)})"
    return said


def number(part: Part, value: float, sign: str = "") -> str:
    return f"{value:{sign},.{METRICS[part.metric].decimals}f}"


def held(result: ClaimResult) -> str:
    """ "14/15": how many parts hold."""
    return f"{sum(part.verdict in (SUPPORTED, CONSISTENT) for part in result.parts)}/{len(result.parts)}"


def summary(results: Sequence[ClaimResult]) -> str:
    """ "50 claims: 3 supported, 47 not run"."""
    verdicts = [result.verdict for result in results]
    order = (SUPPORTED, CONSISTENT, CONTRADICTED, UNDECIDED, CANNOT, NOT_RUN)
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in order if verdict in verdicts)
    return f"{len(results)} claim{'s' if len(results) != 1 else ''}" + (f": {counts}" if counts else "")


def _letters(results: Sequence[ClaimResult]) -> dict[str, str]:
    """caution -> "a", "b", ..., "aa": in the order of the claims."""
    cautions = list(dict.fromkeys(result.caution for result in results if result.caution))
    names = list(string.ascii_lowercase)
    names += [a + b for a in names for b in names]
    return dict(zip(cautions, names, strict=False))


def _marked(result: ClaimResult, letters: dict[str, str]) -> str:
    return result.verdict + (f" ({letters[result.caution]})" if result.caution else "")


# ------------------------------------------------------------------------------------------------- the formats


def text(results: Sequence[ClaimResult], detailed: bool) -> str:
    if detailed:
        return "\n\n".join(_detail(result) for result in results) + "\n"
    from tabulate import tabulate

    letters = _letters(results)
    rows = [
        [_marked(r, letters), r.claim.id, held(r), textwrap.shorten(r.claim.quote, QUOTE, placeholder=" ..."), _line(r)]
        for r in results
    ]
    heads = ["Verdict", "Claim", "Parts", "Quotation", "Deciding comparison"]
    grid = tabulate(rows, heads, "simple", disable_numparse=True)
    said = [summary(results) + ".", "", *(line.rstrip() for line in grid.splitlines())]
    if letters:
        said += ["", LETTERED]
        said += [_wrapped(f"({letter}) {caution}") for caution, letter in letters.items()]
    return "\n".join(said) + "\n"


def _line(result: ClaimResult) -> str:
    return result.reason if result.verdict == NOT_RUN else effect(result.decisive) or result.reason


def _evidence(result: ClaimResult, escape: Callable[[str], str], between: str) -> str:
    return between.join(escape(said) for said in dict.fromkeys((_line(result), result.reason)))


def _detail(result: ClaimResult) -> str:
    claim = result.claim
    said = [f"{result.verdict}: {claim.id} ({claim.place}; {claim.table}, {claim.corpus}; {claim.kind})"]
    said.append(_wrapped(f'"{claim.quote}"'))
    said += [_wrapped(f"Read as: {claim.note}")] if claim.note else []
    said.append(_wrapped(f"{result.reason}."))
    said += [_wrapped(f"Caution: {result.caution}.")] if result.caution else []
    said += [f"  {part.verdict:18} {part.corpus:10} {effect(part)}{_needs(part)}" for part in result.parts]
    return "\n".join(said)


def _needs(part: Part) -> str:
    return f", underpowered: {part.seeds_needed} seeds at the least" if part.underpowered else ""


def _wrapped(said: str) -> str:
    return textwrap.fill(said, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def markdown(results: Sequence[ClaimResult], detailed: bool) -> str:
    letters = _letters(results)
    lines = [f"{summary(results)}.", "", "| Verdict | Claim | Parts | Deciding comparison |", "|:--|:--|--:|:--|"]
    for r in results:
        quote = f"“{escape_markdown(r.claim.quote)}” ({escape_markdown(r.claim.place)})"
        lines.append(f"| {_marked(r, letters)} | {quote} | {held(r)} | {_evidence(r, escape_markdown, '<br>')} |")
    if letters:
        lines += ["", LETTERED, "", *(f"- ({letter}) {escape_markdown(said)}" for said, letter in letters.items())]
    if detailed:
        for r in results:
            lines += ["", f"## {r.claim.id}", ""]
            lines += [f"- {part.verdict}: {escape_markdown(effect(part) + _needs(part))}" for part in r.parts]
    return "\n".join(lines) + "\n"


def html_rows(results: Sequence[ClaimResult]) -> str:
    """A <table> that stands alone in any page."""
    rows = ""
    for r in results:
        cells = [
            f"<b>{html.escape(r.verdict)}</b>" + (f"<br><small>{html.escape(r.caution)}</small>" if r.caution else ""),
            f"<q>{html.escape(r.claim.quote)}</q><br><small>{html.escape(r.claim.place)}</small>",
            held(r),
            _evidence(r, html.escape, "<br>"),
        ]
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows += f'<tr id="claim-{html.escape(r.claim.id)}">{body}</tr>\n'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Verdict", "Claim", "Parts", "Evidence"))
    said = html.escape(summary(results))
    return (
        f'<table class="claims">\n<caption>{said}.</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n"
    )


def html_page(results: Sequence[ClaimResult], detailed: bool) -> str:
    style = f"{STYLE}.claims td{{white-space:normal;vertical-align:top;min-width:8rem}}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Claims</title>\n<style>{style}</style>\n</head>\n<body>\n{html_rows(results)}</body>\n</html>\n"
    )


def latex(results: Sequence[ClaimResult], detailed: bool) -> str:
    """A longtable; it needs \\usepackage{booktabs,longtable,array}."""
    letters = _letters(results)
    lines = [
        "% needs \\usepackage{booktabs,longtable,array}",
        "\\begingroup\\footnotesize",
        "\\begin{longtable}{>{\\raggedright}p{.17\\linewidth}>{\\raggedright}p{.36\\linewidth}"
        ">{\\raggedright\\arraybackslash}p{.36\\linewidth}}",
        f"\\caption{{{_tex(summary(results))}.}}\\label{{tab:claims}}\\\\",
        "\\toprule Verdict & Claim & Evidence \\\\ \\midrule \\endhead",
    ]
    for r in results:
        quote = f"``{_tex(r.claim.quote)}'' ({_tex(r.claim.place)})"
        lines.append(f"{_marked(r, letters)} & {quote} & {_evidence(r, _tex, '. ')}. \\\\")
    lines += ["\\bottomrule", "\\end{longtable}"]
    if letters:
        lines += [f"\\noindent {LETTERED}", *(f"\\par ({letter}) {_tex(said)}." for said, letter in letters.items())]
    return "\n".join([*lines, "\\par\\endgroup"]) + "\n"


def _tex(said: str) -> str:
    return escape_latex(said.replace("‘", "`").replace("“", "``").replace("”", "''"))


def as_json(results: Sequence[ClaimResult], detailed: bool) -> str:
    return json.dumps(as_list(results), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_list(results: Sequence[ClaimResult]) -> list[dict[str, Any]]:
    """What --format json prints. Numbers in the printed unit, None for what was not measured."""
    return [
        {
            "id": r.claim.id,
            "quote": r.claim.quote,
            "place": r.claim.place,
            "table": list(r.claim.tables),
            "corpus": r.claim.corpus.split(" and "),
            "kind": r.claim.kind,
            "note": r.claim.note,
            "verdict": r.verdict,
            "reason": r.reason,
            "caution": r.caution,
            "decisive": r.parts.index(r.decisive) if r.decisive else None,
            "parts": [_part(part) for part in r.parts],
        }
        for r in results
    ]


def _part(part: Part) -> dict[str, Any]:
    numbers = ("a", "b", "difference", "low", "high", "p", "p_adjusted")
    return {
        "table": part.table,
        "corpus": part.corpus,
        "row_a": part.row_a,
        "row_b": part.row_b or None,
        "metric": part.metric,
        "test": part.contest.test,
        "claimed": part.contest.value if part.contest.test in ("gain", "about", "at_most") else None,
        **{name: _round(getattr(part, name)) for name in numbers},
        "n_a": part.n_a,
        "n_b": part.n_b,
        "verdict": part.verdict,
        "underpowered": part.underpowered,
        "seeds_needed": part.seeds_needed,
        "reason": part.reason,
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


FORMATS: dict[str, Callable[[Sequence[ClaimResult], bool], str]] = {
    "text": text,
    "md": markdown,
    "html": html_page,
    "latex": latex,
    "json": as_json,
}
