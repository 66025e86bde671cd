"""Which runs can answer a claim: alike among themselves, and as in the paper where the claim names a number."""

from __future__ import annotations

import dataclasses
import shlex
import shutil

import pytest
from builders import BERT, fill_signs, manifest
from claim_cases import BEATS, FULL, IAMCL, NONE, ROWS, beats, verdict

from studies.claims import evaluate, load_claims, pick
from studies.claims.kinds import Contest, Side, contests
from studies.claims.rows import same_model
from studies.claims.verdict import Part, judged
from studies.cli import parser
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.store.study import load_studies, remember_corpus, save_study
from studies.tables import TABLES

YES, NO, OPEN, NONE_DUE = "supported", "contradicted", "undecided", "no verdict"
TINY = {"name": "tiny", "sha256": "1"}
LEVEL = f"kind = 'level'\nrows = ['{FULL}']\nmetrics = ['acc2']\n"
GAIN = f"kind = 'gain'\nrows = ['{FULL}']\nthan = ['{IAMCL}']\nby = {{acc2 = %s}}\nwithin = 20"


@pytest.fixture
def stand_in(tmp_path) -> RunStore:
    """As `store`, but with another text encoder than the paper's."""
    store = RunStore(tmp_path / "stand_in")
    for name, wrong in ((FULL, [3, 4] * 4), (IAMCL, [24, 25] * 4)):
        fill_signs(store, ROWS[name], wrong, encoder=TINY)
    return store


# ------------------------------------------------------------------------------------------------- a number


@pytest.mark.parametrize("text", [LEVEL + "about = 94\nwithin = 1", LEVEL + "at_most = 99", GAIN % 30, GAIN % 70])
def test_a_number_of_the_papers_is_not_judged_by_stand_ins(store, stand_in, tmp_path, text):
    assert verdict(store, tmp_path, text).verdict in (YES, NO)
    found = verdict(stand_in, tmp_path, text)
    (part,) = found.parts
    assert (found.verdict, found.decide) == (OPEN, ())
    assert part.reason == "not run as in the paper: the text encoder is tiny, not bert-base-uncased"
    assert part.difference is not None
    assert part.reason in found.reason


def test_what_names_no_number_of_the_papers_is_compared_with_a_caution(stand_in, tmp_path):
    for text in (BEATS, GAIN % 0, BEATS.replace("beats", "great").replace("metrics = ['acc2']", "by = {acc2 = 1}")):
        found = verdict(stand_in, tmp_path, text)
        assert found.verdict in (YES, NO)
        assert found.caution == "the text encoder is tiny, not bert-base-uncased"


def test_a_verdict_on_the_runs_that_did_not_fail_says_so(store, tmp_path):
    (study,) = (s for s in load_studies(store) if s.row == ROWS[IAMCL].config)
    lost = next(record for run in study.runs if (record := store.get(run)))
    shutil.rmtree(store.folder(lost.id))
    assert verdict(store, tmp_path, BEATS).caution == ""
    store.put_failed(lost.spec, "non-finite loss at epoch 1, step 2")
    found = verdict(store, tmp_path, BEATS)
    assert (found.verdict, found.caution) == (YES, f"1 of 8 runs of {IAMCL} failed and are left out")


def test_the_papers_85_percent_is_asked_of_the_papers_setting_only(store, stand_in):
    asked = pick(load_claims(), ["accuracy-85"])
    assert evaluate(store, claims=asked)[0].verdict == NO  # 94 %
    assert evaluate(stand_in, claims=asked)[0].verdict == OPEN
    assert evaluate(store, View(protocol="mmsa"), claims=asked)[0].verdict == OPEN


# ------------------------------------------------------------------------------------------------- the paper's corpus


@pytest.mark.parametrize("name", ["mosi_x", "mosi-x"])
def test_a_corpus_named_after_the_papers_is_held_to_its_sizes(tmp_path, name):
    store = RunStore(tmp_path / "results")
    for row, wrong in ((FULL, [3, 4] * 4), (IAMCL, [24, 25] * 4)):
        fill_signs(store, ROWS[row], wrong, corpus=name)
    remember_corpus(store, manifest(name, sizes={"train": 7, "valid": 7, "test": 7}))
    found = verdict(store, tmp_path, BEATS, corpus=name)
    assert (found.verdict, found.parts[0].verdict) == (NONE_DUE, NONE_DUE)
    assert found.reason == "no verdict: the corpus has 7/7/7 utterances, the paper's 1284/229/686"
    remember_corpus(store, manifest(name, sizes=manifest("mosi").sizes))
    found = verdict(store, tmp_path, BEATS, corpus=name)
    assert (found.verdict, found.caution) == (YES, f"the corpus is {name}, not mosi")


def test_a_corpus_named_after_another_of_the_papers_is_held_to_that_ones_sizes(tmp_path):
    store = RunStore(tmp_path / "results")
    for row, wrong in ((FULL, [3, 4] * 4), (IAMCL, [24, 25] * 4)):
        fill_signs(store, ROWS[row], wrong, corpus="mosei_cut")
    remember_corpus(store, manifest("mosei_cut", sizes={"train": 7, "valid": 7, "test": 7}))
    found = verdict(store, tmp_path, BEATS, corpus="mosei_cut")
    assert found.reason == "no verdict: the corpus has 7/7/7 utterances, the paper's 16265/1869/4643"
    remember_corpus(store, manifest("mosei_cut", sizes=manifest("mosei").sizes))
    found = verdict(store, tmp_path, BEATS, corpus="mosei_cut")
    assert (found.verdict, found.caution) == (YES, "the corpus is mosei_cut, not mosi")


def test_a_claim_of_table_2_is_not_judged_on_what_table_1_is_of(tmp_path):
    """The paper has the same rows on both corpora: a sentence on one says nothing of the other. Table 4 it has once."""
    store = RunStore(tmp_path / "results")
    one = {row.name: row for row in TABLES["table2"].rows}
    for row, wrong in (("HyCon-BERT", [3, 4] * 4), ("TFN-BERT", [24, 25] * 4)):
        fill_signs(store, one[row], wrong, corpus="mosi")
    text = beats("HyCon-BERT", "TFN-BERT")
    for tables, expected in (("['table2']", NONE_DUE), ("['table1']", YES), ("['table1', 'table2']", YES)):
        found = verdict(store, tmp_path, text, corpus="mosi", changes={"tables": tables})
        assert found.verdict == expected, tables
        assert (found.reason == "no verdict: the corpus is mosi, not mosei") == (expected == NONE_DUE)


# ------------------------------------------------------------------------------------------------- two rows


def change_study(store: RunStore, row: str, **changes) -> None:
    """Of the study that fills the row."""
    (found,) = (s for s in load_studies(store) if s.row == dict(ROWS[row].config) and s.model == ROWS[row].model)
    (store.root / "studies" / f"{found.id}.json").unlink()
    save_study(store, dataclasses.replace(found, **changes))


def open_because(store: RunStore, tmp_path) -> str:
    found = verdict(store, tmp_path, BEATS)
    (part,) = found.parts
    assert (found.verdict, part.p, part.low) == (OPEN, None, None)
    assert part.difference == pytest.approx(35)  # what was measured is shown
    return part.reason


def test_rows_that_were_not_searched_alike_are_not_compared(store, tmp_path):
    change_study(store, FULL, draws=[{}] * 3, trials=["t0", "t1", "t2"], options={"patience": 2})
    assert open_because(store, tmp_path) == ("the rows were not searched alike: 3 trials, patience 2; 50 trials")
    assert verdict(store, tmp_path, BEATS).decide == ("bench run table4 --profile decisive --seeds 12",)


def test_rows_with_other_data_encoders_or_versions_are_not_compared(tmp_path):
    changes = {
        "the rows were run on different data": {"data": "f" * 64},
        "the rows have different text encoders (bert-base-uncased and tiny)": {"encoder": TINY},
        "the rows were run with different versions of the model": {"version": 2},
    }
    for number, (said, changed) in enumerate(changes.items()):
        store = RunStore(tmp_path / str(number))
        fill_signs(store, ROWS[FULL], [3, 4] * 4)
        fill_signs(store, ROWS[IAMCL], [24, 25] * 4, **changed)
        assert open_because(store, tmp_path) == said


def test_one_encoder_under_two_rules_of_checksums_is_one_encoder(tmp_path):
    store = RunStore(tmp_path / "results")
    fill_signs(store, ROWS[FULL], [3, 4] * 4)
    fill_signs(store, ROWS[IAMCL], [24, 25] * 4, encoder={**BERT, "sha256": "1", "rule": "newer"})
    assert verdict(store, tmp_path, BEATS).verdict == YES
    fill_signs(store, ROWS[NONE], [24, 25] * 4, encoder={**BERT, "sha256": "1"})
    assert verdict(store, tmp_path, beats(FULL, NONE)).verdict == OPEN


def test_runs_whose_separation_is_not_known_are_left_out_with_their_pairs(store, tmp_path):
    """One of either row, of another seed: what is left are six pairs, not seven that do not match."""
    for row, seed in ((FULL, 1), (IAMCL, 2)):
        (run,) = (r for r in store.records() if r.spec.config == dict(ROWS[row].config) and r.spec.seed == seed)
        (store.folder(run.id) / "predictions.npz").unlink()
    (part,) = verdict(store, tmp_path, beats(FULL, IAMCL, metrics="['separation']")).parts
    assert (part.n_a, part.n_b, part.p) == (6, 6, pytest.approx(2 / 2**6))


# ------------------------------------------------------------------------------------------------- what would decide


def test_the_command_names_the_encoder_and_the_corpus_of_the_runs(tmp_path):
    store = RunStore(tmp_path / "results")
    for row in (FULL, IAMCL):
        fill_signs(store, ROWS[row], [3, 4], encoder=TINY, corpus="mosi_copy")
    remember_corpus(store, manifest("mosi_copy", sizes=manifest("mosi").sizes))
    (command,) = verdict(store, tmp_path, BEATS, corpus="mosi_copy").decide
    assert command == "bench run table4 --profile decisive --seeds 12 --corpus mosi_copy --encoder bert=tiny"
    options = parser().parse_args(shlex.split(command)[1:])
    assert (options.encoder, options.corpus) == (["bert=tiny"], "mosi_copy")


def test_where_runs_have_two_encoders_the_command_has_the_default(tmp_path):
    store = RunStore(tmp_path / "results")
    for row, encoder in ((FULL, TINY), (IAMCL, BERT)):
        fill_signs(store, ROWS[row], [3, 4] * 6, encoder=encoder)
    found = verdict(store, tmp_path, BEATS)
    assert found.decide == ("bench run table4 --profile decisive --seeds 12",)  # however many runs there are


def test_the_command_sets_what_was_set_by_hand_for_all_rows(tmp_path):
    given = {"epochs": 20, "precision": "tf32", "clip": None, "lr": 1e-4}
    for same, expected in ((True, " --epochs 20 --set precision=tf32 --set clip=None --set lr=0.0001"), (False, "")):
        store = RunStore(tmp_path / f"results{same}")
        for row in (FULL, IAMCL):
            fill_signs(store, ROWS[row], [3, 4], options=given if same or row == FULL else {})
        (command,) = verdict(store, tmp_path, BEATS).decide
        assert command == f"bench run table4 --profile decisive --seeds 12{expected}"
        parser().parse_args(shlex.split(command)[1:])


# ------------------------------------------------------------------------------------------------- sizes in words


def sized(test: str, low: float, high: float, p: float, by: float = 1.0) -> str:
    contest = Contest("table4", Side("table4", FULL), Side("table4", IAMCL), "acc2", test, by)
    part = Part(contest, "mosi", "", difference=(low + high) / 2, low=low, high=high, p=p, p_adjusted=p)
    return judged(part, 1.0).verdict


@pytest.mark.parametrize(
    ("low", "high", "p", "slight", "great"),
    [
        (1.2, 2.0, 0.01, NO, YES),
        (1.2, 2.0, 0.20, NO, OPEN),  # large, but it may be chance that it is a gain
        (0.2, 0.8, 0.01, YES, NO),
        (0.2, 0.8, 0.20, OPEN, NO),
        (-0.5, 0.8, 0.20, OPEN, NO),
        (0.2, 1.8, 0.01, OPEN, OPEN),
        (-2.0, -1.0, 0.01, NO, NO),
        (-2.0, 2.0, 0.90, OPEN, OPEN),
        (0.2, 1.0, 0.01, YES, OPEN),  # the number itself is claimed by both
        (1.0, 2.0, 0.01, OPEN, YES),
    ],
)
def test_slight_and_great_are_judged_by_one_rule(low, high, p, slight, great):
    """The test tells whether it is a gain; the interval, on which side of the number it lies."""
    assert (sized("slight", low, high, p), sized("great", low, high, p)) == (slight, great)


@pytest.mark.parametrize(
    ("by", "low", "high", "p", "expected"),
    [
        (1.0, 0.1, 2.0, 0.01, YES),  # give or take the tolerance of 1.0
        (1.0, 0.1, 2.0, 0.20, OPEN),  # the size is right, but it may be chance that it is a gain
        (1.0, 0.0, 2.0, 0.01, OPEN),
        (1.0, 0.1, 2.1, 0.01, OPEN),
        (1.0, 2.0, 3.0, 0.01, OPEN),
        (1.0, 2.1, 3.0, 0.01, NO),
        (1.0, -0.5, -0.1, 0.01, NO),
        (1.0, -0.5, -0.1, 0.20, NO),
        (0.0, -1.0, 1.0, 0.90, YES),  # no difference
        (0.0, 0.5, 1.5, 0.01, OPEN),
        (0.0, 1.0, 1.5, 0.01, OPEN),
        (0.0, 1.1, 1.5, 0.20, NO),
        (0.0, -1.5, -1.1, 0.20, NO),
    ],
)
def test_a_gain_is_as_large_as_claimed_and_a_gain(by, low, high, p, expected):
    assert sized("gain", low, high, p, by) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-2.0, 0.0, YES), (-2.0, 0.1, OPEN), (0.0, 0.1, OPEN), (0.1, 0.2, NO)]
)
def test_at_most_allows_the_number_itself(low, high, expected):
    contest = Contest("table4", Side("table4", FULL), None, "acc2", "at_most", 99.0)  # low, high: from the number
    part = Part(contest, "mosi", "", difference=(low + high) / 2, low=low, high=high)
    assert judged(part, 1.0).verdict == expected


@pytest.mark.parametrize(
    ("low", "high", "p", "expected"),
    [
        (0.1, 2.0, 0.049, YES),
        (0.1, 2.0, 0.05, OPEN),  # the interval alone does not decide
        (0.1, 2.0, 0.20, OPEN),
        (-0.1, 2.0, 0.01, OPEN),  # nor does p alone
        (0.0, 2.0, 0.01, OPEN),
        (-2.0, -0.1, 0.049, NO),
        (-2.0, -0.1, 0.05, OPEN),
        (-2.0, 0.1, 0.01, OPEN),
    ],
)
def test_better_takes_both_the_interval_and_the_adjusted_p(low, high, p, expected):
    assert sized("better", low, high, p) == expected
    contest = Contest("table4", Side("table4", FULL), Side("table4", IAMCL), "mae", "better")  # lower is better
    part = Part(contest, "mosi", "", difference=-(low + high) / 2, low=-high, high=-low, p=p, p_adjusted=p)
    assert judged(part, 0.03).verdict == expected


def test_large_is_a_size_and_significant_is_none():
    claims = {claim.id: claim for claim in load_claims()}
    assert {c.test for c in contests(claims["large-margin"])} == {"great"}
    assert {c.test for c in contests(claims["hycon-beats-hard-triplet"])} == {"better"}
    for claim in claims.values():
        if not claim.implementation:
            great = " great " in claim.quote or "large margin" in claim.quote
            assert (claim.kind == "great") == (great and claim.id != "loss-v2"), claim.id
            assert (claim.kind == "slight") == (" slight" in claim.quote), claim.id


# ------------------------------------------------------------------------------------------------- parameters

EIGHT = {row.name: row for row in TABLES["table8"].rows}
COUNTS = {"HyCon": 109_209_149, "TFN-BERT": 161_409_399}


def test_parameters_are_counted_on_any_run_of_the_model(tmp_path):
    store = RunStore(tmp_path / "results")
    one = {row.name: row for row in TABLES["table1"].rows}
    fill_signs(store, one["HyCon-BERT"], [3], parameters=COUNTS["HyCon"])
    fill_signs(store, one["TFN-BERT"], [3], parameters=COUNTS["TFN-BERT"])
    changes = {"tables": '["table8"]'}
    fewer = verdict(store, tmp_path, beats("HyCon", "TFN-BERT", metrics="['parameters']"), changes=changes)
    assert (fewer.verdict, fewer.caution) == (YES, "")
    assert fewer.reason == "1 of 1 hold; counted where the model was run: HyCon on table1, TFN-BERT on table1"
    found = verdict(store, tmp_path, "kind = 'count'\nrows = ['HyCon', 'TFN-BERT', 'MFN-BERT']", changes=changes)
    assert [part.verdict for part in found.parts] == [YES, YES, "not run"]
    slower = verdict(store, tmp_path, beats("HyCon", "TFN-BERT", metrics="['train_seconds']"), changes=changes)
    assert slower.verdict == "not run"  # times are of Table 8 only
    fill_signs(store, EIGHT["HyCon"], [3], parameters=7, encoder={**BERT, "rule": "newer"})
    found = verdict(store, tmp_path, "kind = 'count'\nrows = ['HyCon']", changes=changes)
    assert (found.verdict, found.parts[0].a) == (NO, 7)  # what was measured for Table 8 comes first


def test_the_same_model_is_that_of_the_same_options_on_the_same_corpus():
    assert Side("table1", "HyCon-BERT") in same_model(Side("table8", "HyCon"))
    assert Side("table1", "HyCon-v2-BERT") in same_model(Side("table8", "HyCon-v2"))
    found = {side for row in EIGHT for side in same_model(Side("table8", row))}
    assert not [side for side in found if side.table in ("table2", "table3", "table8")]


def test_stand_ins_count_nothing(tmp_path):
    store = RunStore(tmp_path / "results")
    (row,) = (row for row in TABLES["table1"].rows if row.name == "HyCon-BERT")
    fill_signs(store, row, [3], parameters=COUNTS["HyCon"], encoder=TINY)
    (part,) = verdict(store, tmp_path, "kind = 'count'\nrows = ['HyCon']", changes={"tables": '["table8"]'}).parts
    assert (part.verdict, part.reason) == ("not run", "HyCon: not run yet")
