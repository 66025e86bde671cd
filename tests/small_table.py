"""A filled table of two columns and five rows that has every kind of cell."""

import dataclasses

from studies.aggregate.cells import Entry, RowResult, TableResult
from studies.aggregate.obstacles import CorpusInfo
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
            "acc2": Entry(CellStat(75.55, None, None, None, 1), paper("75.0"), "too few seeds"),
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


def synthetic():
    corpus = CorpusInfo("synthetic", synthetic=True)
    rows = tuple(dataclasses.replace(row, obstacles=("synthetic data",)) for row in ROWS)
    return dataclasses.replace(RESULT, corpus=corpus, notes=("made up", "resampled"), rows=rows)
