"""LaTeX: tables to \\input, or a whole document for pdflatex, with booktabs, graphicx and longtable and nothing else.

In a document, details (Fold) and figures are left to the other formats; a sentence stands in their place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from studies.document import blocks
from studies.document.blocks import Block, Cell, Document, Grid, Heading
from studies.document.words import count_of, slug

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
SHRINK = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}"  # wide tables only
BREAK = 18  # characters without a space from which on a word may be broken: checksums, names of models
WIDE, NARROW = 4.0, 1.0  # share of the line of a column of sentences, and of one of words or numbers


def write(document: Document) -> str:
    """The whole document, ending in a newline."""
    top = f"\\section*{{{escape(document.title)}}}\n{_paragraph(document.lead)}"
    return f"{PREAMBLE}{top}{''.join(map(_block, (*document.banner, *document.sections)))}\\end{{document}}\n"


def fragment(items: Sequence[Block]) -> str:
    """Some blocks to \\input, ending in a newline. The first line names the packages they need."""
    tables = [block for block in items if isinstance(block, Grid)]
    needed = dict.fromkeys("graphicx" if grid.narrow else "longtable" for grid in tables)
    return f"% needs \\usepackage{{{','.join(['booktabs', *needed])}}}\n" + "\n".join(
        _float(block, "htbp") if isinstance(block, Grid) and block.narrow else _block(block) for block in items
    )


def _block(block: Block) -> str:
    match block:
        case blocks.Text(text):
            return _paragraph(text)
        case blocks.Notice(text):
            return f"\\textbf{{{_breakable(text)}}}\\par\n"
        case blocks.Bullets(items):
            return "\\begin{itemize}\n" + "".join(f"\\item {_breakable(i)}\n" for i in items) + "\\end{itemize}\n"
        case blocks.Counts():
            return _paragraph(block.words)
        case Grid(narrow=True):
            return _float(block, "!htbp")
        case Grid():
            return _longtable(block)
        case blocks.Picture(figure):
            return _paragraph(f"{figure.caption} (The picture is in the HTML report, or from `bench figure'.)")
        case blocks.Part(_, title, inside):
            return f"\\subsection{{{escape(title)}}}\n{_all(inside)}"
        case blocks.Section(_, title, inside):
            return f"\\section{{{escape(title)}}}\n{_all(inside)}\\clearpage\n"
        case blocks.Fold():
            raise AssertionError("details are counted, not printed")


def _all(items: Sequence[Block]) -> str:
    shown = "".join(_block(block) for block in items if not isinstance(block, blocks.Fold))
    folds = sum(isinstance(block, blocks.Fold) for block in items)
    said = f"The details of {count_of(folds, 'entry', 'entries')} are in the HTML and Markdown reports."
    return shown + (_paragraph(said) if folds else "")


def _paragraph(text: str) -> str:
    return f"{_breakable(text)}\\par\n"


# ------------------------------------------------------------------------------------------------- tables


def _float(grid: Grid, place: str) -> str:
    """A table environment; what is too wide for the line is made smaller."""
    columns = "".join("r" if heading.right else "l" for heading in grid.headings)
    letters = grid.letters
    rows = [[escape(cell.words(letters), cell.best) for cell in row] for row in grid.cells]
    below = "".join(f"{escape(note)}\\par\n" for note in (*grid.notes, *grid.cautions))
    return (
        f"\\begin{{table}}[{place}]\n\\centering\n"
        f"\\caption{{{escape(grid.full_caption.text())}}}\n\\label{{tab:{slug(grid.id)}}}\n"
        f"{SHRINK}{{%\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{_line([escape(heading.text) for heading in grid.headings])}\\midrule\n{''.join(map(_line, rows))}"
        "\\bottomrule\n\\end{tabular}}\n"
        + (f"\\par\\smallskip\n{{\\footnotesize\\raggedright\n{below}}}\n" if below else "")
        + "\\end{table}\n"
    )


def _longtable(grid: Grid) -> str:
    """Over as many pages as it takes. The columns share the line: what is wide gets more of it."""
    letters = grid.letters
    heads = _line([f"\\bfseries {_breakable(heading.text)}" for heading in grid.headings])
    rows = "".join(_line([_lines(cell, letters) for cell in row]) for row in grid.cells)
    notes = "".join(map(_paragraph, (*grid.notes, *grid.cautions)))
    below = f"\n{notes}" if notes else ""
    return (
        "{\\footnotesize\\sloppy\n"
        f"\\begin{{longtable}}{{{_columns(grid.headings)}}}\n"
        f"\\caption{{{escape(grid.full_caption.text())}}}\\label{{tab:{slug(grid.id)}}}\\\\\n"
        f"\\toprule\n{heads}\\midrule\n\\endfirsthead\n\\toprule\n{heads}\\midrule\n\\endhead\n"
        f"\\bottomrule\n\\endfoot\n{rows}\\end{{longtable}}{below}}}\n"
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells).rstrip() + " \\\\\n"


def _lines(cell: Cell, letters: dict[str, str]) -> str:
    return " \\newline ".join(filter(None, map(_breakable, cell.words(letters).splitlines())))


def _columns(headings: Sequence[Heading]) -> str:
    shares = [WIDE if heading.wide else NARROW for heading in headings]
    shares[0] = max(shares[0], 2 * NARROW)
    gaps = 2 * len(shares)  # tabcolsep on both sides of each
    return "".join(
        f"p{{\\dimexpr{share / sum(shares):.4f}\\linewidth-{gaps / len(shares):g}\\tabcolsep\\relax}}"
        for share in shares
    )


# ------------------------------------------------------------------------------------------------- characters


_ESCAPES = {
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
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}


def escape(text: str, best: bool = False) -> str:
    """Escaped, and plain ASCII: a letter that plain LaTeX cannot set loses its accent or becomes '?'."""
    escaped = "".join(_ESCAPES.get(c) or _ascii(c) for c in text)
    return f"\\textbf{{{escaped}}}" if best else escaped


def _ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_ESCAPES.get(c, c if c.isprintable() or c in "\n\t" else "?") for c in plain) or "?"


def _breakable(text: str) -> str:
    """Escaped; long runs of letters without a space may break anywhere."""

    def word(found: str) -> str:
        return "\\allowbreak ".join(escape(found[i : i + 8]) for i in range(0, len(found), 8))

    pieces = re.split(f"(\\S{{{BREAK},}})", " ".join(text.split()))  # every second one is such a run
    return "".join(word(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces))
