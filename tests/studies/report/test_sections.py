"""Searches, costs, checklist and deviations of a report."""

import dataclasses

import pytest
from report_folders import TFN, fill

from studies.authors.docstring import parse
from studies.claims import load_claims
from studies.claims.verdict import ClaimResult
from studies.document.blocks import Grid, Notice, Part
from studies.registry import MODELS, literal, search_space
from studies.report import claims as evidence
from studies.report.checklist import items, validation_scores
from studies.report.deviations import deviations
from studies.report.runs import runs
from studies.report.scope import read_scope
from studies.report.searches import costs, energy, searches, space_of
from studies.report.sections import tables
from studies.store.study import load_studies, save_study

METRICS = ["Acc7", "Acc2", "F1", "MAE", "Corr"]

# ------------------------------------------------------------------------------------------------- claims


def test_only_verdicts_count_as_given_by_runs_of_another_setting():
    """A claim of which a row is missing has a caution too, and no verdict."""
    one, two, three, *_ = load_claims()
    given = [ClaimResult(one, "contradicted", (), "", "another corpus"), ClaimResult(two, "undecided", (), "")]
    found = [*given, ClaimResult(three, "not run", (), "", "another corpus")]
    assert evidence.counts(found).label == (
        "Of the 3 comparative claims of its text (1 of 2 verdicts by runs that are not in the paper's setting)"
    )
    said = [block.text for block in evidence.claims(found).blocks if isinstance(block, Notice)]
    assert [sentence.partition(" are")[0] for sentence in said] == ["The runs behind 1 of 2 verdicts"]


# ------------------------------------------------------------------------------------------------- searches and costs


def test_bounds_come_from_the_study_and_for_older_ones_from_the_same_version_of_the_model(tmp_path):
    (study,) = load_studies(fill(tmp_path))
    assert space_of(study) == {"lr": [0.001, 0.002], "batch_size": [16, 32, 64]}
    older = dataclasses.replace(study, space=None)
    assert space_of(older) is None  # of another version than the code's
    present = dataclasses.replace(older, model_version=literal(study.model, "VERSION"))
    assert set(space_of(present)) == set(search_space(study.model, study.text, {}))
    assert set(space_of(dataclasses.replace(present, options={"lr": 0.1}))) == set(space_of(present)) - {"lr"}
    for unknown in ({"model": "gone"}, {"text": "gone"}, {"options": {"gone": 1}}):
        assert space_of(dataclasses.replace(present, **unknown)) is None


def test_a_row_leads_to_its_runs_and_how_to_make_them_again(tmp_path):
    scope = read_scope(fill(tmp_path, seeds=(0.8, 0.82)))
    (use,) = scope.uses
    _, rows = runs(scope).blocks
    (fold,) = rows.blocks
    (grid,) = fold.blocks
    assert [row[0] for row in grid.rows] == [record.id for record in use.runs]
    assert [row[1] for row in grid.rows] == [str(record.spec.seed) for record in use.runs]
    assert [row[-1] for row in grid.rows] == [f"bench verify {record.id}" for record in use.runs]
    assert [heading.text for heading in grid.headings] == ["Run", "Seed", *METRICS, "Make again"]
    part = next(part for part in tables(scope).blocks if getattr(part, "id", "") == "part-table1")
    links = {row[0].text: row[0].link for row in part.blocks[0].rows}
    assert links["HyCon-BERT"] == fold.id
    assert set(links.values()) == {fold.id, ""}


def test_a_search_is_told_with_trials_failures_winner_and_validation_loss(tmp_path):
    store = fill(tmp_path, trials=2, failed=1)
    scope = read_scope(store)
    blocks = searches(scope).blocks
    line = next(block for block in blocks if isinstance(block, Grid)).rows[0]
    assert line == (
        *("HyCon-BERT", "mosi", "2 of 3", "1", "6", "1.7000", "0.7050 ± 0.0071 (2)"),
        *("lr = 0.001, batch_size = 16", "nothing"),
    )
    (part,) = (block for block in blocks if isinstance(block, Part))
    (fold,) = part.blocks
    assert fold.blocks[0].rows == (("lr", "0.001, 0.002", "2", "0.001"), ("batch_size", "16, 32, 64", "2", "16"))


def test_costs_count_every_run_once_and_invent_no_energy(tmp_path):
    scope = read_scope(fill(tmp_path, trials=3, seeds=(0.8, 0.82)))
    said, energy, grid = costs(scope).blocks
    assert said.text.startswith("5 finished runs took 0.05 run-hours of training")  # 5 x 36 s
    assert energy.text == "Energy: not measured; no device reported it."
    assert grid.rows == (
        ("HyCon-BERT", "mosi", "5", "0.050", "1,000 to 1,001", "36.0 ± 0.0 (2)", *COSTS),
    )  # of the seeded runs: 2


def test_energy_is_the_sum_of_what_devices_told(tmp_path):
    records = read_scope(fill(tmp_path, seeds=(0.8, 0.82), energy_joules=1.8e6)).records
    untold = dataclasses.replace(records[0], energy_joules=None)
    said = energy([*records, untold])
    assert said.startswith(f"Energy: {0.5 * len(records):.3g} kWh in {len(records)} of {len(records) + 1} runs")


COSTS = ("2.00 ± 0.00 (2)", "0.500 ± 0.000 (2)", "300 ± 0 (2)")


# ------------------------------------------------------------------------------------------------- checklist


def states(store) -> dict[str, str]:
    return {item.asked.partition(":")[0]: item.state for item in items(read_scope(store))}


def test_the_checklist_is_complete_where_the_records_are(tmp_path):
    store = fill(tmp_path, trials=2, failed=1)
    found = states(store)
    assert found.pop("Language of the data") == "missing"  # no importer records it
    assert set(found.values()) == {"complete"}
    assert len(found) == 16
    answers = {item.asked: item.answer for item in items(read_scope(store))}
    assert answers["Number of runs: search trials and repeats"] == (
        "3 trials for each searched row and 2 seeded runs for each row (the paper: 50, 5); 1 trial failed."
    )
    assert answers["Number of parameters of each model"] == "1,000 to 1,001"
    assert answers["Run time of each model, or energy"] == (
        "0.04 run-hours in 4 runs. Energy: not measured; no device reported it."
    )
    assert answers["Computing infrastructure"] == "cpu (x86_64, Made-up)"


def test_the_checklist_says_what_is_missing_or_partial(tmp_path):
    store = fill(tmp_path, commit=None, device="", parameters=None, valid_loss=None, seconds=None)
    save_study(store, dataclasses.replace(load_studies(store)[0], space=None))
    found = states(store)
    for asked in ("Source code with dependencies and the commit that ran", "Computing infrastructure"):
        assert found[asked] == "missing"
    for asked in ("Number of parameters of each model", "Validation performance for each test result"):
        assert found[asked] == "missing"
    assert found["Run time of each model, or energy"] == found["Bounds for each hyper-parameter"] == "missing"
    fill(tmp_path, TFN, seeds=(0.8,))
    found = states(store)
    assert found["Computing infrastructure"] == found["Summary statistics of the results"] == "partial"


def test_every_test_score_has_its_validation_score_beside_it(tmp_path):
    grid = validation_scores(read_scope(fill(tmp_path)), "sentiment")
    heads = [heading.text for heading in grid.headings]
    line = dict(zip(heads, grid.rows[0], strict=True))
    assert line["Acc2, valid"] == "82.0 ± 1.4 (2)"
    assert line["Acc2, test"] == "81.0 ± 1.4 (2)"
    assert validation_scores(read_scope(fill(tmp_path)), "emotion") is None


# ------------------------------------------------------------------------------------------------- deviations


@pytest.mark.parametrize("model", MODELS)
def test_every_model_says_where_it_deviates(model):
    found = deviations(model)
    assert found.items or found.remark
    assert all(item[-1] in ".)" and "\n" not in item and "  " not in item for item in found.items)


def test_deviations_are_read_from_docstrings():
    items = "1. One\n   more.\n2. Two `x`.\nReference implementations consulted: a/b,\nc/d."
    assert parse(f"Title.\n\nDeviates (as told): first\n  words.\n{items}") == (
        "as told first words.",
        ("One more.", "Two x."),
        "a/b, c/d.",
    )
    assert parse("Title.\n\nDeviates from the paper: none known.") == ("none known.", (), "")
    assert parse("Title.\n\nIt deviates: somewhat.") is None
    assert deviations("tfn").items == (
        "The mean runs over real steps; the reference code averages the padding in.",
        "A batch of one utterance is normalised with the running statistics; the reference code fails on it.",
        "Vision as it comes; the reference code divides it by the training split's largest (scale=maxabs, searched). "
        "The batch norm undoes a scale only where features vary by well more than .003, the root of its eps: one whose "
        "means vary by .01 leaves it with a standard deviation of .95, one of .001 with .30.",
        "The mean of a batch's absolute errors; the reference minimises their sum. Without weight decay and clipping "
        "Adam does not tell one from the other; the clipping that is searched is MSAF's, whose loss is a mean.",
    )
    assert deviations("hycon").consulted == "none is public."
