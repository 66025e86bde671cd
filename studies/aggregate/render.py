"""A filled table as text, Markdown, LaTeX, CSV, HTML or JSON.

Text, Markdown, LaTeX and HTML show the same: ours as "mean ± sd (n)" beside the paper's number, the best measured mean
of each column marked, quoted numbers with a dagger, and a caption that names protocol, corpus, n, every stand-in and
what served as the text encoder. CSV has a line per row and metric; JSON has a row per row. Those two carry plain
numbers, and the same warnings as fields.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
import textwrap
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from hycon.errors import check_known
from studies.aggregate.caption import DAGGER, MARKS, caption, one_line
from studies.aggregate.cells import Entry, RowResult, TableResult
from studies.statistics.cell import COMPARED, explained, seeds_to_settle, tolerance_for, tolerance_of
from studies.tables import Column

NOTHING = "–"
SHORT = 32  # characters: a longer reason goes below the table
WIDTH = 100  # characters of a wrapped caption


class Cell(NamedTuple):
    text: str
    best: bool = False
    hint: str = ""  # HTML only: the verdict in words, with direction and size


def render(result: TableResult, format: str, *, standalone: bool = False) -> str:
    """`result` in one of FORMATS, ending in a newline. standalone (LaTeX): a whole document, not a file to \\input.

    Raises UserError for an unknown format.
    """
    check_known("format", format, FORMATS)
    if format == "latex":
        return latex(result, standalone=standalone)
    return FORMATS[format](result)


# ------------------------------------------------------------------------------------- what every format shows


def headings(result: TableResult) -> list[str]:
    own = [column.heading for column in result.table.columns]
    return ["Model", *(own if result.table.beyond else [name for mine in own for name in (mine, "paper")]), "Status"]


def body(result: TableResult) -> list[list[Cell]]:
    """One list of cells per row, as long as `headings`."""
    lines = []
    for row in result.rows:
        line = [Cell(one_line(row.row.name))]
        for column in result.table.columns:
            entry = row.cells[column.metric]
            line.append(Cell(measured(entry, column), entry.best))
            if not result.table.beyond:
                line.append(Cell(printed(entry), hint=said_of(entry, column)))
        lines.append([*line, Cell(state(row))])
    return lines


def measured(entry: Entry, column: Column) -> str:
    """As "85.1 ± 0.4 (5)", "85.1 (1)" for a single run, "85.1" for what is no run, a dash for nothing."""
    if entry.stat is None:
        return NOTHING
    spread = "" if entry.stat.sd is None else f" ± {entry.stat.sd:,.{column.decimals}f}"
    count = f" ({entry.stat.n})" if entry.stat.n else ""
    return f"{entry.stat.mean:,.{column.decimals}f}{spread}{count}"


def printed(entry: Entry) -> str:
    """The paper's number as printed, a dagger where it is quoted, and the mark of the verdict if there is one."""
    if entry.paper is None:
        return NOTHING
    mark = MARKS.get(entry.verdict)
    return entry.paper.text + (DAGGER if entry.paper.quoted else "") + (f" {mark}" if mark else "")


def said_of(entry: Entry, column: Column) -> str:
    """The verdict in words, as "differs: 1.9 below the paper's, ...": direction, size and tolerance."""
    paper = entry.paper.value if entry.paper else None
    return explained(entry.verdict, entry.stat, paper, tolerance_of(column.metric), column.decimals)


def state(row: RowResult) -> str:
    """The last column: empty where all is well, else the reason; a long one goes to `notes`, its status stays."""
    reason = _reason(row)
    if len(reason) <= SHORT:
        return reason
    return "see below" if row.status == "measured" else row.status


def notes(result: TableResult) -> list[str]:
    """The reasons that did not fit into the last column."""
    return [one_line(f"{row.row.name}: {_reason(row)}") for row in result.rows if len(_reason(row)) > SHORT]


def _reason(row: RowResult) -> str:
    reason = one_line(row.reason)
    if row.status in ("missing", "measured", "reference"):
        return reason
    return f"{row.status}: {reason}" if reason else row.status


# -------------------------------------------------------------------------------------------------- the formats


def text(result: TableResult) -> str:
    from tabulate import tabulate

    # Nothing is bold on a plain terminal: a star stands for it.
    rows = [[cell.text + ("*" if cell.best else "") for cell in line] for line in body(result)]
    said = " ".join(caption(result)).replace("Bold: best", "* best")
    grid = tabulate(rows, headings(result), "simple", disable_numparse=True, colalign=_align(result))
    above = textwrap.fill(said, WIDTH, break_on_hyphens=False)
    below = "".join(f"\n{textwrap.fill(note, WIDTH, subsequent_indent='  ')}" for note in notes(result))
    return f"{above}\n\n{_strip(grid)}\n{below}" + ("\n" if below else "")


def markdown(result: TableResult) -> str:
    from tabulate import tabulate

    rows = [
        [f"**{escape_markdown(cell.text)}**" if cell.best else escape_markdown(cell.text) for cell in line]
        for line in body(result)
    ]
    grid = tabulate(rows, headings(result), "pipe", disable_numparse=True, colalign=_align(result))
    below = "".join(f"\n- {escape_markdown(note)}" for note in notes(result))
    return f"{escape_markdown(' '.join(caption(result)))}\n\n{grid}\n{below}" + ("\n" if below else "")


SHRINK = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}"  # wide tables only


def latex(result: TableResult, *, standalone: bool = False) -> str:
    """A table environment; it needs \\usepackage{booktabs,graphicx} and nothing else."""
    columns = ("r" if result.table.beyond else "rl") * len(result.table.columns)
    lines = [[escape_latex(cell.text, cell.best) for cell in line] for line in body(result)]
    rows = "".join(" & ".join(line).rstrip() + r" \\" + "\n" for line in lines)
    below = "".join(f"{escape_latex(note)}\\par\n" for note in notes(result))
    fragment = (
        "% needs \\usepackage{booktabs,graphicx}\n"
        "\\begin{table}[htbp]\n\\centering\n"
        f"\\caption{{{escape_latex(' '.join(caption(result)))}}}\n\\label{{tab:{result.table.name}}}\n"
        f"{SHRINK}{{%\n\\begin{{tabular}}{{l{columns}l}}\n\\toprule\n"
        f"{' & '.join(map(escape_latex, headings(result)))} \\\\\n\\midrule\n{rows}\\bottomrule\n\\end{{tabular}}}}\n"
        + (f"\\par\\smallskip\n{{\\footnotesize\\raggedright\n{below}}}\n" if below else "")
        + "\\end{table}\n"
    )
    if not standalone:
        return fragment
    preamble = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    return f"{preamble}{fragment}\\end{{document}}\n"


def html_table(result: TableResult) -> str:
    """A <table> that stands alone in any page; `hint`s are titles of the paper's numbers."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in headings(result))
    rows = "".join(f"<tr>{''.join(map(_html, line, range(len(line))))}</tr>\n" for line in body(result))
    said = html.escape(" ".join(caption(result)))
    below = "<br>".join(html.escape(note) for note in notes(result))
    foot = f'<tfoot><tr><td colspan="{len(headings(result))}">{below}</td></tr></tfoot>\n' if below else ""
    return (
        f'<table id="{result.table.name}">\n<caption>{said}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n{foot}</table>\n"
    )


def html_page(result: TableResult) -> str:
    """`html_table` in a small page that needs no network."""
    title = html.escape(f"{result.table.name} on {result.corpus.name}")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{html_table(result)}</body>\n</html>\n"
    )


STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.4 system-ui,sans-serif;margin:1rem;overflow-x:auto}"
    "table{border-collapse:collapse}caption{text-align:left;max-width:60rem;padding-bottom:.6rem}"
    "th,td{padding:.2rem .5rem;text-align:left;white-space:nowrap}thead th{border-bottom:2px solid}"
    "tbody tr:last-child>*{border-bottom:1px solid}"
)


def comma_separated(result: TableResult) -> str:
    """A line per row and metric; the warnings of the caption are columns, so that they travel with every line."""
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in result.rows:
        for metric, numbers in _metrics(row).items():
            line: dict[str, Any] = {"table": result.table.name, "corpus": result.corpus.name}
            line |= {"synthetic": _yes(result.corpus.synthetic), "protocol": result.protocol}
            line |= {"row": one_line(row.row.name), "status": row.status, "reason": one_line(row.reason)}
            line |= {"encoder": one_line(row.encoder or ""), "metric": metric} | numbers
            line |= {key: _yes(line[key]) for key in ("quoted", "best")}
            line["search"] = row.budget
            line["notes"] = one_line("; ".join(result.notes))
            if writer is None:
                writer = csv.DictWriter(out, list(line), lineterminator="\n")
                writer.writeheader()
            writer.writerow(line)
    return out.getvalue()


def as_json(result: TableResult) -> str:
    return json.dumps(as_dict(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_dict(result: TableResult) -> dict[str, Any]:
    """What --format json prints: percentages as the paper prints them, None for what was not measured."""
    return {
        "table": result.table.name,
        "title": result.table.title,
        "corpus": result.corpus.name,
        "synthetic": result.corpus.synthetic,
        "protocol": result.protocol,
        "notes": list(result.notes),
        "caption": " ".join(caption(result)),
        "tolerances": {
            column.metric: {"value": found.value, "reason": found.reason}
            for column in result.table.columns
            if (found := tolerance_for(column.metric))
        },
        "rows": [
            {
                "row": row.row.name,
                "status": row.status,
                "reason": row.reason,
                "n": row.n,
                "text": row.row.text,
                "encoder": row.encoder,
                "search": row.budget,
                "not_comparable_because": list(row.obstacles),
                "metrics": _metrics(row),
            }
            for row in result.rows
        ],
    }


FORMATS: dict[str, Callable[[TableResult], str]] = {
    "text": text,
    "md": markdown,
    "latex": latex,
    "csv": comma_separated,
    "html": html_page,
    "json": as_json,
}


# ------------------------------------------------------------------------------------------------------ details


def _metrics(row: RowResult) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for metric, entry in row.cells.items():
        stat = entry.stat
        numbers = {key: _round(getattr(stat, key, None)) for key in ("mean", "sd", "low", "high")}
        paper = {"paper": entry.paper.value, "quoted": entry.paper.quoted} if entry.paper else {}
        found[metric] = {**numbers, "n": stat.n if stat else 0, "paper": None, "quoted": False, **paper}
        found[metric] |= {"best": entry.best, "verdict": entry.verdict, **_beside_the_paper(metric, entry)}
    return found


def _beside_the_paper(metric: str, entry: Entry) -> dict[str, float | None]:
    """Ours less the paper's, the tolerance, and for "inconclusive" the seeds that would probably settle it; None where
    the two are not comparable."""
    tolerance = tolerance_of(metric)
    if entry.verdict not in COMPARED or not entry.stat or not entry.paper or tolerance is None:
        return {"difference": None, "tolerance": None, "seeds_to_settle": None}
    stat, paper = entry.stat, entry.paper.value
    seeds = seeds_to_settle(stat, paper, tolerance) if entry.verdict == "inconclusive" else None
    return {"difference": _round(stat.mean - paper), "tolerance": tolerance, "seeds_to_settle": seeds}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)  # below anything that is printed: drops 85.10000000000001


def _align(result: TableResult) -> list[str]:
    return ["left", *(("right",) if result.table.beyond else ("right", "left")) * len(result.table.columns), "left"]


def _strip(grid: str) -> str:
    return "\n".join(line.rstrip() for line in grid.splitlines())


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>|~&$])", r"\\\1", text)


def _html(cell: Cell, index: int) -> str:
    text = html.escape(cell.text)
    if index == 0:
        return f'<th scope="row">{text}</th>'
    hint = f' title="{html.escape(cell.hint)}"' if cell.hint else ""
    return f"<td{hint}>{f'<b>{text}</b>' if cell.best else text}</td>"


_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "±": r"$\pm$",
    "≠": r"$\neq$",
    "†": r"$^{\dagger}$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "–": "--",
    "’": "'",
}


def escape_latex(text: str, best: bool = False) -> str:
    """Escaped, and plain ASCII: a letter that plain LaTeX cannot set loses its accent or becomes '?'."""
    escaped = "".join(_LATEX.get(c) or _ascii(c) for c in text)
    return f"\\textbf{{{escaped}}}" if best else escaped


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(c, c) for c in plain) or "?"
