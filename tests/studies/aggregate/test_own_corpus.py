"""A corpus of one's own: the paper's numbers are not beside ours; captions say which features repeat."""

from __future__ import annotations

import json

import pytest
from builders import fill_table, manifest

from studies.aggregate.render import FORMATS, render
from studies.aggregate.table import table_result
from studies.figures import figure
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES

TABLE = TABLES["table1"]
ROW = "EF-LSTM-GloVe"
REPEATS = {"audio": {"test": {"rows": 80, "rows_elsewhere": 60}}}
SAID = "Features repeat: 75 % of the test split's audio also stands in other splits."


def measured(root, corpus: str, **changes) -> RunStore:
    """A folder with runs of ROW on that corpus."""
    store = RunStore(root)
    fill_table(store, TABLE, [row for row in TABLE.rows if row.name == ROW], corpus=corpus)
    remember_corpus(store, manifest(corpus, **changes))
    return store


@pytest.fixture
def own(tmp_path) -> RunStore:
    return measured(tmp_path, "own")


def result_on(store, corpus: str):
    return table_result(TABLE, store, View(corpus))


def test_no_table_has_a_column_of_the_papers(own):
    result = result_on(own, "own")
    assert not result.beside_paper
    for format in ("text", "md", "latex", "html"):
        assert "column paper" not in render(result, format)
        assert "85.2" not in render(result, format)  # HyCon-BERT's Acc2
    text = render(result, "text", width=200)
    assert text.split("\n\n")[1].splitlines()[0].split() == ["Model", "Acc7", "Acc2", "F1", "MAE", "Corr", "Status"]
    assert "no verdict" not in text
    assert {row.status for row in result.rows} == {"measured", "missing", "reference"}  # the paper quotes QMF
    cells = [cell for row in json.loads(render(result, "json"))["rows"] for cell in row["metrics"].values()]
    assert {cell["paper"] for cell in cells} == {None}
    assert {cell["verdict"] for cell in cells} == {"not comparable", "not run"}


@pytest.mark.parametrize(("corpus", "beside"), [("mosi", True), ("mosi_resampled", True), ("mosei", False)])
def test_corpora_named_after_the_tables_have_them(tmp_path, corpus, beside):
    result = result_on(measured(tmp_path, corpus), corpus)
    assert ("column paper: the number that the paper prints" in render(result, "md")) == beside
    assert any(entry.paper for row in result.rows for entry in row.cells.values()) == beside


def test_dots_show_what_was_run(own):
    drawn = figure("dots", own, View("own"), table="table1")
    assert {number["row"] for number in drawn.numbers} == {ROW}
    assert drawn.title == "Our means, table1, corpus own"
    assert "without a dot" not in drawn.caption
    assert "the paper prints" not in drawn.caption
    asked = figure("dots", own, View("own"), table="table1", rows=[ROW, "TFN-GloVe"])
    assert "Not measured here, so without a dot: TFN-GloVe." in asked.caption


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("corpus", ["own", "mosi"])
def test_features_that_repeat_are_said_in_every_caption(tmp_path, corpus, format):
    store = measured(tmp_path, corpus, repeats=REPEATS)
    result = result_on(store, corpus)
    assert "75 % of the test split" in " ".join(render(result, format).replace("\\%", "%").split())
    (row,) = (row for row in result.rows if row.n)
    assert SAID[0].lower() + SAID[1:-1] in row.obstacles
    if format == "text":
        assert SAID in " ".join(render(result, format).split())


@pytest.mark.parametrize("format", FORMATS)
def test_leaks_are_said_in_every_caption_and_rule_out_verdicts(tmp_path, format):
    result = result_on(measured(tmp_path, "mosi", leaks=["a sentence stands in two splits"]), "mosi")
    assert "sentence stands in two splits" in " ".join(render(result, format).split())
    (row,) = (row for row in result.rows if row.n)
    assert "a sentence stands in two splits" in row.obstacles


def test_they_are_said_above_a_figure(tmp_path):
    assert SAID in figure("dots", measured(tmp_path, "own", repeats=REPEATS), View("own"), table="table1").caption
