"""Every format of a small table, character by character."""

# ruff: noqa: E501 (expected output is written as it is printed)

import csv
import dataclasses
import io
import json

import pytest
from small_table import NASTY, RESULT, ROWS, synthetic

from hycon.errors import UserError
from studies.aggregate.render import render
from studies.statistics.cell import CellStat

CAPTION = (
    "Comparison with baselines (the paper's Table 1). "
    "Corpus: mosi. "
    "Text encoder in the BERT rows: bert-base-uncased. "
    "Word vectors in the GloVe rows: glove.txt (300-d). "
    "Cells: mean ± sample standard deviation (n) over seeded runs on the test split, n = 1 to 5, metrics of protocol paper; column paper: the number that the paper prints. "
    "Lower is better: MAE. "
    "Bold: best measured mean of the column. "
    "† quoted by the paper from another publication. "
    "= reproduced (95 % interval of ours within the tolerance around the paper's); ≠ differs (interval outside it). "
    "Rows of fewer than 3 seeds get no verdict."
)

TEXT = """\
Comparison with baselines (the paper's Table 1).

Model                  Acc2  paper                   MAE  paper    Status
----------  ---------------  -------  ------------------  -------  ---------------------
HyCon-BERT  85.1 ± 0.4 (5)*  85.0 =   0.710 ± 0.010 (5)*  0.800 ≠
TFN-GloVe          75.5 (1)  75.0              1.000 (1)  –
ICCN-BERT                 –  83.0†                     –  0.860†   quoted: not built yet
MFN & co_α                –  83.5                      –  0.710    not built yet
LMF-BERT                  –  84.0                      –  0.742    failed

LMF-BERT: failed: lost 100% of <b>_it_</b> | {x} $5 #1 ~a^b \\c next

Corpus: mosi.
Cells: mean ± sd (n) of seeded runs on the test split, n = 1 to 5. Lower is better: MAE. * best of
the column. † quoted by the paper. = reproduced, ≠ differs. Fewer than 3 seeds: no verdict. --notes
prints the whole caption.
"""

NARROW = """\
Comparison with baselines (the paper's Table 1).

Model                  Acc2  paper                   MAE  paper
----------  ---------------  -------  ------------------  -------
HyCon-BERT  85.1 ± 0.4 (5)*  85.0 =   0.710 ± 0.010 (5)*  0.800 ≠
TFN-GloVe          75.5 (1)  75.0              1.000 (1)  –

Corpus: mosi.
Cells: mean ± sd (n) of seeded runs on the test split, n = 1 to 5. Lower is
better: MAE. * best of the column. = reproduced, ≠ differs. Fewer than 3 seeds:
no verdict. --notes prints the whole caption.
"""

MARKDOWN = """\
| Model        |               Acc2 | paper   |                   MAE | paper   | Status                |
|:-------------|-------------------:|:--------|----------------------:|:--------|:----------------------|
| HyCon-BERT   | **85.1 ± 0.4 (5)** | 85.0 =  | **0.710 ± 0.010 (5)** | 0.800 ≠ |                       |
| TFN-GloVe    |           75.5 (1) | 75.0    |             1.000 (1) | –       |                       |
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
TFN-GloVe & 75.5 (1) & 75.0 & 1.000 (1) & -- & \\\\
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
<div class="scroll" role="region" tabindex="0" aria-labelledby="table1-caption">
<table id="table1" aria-describedby="table1-said">
<caption><span id="table1-caption">Comparison with baselines (the paper&#39;s Table 1). Corpus: mosi.</span></caption>
<thead><tr><th scope="col">Model</th><th scope="col" class="number">Acc2</th><th scope="col" class="number paper"><span class="unseen">Acc2, </span>paper</th><th scope="col" class="number">MAE</th><th scope="col" class="number paper"><span class="unseen">MAE, </span>paper</th><th scope="col">Status</th></tr></thead>
<tbody>
<tr><th scope="row">HyCon-BERT</th><td class="number"><b>85.1 ± 0.4 (5)</b></td><td class="number paper" title="reproduced: 0.1 above the paper&#39;s, the interval within the tolerance of 1.0">85.0 <span class="badge good">reproduced <span aria-hidden="true">=</span></span><span class="unseen"> 0.1 above the paper&#39;s, the interval within the tolerance of 1.0</span></td><td class="number"><b>0.710 ± 0.010 (5)</b></td><td class="number paper" title="differs: 0.090 below the paper&#39;s, the interval 0.048 beyond the tolerance of 0.030">0.800 <span class="badge bad">differs <span aria-hidden="true">≠</span></span><span class="unseen"> 0.090 below the paper&#39;s, the interval 0.048 beyond the tolerance of 0.030</span></td><td></td></tr>
<tr><th scope="row">TFN-GloVe</th><td class="number">75.5 (1)</td><td class="number paper" title="too few seeds: 0.5 above the paper&#39;s, but one run has no interval">75.0</td><td class="number">1.000 (1)</td><td class="number paper" title="not comparable">–</td><td></td></tr>
<tr><th scope="row">ICCN-BERT</th><td class="number">–</td><td class="number paper" title="quoted">83.0†</td><td class="number">–</td><td class="number paper" title="quoted">0.860†</td><td>quoted: not built yet</td></tr>
<tr><th scope="row">MFN &amp; co_α</th><td class="number">–</td><td class="number paper" title="not run">83.5</td><td class="number">–</td><td class="number paper" title="not run">0.710</td><td>not built yet</td></tr>
<tr><th scope="row">LMF-BERT</th><td class="number">–</td><td class="number paper" title="not run">84.0</td><td class="number">–</td><td class="number paper" title="not run">0.742</td><td>failed</td></tr>
</tbody>
</table>
</div>
<p id="table1-said" class="said">Text encoder in the BERT rows: bert-base-uncased. Word vectors in the GloVe rows: glove.txt (300-d). Cells: mean ± sample standard deviation (n) over seeded runs on the test split, n = 1 to 5, metrics of protocol paper; column paper: the number that the paper prints. Lower is better: MAE. Bold: best measured mean of the column. † quoted by the paper from another publication. = reproduced (95 % interval of ours within the tolerance around the paper&#39;s); ≠ differs (interval outside it). Rows of fewer than 3 seeds get no verdict.</p>
<ul class="notes">
<li>LMF-BERT: failed: lost 100% of &lt;b&gt;_it_&lt;/b&gt; | {x} $5 #1 ~a^b \\c next</li>
</ul>
</body>
</html>
"""

CSV = """\
table,corpus,synthetic,protocol,row,status,reason,encoder,metric,mean,sd,low,high,n,paper,quoted,best,verdict,difference,tolerance,seeds_to_settle,search,notes
table1,mosi,no,paper,HyCon-BERT,measured,,bert-base-uncased,acc2,85.1,0.4,84.6,85.6,5,85.0,no,yes,reproduced,0.1,1.0,,50 trials,
table1,mosi,no,paper,HyCon-BERT,measured,,bert-base-uncased,mae,0.71,0.01,0.698,0.722,5,0.8,no,yes,differs,-0.09,0.03,,50 trials,
table1,mosi,no,paper,TFN-GloVe,measured,,glove.txt (300-d),acc2,75.55,,,,1,75.0,no,no,too few seeds,0.55,1.0,,,
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


def test_text_of_80_characters_without_a_status_is_exact():
    assert render(dataclasses.replace(RESULT, rows=ROWS[:2]), "text", width=80) == NARROW


def test_the_whole_caption_is_there_for_the_asking():
    found = " ".join(render(RESULT, "text", notes=True).split())
    assert CAPTION.replace("Bold:", "*").partition("Corpus")[2] in found


@pytest.mark.parametrize("format", ["md", "latex", "html"])
def test_no_format_has_an_empty_status(format):
    assert "Status" in render(RESULT, format)
    assert "Status" not in render(dataclasses.replace(RESULT, rows=ROWS[:2]), format)


def test_markdown_is_exact():
    assert render(RESULT, "md") == f"{CAPTION}\n\n{MARKDOWN}"


def test_latex_is_exact():
    said = CAPTION.replace("%", "\\%").replace("±", "$\\pm$").replace("≠", "$\\neq$").replace("†", "$^{\\dagger}$")
    assert render(RESULT, "latex") == LATEX.replace("CAPTION", said)


def test_html_is_exact():
    page = render(RESULT, "html")
    assert page.startswith("<!DOCTYPE html>")
    assert page.partition("<body>\n")[2] == HTML


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
    quoted = found["rows"][2]["metrics"]["mae"]
    assert (quoted["mean"], quoted["paper"], quoted["quoted"]) == (None, 0.86, True)
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
    assert {line["synthetic"] for line in lines} == {"yes"}
    assert {line["notes"] for line in lines} == {"made up; resampled"}


def test_unknown_format_lists_the_nearest():
    with pytest.raises(UserError, match="Unknown format 'markdwn'"):
        render(RESULT, "markdwn")
