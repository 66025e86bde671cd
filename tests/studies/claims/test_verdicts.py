"""When a claim gets a verdict, when none, in what words, and what would decide it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

import pytest
from builders import SIGNED, fill_signs, manifest
from claim_cases import BEATS, FULL, IAMCL, NONE, ROWS, SCL, beats, claim, verdict

from studies.claims import against_paper, evaluate, load_claims, pick
from studies.claims.decide import PROFILE, SEEDS, seeds_for
from studies.claims.kinds import Contest, Side, contests
from studies.claims.verdict import Part, fold, judged
from studies.cli import main, parser
from studies.lookup import View, profile_of
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES

YES, NO, OPEN, MISSING = "supported", "contradicted", "undecided", "not run"


def one(name: str):
    return pick(load_claims(), [name])[0]


def judged_as(name: str, verdicts: dict[str, str], otherwise: str = YES) -> str:
    """The claim of that id, where the parts of each row named in `verdicts` are judged so."""
    found = one(name)
    parts = [Part(c, "mosi", verdicts.get(c.a.row, otherwise)) for c in contests(found)]
    return fold(found, parts, YES, OPEN)


# ------------------------------------------------------------------------------------------------- every, most


def test_all_four_variants_are_asked_one_by_one():
    assert judged_as("any-fusion", {}) == YES
    assert judged_as("any-fusion", {"Tensor Fusion": NO}) == NO  # pooled, 270 of 360 would have held
    assert judged_as("any-fusion", {"Tensor Fusion": OPEN}) == OPEN
    assert judged_as("any-fusion", {"Tensor Fusion": MISSING}) == MISSING
    assert judged_as("simple-fusion", {"Concatenation": NO}) == NO
    assert judged_as("hycon-in-most-cases", {"HyCon-BERT": NO}) == NO


def test_most_is_asked_of_each_table():
    found = one("hycon-in-most-cases")
    parts = [Part(c, "mosi", OPEN if c.table == "table2" and c.metric != "acc2" else YES) for c in contests(found)]
    assert sum(part.verdict == YES for part in parts) > len(parts) / 2  # pooled, it would hold
    assert fold(found, parts, YES, OPEN) == OPEN


def test_most_baselines_are_faster_is_about_hycon_and_not_about_each_baseline():
    parts = [dataclasses.replace(p, verdict=YES) for p in against_paper([one("slower-than-most")])[0].parts]
    parts[3] = dataclasses.replace(parts[3], verdict=NO)  # MFN-BERT takes longer
    assert fold(one("slower-than-most"), parts, YES, OPEN) == YES


# ------------------------------------------------------------------------------------------------- no verdict


def test_synthetic_data_gives_no_verdict(capsys, tmp_path):
    store = RunStore(tmp_path / "results")
    for row, wrong in ((FULL, [3, 4] * 4), (IAMCL, [24, 25] * 4)):
        fill_signs(store, ROWS[row], wrong, corpus="synthetic")
    found = verdict(store, tmp_path, BEATS, corpus="synthetic")
    assert (found.verdict, found.reason) == ("no verdict", "no verdict: synthetic data")
    assert [part.verdict for part in found.parts] == ["no verdict"]
    assert found.parts[0].difference == pytest.approx(35)  # what was measured is still shown
    assert found.decide == ()
    assert main(["claims", "--results", str(store.root), "--corpus", "synthetic", "--id", "ablation-any-loss"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("no verdict: ablation-any-loss")
    assert "no verdict: synthetic data" in out
    assert "supported" not in out
    missing = verdict(store, tmp_path, beats(NONE, SCL), corpus="synthetic")
    assert missing.verdict == "not run"


def test_a_corpus_of_ones_own_gives_no_verdict(tmp_path):
    """The claims are about the paper's corpora; one that is named after them stands for them, with a caution."""
    for corpus, expected in (("own", "no verdict"), ("mosi_resampled", YES)):
        store = RunStore(tmp_path / corpus)
        sizes = manifest("mosi").sizes
        remember_corpus(store, manifest(corpus, sizes=sizes))
        for row, wrong in ((FULL, [3, 4] * 4), (IAMCL, [24, 25] * 4)):
            fill_signs(store, ROWS[row], wrong, corpus=corpus)
        found = verdict(store, tmp_path, BEATS, corpus=corpus)
        assert found.verdict == expected
        assert (found.reason == "no verdict: the corpus is own, not mosi") == (corpus == "own")


def test_a_corpus_called_mosi_of_other_sizes_gives_no_verdict(store, tmp_path):
    assert verdict(store, tmp_path, BEATS).verdict == YES
    remember_corpus(store, manifest(sizes={"train": 7, "valid": 7, "test": 7}))
    found = verdict(store, tmp_path, BEATS)
    assert found.verdict == "no verdict"
    assert found.reason == "no verdict: the corpus has 7/7/7 utterances, the paper's 1284/229/686"
    remember_corpus(store, manifest(sizes={"train": 1281, "valid": 229, "test": 685}))
    assert verdict(store, tmp_path, BEATS).verdict == YES


# ------------------------------------------------------------------------------------------------- underpowered


def gained(low: float, high: float, by: float, underpowered: bool) -> str:
    contest = Contest("table4", Side("table4", FULL), Side("table4", SCL), "acc2", "gain", by)
    part = Part(contest, "mosi", "", low=low, high=high, p=0.33, p_adjusted=0.33, underpowered=underpowered)
    return judged(part, 1.0).verdict


def test_an_underpowered_comparison_is_undecided_whatever_its_interval():
    assert gained(25, 38, 0.4, underpowered=True) == OPEN
    assert gained(25, 38, 0.4, underpowered=False) == NO


def test_where_every_comparison_is_underpowered_the_claim_is_undecided(tmp_path):
    store = RunStore(tmp_path / "results")
    fill_signs(store, ROWS[FULL], [3, 4, 3, 4, 3])
    fill_signs(store, ROWS[IAMCL], [24, 25, 24, 25, 24])
    gain = f"kind = 'gain'\nrows = ['{FULL}']\nthan = ['{IAMCL}']\nby = {{acc2 = 1}}"
    for text in (BEATS, beats(IAMCL, FULL), gain):
        found = verdict(store, tmp_path, text)
        assert (found.verdict, found.parts[0].underpowered) == (OPEN, True)
        assert found.decide == ("bench run table4 --profile decisive --seeds 12",)


def test_two_seeds_give_no_interval_and_settle_nothing(tmp_path):
    store = RunStore(tmp_path / "results")
    fill_signs(store, ROWS[FULL], [3, 4])
    found = verdict(store, tmp_path, f"kind = 'level'\nrows = ['{FULL}']\nmetrics = ['acc2']\nat_most = 99")
    (part,) = found.parts
    assert (found.verdict, part.low, part.high) == (OPEN, None, None)
    assert (part.underpowered, part.seeds_needed) == (True, 3)
    assert found.decide == ("bench run table4 --profile decisive",)


# ------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (beats(IAMCL, FULL), "the other way in 1"),
        ("kind = 'gain'\nrows = ['{FULL}']\nthan = ['{IAMCL}']\nby = {acc2 = 0.4}", "a larger difference than claimed"),
        ("kind = 'gain'\nrows = ['{FULL}']\nthan = ['{IAMCL}']\nby = {acc2 = 70}", "a smaller gain than claimed"),
        ("kind = 'gain'\nrows = ['{IAMCL}']\nthan = ['{FULL}']\nby = {acc2 = 0.4}", "the other way"),
        ("kind = 'gain'\nrows = ['{IAMCL}']\nthan = ['{FULL}']\nby = {acc2 = 0}", "a larger difference than claimed"),
        ("kind = 'level'\nrows = ['{FULL}']\nmetrics = ['acc2']\nat_most = 80", "above the number"),
        ("kind = 'level'\nrows = ['{IAMCL}']\nmetrics = ['acc2']\nabout = 85\nwithin = 1", "below the number"),
    ],
)
def test_words_say_the_direction_that_was_found(store, tmp_path, text, said):
    found = verdict(store, tmp_path, text.replace("{FULL}", FULL).replace("{IAMCL}", IAMCL))
    assert found.verdict == NO
    assert said in found.reason


@pytest.mark.parametrize(
    ("kind", "by", "expected"),
    [("great", 20, YES), ("great", 35, OPEN), ("great", 60, NO), ("slight", 60, YES), ("slight", 10, NO)],
)
def test_slight_and_great_are_a_gain_of_at_most_or_at_least_so_much(store, tmp_path, kind, by, expected):
    text = f"kind = '{kind}'\nrows = ['%s']\nthan = ['%s']\nby = {{acc2 = {by}}}"
    assert verdict(store, tmp_path, text % (FULL, IAMCL)).verdict == expected  # 35 points
    assert verdict(store, tmp_path, text % (IAMCL, FULL)).verdict == NO
    assert verdict(store, tmp_path, text % (FULL, SCL)).verdict in ((NO, OPEN) if kind == "great" else (OPEN,))


EQUAL = "kind = '%s'\nrows = ['HyCon-v2']\nthan = ['HyCon-v2 (W/O Negative Selection)']\nby = {acc2 = 1}"


def test_slight_and_great_of_printed_numbers(tmp_path):
    def printed(kind: str, than: str, by: str) -> str:
        text = f"kind = '{kind}'\nrows = ['{FULL}']\nthan = ['{than}']\nby = {{{by}}}"
        return against_paper([claim(tmp_path, text)])[0].verdict

    assert printed("great", NONE, "acc2 = 2.5") == "consistent"  # 85.2 and 82.7
    assert printed("great", NONE, "acc2 = 2.6") == NO
    assert against_paper([claim(tmp_path, EQUAL % "great")])[0].verdict == NO  # 85.7 and 85.7: nothing is not great
    assert against_paper([claim(tmp_path, EQUAL % "slight")])[0].verdict == "cannot be read off"
    assert printed("slight", NONE, "acc2 = 2.4") == NO
    assert printed("slight", SCL, "acc7 = 1.0") == NO  # 46.6 and 47.0: no drop at all
    assert printed("slight", SCL, "acc2 = 1.2") == "consistent"
    assert printed("slight", "HyCon-v2 (W/O Negative Selection)", "f1 = 9") == NO  # HyCon is below it


def test_the_claims_of_the_paper_that_were_mended():
    groups = {c.id: c for c in load_claims()}
    assert len(groups) == 53
    assert "mag-xlnet" not in groups  # of another paper's results
    rows = {c.a.row for c in contests(groups["bert-beats-glove"])}
    assert len(rows) == 9
    assert "MAG-XLNet" not in {c.b.row for c in contests(groups["mosi-best-baseline"])}
    assert {c.test for c in contests(groups["ablation-refinement"])} == {"slight"}
    assert {c.metric for c in contests(groups["ablation-contrast-great"])} == {"acc7", "acc2", "f1"}
    assert {c.a.row for c in contests(groups["graph-fusion"])} == {"Graph Fusion"}
    assert {c.metric for c in contests(groups["inference-faster"])} == {"test_seconds"}
    assert not any("[...]" in c.quote for c in groups.values())


# ------------------------------------------------------------------------------------------------- times


def test_where_implementations_decide_the_claim_stays_undecided(tmp_path):
    store = RunStore(tmp_path / "results")
    rows = {row.name: row for row in TABLES["table8"].rows}
    for name, seconds in (("HyCon", 20.0), ("HyCon-v2", 10.0)):
        fill_signs(store, rows[name], [3] * 8, seconds=seconds, device="cpu")
    (found,) = evaluate(store, claims=[one("v2-faster")])
    assert found.parts[0].difference == pytest.approx(-10)
    assert (found.verdict, found.decide) == (OPEN, ())
    assert found.reason == one("v2-faster").implementation
    text = "kind = 'beats'\nrows = ['HyCon-v2']\nthan = ['HyCon']\nmetrics = ['train_seconds']"
    plain = verdict(store, tmp_path, text, changes={"tables": '["table8"]'})
    assert plain.verdict == YES  # it is the claim that keeps it open, not the runs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "another"}, "the rows were timed on different machines"),
        ({"curve": [{"epoch": 1}] * 7}, "the rows differ in batch size or epochs, which Table 8 holds equal"),
    ],
)
def test_times_are_compared_under_equal_conditions_only(tmp_path, change, said):
    store = RunStore(tmp_path / "results")
    rows = {row.name: row for row in TABLES["table8"].rows}
    for name, odd in (("MFN-BERT", {}), ("HyCon", change)):
        fill_signs(store, rows[name], [3] * 8, **{"device": "cpu", **odd})
    text = "kind = 'beats'\nrows = ['HyCon']\nthan = ['MFN-BERT']\nmetrics = ['train_seconds']"
    found = verdict(store, tmp_path, text, changes={"tables": '["table8"]'})
    assert (found.verdict, found.parts[0].reason, found.parts[0].p) == (OPEN, said, None)


def test_rows_of_two_protocols_are_not_compared_and_earlier_ones_are_a_caution(store, tmp_path, monkeypatch):
    monkeypatch.setattr(RunSpec, "suite", RunSpec.suite + 1)
    found = verdict(store, tmp_path, BEATS)
    assert found.verdict == YES
    assert found.caution == f"run under an earlier protocol (suite {RunSpec.suite - 1})"
    fill_signs(store, ROWS[NONE], [24, 25] * 4, suite=RunSpec.suite)
    (part,) = verdict(store, tmp_path, beats(FULL, NONE)).parts
    assert (part.verdict, part.p) == (OPEN, None)
    assert (
        part.reason == f"the rows were run under different protocols (suites {RunSpec.suite - 1} and {RunSpec.suite})"
    )


# ------------------------------------------------------------------------------------------------- what would decide


def test_ten_seeds_decide_and_twelve_after_adjusting():
    paired = Contest("table4", Side("table4", FULL), Side("table4", SCL), "acc2", "better")
    assert seeds_for(paired, 1) == SEEDS
    assert seeds_for(paired, 25) == SEEDS  # 2 * 25 / 2^10 < 0.05
    assert seeds_for(paired, 26) == 11
    assert seeds_for(paired, 100) == 12
    unpaired = dataclasses.replace(paired, a=Side("table1", "TFN-BERT"), b=Side("table1", "HyCon-BERT"))
    assert seeds_for(unpaired, 1000) == SEEDS
    assert seeds_for(dataclasses.replace(paired, b=None), 1000) == SEEDS


def words(store: RunStore, names: Sequence[str], **view) -> list[str]:
    found = evaluate(store, View(**view), claims=[one(name) for name in names])
    return [command for result in found for command in result.decide]


def test_every_command_that_is_named_can_be_typed(tmp_path, capsys):
    store = RunStore(tmp_path / "results")
    for row in TABLES["table4"].rows:
        fill_signs(store, row, [3, 4])
    commands = words(store, ["ablation-contrast"])
    assert commands == ["bench run table4 --profile decisive --seeds 12"]
    assert main(["claims", "--results", str(store.root)]) == 0
    assert commands[0] in capsys.readouterr().out
    remember_corpus(store, manifest("mosi_copy", sizes=manifest("mosi").sizes))
    for row in TABLES["table4"].rows:
        fill_signs(store, row, [3, 4], corpus="mosi_copy")
    (command,) = words(store, ["ablation-contrast"], corpus="mosi_copy")
    options = parser().parse_args(shlex.split(command)[1:])
    assert (options.table, options.profile, options.seeds, options.corpus) == ("table4", PROFILE, 12, "mosi_copy")


def test_the_profile_that_decides_is_there_and_has_so_many_seeds():
    assert profile_of(PROFILE).seeds == SEEDS


def test_enough_seeds_that_show_nothing_name_no_command(tmp_path):
    store = RunStore(tmp_path / "results")
    fill_signs(store, ROWS[FULL], [3, 4] * 6)
    fill_signs(store, ROWS[SCL], [4, 3] * 6)
    found = verdict(store, tmp_path, beats(FULL, SCL))
    assert (found.verdict, found.decide) == (OPEN, ())
    assert len(SIGNED) == 60
