"""The report as a LaTeX appendix: a whole document for pdflatex with booktabs, graphicx and longtable, nothing else.

The details behind claims and searches, and the figures, are left to the other formats; the text says so where they
would stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from studies.aggregate.render import escape_latex, latex
from studies.document.blocks import (
    Block,
    Bullets,
    Counts,
    Document,
    Fold,
    Grid,
    Heading,
    Notice,
    Part,
    Picture,
    Results,
    Section,
    Text,
)

PREAMBLE = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=18mm]{geometry}
\usepackage{booktabs,graphicx,longtable}
\setlength{\LTleft}{0pt}
\setlength{\LTright}{0pt}
\setlength{\tabcolsep}{4pt}
\sloppy
\begin{document}
\appendix
"""
BREAK = 18  # characters without a space from which on a word may be broken: checksums, names of models
WIDE, NARROW = 4.0, 1.0  # share of the line of a column of sentences, and of one of words or numbers


def write(document: Document) -> str:
    """The whole document, ending in a newline."""
    top = f"\\section*{{{escape_latex(document.title)}}}\n{_paragraph(document.lead)}"
    banner = "".join(map(_block, document.banner))
    return f"{PREAMBLE}{top}{banner}{''.join(map(_section, document.sections))}\\end{{document}}\n"


def _section(section: Section) -> str:
    return f"\\section{{{escape_latex(section.title)}}}\n{_blocks(section.blocks)}\\clearpage\n"


def _blocks(blocks: Sequence[Block]) -> str:
    """Details are counted, not printed."""
    folds = sum(isinstance(block, Fold) for block in blocks)
    said = _paragraph(f"The details of {folds} entries are in the HTML and Markdown reports.") if folds else ""
    return "".join(_block(block) for block in blocks if not isinstance(block, Fold)) + said


def _block(block: Any) -> str:
    return WRITERS[type(block)](block)


def _paragraph(text: str) -> str:
    return f"{_breakable(text)}\\par\n"


def _bullets(block: Bullets) -> str:
    return "\\begin{itemize}\n" + "".join(f"\\item {_breakable(i)}\n" for i in block.items) + "\\end{itemize}\n"


def _counts(block: Counts) -> str:
    return _paragraph(f"{block.label}: {', '.join(f'{n} {verdict}' for verdict, n in block.counts)}.")


def _part(block: Part) -> str:
    return f"\\subsection{{{escape_latex(block.title)}}}\n{_blocks(block.blocks)}"


def _picture(block: Picture) -> str:
    return _paragraph(f"{block.figure.caption} (The picture is in the HTML report, or from `bench figure'.)")


def _grid(grid: Grid) -> str:
    """A longtable whose columns share the line: what is wide gets more of it."""
    heads = " & ".join(f"\\bfseries {_breakable(heading.text)}" for heading in grid.headings)
    rows = "".join(" & ".join(map(_breakable, row)).rstrip() + " \\\\\n" for row in grid.rows)
    return (
        "{\\footnotesize\n"
        f"\\begin{{longtable}}{{{_columns(grid.headings)}}}\n\\caption{{{escape_latex(grid.caption)}}}\\\\\n"
        f"\\toprule\n{heads} \\\\\n\\midrule\n\\endfirsthead\n\\toprule\n{heads} \\\\\n\\midrule\n\\endhead\n"
        f"\\bottomrule\n\\endfoot\n{rows}\\end{{longtable}}}}\n"
    )


def _columns(headings: Sequence[Heading]) -> str:
    shares = [WIDE if heading.wide else NARROW for heading in headings]
    shares[0] = max(shares[0], 2 * NARROW)
    gaps = 2 * len(shares)  # tabcolsep on both sides of each
    return "".join(
        f"p{{\\dimexpr{share / sum(shares):.4f}\\linewidth-{gaps / len(shares):g}\\tabcolsep\\relax}}"
        for share in shares
    )


def _breakable(text: str) -> str:
    """Escaped; long runs of letters without a space may break anywhere."""

    def word(found: re.Match) -> str:
        return "\\allowbreak ".join(escape_latex(found[0][i : i + 8]) for i in range(0, len(found[0]), 8))

    pieces = re.split(f"(\\S{{{BREAK},}})", " ".join(text.split()))
    return "".join(
        word(match) if (match := re.fullmatch(f"\\S{{{BREAK},}}", piece)) else escape_latex(piece) for piece in pieces
    )


WRITERS: dict[type, Callable[[Any], str]] = {
    Text: lambda block: _paragraph(block.text),
    Notice: lambda block: f"\\textbf{{{_breakable(block.text)}}}\\par\n",
    Bullets: _bullets,
    Counts: _counts,
    Grid: _grid,
    Results: lambda block: latex(block.result).replace("[htbp]", "[!htbp]"),
    Picture: _picture,
    Part: _part,
}
