"""The paper's numbers: all there, as printed, and consistent where the paper repeats itself."""

import re

import pytest

from hycon.errors import UserError
from studies import paper
from studies.paper import paper_table, paper_value

# rows x metrics: 22 x 5, 22 x 5, 9 x 10, 10 x 5, 4 x 5, 4 x 5, 6 x 5, 7 x 2
COUNTS = {
    "table1": 110,
    "table2": 110,
    "table3": 90,
    "table4": 50,
    "table5": 20,
    "table6": 20,
    "table7": 30,
    "table8": 15,  # one of them from the text
}
SENTIMENT = ("acc7", "acc2", "f1", "mae", "corr")


def test_all_444_numbers_are_there_and_one_of_the_text():
    assert {name: len(paper_table(name)) for name in COUNTS} == COUNTS
    assert sum(COUNTS.values()) == 444 + 1


@pytest.mark.parametrize("name", COUNTS)
def test_every_row_of_a_table_has_the_same_metrics_printed_alike(name):
    rows: dict[str, dict[str, str]] = {}
    for (_, row, metric), value in paper_table(name).items():
        if not value.in_text:
            rows.setdefault(row, {})[metric] = value.text
    assert len({tuple(metrics) for metrics in rows.values()}) == 1
    percent, fraction = r"\d\d\.\d", r"[01]\.\d{3}"
    pattern = {"mae": fraction, "corr": fraction, "parameters": r"\d{3},\d{3},\d{3}", "train_seconds": r"\d{3}"}
    for metrics in rows.values():
        for metric, text in metrics.items():
            assert re.fullmatch(pattern.get(metric, percent), text), (metric, text)


def test_known_cells_are_as_printed():
    value = paper_value("table1", "mosi", "ICCN-BERT", "corr")
    assert value is not None
    assert (value.text, value.value, value.quoted) == ("0.710", 0.71, True)
    value = paper_value("table2", "mosei", "HyCon-v2-XLNet", "acc2")
    assert value is not None
    assert (value.text, value.quoted, value.bold) == ("86.5", False, True)
    value = paper_value("table3", "iemocap", "TCM-LSTM", "neutral_f1")
    assert value is not None
    assert (value.text, value.quoted) == ("71.2", True)
    value = paper_value("table8", "mosi", "MAG-BERT", "parameters")
    assert value is not None
    assert value.value == 118_679_809
    assert "MAG-XLNet" in value.note
    value = paper_value("table8", "mosi", "HyCon-v2", "test_seconds")
    assert value is not None
    assert value.text == "0.770"
    assert paper_value("table8", "mosi", "HyCon", "test_seconds") is None


def test_absent_cells_are_none():
    assert paper_value("table1", "mosei", "HyCon-BERT", "acc2") is None
    assert paper_value("table1", "mosi", "HyCon-BERT", "latency") is None
    assert paper_value("table9", "mosi", "HyCon-BERT", "acc2") is None
    assert paper_value("../paper/table1", "mosi", "HyCon-BERT", "acc2") is None


def test_quoted_rows_are_those_that_the_paper_borrowed():
    quoted = {name: {row for (_, row, _), v in paper_table(name).items() if v.quoted} for name in COUNTS}
    assert quoted.pop("table1") == quoted.pop("table2") == {"QMF-GloVe", "ICCN-BERT"}
    assert quoted.pop("table3") == {"MFN", "Graph-MFN", "RAVEN", "LMF", "MULT", "HFFN", "TCM-LSTM"}
    assert set().union(*quoted.values()) == set()


@pytest.mark.parametrize("metric", SENTIMENT)
def test_the_same_model_has_the_same_number_in_every_table(metric):
    places = [
        ("table1", "HyCon-BERT"),
        ("table4", "HyCon"),
        ("table5", "Addition (defaulted)"),
        ("table6", "HyCon (α = 0.8)"),
        ("table7", "HyCon"),
    ]
    assert len({paper_table(table)["mosi", row, metric].text for table, row in places}) == 1
    second = [("table1", "HyCon-v2-BERT"), ("table4", "HyCon-v2"), ("table7", "HyCon-v2")]
    assert len({paper_table(table)["mosi", row, metric].text for table, row in second}) == 1


@pytest.mark.parametrize("row", ["MFN", "HyCon", "HyCon-v2", "MULT"])
@pytest.mark.parametrize("kind", ["acc", "f1"])
def test_averages_of_table_3_are_averages(row, kind):
    table = paper_table("table3")
    four = [table["iemocap", row, f"{emotion}_{kind}"].value for emotion in ("happy", "sad", "angry", "neutral")]
    assert table["iemocap", row, f"average_{kind}"].value == pytest.approx(sum(four) / 4, abs=0.06)


def test_best_cells_of_table_1_are_bold():
    bold = {row for (_, row, _), value in paper_table("table1").items() if value.bold}
    assert bold == {"HyCon-v2-XLNet"}


HEADER = ",".join(paper.FIELDS)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n",
        f"{HEADER}\ntable1,4.5.1,mosi,A,acc2,eighty,no,no,no,\n",
        f"{HEADER}\ntable1,4.5.1,mosi,A,acc2,80.0,perhaps,no,no,\n",
        f"{HEADER}\ntable2,4.5.1,mosi,A,acc2,80.0,no,no,no,\n",
        f"{HEADER}\ntable1,4.5.1,mosi,A\n",
        f"{HEADER}\n" + "table1,4.5.1,mosi,A,acc2,80.0,no,no,no,\n" * 2,
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, monkeypatch, text):
    (tmp_path / "table1.csv").write_text(text)
    monkeypatch.setattr(paper, "shipped", lambda name: tmp_path)
    with pytest.raises(UserError, match=r"table1\.csv.*restore the file"):
        paper_table("table1")
