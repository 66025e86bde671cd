"""The paper's claims: the file, kinds and verdicts on runs with known truth, the paper against itself, the command."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from hycon.errors import UserError
from hycon.metrics import sentiment_metrics
from studies.claims import against_paper, evaluate, load_claims, pick
from studies.claims.file import exact_counts
from studies.claims.kinds import Contest, Side, contests
from studies.claims.render import FORMATS, effect, render_claims
from studies.claims.verdict import Part, decisive, fold, judged
from studies.cli import main
from studies.lookup import View
from studies.paper import paper_folder, paper_table
from studies.statistics.separation import centroid_ratio
from studies.store.record import RunRecord, RunSpec
from studies.store.run_store import RunStore
from studies.store.study import Study, save_study
from studies.tables import TABLES, Row

LABEL = np.where(np.arange(60) % 2 == 0, 1.0, -1.0) * np.linspace(0.6, 2.4, 60)
BERT = {"name": "bert-base-uncased", "sha256": "0"}
ROWS = {row.name: row for row in TABLES["table4"].rows}
FULL, NONE, IAMCL, SCL = ("HyCon", *(f"HyCon (W/O {part})" for part in ("Contrast Learning", "L_IAMCL", "L_SCL")))


# ----------------------------------------------------------------------------------------------- runs of known truth


def put(store: RunStore, row: Row, wrong: list[int], *, corpus: str = "mosi", encoder=BERT, **known) -> None:
    """A finished run per entry of `wrong`: seed i has so many of the 60 signs wrong, the rest exact."""
    rng = np.random.default_rng([len(row.name), *wrong])
    records = []
    for seed, count in enumerate(wrong):
        prediction = LABEL.copy()
        prediction[rng.permutation(60)[:count]] *= -1
        spec = RunSpec(row.model, 1, row.text, corpus, "sha", dict(row.config), {}, seed=seed, encoder=encoder)
        metrics = {"test": {p: sentiment_metrics(prediction, LABEL, p) for p in ("paper", "mmsa")}}
        record = RunRecord(spec, "done", metrics=metrics, **{"parameters": 100, "seconds": 10.0 + seed, **known})
        ids = np.array([f"u{i}" for i in range(60)])
        points = np.stack([prediction, np.zeros(60)], 1) + rng.normal(size=(60, 2))
        arrays = {"test_prediction": prediction, "test_label": LABEL, "test_id": ids, "test_multimodal": points}
        records.append(store.put(record, arrays))
    runs = [record.id for record in records]
    study = Study(
        row.model, row.text, corpus, "sha", dict(row.config), {}, encoder, "cpu", "paper", [{}] * 50, ["t"] * 50
    )
    save_study(store, dataclasses.replace(study, selected=0, runs=runs))


@pytest.fixture
def store(tmp_path) -> RunStore:
    """HyCon misses 3 or 4 of 60, without IAMCL 24 or 25, without SCL 4 or 3: eight paired seeds each."""
    store = RunStore(tmp_path / "results")
    put(store, ROWS[FULL], [3, 4] * 4)
    put(store, ROWS[IAMCL], [24, 25] * 4)
    put(store, ROWS[SCL], [4, 3] * 4)
    return store


def claim(tmp_path: Path, text: str, **changes):
    """The one claim of a file with these lines beside what every claim has."""
    head = {"id": '"x"', "quote": '"as they say"', "place": '"sec. 4.5.3"', "tables": '["table4"]', **changes}
    lines = [f"{key} = {value}" for key, value in head.items() if value is not None]
    path = tmp_path / "claims.toml"
    path.write_text("[groups]\nboth = ['HyCon', 'HyCon-v2']\n[[claim]]\n" + "\n".join([*lines, text]))
    (found,) = load_claims(path)
    return found


def beats(a: str, *b: str, metrics: str = "['acc2']", more: str = "") -> str:
    return f"kind = 'beats'\nrows = ['{a}']\nthan = {list(b)}\nmetrics = {metrics}\n{more}"


def verdict(store, tmp_path, text, **options):
    changes = options.pop("changes", {})
    (found,) = evaluate(store, View(**options), claims=[claim(tmp_path, text, **changes)])
    return found


# ------------------------------------------------------------------------------------------------------ the file


def test_every_section_has_claims_and_their_ids_quotations_and_places_are_there():
    claims = load_claims()
    assert len(claims) >= 25 and len({c.id for c in claims}) == len(claims)
    sections = {c.place.split(",")[0] for c in claims}
    assert sections == {f"sec. 4.5.{i}" for i in range(1, 9)}
    assert all(re.fullmatch(r"sec\. 4\.5\.\d, paragraph \d(, and Table 8)?", c.place) for c in claims)
    assert all(len(c.quote.split()) >= 5 for c in claims) and len({c.quote for c in claims}) == len(claims)
    kinds = {c.kind for c in claims}
    assert kinds == {"beats", "best-of", "worst-of", "ranking", "gain", "level", "count"}


def test_every_row_and_metric_of_every_comparison_exists():
    rows = {(table.name, row.name) for table in TABLES.values() for row in table.rows}
    for found in load_claims():
        made = contests(found)
        assert made and len(set(made)) == len(made)
        for contest in made:
            assert {contest.a, contest.b or contest.a} <= rows
            assert contest.table in found.tables


def test_the_groups_are_the_tables_baselines():
    groups = tomllib.loads((paper_folder() / "claims.toml").read_text())["groups"]
    table1 = [row for row in TABLES["table1"].rows if row.model != "hycon"]
    assert groups["baselines"] == [row.name for row in table1]
    assert groups["glove"] == [row.name for row in table1 if row.text == "glove"]
    assert sorted(groups["bert"]) == sorted(row.name for row in table1 if row.text == "bert")
    assert groups["table1-baselines"] == [f"table1:{name}" for name in groups["baselines"]]
    for name, table in (("iemocap-baselines", "table3"), ("table8-baselines", "table8")):
        assert groups[name] == [row.name for row in TABLES[table].rows if row.model != "hycon"]


def test_the_exact_counts_are_those_of_the_models():
    import torch

    from studies.registry import build_model

    rows = {row.name: row for name in ("table8", "table1") for row in reversed(TABLES[name].rows)}
    counts = exact_counts()
    assert set(counts) == {row.name for row in TABLES["table8"].rows} - {"MFN-BERT"} | {"MAG-XLNet"}
    for name, count in counts.items():
        row = rows[name]
        with torch.device("meta"):
            model = build_model(row.model, text=row.text, dims={"text": 768, "audio": 74, "vision": 47}, **row.config)
        assert sum(p.numel() for p in model.parameters()) == count, name


BEATS = beats(FULL, IAMCL)
BROKEN = [
    ("kind = 'beatz'", {}, "is of kind 'beatz'; nearest: beats"),
    ("", {}, "is of kind 'None'"),
    (BEATS + "\nmatrics = ['f1']", {}, "has a key 'matrics' that kind beats has not; nearest: metrics"),
    (BEATS + "\nwithin = 1", {}, "has a key 'within' that kind beats has not"),
    (BEATS, {"quote": None}, "has no quote"),
    (BEATS, {"quote": '" "'}, "has quote = ' ', which says nothing"),
    (BEATS, {"tables": '["table44"]'}, "names a table 'table44'; nearest: table4"),
    (BEATS, {"tables": "[]"}, "has tables = []"),
    (BEATS, {"tables": '["table4", "table3"]'}, "names tables of two tasks"),
    (BEATS, {"tables": '"table4"'}, "Expected `array`, got `str` - at `$.tables`"),
    (beats("HyCn", IAMCL), {}, "names a row 'HyCn' that table4 has not; nearest: HyCon"),
    (beats(FULL, "table9:HyCon"), {}, "names a table 'table9'"),
    (beats(FULL, "@bth"), {}, "names a group '@bth'; nearest: both"),
    (beats(FULL, FULL), {}, "compares nothing, or a row with itself"),
    (beats(FULL, IAMCL, metrics="['acc3']"), {}, "names a metric 'acc3'; nearest: "),
    (beats(FULL, IAMCL, metrics="['happy_f1']"), {}, "names a metric 'happy_f1'"),
    (beats(FULL, IAMCL, SCL, more="pairwise = true"), {}, "is pairwise, but has 1 rows and 2"),
    (beats(FULL, IAMCL, more="most = 1"), {}, "Expected `bool`, got `int` - at `$.most`"),
    ("kind = 'ranking'\norder = [['HyCon']]", {}, "Expected `array` of length >= 2 - at `$.order`"),
    (
        "kind = 'gain'\nrows = ['HyCon']\nthan = ['HyCon-v2']\nby = {acc2 = 'much'}",
        {},
        "Expected `float`, got `str` - at `$.by[...]`",
    ),
    ("kind = 'gain'\nrows = ['HyCon']\nthan = ['HyCon-v2']\nby = {}", {}, "has by = {}"),
    ("kind = 'ranking'\norder = [['HyCon'], []]", {}, "Expected `array` of length >= 1 - at `$.order[1]`"),
    ("kind = 'level'\nrows = ['HyCon']\nmetrics = ['acc2']", {}, "needs one of at_most and about"),
    ("kind = 'level'\nrows = ['HyCon']\nmetrics = ['acc2']\nabout = 3", {}, "says about, but not within"),
    ("kind = 'best-of'\nrows = ['HyCon']\namong = ['HyCon']", {}, "compares nothing"),
]


@pytest.mark.parametrize(("text", "changes", "message"), BROKEN, ids=[message for _, _, message in BROKEN])
def test_a_mistake_in_the_file_is_one_sentence_that_names_the_claim(tmp_path, text, changes, message):
    with pytest.raises(UserError, match=r"Claim 'x' of claims\.toml") as caught:
        claim(tmp_path, text, **changes)
    assert message in str(caught.value)


def test_mistakes_of_the_whole_file(tmp_path):
    with pytest.raises(UserError, match="The claim at place 1"):
        claim(tmp_path, BEATS, id=None)
    path = tmp_path / "claims.toml"
    for text, message in [
        ("[[claim]", "is not TOML"),
        ("[[clam]]", "Unknown part of claims.toml 'clam'; nearest: claim"),
        ("[counts]\nHyCon = 'many'", r"Expected `int`, got `str` - at `\$\.counts"),
    ]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            exact_counts(path)
    claim(tmp_path, BEATS)
    path.write_text(path.read_text() + path.read_text().split("\n", 2)[2])
    with pytest.raises(UserError, match="two claims with id 'x'"):
        load_claims(path)
    with pytest.raises(UserError, match="Cannot read"):
        load_claims(tmp_path / "none.toml")


def test_comparisons_of_each_kind(tmp_path):
    def pairs(text, **changes):
        made = contests(claim(tmp_path, text, **changes))
        return [(c.a.row, c.b.row if c.b else None, c.metric) for c in made]

    assert pairs(beats("@both", IAMCL)) == [("HyCon", IAMCL, "acc2"), ("HyCon-v2", IAMCL, "acc2")]
    pairwise = f"kind = 'beats'\nrows = ['@both']\nthan = ['{IAMCL}', '{SCL}']\npairwise = true\nmetrics = ['f1']"
    assert pairs(pairwise) == [("HyCon", IAMCL, "f1"), ("HyCon-v2", SCL, "f1")]
    named = ["acc7", "acc2", "f1", "mae", "corr"]
    assert [m for _, _, m in pairs(f"kind = 'beats'\nrows = ['HyCon']\nthan = ['{SCL}']")] == named
    best = pairs("kind = 'best-of'\nrows = ['HyCon']\nmetrics = ['f1']")
    assert len(best) == 9 and all(a == "HyCon" for a, _, _ in best)
    worst = f"kind = 'worst-of'\nrows = ['{IAMCL}']\namong = ['{SCL}', 'HyCon']\nmetrics = ['f1']"
    assert pairs(worst) == [(SCL, IAMCL, "f1"), ("HyCon", IAMCL, "f1")]
    ranking = f"kind = 'ranking'\norder = [['HyCon'], ['{SCL}'], ['{IAMCL}']]\nmetrics = ['f1']"
    assert pairs(ranking) == [("HyCon", SCL, "f1"), ("HyCon", IAMCL, "f1"), (SCL, IAMCL, "f1")]
    other = "kind = 'beats'\nrows = ['Triplet Loss']\nthan = ['table4:HyCon']\nmetrics = ['f1']"
    assert contests(claim(tmp_path, other, tables='["table7"]'))[0].b == Side("table4", "HyCon")
    gain = "kind = 'gain'\nrows = ['HyCon-v2']\nthan = ['MFN', 'LMF', 'TCM-LSTM']\nby = {sad_acc = 1, sad_f1 = 1}"
    assert pairs(gain, tables='["table3"]') == [("HyCon-v2", "LMF", "sad_acc"), ("HyCon-v2", "TCM-LSTM", "sad_f1")]
    level = "kind = 'level'\nrows = ['HyCon']\nmetrics = ['acc2']\nat_most = 3"
    assert pairs(level) == [("HyCon", None, "acc2")]


def test_the_documented_claim_can_be_added_as_it_stands(tmp_path):
    page = Path(__file__).parents[3] / "docs" / "claims.md"
    path = tmp_path / "claims.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1])
    assert [len(contests(found)) for found in load_claims(path)] == [2]


# ---------------------------------------------------------------------------------------------- verdicts by runs


def test_supported_contradicted_and_undecided(store, tmp_path):
    found = verdict(store, tmp_path, BEATS)
    (part,) = found.parts
    assert (found.verdict, found.caution, found.reason) == ("supported", "", "1 of 1 hold")
    assert part.a == pytest.approx(100 - 3.5 / 0.6) and part.difference == pytest.approx(21 / 0.6)  # of 60, in percent
    assert 0 < part.low < part.difference < part.high
    assert part.p == pytest.approx(2 / 2**8) and part.p <= part.p_adjusted < 0.05  # all signs alike
    assert (part.n_a, part.n_b, part.underpowered) == (8, 8, False)
    found = verdict(store, tmp_path, beats(IAMCL, FULL))
    assert found.verdict == "contradicted" and found.parts[0].difference == pytest.approx(-35)
    assert found.reason == f"0 of 1 hold; the other way in 1: Acc2 of {IAMCL} against HyCon"
    found = verdict(store, tmp_path, beats(FULL, SCL))
    assert (found.verdict, found.parts[0].p) == ("undecided", 1.0)


def test_lower_is_better_for_mae(store, tmp_path):
    found = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['mae']"))
    assert found.verdict == "supported" and found.parts[0].difference < 0 and found.parts[0].high < 0


def test_one_part_contradicts_all_and_one_undecided_part_leaves_it_open(store, tmp_path):
    ranking = f"kind = 'ranking'\norder = [['{SCL}'], ['{IAMCL}'], ['{FULL}']]\nmetrics = ['acc2']"
    found = verdict(store, tmp_path, ranking)
    assert [part.verdict for part in found.parts] == ["supported", "undecided", "contradicted"]
    assert found.verdict == "contradicted" and found.decisive == found.parts[2]
    found = verdict(store, tmp_path, beats(FULL, IAMCL, SCL))
    assert [part.verdict for part in found.parts] == ["supported", "undecided"]
    assert found.verdict == "undecided" and found.decisive.row_b == SCL
    worst = f"kind = 'worst-of'\nrows = ['{IAMCL}']\namong = ['{SCL}', '{FULL}']\nmetrics = ['acc2', 'f1']"
    assert verdict(store, tmp_path, worst).verdict == "supported"


def test_most_needs_more_than_half(store, tmp_path):
    most = "most = true"
    three = "['acc2', 'f1', 'mae']"
    assert verdict(store, tmp_path, beats(FULL, IAMCL, SCL, metrics=three, more=most)).verdict == "undecided"  # 3 of 6
    text = f"kind = 'beats'\nrows = ['{FULL}', '{SCL}']\nthan = ['{IAMCL}', '{NONE}']\nmetrics = ['acc2']\nmost = true"
    put(store, ROWS[NONE], [30] * 8)
    assert verdict(store, tmp_path, text).verdict == "supported"
    reversed_ = f"kind = 'beats'\nrows = ['{IAMCL}']\nthan = ['{FULL}', '{NONE}']\nmetrics = ['acc2']\nmost = true"
    assert verdict(store, tmp_path, reversed_).verdict == "contradicted"  # one of two: not more than half any more


def test_rows_without_runs_are_named_and_quoted_ones_are_never_read(store, tmp_path):
    found = verdict(store, tmp_path, beats(FULL, IAMCL, NONE))
    assert found.verdict == "not run" and found.parts[0].verdict == "supported"
    assert found.reason == f"1 of 2 hold; not run in 1: {NONE}: not run yet"
    put(store, TABLES["table1"].rows[-2], [3] * 8)
    text = beats("HyCon-v2-BERT", "QMF-GloVe")
    found = verdict(store, tmp_path, text, changes={"tables": '["table1"]'})
    assert found.verdict == "not run" and found.parts[0].b is None
    assert "QMF-GloVe: quoted by the paper, not run here" in found.reason


def test_few_seeds_are_underpowered_and_one_seed_has_no_test(store, tmp_path):
    put(store, ROWS[NONE], [50, 51, 50, 51, 50])
    found = verdict(store, tmp_path, beats(FULL, NONE))
    (part,) = found.parts
    assert found.verdict == "undecided" and part.low > 0  # the interval alone would have said so
    assert part.p == pytest.approx(2 / 2**5) and (part.underpowered, part.seeds_needed) == (True, 6)
    assert "underpowered in 1: each row needs 6 seeds at the least" in found.reason
    put(store, ROWS["HyCon (W/O Refinement Loss)"], [50])
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
    def level(metric: str, text: str):
        return verdict(store, tmp_path, f"kind = 'level'\nrows = ['HyCon']\nmetrics = ['{metric}']\n{text}")

    put(store, ROWS["HyCon-v2"], [3, 4], test_seconds=0.5)
    assert level("acc2", "about = 94\nwithin = 0.1").verdict == "supported"  # 94.2 and the tolerance of 1
    assert level("acc2", "about = 90\nwithin = 0.1").verdict == "contradicted"
    found = level("train_seconds", "at_most = 20")  # 10 to 17
    assert found.verdict == "supported" and found.parts[0].difference == pytest.approx(13.5 - 20)
    assert "early stopping" in found.caution
    assert level("train_seconds", "at_most = 10").verdict == "contradicted"
    assert level("train_seconds", "at_most = 14").verdict == "undecided"
    timed = verdict(store, tmp_path, "kind = 'level'\nrows = ['HyCon-v2']\nmetrics = ['test_seconds']\nat_most = 1")
    assert timed.verdict == "undecided" and "another machine" in timed.reason  # 0.5 s, but not on the paper's
    missing = level("test_seconds", "at_most = 1")
    assert missing.verdict == "not run" and "the runs hold no Test split [s]" in missing.reason


def test_parameters_are_compared_without_a_test(tmp_path):
    store = RunStore(tmp_path / "results")
    put(store, ROWS[FULL], [3], parameters=100)
    put(store, ROWS[IAMCL], [3], parameters=101)
    put(store, ROWS[SCL], [3], parameters=100)
    fewer = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['parameters']"))
    assert (fewer.verdict, fewer.parts[0].p, fewer.parts[0].difference) == ("supported", None, -1)
    assert verdict(store, tmp_path, beats(FULL, SCL, metrics="['parameters']")).verdict == "contradicted"
    same = f"kind = 'gain'\nrows = ['{FULL}']\nthan = ['%s']\nby = {{parameters = 0}}"
    assert verdict(store, tmp_path, same % SCL).verdict == "supported"
    assert verdict(store, tmp_path, same % IAMCL).verdict == "contradicted"


def test_a_count_is_the_printed_one_or_not_unless_the_encoder_is_another(tmp_path):
    store = RunStore(tmp_path / "results")
    rows = {row.name: row for row in TABLES["table8"].rows}
    put(store, rows["HyCon"], [3], parameters=109_209_149)
    put(store, rows["MAG-BERT"], [3], parameters=110_853_121)
    put(store, rows["TFN-BERT"], [3], parameters=7, encoder={"name": "tiny", "sha256": "1"})
    text = "kind = 'count'\nrows = ['HyCon', 'MAG-BERT', 'TFN-BERT']"
    found = verdict(store, tmp_path, text, changes={"tables": '["table8"]'})
    assert [part.verdict for part in found.parts] == ["supported", "contradicted", "undecided"]
    assert found.parts[1].difference == 110_853_121 - 118_679_809
    assert found.parts[2].reason == "its text encoder is tiny" and "tiny, not bert-base-uncased" in found.caution


def test_separation_by_hand_and_as_a_claim(store, tmp_path):
    points = np.array([[0.0, 1.0], [0.0, -1.0], [4.0, 1.0], [4.0, -1.0]])
    assert centroid_ratio(points, np.array([False, False, True, True])) == pytest.approx(4.0)  # 4 apart, 1 around
    turned = points @ np.array([[0.6, -0.8], [0.8, 0.6]]) * 3 + 5
    assert centroid_ratio(turned, np.array([False, False, True, True])) == pytest.approx(4.0)
    assert centroid_ratio(points, np.array([True] * 4)) is None
    assert centroid_ratio(np.ones((4, 2)), np.array([False, False, True, True])) is None
    found = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['separation']"))
    assert found.verdict == "supported" and found.parts[0].n_a == 8


def test_runs_without_predictions_are_compared_by_their_metrics(store, tmp_path):
    for file in (store.root / "runs").glob("*/predictions.npz"):
        file.unlink()
    assert verdict(store, tmp_path, BEATS).verdict == "supported"
    assert "hold no Class separation" in verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['separation']")).reason


def test_whatever_is_not_the_papers_setting_is_a_caution(store, tmp_path):
    put(store, ROWS[FULL], [3, 4] * 4, encoder={"name": "tiny", "sha256": "1"})
    options = {"encoders": {"bert": "tiny"}}
    found = verdict(store, tmp_path, f"kind = 'level'\nrows = ['{FULL}']\nmetrics = ['acc2']\nat_most = 99", **options)
    assert (found.verdict, found.caution) == ("supported", "the text encoder is tiny, not bert-base-uncased")
    found = verdict(store, tmp_path, BEATS, protocol="mmsa", encoders={"bert": BERT["name"]})
    assert found.verdict == "supported" and found.caution == "the metrics are those of protocol mmsa"


def test_a_claim_about_two_corpora_read_on_one_is_asked_once_and_says_so(tmp_path):
    store = RunStore(tmp_path / "results")
    rows = {row.name: row for row in TABLES["table1"].rows}
    put(store, rows["HyCon-v2-BERT"], [3, 4] * 4)
    put(store, rows["HyCon-BERT"], [24, 25] * 4)
    changes = {"tables": '["table1", "table2"]'}
    text = beats("HyCon-v2-BERT", "HyCon-BERT")
    found = verdict(store, tmp_path, text, changes=changes)
    assert [(part.corpus, part.verdict) for part in found.parts] == [("mosi", "supported"), ("mosei", "not run")]
    found = verdict(store, tmp_path, text, changes=changes, corpus="mosi")
    assert [part.corpus for part in found.parts] == ["mosi"] and found.verdict == "supported"
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
    expected = benjamini_hochberg([part.p for part in family.values()])
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
    parts = verdicts = []

    def folded(most: bool, *verdicts: str) -> str:
        contest = Contest("table4", Side("table4", FULL), None, "acc2", "better")
        one = dataclasses.replace(claim(tmp_path, BEATS), most=most)
        return fold(one, [Part(contest, "mosi", v) for v in verdicts], "supported", "undecided")

    del parts, verdicts
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


# ------------------------------------------------------------------------------------------- the paper by itself


PAPER = {result.claim.id: result for result in against_paper()}


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
    assert reason in PAPER["counts"].reason and PAPER["counts"].verdict == "contradicted"


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
    assert ties.verdict == "cannot be read off" and {p.metric for p in ties.parts if not p.difference} == {"acc2", "f1"}
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
    assert found["ablation-any-loss"] == "consistent" and found["counts"] == "cannot be read off"  # MFN is not known


# ------------------------------------------------------------------------------------------------------ text


def test_effects_in_words(store, tmp_path):
    found = verdict(store, tmp_path, BEATS)
    part = dataclasses.replace(found.parts[0], low=30.0, high=40.0, p_adjusted=0.0123)
    said = f"HyCon against {IAMCL}, Acc2: +35.0 [30.0, 40.0], p = 0.008, adjusted 0.012, n = 8 + 8"
    assert effect(part) == said
    assert effect(None) == ""
    assert effect(PAPER["ablation-any-loss"].decisive) == f"HyCon against {SCL}, Acc7: -0.4 (46.6, 47.0)"
    level = verdict(store, tmp_path, "kind = 'level'\nrows = ['HyCon']\nmetrics = ['acc2']\nabout = 85\nwithin = 1")
    assert effect(level.parts[0]).startswith("HyCon against 85.0, Acc2: +9.2 [")


def test_the_deciding_part_is_the_weakest_evidence_or_the_clearest_against():
    parts = [part for part in PAPER["mosi-v2"].parts]
    weakest = decisive(parts, "consistent")
    assert (weakest.row_b, weakest.metric) == ("MAG-XLNet", "corr")  # 0.805 and 0.804
    assert decisive(PAPER["fusion-ranking"].parts, "contradicted").metric == "corr"  # 0.790 and 0.801: 11 last digits
    assert decisive([], "supported") is None


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_the_same_and_cautions_are_in_all(store, tmp_path, format):
    asked = pick(load_claims(), ["ablation-iamcl-iemcl", "margin-best"])
    results = evaluate(store, View(protocol="mmsa"), claims=asked)
    text = render_claims(results, format)
    for said in ("not run", "L_IEMCL", "margin-best" if format in ("text", "json", "html") else "4.5.5"):
        assert said in text.replace("\\_", "_").replace("\\", "")
    assert "protocol mmsa" in text
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_html_and_latex_are_escaped(tmp_path):
    odd = claim(tmp_path, BEATS, quote="'a < b & 5_% ‘so’'")
    results = against_paper([odd])
    assert "a &lt; b &amp; 5_%" in render_claims(results, "html")
    latex = render_claims(results, "latex")
    assert "\\& 5\\_\\% `so'" in latex and "\\textless{}" in latex and latex.isascii()
    with pytest.raises(UserError, match="nearest: html"):
        render_claims(results, "htlm")


# ------------------------------------------------------------------------------------------------------ the command


def bench(capsys, *arguments) -> tuple[int, str, str]:
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_judges_runs(capsys, store, tmp_path):
    code, out, err = bench(capsys, "claims", "--results", store.root, "--id", "ablation-iamcl-iemcl", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert {"id", "quote", "place", "verdict", "caution", "parts"} <= set(found)
    assert found["verdict"] == "not run" and len(found["parts"]) == 10
    part = next(p for p in found["parts"] if p["row_b"] == IAMCL and p["metric"] == "acc2")
    assert part["verdict"] == "supported" and part["n_a"] == 8 and part["low"] > 0
    code, out, _ = bench(capsys, "claims", "--results", store.root)
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith(f"{len(load_claims())} claims: ")
    assert sum(line.startswith(("supported", "contradicted", "undecided", "not run")) for line in lines) == len(
        load_claims()
    )
    code, out, _ = bench(capsys, "claims", "--results", store.root, "--id", "ablation-iamcl-iemcl")
    assert len([line for line in out.splitlines() if line.startswith("  supported")]) == 5
    file = tmp_path / "claims.tex"
    code, out, _ = bench(capsys, "claims", "--paper", "--format", "latex", "--output", file)
    assert (code, out) == (0, "") and "longtable" in file.read_text()


def test_the_command_judges_the_paper_and_lists(capsys):
    code, out, _ = bench(capsys, "claims", "--paper", "--json")
    assert code == 0 and {c["id"]: c["verdict"] for c in json.loads(out)}["counts"] == "contradicted"
    code, out, _ = bench(capsys, "list", "claims", "--json")
    listed = json.loads(out)
    assert code == 0 and [c["id"] for c in listed] == [c.id for c in load_claims()]
    assert listed[0]["comparisons"] == 160 and listed[0]["corpus"] == "mosi and mosei"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id", "mosi-v3"], "mosi-v2"),
        (["--format", "txt"], "text"),
        (["--json", "--format", "md"], "give one of them"),
        (["--paper", "--corpus", "mosi"], "--corpus picks runs"),
        (["--paper", "--protocol", "mmsa"], "--protocol picks runs"),
        (["--corpus", "mosy"], "mosy"),
        (["--profile", "dmo"], "demo"),
        (["--encoder", "bert"], "bert=NAME_OR_FOLDER"),
        (["--protocol", "mmssa"], "mmsa"),
    ],
)
def test_mistakes_end_in_one_sentence(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    code, out, err = bench(capsys, "claims", *arguments)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert list((tmp_path / "results").iterdir()) == []


def test_claims_load_nothing_heavy(store):
    code = (
        "import sys; from studies.cli import main\n"
        "heavy = {'torch', 'pandas', 'optuna', 'transformers', 'scipy.stats', 'sklearn'}\n"
        f"for line in (['list', 'claims'], ['claims', '--paper'], ['claims', '--results', {str(store.root)!r}]):\n"
        "    assert main(line) == 0\n"
        "    assert not heavy & set(sys.modules), (line, heavy & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
