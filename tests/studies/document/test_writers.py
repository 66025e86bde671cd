"""A small document in each format, and what tables show."""

import dataclasses
import re

from report_folders import HYCON, Drawn

from studies.aggregate.cells import Entry, RowResult, TableResult
from studies.aggregate.obstacles import CorpusInfo
from studies.aggregate.render import grid
from studies.document import html, latex, markdown
from studies.document.blocks import (
    Bullets,
    Counts,
    Document,
    Fold,
    Grid,
    Heading,
    Notice,
    Part,
    Picture,
    Section,
    Text,
)
from studies.paper import PaperValue
from studies.statistics.cell import CellStat
from studies.tables import Column, TableSpec

ACC2 = Column("acc2", "Acc2", 100, 1, True)
SPEC = TableSpec("table1", "Small", "mosi", (ACC2,), (HYCON,))
STAT = CellStat(85.1, 0.4, 84.6, 85.6, 5)
CELLS = {"acc2": Entry(STAT, PaperValue("85.0", 85.0, False), "reproduced", best=True)}
RESULT = TableResult(SPEC, CorpusInfo("mosi"), "paper", (RowResult(HYCON, "measured", "", 5, CELLS, "bert"),))


SMALL = Document(
    "A & B",
    "One_sentence.",
    (Notice("Mind 100%"), Bullets(("first", "second"))),
    (
        Section(
            "sec",
            "Section",
            (
                Counts("Of the 2", (("supported", 2), ("undecided", 0))),
                Grid("g", "A grid.", (Heading("Row"), Heading("N", number=True)), (("a|b", "1"), ("c", "–"))),
                Part("p", "Part", (Text("Under it."),)),
                Fold("f", "claim-1", (Text("Detail."),), "undecided"),
                Picture(Drawn()),
            ),
        ),
    ),
)

MARKDOWN = r"""# A \& B

One\_sentence.

**Mind 100%**

- first
- second

## Section

Of the 2: 2 supported, 0 undecided.

A grid.

| Row | N |
| --- | --: |
| a\|b | 1 |
| c | – |

### Part

Under it.

#### undecided: claim-1

Detail.

A \<caption\>.

Two "points".
"""

LATEX = r"""\section*{A \& B}
One\_sentence.\par
\textbf{Mind 100\%}\par
\begin{itemize}
\item first
\item second
\end{itemize}
\section{Section}
Of the 2: 2 supported, 0 undecided.\par
{\footnotesize\sloppy
\begin{longtable}{p{\dimexpr0.6667\linewidth-2\tabcolsep\relax}p{\dimexpr0.3333\linewidth-2\tabcolsep\relax}}
\caption{A grid.}\label{tab:g}\\
\toprule
\bfseries Row & \bfseries N \\
\midrule
\endfirsthead
\toprule
\bfseries Row & \bfseries N \\
\midrule
\endhead
\bottomrule
\endfoot
a\textbar{}b & 1 \\
c & -- \\
\end{longtable}}
\subsection{Part}
Under it.\par
A \textless{}caption\textgreater{}. (The picture is in the HTML report, or from `bench figure'.)\par
The details of 1 entry are in the HTML and Markdown reports.\par
\clearpage
\end{document}
"""


def test_markdown_is_exact():
    assert markdown.write(SMALL) == MARKDOWN


def test_latex_is_exact():
    assert latex.write(SMALL) == latex.PREAMBLE + LATEX


def test_long_words_may_break_in_latex():
    text = latex.write(dataclasses.replace(SMALL, lead="sha " + "0123456789abcdef" * 2, sections=()))
    assert r"sha 01234567\allowbreak 89abcdef\allowbreak 01234567\allowbreak 89abcdef" in text


def test_results_tables_are_those_of_bench_table():
    text = html.write(dataclasses.replace(SMALL, sections=(Section("t", "T", (grid(RESULT),)),)))
    assert '<td class="number"><b>85.1 ± 0.4 (5)</b></td>' in text
    badge = '<span class="badge good">reproduced <span aria-hidden="true">=</span></span>'
    assert re.search(rf'<td class="number paper"[^>]*>85\.0 {re.escape(badge)}', text)
    assert '<span class="unseen">Acc2, </span>paper</th>' in text


def test_a_table_that_the_paper_does_not_have_has_no_column_for_it():
    beyond = dataclasses.replace(RESULT, table=dataclasses.replace(RESULT.table, beyond="Not in the paper."))
    text = html.write(dataclasses.replace(SMALL, sections=(Section("t", "T", (grid(beyond),)),)))
    lines = [re.findall("<t[hd]", line) for line in re.findall("<tr>.*?</tr>", text)]
    assert {len(line) for line in lines} == {2 + len(RESULT.table.columns)}
    assert ">paper<" not in text
