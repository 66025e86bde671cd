"""Captions say what was run, and only that; reasons stand in the table or below it."""

import dataclasses
import re

import pytest
from small_table import LMF, RESULT, ROWS, synthetic

from studies.aggregate.caption import caption
from studies.aggregate.render import render


@pytest.mark.parametrize("format", ["text", "md", "latex", "html", "json"])
def test_synthetic_data_and_every_stand_in_is_named_in_every_format(format):
    found = " ".join(render(synthetic(), format).split())
    for note in ("SYNTHETIC DATA", "Made up.", "Resampled."):
        assert note in found
    assert "Corpus: synthetic (the paper: mosi)." in found


def test_data_and_corpus_are_fields_of_the_caption():
    found = caption(synthetic())
    assert found.lead == "Comparison with baselines (the paper's Table 1)."
    assert found.data == (
        "SYNTHETIC DATA: these numbers say nothing about the paper.",
        "Corpus: synthetic (the paper: mosi).",
    )
    assert found.rest[:2] == ("Made up.", "Resampled.")
    assert found.best == "best measured mean of the column."
    beyond = dataclasses.replace(RESULT.table, beyond="Not in the paper.")
    lead = caption(dataclasses.replace(RESULT, table=beyond)).lead
    assert lead == "Comparison with baselines (the paper's Table 1). Not in the paper."


def said(*rows):
    return caption(dataclasses.replace(RESULT, rows=rows)).text()


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
    assert "protocol mmsa" in caption(dataclasses.replace(RESULT, protocol="mmsa")).text()


def test_short_reasons_stand_in_the_table_and_long_ones_below_it():
    short = dataclasses.replace(ROWS[0], reason="3 of 5 seeds")
    long = dataclasses.replace(ROWS[0], reason="2 of 5 runs failed: non-finite loss at epoch 1, step 2")
    found = render(dataclasses.replace(RESULT, rows=(short,)), "text")
    assert "0.800 ≠  3 of 5 seeds\n" in found
    found = render(dataclasses.replace(RESULT, rows=(long,)), "text")
    assert "0.800 ≠  see below\n" in found
    assert "\n\nHyCon-BERT: 2 of 5 runs failed: non-finite loss at epoch 1, step 2\n\n" in found


def test_the_short_caption_names_every_stand_in_and_no_row():
    above, data, reading = caption(synthetic()).brief
    assert above == "Comparison with baselines (the paper's Table 1). SYNTHETIC DATA."
    assert data.startswith("SYNTHETIC DATA: these numbers say nothing about the paper. Corpus: synthetic (the paper")
    assert "Made up. Resampled." in data
    assert "Rows not run as in the paper: no verdict." in reading
    rows = (
        dataclasses.replace(ROWS[0], encoder="all-MiniLM-L6-v2", budget="3 trials"),
        dataclasses.replace(ROWS[0], row=LMF, budget="1 trial"),
        dataclasses.replace(ROWS[1], encoder="glove.txt (150-d)", budget="50 trials"),
    )
    _, data, reading = caption(dataclasses.replace(RESULT, rows=rows, protocol="mmsa")).brief
    assert "Search: 2 of 3 rows not as in the paper (50 trials)." in data
    assert "GloVe rows: glove.txt (150-d), not 300-d GloVe." in data
    assert "BERT rows: all-MiniLM-L6-v2 in some, not bert-base-uncased." in data
    assert not re.search("HyCon|LMF", data)
    assert "n = 1 to 5, protocol mmsa." in reading


def test_nothing_is_said_to_be_unlike_the_paper_that_is_not():
    row = dataclasses.replace(ROWS[0], budget="50 trials")
    above, data, reading = caption(dataclasses.replace(RESULT, rows=(row,))).brief
    assert above == "Comparison with baselines (the paper's Table 1)."
    assert data == "Corpus: mosi."
    assert "no verdict" not in reading
