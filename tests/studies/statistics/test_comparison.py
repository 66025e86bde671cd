"""Comparing two rows: tests and intervals against scipy, and simulation.

In the simulations a label is standard normal and a run's prediction is the label plus a normal error, so the truth of a
metric has a closed form; an error has a part that all runs share (hard utterances), one of the row, and one of the run.
"""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from predicted import sentiment

from hycon.errors import UserError
from hycon.metrics import sentiment_metrics
from studies.statistics.comparison import (
    LEVEL,
    Comparison,
    Group,
    adjusted,
    benjamini_hochberg,
    compare,
    compare_seeded,
    compare_values,
)
from studies.statistics.permutation import relabelled, sign_flips, smallest_p


def normals(seed, n):
    return np.random.default_rng(seed).normal(size=n)


# ------------------------------------------------------------------------------------- permutation tests


@pytest.mark.parametrize("n_a, n_b", [(5, 5), (4, 6), (2, 2), (3, 2)])
def test_unpaired_p_is_scipys(n_a, n_b):
    a, b = normals(1, n_a) + 0.8, normals(2, n_b)
    expected = scipy.stats.permutation_test((a, b), lambda x, y: x.mean() - y.mean(), n_resamples=math.inf)
    assert compare_values(a, b).p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("n", [2, 5, 6, 9])
def test_paired_p_is_scipys(n):
    a, b = normals(3, n) + 0.5, normals(4, n)
    expected = scipy.stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=math.inf
    )  # one sample of differences: signs are flipped
    assert compare_values(a, b, paired=True).p == pytest.approx(expected.pvalue)


def test_p_by_hand():
    assert compare_values([3, 4], [1, 2]).p == pytest.approx(2 / 6)
    assert compare_values([1, 2], [3, 4]).p == pytest.approx(2 / 6)
    assert compare_values([2, 3, 5], [1, 1, 1], paired=True).p == pytest.approx(2 / 8)
    assert compare_values([1, 1], [1, 1]).p == 1.0
    assert compare_values([0.1, 0.2, 0.3], [0.3, 0.1, 0.2]).p == 1.0  # ties, however their sums are rounded


def test_equal_sums_are_ties_however_they_are_rounded():
    """Right answers of ten runs, as counts and as shares of 686: with shares, scipy's test misses ties."""
    a, b = np.array([581, 568, 566, 582, 565]), np.array([570, 561, 565, 569, 568])

    def scipys(scale):
        groups = (a / scale, b / scale)
        return scipy.stats.permutation_test(groups, lambda x, y: x.mean() - y.mean(), n_resamples=math.inf).pvalue

    assert compare_values(a / 686, b / 686).p == pytest.approx(scipys(1))
    assert scipys(686) != pytest.approx(scipys(1))


EARLIER = [0.125, 0.015625, 10 / 63, 0.08065268065268065]  # 5, 8 pairs; 5 + 5, 8 + 8 runs


def test_the_p_values_that_earlier_versions_printed():
    """Up to 16,384 permutations: a p that is printed again must be the same one."""
    a, b = normals(1, 16) + 0.8, normals(2, 16)
    found = [compare_values(a[:n], b[:n], paired=paired).p for paired in (True, False) for n in (5, 8)]
    assert found == pytest.approx(EARLIER, rel=1e-12)


def test_permutations_are_counted_without_making_them():
    """Against all of them, where earlier versions drew: 16 pairs, 9 + 9 and 3 + 13 runs; of shares, which tie."""
    counts = np.random.default_rng(15).integers(560, 600, size=(2, 16))
    a, b = (counts[0] + 9) / 686, counts[1] / 686
    flips = 1 - 2 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    assert sign_flips(a - b) == pytest.approx(_two_sided(flips @ (counts[0] + 9 - counts[1])[:, None], 0))
    for n, m in ((9, 9), (3, 13)):
        pooled = np.concatenate([counts[0, :n] + 9, counts[1, :m]])
        chosen = np.array(list(itertools.combinations(range(n + m), n)))
        assert relabelled(a[:n], b[:m]) == pytest.approx(_two_sided(pooled[chosen], 1))


def _two_sided(values: np.ndarray, axis: int) -> float:
    """The first line of `values` (whole numbers) is the observed permutation."""
    sums = values.sum(1) if axis else values[:, 0]
    return min(1.0, 2 * min((sums >= sums[0]).mean(), (sums <= sums[0]).mean()))


@pytest.mark.parametrize(
    "n_a, n_b, paired", [(8, 8, True), (20, 20, True), (5, 5, False), (12, 12, False), (3, 9, False), (2, 12, False)]
)
def test_the_smallest_p_is_that_of_rows_that_do_not_overlap(n_a, n_b, paired):
    a, b = np.arange(n_a) + 100.0, np.arange(n_b)
    assert compare_values(a, b, paired=paired).p == pytest.approx(smallest_p(n_a, n_b, paired), rel=1e-12)


def test_the_smallest_p_that_a_number_of_seeds_allows():
    apart = np.arange(5.0)
    five = compare_values(apart + 10, apart)
    assert (five.p, five.underpowered, five.seeds_needed) == (pytest.approx(2 / 252), False, None)
    pairs = compare_values(apart + 10, apart, paired=True)
    assert (pairs.p, pairs.underpowered, pairs.seeds_needed) == (pytest.approx(2 / 32), True, 6)
    six = compare_values([*apart + 10, 3], [*apart, 1], paired=True)
    assert (six.p, six.underpowered) == (pytest.approx(2 / 64), False)
    three = compare_values(apart[:3] + 10, apart[:3])
    assert (three.p, three.underpowered, three.seeds_needed) == (pytest.approx(2 / 20), True, 4)
    assert not compare_values(apart[:3] + 10, apart).underpowered  # 2 of 56


def test_two_runs_against_many_are_underpowered_for_they_have_no_interval():
    """Ten runs against two can give a p of 2 in 66, which alone speaks for no utterances but these."""
    found = compare_values(np.arange(10.0) + 20, [1.0, 2.0])
    assert (found.p, found.low, found.p_interval) == (pytest.approx(2 / 66), None, None)
    assert (found.underpowered, found.seeds_needed) == (True, 4)
    assert adjusted([(found.p, found.p_interval)]) == [None]


@pytest.mark.parametrize("paired", [True, False])
def test_beyond_what_is_counted_p_is_drawn_and_never_zero(paired):
    a, b = normals(5, 40) + 0.8, normals(6, 40)
    if paired:
        expected = scipy.stats.ttest_rel(a, b).pvalue
    else:
        expected = scipy.stats.ttest_ind(a, b).pvalue
    found = compare_values(a, b, paired=paired).p
    assert 0.005 < found < 0.3
    assert found == pytest.approx(expected, rel=0.15)
    assert compare_values(a, b, paired=paired).p == found
    assert compare_values(a + 100, b, paired=paired).p == pytest.approx(2 / 50_000)
    assert smallest_p(40, 40, paired) == 2 / 50_000


@pytest.mark.parametrize("paired", [True, False])
def test_the_intervals_own_p_is_that_of_the_t_test(paired):
    a, b = normals(16, 6) + 0.5, normals(17, 6)
    test = scipy.stats.ttest_rel(a, b) if paired else scipy.stats.ttest_ind(a, b, equal_var=False)
    found = compare_values(a, b, paired=paired)
    assert found.p_interval == pytest.approx(test.pvalue)
    shifted = compare_values(a + found.high - found.low, b, paired=paired)
    assert (shifted.low > 0) == (shifted.p_interval < 0.05)
    assert compare_values(a[:2], b[:2], paired=paired).p_interval is None


@pytest.mark.parametrize("paired, n", [(True, 6), (False, 5), (True, 15)])
def test_false_positives_are_no_more_than_one_in_twenty(paired, n):
    """Two rows of one distribution, skewed so that no normality helps."""
    simulations = 600 if n < 10 else 150
    draws = np.random.default_rng(7).exponential(size=(simulations, 2, n))
    rate = np.mean([compare_values(a, b, paired=paired).p < 0.05 for a, b in draws])
    assert 0.01 < rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / simulations)


# ---------------------------------------------------------------------------------------------- intervals


def test_without_utterances_the_intervals_are_the_paired_and_welchs():
    a, b = normals(8, 5), 3 * normals(9, 4)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = compare_values(a, b)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n_a, found.n_b, found.utterances, found.paired) == (5, 4, 0, False)
    expected = scipy.stats.ttest_rel(a[:4], b).confidence_interval(0.95)
    found = compare_values(a[:4], b, paired=True)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.difference == pytest.approx(np.mean(a[:4]) - np.mean(b))


def test_where_all_runs_of_a_row_agree_only_utterances_remain():
    """Then the interval is the t-interval of the mean of the utterances' differences."""
    label = normals(10, 200)
    a, b = label + normals(11, 200), label + 0.8 * normals(12, 200)
    found = compare(
        Group(np.stack([a] * 3), label, (1, 2, 3)),
        Group(np.stack([b] * 3), label, (4, 5, 6)),
        "mae",
        protocol="all",
        resamples=4000,
    )
    each = np.abs(a - label) - np.abs(b - label)
    low, high = scipy.stats.t.interval(0.95, 199, loc=each.mean(), scale=scipy.stats.sem(each))
    assert found.difference == pytest.approx(each.mean())
    assert found.high - found.low == pytest.approx(high - low, rel=0.05)  # the variance is resampled
    assert found.p < 0.2  # 2 of 20: between runs there is nothing but a difference


def alike(a, b, label, videos):
    """Two rows of three runs that are all the same, on utterances of these videos."""
    return (Group(np.stack([row] * 3), label, seeds, videos) for row, seeds in ((a, (1, 2, 3)), (b, (4, 5, 6))))


def test_where_all_runs_of_a_row_agree_and_utterances_share_videos_only_videos_remain():
    """Then the interval is the t-interval of the mean of the videos' differences."""
    videos, label = np.repeat([f"v{i}" for i in range(25)], 8), normals(20, 200)
    easier = np.repeat(normals(21, 25), 8)  # of a video's utterances row b errs less, or more
    a, b = label + 2 + 0.3 * normals(22, 200), label + 2 + 0.3 * easier + 0.3 * normals(23, 200)
    found = compare(*alike(a, b, label, videos), "mae", protocol="all", resamples=4000)
    each = (np.abs(a - label) - np.abs(b - label)).reshape(25, 8).mean(1)
    low, high = scipy.stats.t.interval(0.95, 24, scale=scipy.stats.sem(each))
    assert found.high - found.low == pytest.approx(high - low, rel=0.05)
    assert found.utterances == 200


def test_an_utterance_that_is_said_four_times_in_a_video_tells_no_more_than_once():
    label, a, b = normals(24, 60), normals(25, 60), normals(26, 60)
    once = compare(*alike(a, b, label, None), "acc2", resamples=4000)
    fourfold = [np.repeat(values, 4) for values in (a, b, label, np.array([f"v{i}" for i in range(60)]))]
    again = compare(*alike(*fourfold), "acc2", resamples=4000)
    assert again.difference == pytest.approx(once.difference)
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.05)


def test_videos_that_say_nothing_leave_the_interval_as_it_is():
    """Of two videos no spread is known; where utterances err independently, the draw of each by itself is no less."""
    label, a, b = normals(27, 200), normals(28, 200), normals(29, 200)
    plain = compare(*alike(a, b, label, None), "mae")
    assert compare(*alike(a, b, label, np.repeat(["one", "two"], 100)), "mae") == plain
    assert compare(*alike(a, b, label, np.array([f"v{i}" for i in range(200)])), "mae") == plain
    many = compare(*alike(a, b, label, np.repeat([f"v{i}" for i in range(20)], 10)), "mae")
    assert many.low <= plain.low
    assert many.high >= plain.high
    assert many.p == plain.p


def test_three_videos_are_enough_to_know_their_spread():
    label, off = normals(30, 30), np.repeat([0.0, 1.0, 2.0], 10)
    found = compare(*alike(label, label + off, label, np.repeat(["one", "two", "three"], 10)), "mae", protocol="all")
    low, high = scipy.stats.t.interval(0.95, 2, scale=scipy.stats.sem([0.0, 1.0, 2.0]))
    assert found.high - found.low == pytest.approx(high - low, rel=0.1)


def test_few_utterances_are_not_taken_for_more_than_they_are():
    """Resampling n utterances gives (n - 1)/n of the variance of their mean: of five, four fifths."""
    label = np.array([1.0, -1.0, 2.0, -2.0, 0.5])
    a, b = label + np.array([0.3, 0.1, 0.9, 0.2, 0.5]), label + np.array([0.1, 0.4, 0.1, 0.3, 0.1])
    rows = (Group(np.stack([row] * 3), label, seeds) for row, seeds in ((a, (1, 2, 3)), (b, (4, 5, 6))))
    found = compare(*rows, "mae", protocol="all", resamples=20_000)
    low, high = scipy.stats.t.interval(0.95, 4, scale=scipy.stats.sem(np.abs(a - label) - np.abs(b - label)))
    assert found.high - found.low == pytest.approx(high - low, rel=0.03)  # without it 0.894 of that


@pytest.mark.parametrize("paired", [True, False])
def test_what_each_run_errs_on_by_itself_is_not_counted_twice(paired):
    """Where runs err on utterances independently, their spread between seeds has all of it already."""
    rng, ratios = np.random.default_rng(14), []
    for i in range(40):
        label = rng.normal(size=400)
        a, b = label + rng.normal(size=(2, 6, 400))
        seeds = tuple(range(6)), tuple(range(6)) if paired else tuple(range(6, 12))
        found = compare(Group(a, label, seeds[0]), Group(b, label, seeds[1]), "mae", protocol="all", seed=i)
        plain = compare_values(np.abs(a - label).mean(1), np.abs(b - label).mean(1), paired=paired)
        ratios.append((found.high - found.low) / (plain.high - plain.low))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


def test_the_same_runs_on_both_sides_differ_by_nothing():
    prediction, label = sentiment()
    group = Group(prediction, label, (1, 2, 3))
    assert compare(group, group, "acc2") == Comparison(
        0.0, 0.0, 0.0, 1.0, 3, 3, int((label != 0).sum()), True, True, 6, 1.0
    )


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_utterances_have_no_interval(n):
    """Six seeds that all get the only utterance right, against six that get it wrong, show nothing of another one."""
    right, label = Group(np.ones((6, n)), np.ones(n), tuple(range(6))), np.ones(n)
    found = compare(right, Group(-np.ones((6, n)), label, tuple(range(6))), "acc2")
    assert (found.difference, found.low, found.high, found.p_interval) == (1.0, None, None, None)
    assert adjusted([(found.p, found.p_interval)]) == [None]


def test_one_run_has_a_difference_and_nothing_more():
    prediction, label = sentiment()
    one, all_three = Group(prediction[:1], label, (9,)), Group(prediction, label, (1, 2, 3))
    found = compare(one, all_three, "acc7")
    expected = [sentiment_metrics(p, label)["acc7"] for p in prediction]
    assert found.difference == pytest.approx(expected[0] - np.mean(expected))
    assert (found.low, found.high, found.p, found.underpowered, found.seeds_needed) == (None, None, None, True, 4)
    assert compare_values([1.0], [2.0]).low is None


TAU = 0.06  # log sd of a run's error: of Acc2 this makes about a point between seeds, as in the paper's lineage


def rows(rng, seeds, n, scales, paired):
    """Two groups of runs whose errors have the given scales, 60 % of their variance shared by all runs of a row, half
    of that by both rows; paired runs share half of what their seed does to the scale."""
    label, hard, own = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(2, n))
    seed_effect = rng.normal(size=seeds)
    groups = []
    for i, scale in enumerate(scales):
        effect = rng.normal(size=seeds)
        if paired:
            effect = math.sqrt(0.5) * (seed_effect + effect)
        error = math.sqrt(0.3) * hard + math.sqrt(0.3) * own[i] + math.sqrt(0.4) * rng.normal(size=(seeds, n))
        prediction = label + scale * np.exp(TAU * effect)[:, None] * error
        first = 0 if paired else i * seeds
        groups.append(Group(prediction, label, tuple(range(first, first + seeds))))
    return groups


def truth(metric, scale):
    """Expected metric of a run: over its scale (Gauss-Hermite), of E|error|, or of P(equal signs) of two normals."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    scales = scale * np.exp(TAU * nodes)
    of_scale = scales * math.sqrt(2 / math.pi) if metric == "mae" else 0.5 + np.arctan(1 / scales) / math.pi
    return float(weights @ of_scale / weights.sum())


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("metric", ["mae", "acc2"])
def test_intervals_of_five_seeds_cover_the_truth_19_times_in_20(metric, paired):
    rng, covered, simulations = np.random.default_rng(13), 0, 600
    difference = truth(metric, 0.5) - truth(metric, 0.55)
    for i in range(simulations):
        a, b = rows(rng, 5, 300, (0.5, 0.55), paired)
        found = compare(a, b, metric, protocol="all", resamples=100, seed=i)
        assert found.paired == paired
        covered += found.low <= difference <= found.high
    assert covered / simulations == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / simulations))


def test_intervals_cover_the_truth_where_the_utterances_of_a_video_are_alike():
    """A tenth of what a row errs on utterances is its video's. Drawn one by one, four in five intervals would."""
    rng, covered, simulations = np.random.default_rng(30), 0, 300
    videos = np.repeat([f"v{i}" for i in range(25)], 12)
    for i in range(simulations):
        label, groups = rng.normal(size=300), []
        for _ in range(2):
            own = math.sqrt(0.1) * np.repeat(rng.normal(size=25), 12) + math.sqrt(0.9) * rng.normal(size=300)
            error = 0.02 * rng.normal(size=(5, 1)) + own + rng.normal(size=(5, 300))
            groups.append(Group(label + 9 + error, label, (1, 2, 3, 4, 5), videos))  # 9: no error changes its sign
        found = compare(*groups, "mae", protocol="all", resamples=100, seed=i)
        covered += found.low <= 0 <= found.high
    assert covered / simulations == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / simulations))


# ------------------------------------------------------------------------------------------------ pairing


@pytest.mark.parametrize(
    "seeds_a, seeds_b, expected",
    [
        ((1, 2, 3), (1, 2, 3), (3, 3, True)),
        ((1, 2, 3), (3, 1, 2), (3, 3, True)),
        ((1, 2, 3), (1, 2, 9), (2, 2, True)),  # a run is missing: the pairs that are there
        ((1, 2, 3), (1, 8, 9), (3, 3, False)),
        ((1, 2, 3), (7, 8, 9), (3, 3, False)),
        ((1, 1, 2), (1, 2, 3), (3, 3, False)),  # which of the two would be the pair?
    ],
)
def test_rows_are_paired_by_seed(seeds_a, seeds_b, expected):
    (prediction, label), other = sentiment(), sentiment(5)[0]
    found = compare(Group(prediction, label, seeds_a), Group(other, label, seeds_b), "mae")
    assert (found.n_a, found.n_b, found.paired) == expected


def test_pairs_are_of_equal_seeds_in_whatever_order():
    prediction, label = sentiment()
    other = prediction + 0.5
    shuffled = Group(other[[2, 0, 1]], label, (3, 1, 2))
    assert compare(Group(prediction, label, (1, 2, 3)), shuffled, "mae") == pytest.approx(
        compare(Group(prediction, label, (1, 2, 3)), Group(other, label, (1, 2, 3)), "mae")
    )


def test_one_number_a_run_is_paired_by_seed_as_predictions_are():
    a, b = [(1, 5.0), (2, 7.0), (3, 6.0)], [(3, 5.5), (4, 1.0), (2, 6.5), (1, 4.5)]
    assert compare_seeded(a, b) == compare_values([5.0, 7.0, 6.0], [4.5, 6.5, 5.5], paired=True)
    assert compare_seeded(a[:2], b[:3]) == compare_values([5.0, 7.0], [5.5, 1.0, 6.5])  # one of two seeds is shared


def test_a_comparison_is_printed_in_the_unit_of_the_table():
    found = compare_values([0.5, 0.75, 0.7], [0.25, 0.5, 0.6])
    shown = found.printed("acc2", 100.0)
    assert (shown.difference, shown.low, shown.high) == (100 * found.difference, 100 * found.low, 100 * found.high)
    assert (shown.p, shown.n_a, shown.n_b) == (found.p, 3, 3)
    two = compare_values([0.5, 0.75], [0.25, 0.5]).printed("acc2", 100.0)
    assert (two.difference, two.low, two.high) == (25.0, None, None)


def test_a_printed_interval_ends_where_no_two_values_differ_more():
    for metric, scale, most in (("acc2", 100.0, 100.0), ("corr", 1.0, 2.0)):
        shown = compare_values([4.0, 0.0, 2.0], [0.0, 4.0, 1.0]).printed(metric, scale)
        assert (shown.low, shown.high) == (-most, most)
    assert compare_values([4.0, 0.0, 2.0], [0.0, 4.0, 1.0]).printed("mae", 1.0).low < -2.0


def test_other_utterances_are_refused():
    prediction, label = sentiment()
    with pytest.raises(UserError, match="not of the same utterances"):
        compare(Group(prediction, label, (1, 2, 3)), Group(prediction, label[::-1], (1, 2, 3)), "mae")
    with pytest.raises(UserError, match="not of the same utterances"):
        compare(Group(prediction, label, (1, 2, 3)), Group(prediction[:, 1:], label[1:], (1, 2, 3)), "mae")


@pytest.mark.parametrize(
    "a, b, paired", [([], [1.0], False), ([1.0, math.nan], [1.0, 2.0], False), ([1, 2], [1], True)]
)
def test_values_that_cannot_be_compared(a, b, paired):
    with pytest.raises(ValueError, match=r"finite|pairs"):
        compare_values(a, b, paired=paired)


# ----------------------------------------------------------------------------------- Benjamini and Hochberg


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_adjusted_p_is_scipys(n):
    p = np.random.default_rng(n).random(n) ** 2
    assert benjamini_hochberg(list(p)) == pytest.approx(list(scipy.stats.false_discovery_control(p)))


def test_adjusted_p_by_hand_and_what_is_not_tested_does_not_count():
    assert benjamini_hochberg([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, 0.04, 0.04]
    assert benjamini_hochberg([None, None]) == [None, None]
    assert benjamini_hochberg([]) == []
    assert benjamini_hochberg([1.0, 0.0]) == [1.0, 0.0]  # both are p-values: of equal rows, of rows far apart
    with pytest.raises(ValueError, match="0, 1"):
        benjamini_hochberg([0.5, 1.5])


def test_the_larger_of_both_p_is_adjusted():
    tests = [(0.01, 0.04), (0.2, 0.1), (None, None), (0.03, None)]
    assert adjusted(tests) == [pytest.approx(0.08), pytest.approx(0.2), None, None]


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_an_adjusted_p_below_the_level_has_an_interval_without_0(shift):
    draws = np.random.default_rng(int(10 * shift)).normal(size=(40, 2, 8))
    for one in (compare_values(a + shift, b, paired=True) for a, b in draws):
        (p,) = adjusted([(one.p, one.p_interval)])
        assert p >= LEVEL or one.low > 0 or one.high < 0
