"""What `bench ablate` prints: the table of the intact and the ablated model, and below it their comparison.

Every format of studies.aggregate.render, with the comparison as a second table (text, md, latex, html), as key
`comparison` (json), or as columns of the ablated model's lines (csv).
"""

from __future__ import annotations

import csv
import html
import io
import json
import textwrap
from collections.abc import Sequence

from studies.aggregate.ablation import Difference
from studies.aggregate.cells import TableResult
from studies.aggregate.render import SHRINK, WIDTH, as_dict, render
from studies.aggregate.render import escape_latex as escaped

HEADINGS = ["Metric", "ablated - intact", "95 % interval", "p", "p adjusted", "Note"]
NONE = "No comparison: a row has no finished run."


def render_ablation(result: TableResult, found: Sequence[Difference], format: str) -> str:
    """`result` (intact row first) and its `differences`, in one of FORMATS, ending in a newline."""
    if format == "json":
        return json.dumps({**as_dict(result), "comparison": _by_metric(found)}, indent=1, ensure_ascii=False) + "\n"
    table = render(result, format)
    if format == "csv":
        return _csv(table, result, found)
    if format == "latex":
        return f"{table}\n{_latex(found)}"
    if format == "html":
        before, end, after = table.rpartition("</body>")
        return f"{before}{_html(found)}{end}{after}"
    return f"{table}\n{_grid(found, 'pipe' if format == 'md' else 'simple')}"


def heading(found: Sequence[Difference]) -> str:
    """What the numbers below it are."""
    if not found:
        return NONE
    most = max((d.found for d in found), key=lambda c: c.utterances)
    runs = f"{most.n_a} pairs of runs of equal seeds" if most.paired else f"{most.n_a} and {most.n_b} runs, not paired"
    tested = f" on {most.utterances} utterances" if most.utterances else ""
    return (
        f"Ablated less intact: {runs}{tested}. Interval: over seeds and utterances. p: two-sided permutation test over "
        "seeds; adjusted over the metrics (Benjamini-Hochberg)."
    )


def lines(found: Sequence[Difference]) -> list[list[str]]:
    """One line a metric, as long as HEADINGS."""
    printed = []
    for one in found:
        comparison, column = one.found, one.column
        low, high = (None if v is None else column.scale * v for v in (comparison.low, comparison.high))
        interval = "none: one run" if low is None or high is None else f"{low:+.{_d(one)}f} to {high:+.{_d(one)}f}"
        difference = f"{column.scale * comparison.difference:+,.{_d(one)}f}"
        better = "" if column.higher_is_better else " (lower is better)"
        p_values = [_p(comparison.p), _p(one.p_adjusted)]
        printed.append([column.heading + better, difference, interval, *p_values, note(comparison)])
    return printed


def note(comparison) -> str:
    """What the p cannot tell."""
    if not comparison.underpowered:
        return ""
    return f"underpowered: p < 0.05 needs {comparison.seeds_needed} seeds a row at least"


def _d(one: Difference) -> int:
    """Decimals: one more than the table has, since differences are small."""
    return one.column.decimals + 1


def _p(p: float | None) -> str:
    return "none" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _by_metric(found: Sequence[Difference]) -> dict[str, dict]:
    return {one.column.metric: one.numbers() for one in found}


def _grid(found: Sequence[Difference], style: str) -> str:
    from tabulate import tabulate

    if not found:
        return f"{NONE}\n"
    grid = tabulate(lines(found), HEADINGS, style, disable_numparse=True)
    said = heading(found) if style == "pipe" else textwrap.fill(heading(found), WIDTH, break_on_hyphens=False)
    return f"{said}\n\n" + "\n".join(line.rstrip() for line in grid.splitlines()) + "\n"


def _latex(found: Sequence[Difference]) -> str:
    if not found:
        return f"{NONE}\n"
    rows = "".join(" & ".join(map(escaped, line)).rstrip() + " \\\\\n" for line in lines(found))
    return (
        "\\begin{table}[htbp]\n\\centering\n"
        f"\\caption{{{escaped(heading(found))}}}\n\\label{{tab:ablation-difference}}\n"
        f"{SHRINK}{{%\n\\begin{{tabular}}{{lrllll}}\n\\toprule\n"
        f"{' & '.join(map(escaped, HEADINGS))} \\\\\n\\midrule\n{rows}\\bottomrule\n"
        "\\end{tabular}}\n\\end{table}\n"
    )


def _html(found: Sequence[Difference]) -> str:
    if not found:
        return f"<p>{NONE}</p>\n"
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in HEADINGS)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>{"".join(f"<td>{html.escape(x)}</td>" for x in rest)}</tr>\n'
        for first, *rest in lines(found)
    )
    return (
        f'<table id="comparison">\n<caption>{html.escape(heading(found))}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table>\n"
    )


def _csv(table: str, result: TableResult, found: Sequence[Difference]) -> str:
    """The table's own lines, those of the ablated row with the comparison with the intact one in further columns."""
    known = {m: {f"comparison_{key}": x for key, x in numbers.items()} for m, numbers in _by_metric(found).items()}
    ablated = result.rows[1].row.name
    columns = list(next(iter(known.values()), {}))
    read = csv.DictReader(io.StringIO(table))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*(read.fieldnames or []), *columns], lineterminator="\n", restval="")
    writer.writeheader()
    for line in read:
        writer.writerow({**line, **(known.get(line["metric"], {}) if line["row"] == ablated else {})})
    return out.getvalue()
