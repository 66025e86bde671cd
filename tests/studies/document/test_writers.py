"""A small document in each format, and what tables show."""

import dataclasses
import re

from report_folders import HYCON, Drawn

from studies.aggregate.cells import Entry, RowResult, TableResult
from studies.aggregate.obstacles import CorpusInfo
from studies.aggregate.render import grid
from studies.document import html, latex, markdown, text
from studies.document.blocks import (
    Bullets,
    Caption,
    Cell,
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
    headings,
    wide,
)
from studies.document.words import count_of, mean_sd_of, p_value, span
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
    assert {len(line) for line in lines} == {1 + len(RESULT.table.columns)}
    assert ">paper<" not in text


CAUTION = "Not the <paper's> setting"
CLAIMS = Grid(
    "claims",
    Caption("Two claims.", ("MADE UP.",), ("How to read it.",), "the best.", ("= same.",)),
    (*headings("Verdict"), *wide("Why")),
    (
        (Cell("", verdict="supported", note=CAUTION), Cell("9", best=True)),
        (Cell("1", verdict="differs", hint="8 below"), Cell("one\ntwo", id="claim-two")),
    ),
    notes=("A note.",),
    lettered="Letters:",
)


def test_a_caution_is_a_letter_and_written_out_below_but_in_html_beside_the_verdict():
    assert text.write([CLAIMS]) == (
        "Two claims.\n\n"
        "Verdict        Why\n-------------  -----\nsupported (a)  9*\n1 ≠            one\n               two\n\n"
        "A note.\n\nLetters:\n(a) Not the <paper's> setting\n\n"
        "MADE UP. How to read it. * the best. = same.\n"
    )
    found = markdown.fragment([CLAIMS])
    assert "| supported (a) | **9** |" in found
    assert "| 1 ≠ | one<br>two |" in found
    assert found.endswith("\n\n- A note.\n\nLetters:\n\n- (a) Not the \\<paper's\\> setting\n")
    found = latex.fragment([CLAIMS])
    assert found.startswith("% needs \\usepackage{booktabs,longtable}\n")
    assert "1 $\\neq$ & one \\newline two \\\\" in found
    assert "Letters:\\par\n(a) Not the \\textless{}paper's\\textgreater{} setting\\par\n}\n" in found
    found = html.page("Claims", [CLAIMS])
    assert "<small>Not the &lt;paper&#39;s&gt; setting</small>" in found
    assert '<td id="claim-two" class="wide">one<br>two</td>' in found
    assert "Letters:" not in found


def test_what_must_be_known_of_the_data_stands_in_the_caption_and_the_rest_below():
    found = html.page("Claims", [CLAIMS])
    assert '<span id="claims-caption">Two claims. MADE UP.</span></caption>' in found
    assert '<p id="claims-said" class="said">How to read it. Bold: the best. = same.</p>' in found
    assert 'title="differs: 8 below"' in found


def test_numbers_of_one_kind_are_printed_in_one_way():
    assert mean_sd_of([1.0, 2.0], 2) == "1.50 ± 0.71 (2)"
    assert mean_sd_of([1234.5], 1) == "1,234.5 (1)"
    assert mean_sd_of([], 1) == "–"
    assert (p_value(None), p_value(0.0004), p_value(0.0312)) == ("–", "< 0.001", "0.031")
    assert (span([]), span([5]), span([3, 5, 4])) == ("–", "5", "3 to 5")
    assert (count_of(1, "row"), count_of(2, "study", "studies")) == ("1 row", "2 studies")


# ------------------------------------------------------------------------------------------------- on a terminal


def test_a_table_of_numbers_stands_in_blocks_of_columns_that_fit():
    heads = (Heading("Model"), *(h for n in "AB" for h in (Heading(n, number=True), Heading("paper", of=n))))
    wide_table = Grid("t", "Four columns.", heads, (("x", "1.0", "2.0", "30.0", "4.0"),), narrow=True)
    assert text.write([wide_table], 30) == (
        "Four columns.\n\n"
        "Model      A  paper\n-------  ---  -------\nx        1.0  2.0\n\n"
        "Model       B  paper\n-------  ----  -------\nx        30.0  4.0\n\n"
        "The columns stand in 2 blocks,\nto fit 30 characters.\n"
    )
    assert "blocks" not in text.write([wide_table], 36)


def test_a_table_of_words_breaks_its_sentences_first():
    heads = (*headings("Id"), *wide("Sentence"))
    table = Grid("t", "Words.", heads, (("an-id-that-is-long", "one two three four five six seven"),))
    lines = text.write([table], 44).splitlines()
    assert lines[4:6] == ["an-id-that-is-long  one two three four five", "                    six seven"]
    assert max(map(len, lines)) <= 44


def test_a_list_keeps_its_words_whole():
    heads, rows = headings("id", "what"), [["an-id-that-is-long", "some-word-that-is-longer-still"], ["b", ""]]
    assert text.listing(heads, rows, 60).splitlines()[2].split() == rows[0]
    assert text.listing(heads, rows, 40) == "an-id-that-is-long\n  what: some-word-that-is-longer-still\nb"


def test_the_short_caption_gives_way_to_the_whole_one():
    caption = Caption("Lead.", ("Data.",), ("Rest.",), brief=("Above.", "Below."))
    short = Grid("t", caption, headings("A"), (("1",),))
    assert text.write([short]) == "Above.\n\nA\n---\n1\n\nBelow. --notes prints the whole caption.\n"
    assert text.write([short], notes=True) == "Lead.\n\nA\n---\n1\n\nData. Rest.\n"
