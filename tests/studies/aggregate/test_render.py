"""Every format of a small table character by character, captions, and escaping of whatever an error message holds."""

# ruff: noqa: E501 (expected output is written as it is printed)

import csv
import dataclasses
import html.parser
import io
import json
import re
import shutil
import subprocess

import pytest

from hycon.errors import UserError
from studies.aggregate.caption import caption
from studies.aggregate.cells import CorpusInfo, Entry, RowResult, TableResult
from studies.aggregate.render import FORMATS, html_table, latex, render
from studies.paper import PaperValue
from studies.statistics.cell import CellStat
from studies.tables import Column, Row, TableSpec

ACC2 = Column("acc2", "Acc2", 100, 1, True)
MAE = Column("mae", "MAE", 1, 3, False)
HYCON, TFN, ICCN = (
    Row("HyCon-BERT", "hycon", "bert"),
    Row("TFN-GloVe", "tfn", "glove"),
    Row("ICCN-BERT", "iccn", "bert", quoted=True),
)
MFN, LMF = Row("MFN & co_α", "mfn", "bert"), Row("LMF-BERT", "lmf", "bert")
SPEC = TableSpec("table1", "Comparison with baselines", "mosi", (ACC2, MAE), (HYCON, TFN, ICCN, MFN, LMF))


def paper(text, quoted=False):
    return PaperValue(text, float(text), quoted)


NASTY = "lost 100% of <b>_it_</b> | {x} $5 #1 ~a^b \\c\nnext"
ROWS = (
    RowResult(
        HYCON,
        "measured",
        "",
        5,
        {
            "acc2": Entry(CellStat(85.1, 0.4, 84.6, 85.6, 5), paper("85.0"), "reproduced", best=True),
            "mae": Entry(CellStat(0.71, 0.01, 0.698, 0.722, 5), paper("0.800"), "differs", best=True),
        },
        "bert-base-uncased",
        budget="50 trials",
    ),
    RowResult(
        TFN,
        "measured",
        "",
        1,
        {
            "acc2": Entry(CellStat(75.55, None, None, None, 1), paper("75.0"), "inconclusive"),
            "mae": Entry(CellStat(1.0, None, None, None, 1), None, "not comparable"),
        },
        "glove.txt (300-d)",
    ),
    RowResult(
        ICCN,
        "quoted",
        "not built yet",
        0,
        {"acc2": Entry(None, paper("83.0", True), "quoted"), "mae": Entry(None, paper("0.860", True), "quoted")},
    ),
    RowResult(
        MFN,
        "missing",
        "not built yet",
        0,
        {"acc2": Entry(None, paper("83.5"), "not run"), "mae": Entry(None, paper("0.710"), "not run")},
    ),
    RowResult(
        LMF,
        "failed",
        NASTY,
        0,
        {"acc2": Entry(None, paper("84.0"), "not run"), "mae": Entry(None, paper("0.742"), "not run")},
    ),
)
RESULT = TableResult(SPEC, CorpusInfo("mosi"), "paper", ROWS)

CAPTION = (
    "Comparison with baselines (the paper's Table 1). "
    "Corpus: mosi. "
    "Text encoder in the BERT rows: bert-base-uncased. "
    "Word vectors in the GloVe rows: glove.txt (300-d). "
    "Cells: mean ± sample standard deviation (n) over seeded runs on the test split, n = 1 to 5, metrics of protocol paper; column paper: the number that the paper prints. "
    "Lower is better: MAE. "
    "Bold: best measured mean of the column. "
    "† quoted by the paper from another publication. "
    "= reproduced (95 % interval of ours within the tolerance around the paper's); ≠ differs (interval outside it); ? inconclusive."
)

TEXT = """\
Comparison with baselines (the paper's Table 1). Corpus: mosi. Text encoder in the BERT rows:
bert-base-uncased. Word vectors in the GloVe rows: glove.txt (300-d). Cells: mean ± sample standard
deviation (n) over seeded runs on the test split, n = 1 to 5, metrics of protocol paper; column
paper: the number that the paper prints. Lower is better: MAE. * best measured mean of the column. †
quoted by the paper from another publication. = reproduced (95 % interval of ours within the
tolerance around the paper's); ≠ differs (interval outside it); ? inconclusive.

Model                  Acc2  paper                   MAE  paper    Status
----------  ---------------  -------  ------------------  -------  ---------------------
HyCon-BERT  85.1 ± 0.4 (5)*  85.0 =   0.710 ± 0.010 (5)*  0.800 ≠
TFN-GloVe          75.5 (1)  75.0 ?            1.000 (1)  –
ICCN-BERT                 –  83.0†                     –  0.860†   quoted: not built yet
MFN & co_α                –  83.5                      –  0.710    not built yet
LMF-BERT                  –  84.0                      –  0.742    failed

LMF-BERT: failed: lost 100% of <b>_it_</b> | {x} $5 #1 ~a^b \\c next
"""

MARKDOWN = """\
| Model        |               Acc2 | paper   |                   MAE | paper   | Status                |
|:-------------|-------------------:|:--------|----------------------:|:--------|:----------------------|
| HyCon-BERT   | **85.1 ± 0.4 (5)** | 85.0 =  | **0.710 ± 0.010 (5)** | 0.800 ≠ |                       |
| TFN-GloVe    |           75.5 (1) | 75.0 ?  |             1.000 (1) | –       |                       |
| ICCN-BERT    |                  – | 83.0†   |                     – | 0.860†  | quoted: not built yet |
| MFN \\& co\\_α |                  – | 83.5    |                     – | 0.710   | not built yet         |
| LMF-BERT     |                  – | 84.0    |                     – | 0.742   | failed                |

- LMF-BERT: failed: lost 100% of \\<b\\>\\_it\\_\\</b\\> \\| \\{x\\} \\$5 #1 \\~a^b \\\\c next
"""

LATEX = """\
% needs \\usepackage{booktabs,graphicx}
\\begin{table}[htbp]
\\centering
\\caption{CAPTION}
\\label{tab:table1}
\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%
\\begin{tabular}{lrlrll}
\\toprule
Model & Acc2 & paper & MAE & paper & Status \\\\
\\midrule
HyCon-BERT & \\textbf{85.1 $\\pm$ 0.4 (5)} & 85.0 = & \\textbf{0.710 $\\pm$ 0.010 (5)} & 0.800 $\\neq$ & \\\\
TFN-GloVe & 75.5 (1) & 75.0 ? & 1.000 (1) & -- & \\\\
ICCN-BERT & -- & 83.0$^{\\dagger}$ & -- & 0.860$^{\\dagger}$ & quoted: not built yet \\\\
MFN \\& co\\_$\\alpha$ & -- & 83.5 & -- & 0.710 & not built yet \\\\
LMF-BERT & -- & 84.0 & -- & 0.742 & failed \\\\
\\bottomrule
\\end{tabular}}
\\par\\smallskip
{\\footnotesize\\raggedright
LMF-BERT: failed: lost 100\\% of \\textless{}b\\textgreater{}\\_it\\_\\textless{}/b\\textgreater{} \\textbar{} \\{x\\} \\$5 \\#1 \\textasciitilde{}a\\textasciicircum{}b \\textbackslash{}c next\\par
}
\\end{table}
"""

HTML = """\
<table id="table1">
<caption>CAPTION</caption>
<thead><tr><th scope="col">Model</th><th scope="col">Acc2</th><th scope="col">paper</th><th scope="col">MAE</th><th scope="col">paper</th><th scope="col">Status</th></tr></thead>
<tbody>
<tr><th scope="row">HyCon-BERT</th><td><b>85.1 ± 0.4 (5)</b></td><td title="reproduced: 0.1 above the paper&#x27;s, the interval within the tolerance of 1.0">85.0 =</td><td><b>0.710 ± 0.010 (5)</b></td><td title="differs: 0.090 below the paper&#x27;s, the interval 0.048 beyond the tolerance of 0.030">0.800 ≠</td><td></td></tr>
<tr><th scope="row">TFN-GloVe</th><td>75.5 (1)</td><td title="inconclusive: 0.5 above the paper&#x27;s, but one run has no interval">75.0 ?</td><td>1.000 (1)</td><td title="not comparable">–</td><td></td></tr>
<tr><th scope="row">ICCN-BERT</th><td>–</td><td title="quoted">83.0†</td><td>–</td><td title="quoted">0.860†</td><td>quoted: not built yet</td></tr>
<tr><th scope="row">MFN &amp; co_α</th><td>–</td><td title="not run">83.5</td><td>–</td><td title="not run">0.710</td><td>not built yet</td></tr>
<tr><th scope="row">LMF-BERT</th><td>–</td><td title="not run">84.0</td><td>–</td><td title="not run">0.742</td><td>failed</td></tr>
</tbody>
<tfoot><tr><td colspan="6">LMF-BERT: failed: lost 100% of &lt;b&gt;_it_&lt;/b&gt; | {x} $5 #1 ~a^b \\c next</td></tr></tfoot>
</table>
"""

CSV = """\
table,corpus,synthetic,protocol,row,status,reason,encoder,metric,mean,sd,low,high,n,paper,quoted,best,verdict,difference,tolerance,seeds_to_settle,search,notes
table1,mosi,no,paper,HyCon-BERT,measured,,bert-base-uncased,acc2,85.1,0.4,84.6,85.6,5,85.0,no,yes,reproduced,0.1,1.0,,50 trials,
table1,mosi,no,paper,HyCon-BERT,measured,,bert-base-uncased,mae,0.71,0.01,0.698,0.722,5,0.8,no,yes,differs,-0.09,0.03,,50 trials,
table1,mosi,no,paper,TFN-GloVe,measured,,glove.txt (300-d),acc2,75.55,,,,1,75.0,no,no,inconclusive,0.55,1.0,,,
table1,mosi,no,paper,TFN-GloVe,measured,,glove.txt (300-d),mae,1.0,,,,1,,no,no,not comparable,,,,,
table1,mosi,no,paper,ICCN-BERT,quoted,not built yet,,acc2,,,,,0,83.0,yes,no,quoted,,,,,
table1,mosi,no,paper,ICCN-BERT,quoted,not built yet,,mae,,,,,0,0.86,yes,no,quoted,,,,,
table1,mosi,no,paper,MFN & co_α,missing,not built yet,,acc2,,,,,0,83.5,no,no,not run,,,,,
table1,mosi,no,paper,MFN & co_α,missing,not built yet,,mae,,,,,0,0.71,no,no,not run,,,,,
table1,mosi,no,paper,LMF-BERT,failed,lost 100% of <b>_it_</b> | {x} $5 #1 ~a^b \\c next,,acc2,,,,,0,84.0,no,no,not run,,,,,
table1,mosi,no,paper,LMF-BERT,failed,lost 100% of <b>_it_</b> | {x} $5 #1 ~a^b \\c next,,mae,,,,,0,0.742,no,no,not run,,,,,
"""


def test_text_is_exact():
    assert render(RESULT, "text") == TEXT


def test_markdown_is_exact():
    assert render(RESULT, "md") == f"{CAPTION}\n\n{MARKDOWN}"


def test_latex_is_exact():
    said = CAPTION.replace("%", "\\%").replace("±", "$\\pm$").replace("≠", "$\\neq$").replace("†", "$^{\\dagger}$")
    assert render(RESULT, "latex") == LATEX.replace("CAPTION", said)


def test_html_is_exact():
    assert html_table(RESULT) == HTML.replace("CAPTION", CAPTION.replace("'", "&#x27;"))


def test_csv_is_exact():
    assert render(RESULT, "csv") == CSV


def test_json_has_the_documented_form():
    found = json.loads(render(RESULT, "json"))
    assert (found["table"], found["corpus"], found["synthetic"]) == ("table1", "mosi", False)
    assert found["caption"] == CAPTION
    assert [(row["row"], row["status"], row["n"]) for row in found["rows"]] == [
        ("HyCon-BERT", "measured", 5),
        ("TFN-GloVe", "measured", 1),
        ("ICCN-BERT", "quoted", 0),
        ("MFN & co_α", "missing", 0),
        ("LMF-BERT", "failed", 0),
    ]
    assert found["rows"][0]["metrics"]["acc2"] == {
        "mean": 85.1,
        "sd": 0.4,
        "low": 84.6,
        "high": 85.6,
        "n": 5,
        "paper": 85.0,
        "quoted": False,
        "best": True,
        "verdict": "reproduced",
        "difference": 0.1,
        "tolerance": 1.0,
        "seeds_to_settle": None,
    }
    assert found["rows"][0]["metrics"]["mae"]["difference"] == -0.09
    assert {metric: said["value"] for metric, said in found["tolerances"].items()} == {"acc2": 1.0, "mae": 0.03}
    assert all(said["reason"] for said in found["tolerances"].values())
    assert found["rows"][1]["metrics"]["mae"]["paper"] is None
    assert (
        found["rows"][2]["metrics"]["mae"] | {"mean": None, "paper": 0.86, "quoted": True}
        == (found["rows"][2]["metrics"]["mae"])
    )
    assert found["rows"][4]["reason"] == NASTY


def test_json_drops_the_noise_of_binary_fractions():
    noisy = dataclasses.replace(ROWS[0].cells["acc2"], stat=CellStat(100 * 0.285, 0.1 + 0.2, 1.0, 2.0, 5))
    row = dataclasses.replace(ROWS[0], cells={"acc2": noisy, "mae": ROWS[0].cells["mae"]})
    found = json.loads(render(dataclasses.replace(RESULT, rows=(row,)), "json"))
    numbers = found["rows"][0]["metrics"]["acc2"]
    assert (numbers["mean"], numbers["sd"]) == (28.5, 0.3)


def test_nothing_is_said_of_a_difference_where_there_is_no_comparison():
    rows = tuple(
        dataclasses.replace(
            row, cells={m: dataclasses.replace(entry, verdict="not comparable") for m, entry in row.cells.items()}
        )
        for row in ROWS
    )
    found = json.loads(render(dataclasses.replace(RESULT, rows=rows), "json"))
    numbers = [numbers for row in found["rows"] for numbers in row["metrics"].values()]
    assert all(n["difference"] is n["tolerance"] is n["seeds_to_settle"] is None for n in numbers)
    assert "the paper's" not in render(dataclasses.replace(RESULT, rows=rows), "html").split("<tbody>")[1]


def test_csv_reads_back():
    lines = list(csv.DictReader(io.StringIO(render(synthetic(), "csv"))))
    assert len(lines) == 10
    assert {line["synthetic"] for line in lines} == {"yes"} and {line["notes"] for line in lines} == {
        "made up; resampled"
    }


def test_unknown_format_lists_the_nearest():
    with pytest.raises(UserError, match="Unknown format 'markdwn'"):
        render(RESULT, "markdwn")


# --------------------------------------------------------------------------------------------------- captions


def synthetic():
    corpus = CorpusInfo("synthetic", synthetic=True)
    rows = tuple(dataclasses.replace(row, obstacles=("synthetic data",)) for row in ROWS)
    return dataclasses.replace(RESULT, corpus=corpus, notes=("made up", "resampled"), rows=rows)


@pytest.mark.parametrize("format", ["text", "md", "latex", "html", "json"])
def test_synthetic_data_and_every_stand_in_is_named_in_every_format(format):
    found = " ".join(render(synthetic(), format).split())
    assert "SYNTHETIC DATA" in found and "Made up." in found and "Resampled." in found
    assert "Corpus: synthetic (the paper: mosi)." in found


def said(*rows):
    return " ".join(caption(dataclasses.replace(RESULT, rows=rows)))


def test_another_encoder_is_never_called_bert():
    found = said(dataclasses.replace(ROWS[0], encoder="all-MiniLM-L6-v2", obstacles=("x",)))
    assert "Text encoder in the BERT rows: all-MiniLM-L6-v2, not bert-base-uncased." in found
    assert "no verdict" in found
    found = said(ROWS[0], dataclasses.replace(ROWS[0], row=LMF, encoder="all-MiniLM-L6-v2"))
    assert (
        "rows: bert-base-uncased (HyCon-BERT), all-MiniLM-L6-v2 (LMF-BERT); the paper's is bert-base-uncased." in found
    )
    found = said(dataclasses.replace(ROWS[1], encoder="glove.txt (150-d)"))
    assert "Word vectors in the GloVe rows: glove.txt (150-d), not 300-d GloVe." in found


def test_a_caption_says_only_what_is_shown():
    found = said(ROWS[3])
    assert "No row is measured yet" in found
    assert not re.search("encoder|Bold|†|≠|verdict|deviation", found)
    assert "n = 5," in said(ROWS[0])
    assert "protocol mmsa" in " ".join(caption(dataclasses.replace(RESULT, protocol="mmsa")))


def test_short_reasons_stand_in_the_table_and_long_ones_below_it():
    short = dataclasses.replace(ROWS[0], reason="3 of 5 seeds")
    long = dataclasses.replace(ROWS[0], reason="2 of 5 runs failed: non-finite loss at epoch 1, step 2")
    found = render(dataclasses.replace(RESULT, rows=(short,)), "text")
    assert found.rstrip().endswith("0.800 ≠  3 of 5 seeds")
    found = render(dataclasses.replace(RESULT, rows=(long,)), "text")
    assert "0.800 ≠  see below\n" in found
    assert found.endswith("\nHyCon-BERT: 2 of 5 runs failed: non-finite loss at epoch 1, step 2\n")


# --------------------------------------------------------------------------------------------------- escaping

HOSTILE = "</table><script>x</script> & % _ { } \\ ^ ~ # $ \x1b[31m \r\n 中 é ＆ \" ' | ` *"


def hostile():
    row = dataclasses.replace(ROWS[4], row=dataclasses.replace(LMF, name=HOSTILE), reason=HOSTILE)
    return dataclasses.replace(RESULT, rows=(ROWS[0], row), notes=(HOSTILE,))


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("result", [RESULT, hostile()])
def test_html_is_balanced_self_contained_and_escaped(result):
    page = render(result, "html")
    tags = _Tags()
    tags.feed(page)
    assert not tags.open and tags.seen.count("tr") == len(result.rows) + 2
    assert "script" not in tags.seen and "http" not in page


@pytest.mark.parametrize("format", FORMATS)
def test_no_control_character_reaches_a_terminal(format):
    assert "\x1b" not in render(hostile(), format)


def test_markdown_rows_keep_their_number_of_cells():
    table = [line for line in render(hostile(), "md").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {7}


@pytest.mark.parametrize("result", [RESULT, hostile()])
def test_latex_is_ascii_balanced_and_has_no_bare_special(result):
    found = latex(result, standalone=True)
    assert found.isascii()
    bare = re.sub(r"\\[&%$#_{}]", "", found)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    body = bare[bare.index("\\midrule") : bare.index("\\bottomrule")]
    assert {line.count("&") for line in body.splitlines()[1:]} == {5}
    assert not re.search("[%#~]", re.sub(r"%( needs.*)?$", "", bare, flags=re.M))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
@pytest.mark.parametrize("result", [RESULT, hostile()])
@pytest.mark.parametrize("way", ["standalone", "input"])
def test_latex_compiles_as_it_is(tmp_path, result, way):
    document = latex(result, standalone=True)
    if way == "input":
        (tmp_path / "table.tex").write_text(latex(result))
        document = (
            "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{table}\\end{document}"
        )
    (tmp_path / "main.tex").write_text(document)
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, done.stdout[-1500:]
