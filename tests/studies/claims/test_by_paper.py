"""The paper's claims against the paper's own tables."""

from __future__ import annotations

import dataclasses

import pytest
from claim_cases import FULL, NONE, SCL, claim

from studies.claims import against_paper, kinds
from studies.claims.kinds import Side
from studies.paper import PaperValue, paper_table

PAPER = {result.claim.id: result for result in against_paper()}


def test_the_best_as_printed_is_chosen_among_those_that_are_printed(monkeypatch):
    """A first row without a printed number is not the best."""
    places = [Side("table1", name) for name in ("TFN-BERT", "LMF-BERT", "GFN-BERT")]
    known = {"LMF-BERT": 84.0, "GFN-BERT": 84.3}

    def printed(table, corpus, row, metric):
        return PaperValue(str(known[row]), known[row], False) if row in known else None

    monkeypatch.setattr(kinds, "paper_value", printed)
    assert kinds._best_printed(places, "acc2") == places[2]
    assert kinds._best_printed(places, "mae") == places[1]
    assert kinds._best_printed(places[:1], "acc2") == places[0]


def failing(name: str) -> list[tuple]:
    parts = [part for part in PAPER[name].parts if part.verdict == "contradicted"]
    return [(part.corpus, part.row_a, part.row_b, part.metric, part.a, part.b) for part in parts]


def test_the_contradictions_that_were_found_by_reading_are_found():
    assert failing("ablation-any-loss") == [("mosi", FULL, SCL, "acc7", 46.6, 47.0)]
    assert failing("v2-beats-v1") == [("mosei", "HyCon-v2-BERT", "HyCon-BERT", "acc7", 52.5, 52.8)]
    assert failing("mosei-v2-gains-more") == [("mosei", "HyCon-v2-BERT", "HyCon-BERT", "acc7", 52.5, 52.8)]
    assert ("mosei", "HyCon-v2-XLNet", "MAG-XLNet", "corr", 0.792, 0.797) in failing("xlnet-beats-mag")
    assert ("mosei", "HyCon-v2-BERT", "ICCN-BERT", "mae", 0.590, 0.565) in failing("same-features")
    assert failing("counts") == [("mosi", "MAG-BERT", "", "parameters", 118_679_809, 110_853_121)]
    reason = "MAG-BERT has 110,853,121; 118,679,809 is the count of MAG-XLNet"
    assert reason in PAPER["counts"].reason
    assert PAPER["counts"].verdict == "contradicted"


def test_and_those_that_were_not():
    assert failing("xlnet-improves") == [("mosi", "HyCon-XLNet", "HyCon-BERT", "acc7", 46.0, 46.6)]
    without_positive, without_negative = (f"HyCon-v2 (W/O {sign} Selection)" for sign in ("Positive", "Negative"))
    assert failing("selection-positive-more") == [("mosi", without_negative, without_positive, "mae", 0.725, 0.714)]
    assert failing("margin-best") == [("mosi", "HyCon (α = 0.8)", "HyCon (α = 0.7)", "corr", 0.790, 0.795)]
    assert failing("many-negatives") == [("mosi", "N-pair Loss", "Triplet Loss", "corr", 0.768, 0.777)]
    assert ("mosi", "Triplet Loss", NONE, "mae", 0.797, 0.769) in failing("any-loss-helps")
    assert ("mosi", "Addition (defaulted)", "Graph Fusion", "f1", 85.1, 85.3) in failing("fusion-ranking")


def test_what_holds_as_printed_and_what_cannot_be_read_off():
    for name in ("mosi-hycon", "mosi-v2", "mosi-v2-gain", "mosei-hycon-gain", "lmf-bert-gain", "iemocap-average"):
        assert PAPER[name].verdict == "consistent", PAPER[name].reason
    assert PAPER["hycon-in-most-cases"].verdict == "consistent"  # in most cases, not in all
    assert PAPER["inference-time"].verdict == "cannot be read off"
    assert "Test split [s] of HyCon-v2 is not printed" in PAPER["inference-time"].reason
    ties = PAPER["selection-both"]
    assert ties.verdict == "cannot be read off"
    assert {p.metric for p in ties.parts if not p.difference} == {"acc2", "f1"}
    assert {result.verdict for result in PAPER.values()} == {"consistent", "contradicted", "cannot be read off"}


@pytest.mark.parametrize(
    ("by", "within", "expected"),
    [(1.4, None, "consistent"), (1.5, None, "consistent"), (1.6, None, "contradicted"), (1, 0.4, "consistent")],
)
def test_a_printed_gain_is_given_its_rounding(tmp_path, by, within, expected):
    text = f"kind = 'gain'\nrows = ['HyCon-v2-BERT']\nthan = ['GFN-BERT']\nby = {{acc2 = {by}}}"
    text += f"\nwithin = {within}" if within else ""
    (found,) = against_paper([claim(tmp_path, text, tables='["table1"]')])  # 85.7 and 84.3
    assert found.verdict == expected


def test_a_changed_number_changes_the_verdict(monkeypatch):
    """The contradictions come from comparing, not from a list of them."""
    import studies.claims.by_paper

    def value(table, corpus, row, metric):
        found = paper_table(table).get((corpus, row, metric))
        swapped = {(SCL, "acc7"): 46.0, ("MAG-BERT", "parameters"): 110_853_121.0}.get((row, metric))
        return dataclasses.replace(found, value=swapped) if swapped else found

    monkeypatch.setattr(studies.claims.by_paper, "paper_value", value)
    found = {result.claim.id: result.verdict for result in against_paper()}
    assert found["ablation-any-loss"] == "consistent"
    assert found["counts"] == "cannot be read off"
