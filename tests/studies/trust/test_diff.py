"""`bench diff`: same runs, other numbers, rows of one side only, what explains them; against hand-worked numbers."""

import json

import numpy as np
import pytest
from builders import LABEL, VERSIONS, XEON, fill, manifest, put, spec
from scipy import stats

from hycon.errors import UserError
from studies.cli import main
from studies.lookup import View
from studies.statistics.comparison import benjamini_hochberg
from studies.store.run_store import PREDICTIONS, RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES
from studies.trust.diff import diff, text

A_ERRORS, B_ERRORS = [0.10, 0.20, 0.30], [0.40, 0.55, 0.60]


@pytest.fixture
def pair(tmp_path):
    return RunStore(tmp_path / "a"), RunStore(tmp_path / "b")


def rows(a, b, **options):
    (found,) = diff(a, b, View(data="none", **options), table=TABLES["table1"])
    return {row.row: row for row in found.rows}


def cells(row):
    return {cell.metric: cell for cell in row.cells}


def test_the_same_runs_are_said_to_be_the_same_and_not_tested(pair):
    for store in pair:
        fill(store, A_ERRORS)
    row = rows(*pair)["EF-LSTM-GloVe"]
    assert (row.status, row.n_a, row.n_b, row.said) == ("same runs", 3, 3, ())
    assert all(cell.difference == 0 and cell.p is None and cell.low is None for cell in row.cells)


def test_the_same_specification_with_other_numbers(pair):
    a, b = pair
    fill(a, A_ERRORS)
    fill(b, [0.1, 0.2, 0.6], environment={**VERSIONS, "torch": "2.12.0+cpu"})
    row = rows(a, b)["EF-LSTM-GloVe"]
    assert row.status == "compared"
    assert row.said[0] == "3 runs have the same specification, 1 of them other numbers"
    assert "torch: 2.13.0+cpu in A, 2.12.0+cpu in B" in row.said
    mae = cells(row)["mae"]
    assert (mae.mean_a, mae.mean_b, mae.difference) == pytest.approx((0.2, 0.3, -0.1))
    assert mae.paired


def test_differences_have_the_interval_and_p_of_the_comparison(pair):
    """Every utterance is off by the same amount, so only seeds matter: a paired t-interval, p of 2/2^3 for three."""
    a, b = pair
    fill(a, A_ERRORS)
    fill(b, B_ERRORS, spec_config={"hidden": 16})
    row = rows(a, b)["EF-LSTM-GloVe"]
    mae = cells(row)["mae"]
    gaps = np.array(A_ERRORS) - np.array(B_ERRORS)
    low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
    assert (mae.difference, mae.low, mae.high) == pytest.approx((gaps.mean(), low, high), abs=1e-5)
    assert mae.p == pytest.approx(2 / 2**3)
    assert mae.paired
    assert mae.underpowered
    assert mae.seeds_needed == 6
    assert mae.utterances == len(LABEL)
    assert row.said == ("chosen configuration: hidden 8 in A, 16 in B",)
    larger = [max(cell.p, cell.p_interval) for cell in row.cells]
    assert [cell.p_adjusted for cell in row.cells] == benjamini_hochberg(larger)


def test_what_every_seed_shows_of_few_utterances_is_not_beyond_chance(pair):
    a, b = pair
    fill(a, [0.1] * 6)
    fill(b, [0.6] * 6, spec_config={"hidden": 16})  # the sign of two utterances of ten
    acc2 = cells(rows(a, b)["EF-LSTM-GloVe"])["acc2"]
    assert acc2.p == pytest.approx(2 / 2**6)
    assert acc2.low < 0 < acc2.high
    assert acc2.p < 0.05 < acc2.p_interval <= acc2.p_adjusted


def test_percentages_are_as_printed(pair):
    a, b = pair
    fill(a, [0.1, 0.2, 0.3])
    fill(b, [0.6, 0.7, 0.65], spec_config={"hidden": 16})  # every second label of 0.5 or less in size changes its sign
    acc2 = cells(rows(a, b)["EF-LSTM-GloVe"])["acc2"]
    assert (acc2.mean_a, acc2.mean_b) == pytest.approx((100.0, 80.0))
    assert acc2.difference == pytest.approx(20.0)
    assert acc2.low <= 20 <= acc2.high


def test_p_values_are_adjusted_over_the_table(pair):
    a, b = pair
    for number, row in enumerate(("EF-LSTM-GloVe", "LF-LSTM-GloVe")):
        fill(a, A_ERRORS, row=row)
        fill(b, [e + 0.3 * number for e in (0.1, 0.25, 0.2)], row=row, spec_config={"hidden": 16})
    found = rows(a, b)
    larger = [max(cell.p, cell.p_interval) for row in found.values() for cell in row.cells]
    assert [cell.p_adjusted for row in found.values() for cell in row.cells] == benjamini_hochberg(larger)


def test_published_folders_are_compared_by_one_number_per_run(pair):
    a, b = pair
    fill(a, A_ERRORS)
    fill(b, B_ERRORS, spec_config={"hidden": 16})
    for path in b.root.glob(f"runs/*/{PREDICTIONS}"):
        path.unlink()
    row = rows(a, b)["EF-LSTM-GloVe"]
    assert "compared by one number per run: B keeps no predictions" in row.said
    mae = cells(row)["mae"]
    expected = stats.ttest_rel(A_ERRORS, B_ERRORS).confidence_interval(0.95)
    assert (mae.low, mae.high) == pytest.approx(tuple(expected), abs=1e-5)
    assert mae.utterances == 0


def test_one_run_a_side_has_a_difference_and_no_interval(pair):
    a, b = pair
    fill(a, [0.1])
    fill(b, [0.2], spec_config={"hidden": 16})
    mae = cells(rows(a, b)["EF-LSTM-GloVe"])["mae"]
    assert mae.difference == pytest.approx(-0.1)
    assert (mae.low, mae.p) == (None, None)


def test_a_difference_over_shared_seeds_says_so(pair):
    a, b = pair
    fill(a, A_ERRORS[:2])
    fill(b, B_ERRORS, spec_config={"hidden": 16})
    row = rows(a, b)["EF-LSTM-GloVe"]
    assert row.said[0] == "A - B is over the 2 seeds that both sides have"
    mae = cells(row)["mae"]
    assert (mae.mean_b, mae.difference) == pytest.approx((np.mean(B_ERRORS), np.mean([-0.3, -0.35])), abs=1e-6)
    assert mae.compared == 2


def test_rows_on_one_side_only_and_why(pair):
    a, b = pair
    fill(a, A_ERRORS)
    fill(a, A_ERRORS, row="TFN-GloVe")
    fill(b, B_ERRORS, device=[XEON, XEON, "NVIDIA H100"])
    found = rows(a, b)
    assert (found["TFN-GloVe"].status, found["TFN-GloVe"].said) == ("only in A", ())
    mixed = found["EF-LSTM-GloVe"]
    assert mixed.status == "only in A"
    assert mixed.said[0].startswith("B: 3 runs that differ are not averaged")
    assert rows(a, b, mixed=True)["EF-LSTM-GloVe"].status == "compared"
    assert rows(b, a)["TFN-GloVe"].status == "only in B"


def test_everything_that_explains_a_difference_is_said(pair):
    a, b = pair
    fill(a, A_ERRORS)
    fill(b, B_ERRORS, trials=2, spec_version=2, spec_data="f" * 64, device="NVIDIA H100")
    said = "; ".join(rows(a, b)["EF-LSTM-GloVe"].said)
    assert f"data: {manifest().sha256[:12]} in A, ffffffffffff in B" in said
    assert "model version: 1 in A, 2 in B" in said
    assert "device: cpu x86_64 Intel in A, NVIDIA H100 in B" in said
    assert "search: 1 trial in A, 2 trials in B" in said


def test_other_utterances_are_not_paired(pair, monkeypatch):
    a, b = pair
    fill(a, A_ERRORS)
    monkeypatch.setattr("builders.LABEL", LABEL[:6])
    fill(b, B_ERRORS, spec_config={"hidden": 16})
    row = rows(a, b)["EF-LSTM-GloVe"]
    assert "compared by one number per run: the utterances are not the same" in row.said
    assert cells(row)["mae"].difference == pytest.approx(np.mean(A_ERRORS) - np.mean(B_ERRORS), abs=1e-6)


def test_all_tables_that_have_runs_by_default(pair):
    a, b = pair
    fill(a, A_ERRORS)
    b.root.mkdir()
    found = diff(a, b, View(data="none"))
    assert [(one.table.name, one.corpus) for one in found] == [("table1", "mosi")]


def test_nothing_to_compare(pair, tmp_path):
    a, b = pair
    with pytest.raises(UserError, match="is not there"):
        diff(a, b)
    for store in pair:
        remember_corpus(store, manifest())
    with pytest.raises(UserError, match="Neither"):
        diff(a, b, View(data="none"))
    put(a, spec(0))  # a run that no study names
    with pytest.raises(UserError, match="Neither"):
        diff(a, b, View("mosi", data="none"), table=TABLES["table1"])
    with pytest.raises(UserError, match="No corpus 'mosy'"):
        diff(a, b, View("mosy", data=str(tmp_path)))


def test_as_text(pair):
    a, b = pair
    fill(a, A_ERRORS)
    fill(b, B_ERRORS, spec_config={"hidden": 16})
    for store in pair:
        fill(store, A_ERRORS, row="LF-LSTM-GloVe")
    fill(b, A_ERRORS, row="TFN-GloVe")
    lines = text(diff(a, b, View(data="none"), table=TABLES["table1"])).splitlines()
    assert lines[0] == "table1 on mosi"
    mae = next(line for line in lines if line.startswith("EF-LSTM-GloVe") and " MAE " in line)
    # Gaps -0.30, -0.35, -0.30: mean -0.3167, sd 0.0289, and 4.303 standard errors of 0.0167 make 0.0717. The p of the
    # five metrics are 0.25 (MAE, Corr) and 0.5 (two of three seeds differ): the largest, 0.5 * 5 / 5, adjusts them all.
    shown = "EF-LSTM-GloVe MAE 0.200 (3) 0.517 (3) -0.317 -0.388 to -0.245 0.250 (underpowered: 6 seeds) 0.500"
    assert " ".join(mae.split()) == shown
    assert "EF-LSTM-GloVe: chosen configuration: hidden 8 in A, 16 in B" in lines
    assert lines[-2:] == ["the same runs with the same numbers: LF-LSTM-GloVe", "only in B: TFN-GloVe"]


def test_the_command(pair, capsys):
    a, b = pair
    fill(a, A_ERRORS)
    fill(b, B_ERRORS, spec_config={"hidden": 16})
    where = [str(a.root), str(b.root)]
    assert main(["diff", *where, "table1", "--corpus", "mosi", "--data", "none", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    (row,) = found["rows"]
    assert (found["table"], found["corpus"], found["synthetic"], row["row"]) == (
        "table1",
        "mosi",
        False,
        "EF-LSTM-GloVe",
    )
    assert row["metrics"]["mae"]["difference"] == pytest.approx(-0.3166667)
    assert main(["diff", *where, "--data", "none"]) == 0
    assert "EF-LSTM-GloVe" in capsys.readouterr().out
    for wrong, said in (
        (["diff", where[0], "none/such"], "is not there"),
        (["diff", *where, "tabel1"], "table1"),
        (["diff", *where, "--rows", "EF-LSTM-GloVe"], "name the TABLE"),
        (["diff", *where, "table1", "--rows", "EF"], "no row"),
        (["diff", *where, "--profile", "dmo"], "demo"),
        (["diff", *where, "--protocol", "papre"], "paper"),
    ):
        assert main(wrong) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert said in err
        assert err.count("\n") == 1
