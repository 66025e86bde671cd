"""Statistics of a cell against scipy and simulation, and the verdicts on and around every edge."""

import math

import numpy as np
import pytest
import scipy.stats

from studies.paper import paper_table
from studies.statistics.cell import (
    TOLERANCES,
    CellStat,
    cell,
    explained,
    range_of,
    seeds_to_settle,
    tolerance_for,
    tolerance_of,
    verdict,
)
from studies.tables import COST, EMOTION, SENTIMENT


@pytest.mark.parametrize("n", [3, 5, 30])
def test_interval_is_scipys(n):
    values = list(np.random.default_rng(n).normal(85, 0.6, n))
    found = cell(values)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert found.n == n
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_intervals_of_five_cover_the_truth_19_times_in_20():
    draws = np.random.default_rng(0).normal(0, 1, (4000, 5))
    covered = np.mean([stat.low <= 0 <= stat.high for stat in (cell(list(row)) for row in draws)])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 4000))


def test_one_run_has_no_spread_and_two_have_no_interval():
    assert cell([85.0]) == CellStat(85.0, None, None, None, 1)
    assert cell([84.0, 86.0]) == CellStat(85.0, pytest.approx(2**0.5), None, None, 2)


def test_an_interval_ends_where_the_metric_does():
    found = cell([98.0, 99.0, 100.0], range_of("acc2"))
    assert found.low > 95
    assert found.high == 100.0
    assert (found.mean, found.sd) == (99.0, 1.0)
    assert cell([2.0, 0.0, 1.0], range_of("happy_f1")).low == 0.0
    assert cell([0.01, 0.5, 0.9], range_of("mae")).low == 0.0
    correlation = cell([-0.9, 0.9, 0.1], range_of("corr"))
    assert (correlation.low, correlation.high) == (-1.0, 1.0)
    assert cell([-1.0, 0.0, 1.0]).low < -1.0  # of a number without a range


@pytest.mark.parametrize("metric", [column.metric for column in (*SENTIMENT, *EMOTION, *COST)])
def test_every_column_of_a_table_has_a_range(metric):
    assert range_of(metric)[0] in (0.0, -1.0)


def test_equal_runs_have_no_width():
    assert cell([85.0] * 3) == CellStat(85.0, 0.0, 85.0, 85.0, 3)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_a_cell_needs_finite_values(values):
    with pytest.raises(ValueError, match="finite"):
        cell(values)


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (84.5, 85.5, "reproduced"),
        (84.0, 86.0, "reproduced"),  # the edges belong to the band
        (83.9, 85.5, "inconclusive"),
        (84.5, 86.1, "inconclusive"),
        (80.0, 90.0, "inconclusive"),
        (83.0, 84.0, "inconclusive"),  # touches the band
        (86.0, 87.0, "inconclusive"),  # from above, too
        (83.0, 83.9, "differs"),
        (86.1, 87.0, "differs"),
    ],
)
def test_verdict_compares_interval_and_band(low, high, expected):
    assert verdict(CellStat((low + high) / 2, 1.0, low, high, 5), 85.0, 1.0) == expected


def test_edges_survive_binary_fractions():
    assert verdict(CellStat(0.815, 0.0, 0.815, 0.815, 3), 0.8, 0.015) == "reproduced"


def test_verdicts_without_a_comparison():
    stat = CellStat(85.0, 0.1, 84.9, 85.1, 5)
    assert verdict(None, 85.0, 1.0) == "not run"
    assert verdict(stat, None, 1.0) == "not comparable"
    assert verdict(stat, 85.0, None) == "not comparable"
    assert verdict(CellStat(85.0, None, None, None, 1), 85.0, 1.0) == "too few seeds"
    assert verdict(cell([85.0, 85.0]), 85.0, 1.0) == "too few seeds"


def test_a_count_needs_no_interval():
    assert verdict(cell([7.0]), 7.0, 0.0) == "reproduced"
    assert verdict(cell([7.0, 7.0]), 8.0, 0.0) == "differs"
    assert verdict(cell([7.0, 9.0]), 8.0, 0.0) == "differs"


def test_differs_is_rare_where_the_paper_is_right():
    """The false positive rate: true mean at the band's edge, the worst case, is at most 2.5 %."""
    draws = np.random.default_rng(1).normal(86.0, 0.6, (2000, 5))
    wrong = np.mean([verdict(cell(list(row)), 85.0, 1.0) == "differs" for row in draws])
    assert wrong <= 0.025 + 4 * math.sqrt(0.025 * 0.975 / 2000)


@pytest.mark.parametrize(
    "low, high, kind, expected",
    [
        (84.9, 85.3, "reproduced", "0.1 above the paper's, the interval within the tolerance of 1.0"),
        (84.9, 85.1, "reproduced", "in print the paper's, the interval within the tolerance of 1.0"),
        (82.9, 83.3, "differs", "1.9 below the paper's, the interval 0.7 beyond the tolerance of 1.0"),
        (87.5, 88.5, "differs", "3.0 above the paper's, the interval 1.5 beyond the tolerance of 1.0"),
    ],
)
def test_a_verdict_has_direction_and_size(low, high, kind, expected):
    stat = CellStat((low + high) / 2, 1.0, low, high, 5)
    found = verdict(stat, 85.0, 1.0)
    assert found == kind
    assert explained(found, stat, 85.0, 1.0, 1) == expected


def test_an_inconclusive_verdict_says_how_many_seeds_would_do():
    stat = cell([84.6, 85.4, 85.9, 86.4, 85.2])
    assert verdict(stat, 85.0, 1.0) == "inconclusive"
    seeds = seeds_to_settle(stat, 85.0, 1.0)
    said = explained("inconclusive", stat, 85.0, 1.0, 1)
    assert said == (
        "0.5 above the paper's, the interval across an edge of the tolerance of 1.0; "
        f"{seeds} seeds would probably settle it"
    )
    edge = CellStat(86.0, 0.7, 85.1, 86.9, 5)
    assert seeds_to_settle(edge, 85.0, 1.0) is None  # the truth on the edge itself is never settled
    assert explained("inconclusive", edge, 85.0, 1.0, 1).endswith("100 seeds would hardly settle it")
    one = cell([85.6])
    assert seeds_to_settle(one, 85.0, 1.0) is None
    assert explained("too few seeds", one, 85.0, 1.0, 1) == "0.6 above the paper's, but one run has no interval"
    two = cell([85.6, 85.0])
    assert explained("too few seeds", two, 85.0, 1.0, 1) == "0.3 above the paper's, but 2 runs have no interval"


@pytest.mark.parametrize("mean, sd", [(85.0, 1.0), (85.3, 0.8), (84.4, 0.6), (86.5, 0.8)])
def test_so_many_seeds_settle_a_verdict_as_often_as_is_said(mean, sd):
    """Also where our mean is the paper's: then the interval must be clear of both edges."""
    half = float(scipy.stats.t.ppf(0.975, 4)) * sd / math.sqrt(5)
    stat = CellStat(mean, sd, mean - half, mean + half, 5)
    assert verdict(stat, 85.0, 1.0) == "inconclusive"
    seeds = seeds_to_settle(stat, 85.0, 1.0)
    assert seeds is not None
    draws = np.random.default_rng(2).normal(mean, sd, (2000, seeds))
    settled = np.mean([verdict(cell(list(row)), 85.0, 1.0) != "inconclusive" for row in draws])
    assert 0.77 < settled < 0.86


@pytest.mark.parametrize("mean", [85.4, 86.8])
def test_so_many_seeds_settle_it_four_times_in_five(mean):
    """Simulated, with the mean and the sd of the runs at hand as the truth."""
    seeds = seeds_to_settle(CellStat(mean, 0.8, mean - 1, mean + 1, 5), 85.0, 1.0)
    assert 6 <= seeds <= 20
    draws = np.random.default_rng(2).normal(mean, 0.8, (2000, seeds))
    settled = np.mean([verdict(cell(list(row)), 85.0, 1.0) != "inconclusive" for row in draws])
    assert settled == pytest.approx(0.8, abs=0.06)


def test_as_many_seeds_are_needed_below_the_paper_s_number_as_above_it():
    above, below = (seeds_to_settle(CellStat(mean, 0.8, mean - 1, mean + 1, 5), 85.0, 1.0) for mean in (85.4, 84.6))
    assert below == above


def test_100_seeds_are_the_most_that_are_asked_for():
    def needed(n):
        """With a mean so far from one edge, in standard deviations, that n seeds would do and n - 1 would not. The
        other edge is out of reach."""
        room = (scipy.stats.t.ppf(0.975, n - 1) + scipy.stats.norm.ppf(0.8)) / math.sqrt(n) + 1e-6
        return seeds_to_settle(CellStat(90.0 - room, 1.0, 89.0, 91.0, 5), 85.0, 5.0)

    assert [needed(n) for n in (6, 99, 100, 101)] == [6, 99, 100, None]


def test_a_verdict_that_compares_nothing_has_no_size():
    assert explained("not run", None, 85.0, 1.0, 1) == ""
    assert explained("not comparable", CellStat(85.0, 0.1, 84.9, 85.1, 5), 85.0, 1.0, 1) == ""
    assert explained("quoted", None, 85.0, 1.0, 1) == ""


def test_tolerances_are_what_their_reasons_say():
    assert set(TOLERANCES) == {"acc7", "acc2", "f1", "mae", "corr", "acc", "parameters"}
    assert all(tolerance.reason for tolerance in TOLERANCES.values())
    assert [name for name, tolerance in TOLERANCES.items() if tolerance.value == 0] == ["parameters"]
    assert tolerance_of("happy_acc") == tolerance_of("average_f1") == tolerance_of("acc2") == tolerance_of("f1") == 1.0
    assert "emotion" in tolerance_for("happy_f1").reason
    assert "Tables 1 and 2" in tolerance_for("f1").reason
    assert tolerance_of("train_seconds") is None
    assert tolerance_of("peak_memory_mib") is None

    def spread(metric):
        rows = {row: v for (_, row, m), v in paper_table("table1").items() if m == metric and not v.quoted}
        values = [value.value for row, value in rows.items() if not row.endswith("GloVe")]
        return max(values) - min(values)

    assert TOLERANCES["acc2"].value == 1.0
    for metric, step in (("acc7", 0.5), ("mae", 0.005), ("corr", 0.005)):
        ratio = spread(metric) / spread("acc2")
        assert TOLERANCES[metric].value == pytest.approx(round(ratio / step) * step)
        assert f", {ratio:.3g}, rounded" in TOLERANCES[metric].reason
    gaps = [
        abs(table[corpus, row, "acc2"].value - table[corpus, row, "f1"].value)
        for table in (paper_table("table1"), paper_table("table2"))
        for corpus, row, metric in table
        if metric == "f1" and row.endswith("BERT")
    ]
    assert max(gaps) < 0.3
