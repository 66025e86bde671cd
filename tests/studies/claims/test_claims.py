"""Claims judged by runs of known truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from builders import BERT, fill_signs
from claim_cases import BEATS, FULL, IAMCL, NONE, ROWS, SCL, beats, claim, verdict

from hycon.errors import UserError
from studies.claims import evaluate, load_claims, pick
from studies.claims.kinds import Contest, Side
from studies.claims.verdict import Part, fold, judged
from studies.lookup import View
from studies.statistics.separation import centroid_ratio
from studies.store.run_store import RunStore
from studies.tables import TABLES


def test_supported_contradicted_and_undecided(store, tmp_path):
    found = verdict(store, tmp_path, BEATS)
    (part,) = found.parts
    assert (found.verdict, found.caution, found.reason) == ("supported", "", "1 of 1 hold")
    assert part.a == pytest.approx(100 - 3.5 / 0.6)
    assert part.difference == pytest.approx(21 / 0.6)
    assert 0 < part.low < part.difference < part.high
    assert part.p == pytest.approx(2 / 2**8)
    assert part.p <= part.p_adjusted < 0.05
    assert (part.n_a, part.n_b, part.underpowered) == (8, 8, False)
    found = verdict(store, tmp_path, beats(IAMCL, FULL))
    assert found.verdict == "contradicted"
    assert found.parts[0].difference == pytest.approx(-35)
    assert found.reason == f"0 of 1 hold; the other way in 1: Acc2 of {IAMCL} against HyCon"
    found = verdict(store, tmp_path, beats(FULL, SCL))
    assert (found.verdict, found.parts[0].p) == ("undecided", 1.0)


def test_lower_is_better_for_mae(store, tmp_path):
    found = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['mae']"))
    assert found.verdict == "supported"
    assert found.parts[0].difference < 0
    assert found.parts[0].high < 0


def test_one_part_contradicts_all_and_one_undecided_part_leaves_it_open(store, tmp_path):
    ranking = f"kind = 'ranking'\norder = [['{SCL}'], ['{IAMCL}'], ['{FULL}']]\nmetrics = ['acc2']"
    found = verdict(store, tmp_path, ranking)
    assert [part.verdict for part in found.parts] == ["supported", "undecided", "contradicted"]
    assert found.verdict == "contradicted"
    assert found.decisive == found.parts[2]
    found = verdict(store, tmp_path, beats(FULL, IAMCL, SCL))
    assert [part.verdict for part in found.parts] == ["supported", "undecided"]
    assert found.verdict == "undecided"
    assert found.decisive.row_b == SCL
    worst = f"kind = 'worst-of'\nrows = ['{IAMCL}']\namong = ['{SCL}', '{FULL}']\nmetrics = ['acc2', 'f1']"
    assert verdict(store, tmp_path, worst).verdict == "supported"


def test_most_needs_more_than_half(store, tmp_path):
    most = "most = true"
    three = "['acc2', 'f1', 'mae']"
    assert verdict(store, tmp_path, beats(FULL, IAMCL, SCL, metrics=three, more=most)).verdict == "undecided"  # 3 of 6
    text = f"kind = 'beats'\nrows = ['{FULL}', '{SCL}']\nthan = ['{IAMCL}', '{NONE}']\nmetrics = ['acc2']\nmost = true"
    fill_signs(store, ROWS[NONE], [30] * 8)
    assert verdict(store, tmp_path, text).verdict == "supported"
    reversed_ = f"kind = 'beats'\nrows = ['{IAMCL}']\nthan = ['{FULL}', '{NONE}']\nmetrics = ['acc2']\nmost = true"
    assert verdict(store, tmp_path, reversed_).verdict == "contradicted"  # one of two: not more than half any more


def test_rows_without_runs_are_named_and_quoted_ones_are_never_read(store, tmp_path):
    found = verdict(store, tmp_path, beats(FULL, IAMCL, NONE))
    assert found.verdict == "not run"
    assert found.parts[0].verdict == "supported"
    assert found.reason == f"1 of 2 hold; not run in 1: {NONE}: not run yet"
    fill_signs(store, next(r for r in TABLES["table1"].rows if r.name == "HyCon-v2-BERT"), [3] * 8)
    text = beats("HyCon-v2-BERT", "QMF-GloVe")
    found = verdict(store, tmp_path, text, changes={"tables": '["table1"]'})
    assert found.verdict == "not run"
    assert found.parts[0].b is None
    assert "QMF-GloVe: quoted by the paper, not run here" in found.reason


def test_few_seeds_are_underpowered_and_one_seed_has_no_test(store, tmp_path):
    fill_signs(store, ROWS[NONE], [50, 51, 50, 51, 50])
    found = verdict(store, tmp_path, beats(FULL, NONE))
    (part,) = found.parts
    assert found.verdict == "undecided"
    assert part.low > 0
    assert part.p == pytest.approx(2 / 2**5)
    assert (part.underpowered, part.seeds_needed) == (True, 6)
    assert "underpowered in 1: each row needs 6 seeds at the least" in found.reason
    fill_signs(store, ROWS["HyCon (W/O Refinement Loss)"], [50])
    (part,) = verdict(store, tmp_path, beats(FULL, "HyCon (W/O Refinement Loss)")).parts
    assert (part.verdict, part.p, part.low, part.underpowered) == ("undecided", None, None, True)


@pytest.mark.parametrize(("by", "expected"), [(30, "supported"), (70, "contradicted"), (55, "undecided")])
def test_a_gain_of_35_points_is_about_30_give_or_take_20(store, tmp_path, by, expected):
    text = f"kind = 'gain'\nrows = ['{FULL}']\nthan = ['{IAMCL}']\nby = {{acc2 = {by}}}\nwithin = 20"
    assert verdict(store, tmp_path, text).verdict == expected


def gained(low: float, high: float, by: float, p: float, within: float | None = None, metric="acc2") -> str:
    contest = Contest("table4", Side("table4", FULL), Side("table4", SCL), metric, "gain", by, within)
    part = Part(contest, "mosi", "", difference=(low + high) / 2, low=low, high=high, p=p, p_adjusted=p)
    return judged(part, 1.0).verdict


def test_a_gain_by_hand():
    assert gained(1.0, 2.0, 1.4, 0.01) == "supported"
    assert gained(1.0, 2.0, 1.4, 0.20) == "undecided"  # within the band, but no gain for sure
    assert gained(-0.2, 1.0, 0.4, 0.20) == "undecided"
    assert gained(0.1, 3.0, 1.4, 0.01) == "undecided"  # reaches out of 1.4 +- 1.0
    assert gained(3.0, 4.0, 1.4, 0.01) == "contradicted"
    assert gained(-2.0, -1.0, 1.4, 0.01) == "contradicted"
    assert gained(3.0, 4.0, 1.4, 0.01, within=3.0) == "supported"
    assert gained(-0.9, 0.8, 0.0, 0.9) == "supported"  # "similar" needs no test against no difference
    assert gained(-0.9, 1.8, 0.0, 0.9) == "undecided"
    assert gained(-2.0, -1.0, 1.4, 0.01, metric="mae") == "supported"  # a lower error is a gain


def test_levels(store, tmp_path):
    def level(metric: str, text: str, row: str = "HyCon"):
        return verdict(store, tmp_path, f"kind = 'level'\nrows = ['{row}']\nmetrics = ['{metric}']\n{text}")

    def timed(text: str):
        return level("train_seconds", text, "HyCon-v2")

    fill_signs(store, ROWS["HyCon-v2"], [3, 4] * 4, device="NVIDIA GeForce GTX 1080 Ti")
    assert level("acc2", "about = 94\nwithin = 0.1").verdict == "supported"  # 94.2 and the tolerance of 1
    assert level("acc2", "about = 90\nwithin = 0.1").verdict == "contradicted"
    found = timed("at_most = 20")  # 10 to 17
    assert found.verdict == "supported"
    assert found.parts[0].difference == pytest.approx(13.5 - 20)
    assert timed("at_most = 10").verdict == "contradicted"
    assert timed("at_most = 14").verdict == "undecided"
    elsewhere = level("train_seconds", "at_most = 20")
    assert (elsewhere.verdict, elsewhere.decide) == ("undecided", ())
    assert "timed on another machine than the paper's GTX 1080 Ti" in elsewhere.reason
    assert elsewhere.caution == "times are of another machine than the paper's GTX 1080 Ti, and of our implementations"
    missing = level("test_seconds", "at_most = 1")
    assert missing.verdict == "not run"
    assert "the runs hold no Test split [s]" in missing.reason


def test_parameters_are_compared_without_a_test(tmp_path):
    store = RunStore(tmp_path / "results")
    fill_signs(store, ROWS[FULL], [3], parameters=100)
    fill_signs(store, ROWS[IAMCL], [3], parameters=101)
    fill_signs(store, ROWS[SCL], [3], parameters=100)
    fewer = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['parameters']"))
    assert (fewer.verdict, fewer.parts[0].p, fewer.parts[0].difference) == ("supported", None, -1)
    assert verdict(store, tmp_path, beats(FULL, SCL, metrics="['parameters']")).verdict == "contradicted"
    same = f"kind = 'gain'\nrows = ['{FULL}']\nthan = ['%s']\nby = {{parameters = 0}}"
    assert verdict(store, tmp_path, same % SCL).verdict == "supported"
    assert verdict(store, tmp_path, same % IAMCL).verdict == "contradicted"


def test_a_count_is_the_printed_one_or_not_unless_the_encoder_is_another(tmp_path):
    store = RunStore(tmp_path / "results")
    rows = {row.name: row for row in TABLES["table8"].rows}
    fill_signs(store, rows["HyCon"], [3], parameters=109_209_149)
    fill_signs(store, rows["MAG-BERT"], [3], parameters=110_853_121)
    fill_signs(store, rows["TFN-BERT"], [3], parameters=7, encoder={"name": "tiny", "sha256": "1"})
    text = "kind = 'count'\nrows = ['HyCon', 'MAG-BERT', 'TFN-BERT']"
    found = verdict(store, tmp_path, text, changes={"tables": '["table8"]'})
    assert [part.verdict for part in found.parts] == ["supported", "contradicted", "undecided"]
    assert found.parts[1].difference == 110_853_121 - 118_679_809
    assert found.parts[2].reason == "not run as in the paper: the text encoder is tiny, not bert-base-uncased"
    assert "tiny, not bert-base-uncased" in found.caution


def test_separation_by_hand_and_as_a_claim(store, tmp_path):
    points = np.array([[0.0, 1.0], [0.0, -1.0], [4.0, 1.0], [4.0, -1.0]])
    assert centroid_ratio(points, np.array([False, False, True, True])) == pytest.approx(4.0)  # 4 apart, 1 around
    turned = points @ np.array([[0.6, -0.8], [0.8, 0.6]]) * 3 + 5
    assert centroid_ratio(turned, np.array([False, False, True, True])) == pytest.approx(4.0)
    assert centroid_ratio(points, np.array([True] * 4)) is None
    assert centroid_ratio(np.ones((4, 2)), np.array([False, False, True, True])) is None
    found = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['separation']"))
    assert found.verdict == "supported"
    assert found.parts[0].n_a == 8


def test_runs_without_predictions_are_compared_by_their_metrics(store, tmp_path):
    for file in (store.root / "runs").glob("*/predictions.npz"):
        file.unlink()
    assert verdict(store, tmp_path, BEATS).verdict == "supported"
    assert "hold no Class separation" in verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['separation']")).reason


def test_whatever_is_not_the_papers_setting_is_a_caution(store, tmp_path):
    fill_signs(store, ROWS[FULL], [3, 4] * 4, encoder={"name": "tiny", "sha256": "1"})
    fill_signs(store, ROWS[IAMCL], [24, 25] * 4, encoder={"name": "tiny", "sha256": "1"})
    found = verdict(store, tmp_path, BEATS, encoders={"bert": "tiny"})
    assert (found.verdict, found.caution) == ("supported", "the text encoder is tiny, not bert-base-uncased")
    found = verdict(store, tmp_path, BEATS, protocol="mmsa", encoders={"bert": BERT["name"]})
    assert found.verdict == "supported"
    assert found.caution == "the metrics are those of protocol mmsa"


def test_a_claim_about_two_corpora_read_on_one_is_asked_once_and_says_so(tmp_path):
    store = RunStore(tmp_path / "results")
    rows = {row.name: row for row in TABLES["table1"].rows}
    fill_signs(store, rows["HyCon-v2-BERT"], [3, 4] * 4)
    fill_signs(store, rows["HyCon-BERT"], [24, 25] * 4)
    changes = {"tables": '["table1", "table2"]'}
    text = beats("HyCon-v2-BERT", "HyCon-BERT")
    found = verdict(store, tmp_path, text, changes=changes)
    assert [(part.corpus, part.verdict) for part in found.parts] == [("mosi", "supported"), ("mosei", "not run")]
    found = verdict(store, tmp_path, text, changes=changes, corpus="mosi")
    assert [part.corpus for part in found.parts] == ["mosi"]
    assert found.verdict == "supported"
    assert found.caution == "the claim is about mosi and mosei, the runs are all on mosi"
    found = verdict(store, tmp_path, text, changes={"tables": '["table2"]'}, corpus="mosi")
    assert found.caution == "the corpus is mosi, not mosei"


def test_a_corpus_is_asked_only_what_suits_its_labels(store, tmp_path):
    everything = {result.claim.id for result in evaluate(store)}
    emotions = {result.claim.id for result in evaluate(store, View("iemocap"))}
    assert emotions == {c.id for c in load_claims() if c.tables == ("table3",)}
    assert {result.claim.id for result in evaluate(store, View("mosei"))} == everything - emotions
    with pytest.raises(UserError, match="Claim margin-best is about sentiments; the labels of corpus iemocap are emo"):
        evaluate(store, View("iemocap"), claims=pick(load_claims(), ["margin-best"]))
    with pytest.raises(UserError, match="mosy"):
        evaluate(store, View("mosy", tmp_path))
    with pytest.raises(UserError, match="demo"):
        evaluate(store, View(profile="dmo"))
    with pytest.raises(UserError, match="mmsa"):
        evaluate(store, View(protocol="mmssa"))


def test_p_is_adjusted_over_all_claims_of_the_table_whichever_are_asked_for(store, tmp_path):
    from studies.statistics.comparison import benjamini_hochberg

    results = evaluate(store)
    parts = {(p.row_a, p.row_b, p.metric): p for r in results for p in r.parts if p.table == "table4"}
    family = {frozenset((a, b)) | {metric}: part for (a, b, metric), part in parts.items() if b}
    larger = [part.p and max(part.p, part.p_interval) for part in family.values()]
    expected = benjamini_hochberg(larger)
    assert any(p is not None and p > part.p for p, part in zip(larger, family.values(), strict=True))
    assert [part.p_adjusted for part in family.values()] == pytest.approx(expected)
    one = pick(load_claims(), ["ablation-iamcl-iemcl"])
    (alone,) = evaluate(store, claims=one)
    assert alone.parts == next(r for r in results if r.claim.id == alone.claim.id).parts


def test_other_utterances_stop_one_comparison_and_not_the_rest(store, tmp_path):
    for record in store.records():
        if record.spec.config == {"scl": 0.0}:
            arrays = {k: v[:50] for k, v in store.predictions(record.id).items()}
            (store.folder(record.id) / "record.json").unlink()
            store.put(record, arrays)
    found = verdict(store, tmp_path, beats(FULL, IAMCL, SCL))
    assert [part.verdict for part in found.parts] == ["supported", "not run"]
    assert "not of the same utterances" in found.parts[1].reason


def test_folding_by_hand(tmp_path):
    def folded(most: bool, *verdicts: str) -> str:
        contest = Contest("table4", Side("table4", FULL), None, "acc2", "better")
        one = dataclasses.replace(claim(tmp_path, BEATS), most=most)
        return fold(one, [Part(contest, "mosi", v) for v in verdicts], "supported", "undecided")

    yes, no, open_, missing = "supported", "contradicted", "undecided", "not run"
    assert folded(False, yes, yes) == yes
    assert folded(False, yes, missing, no) == no
    assert folded(False, yes, open_, missing) == missing
    assert folded(False, yes, open_) == open_
    assert folded(True, yes, yes, no) == yes
    assert folded(True, yes, no) == no
    assert folded(True, yes, yes, missing) == yes
    assert folded(True, yes, open_, open_) == open_
    assert folded(True, yes, missing, missing) == missing
