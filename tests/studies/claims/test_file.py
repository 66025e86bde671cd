"""The file of claims: what it holds, what is refused, and the comparisons that each kind is made of."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from claim_cases import BEATS, FULL, IAMCL, SCL, beats, claim

from hycon.errors import UserError
from studies.claims import claims_file, load_claims, pick
from studies.claims.file import exact_counts
from studies.claims.kinds import Side, contests
from studies.tables import TABLES


def test_every_section_has_claims_and_their_ids_quotations_and_places_are_there():
    claims = load_claims()
    assert len(claims) >= 25
    assert len({c.id for c in claims}) == len(claims)
    sections = {c.place.split(",")[0] for c in claims}
    assert sections == {f"sec. 4.5.{i}" for i in range(1, 9)}
    assert all(re.fullmatch(r"sec\. 4\.5\.\d, paragraph \d(, and Table 8)?", c.place) for c in claims)
    assert all(len(c.quote.split()) >= 5 for c in claims)
    assert len({c.quote for c in claims}) == len(claims)
    kinds = {c.kind for c in claims}
    assert kinds == {"beats", "best-of", "worst-of", "ranking", "gain", "slight", "great", "level", "count"}


def test_every_row_and_metric_of_every_comparison_exists():
    rows = {(table.name, row.name) for table in TABLES.values() for row in table.rows}
    for found in load_claims():
        made = contests(found)
        assert made
        assert len(set(made)) == len(made)
        for contest in made:
            assert {contest.a, contest.b or contest.a} <= rows
            assert contest.table in found.tables


def test_the_groups_are_the_tables_baselines():
    groups = tomllib.loads(claims_file("paper").read_text())["groups"]
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
    assert len(best) == 9
    assert all(a == "HyCon" for a, _, _ in best)
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


@pytest.mark.parametrize("page", ["README.md", "docs/claims.md", "CHANGELOG.md"])
def test_pages_say_how_many_claims_there_are(page):
    text = (Path(__file__).parents[3] / page).read_text(encoding="utf-8")
    told = re.findall(r"(\d+) (?:comparative statements|sentences of)", text)
    assert told == [str(len(load_claims()))]


def test_claims_are_picked_by_their_ids_once_and_in_the_order_asked():
    claims = load_claims()
    assert [c.id for c in pick(claims, ["margin-best", "accuracy-85", "margin-best"])] == ["margin-best", "accuracy-85"]
    with pytest.raises(UserError, match=r"No claim 'margin-bset'; nearest: margin-best.* \(see `bench list claims`\)"):
        pick(claims, ["accuracy-85", "margin-bset"])
