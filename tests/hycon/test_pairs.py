"""Pairs: classes of labels, masks, selection and draws, against small examples worked by hand."""

import math

import pytest
import torch

from hycon.errors import UserError
from hycon.pairs import (
    all_pairs,
    class_pairs,
    emotion_classes,
    hardest_pair,
    random_pair,
    selected_pairs,
    sentiment_classes,
)


@pytest.mark.parametrize(
    "zero, expected", [("positive", [0, 0, 1, 1, 1]), ("exclude", [0, 0, -1, 1, 1]), ("third", [0, 0, 2, 1, 1])]
)
def test_sentiment_classes(zero, expected):
    classes = sentiment_classes(torch.tensor([-3.0, -0.2, 0.0, 0.2, 3.0]), zero)
    assert classes.dtype == torch.int64
    assert classes.tolist() == expected


def test_negative_zero_is_zero():
    assert sentiment_classes(torch.tensor([-0.0]), "exclude").tolist() == [-1]
    assert sentiment_classes(torch.tensor([-0.0])).tolist() == [1]


def test_sentiment_classes_names_its_choices():
    with pytest.raises(UserError, match="positive, exclude, third"):
        sentiment_classes(torch.zeros(2), "ignore")


def test_emotion_classes_of_one_hot_labels_are_the_emotions_ids():
    assert emotion_classes(torch.eye(4, dtype=torch.int64)).tolist() == [0, 1, 2, 3]
    assert emotion_classes(torch.eye(4)[[2, 0, 2]]).tolist() == [2, 0, 2]


def test_emotion_classes_are_equal_exactly_for_equal_vectors():
    vectors = torch.cartesian_prod(*[torch.tensor([0, 1])] * 4)  # all 16
    classes = emotion_classes(torch.cat([vectors, vectors]))
    assert classes[:16].unique().numel() == 16
    assert torch.equal(classes[:16], classes[16:])
    assert classes.min() == 0


def test_class_pairs_by_hand():
    pairs = class_pairs(torch.tensor([1, 1, 0, -1]))
    assert pairs.positive[:, 0].tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert pairs.negative[:, 0].tolist() == [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert pairs.positives[:, 0, 0].tolist() == [1, 1, 0, 0]
    assert pairs.contrasted.tolist() == [True, True, True, False]


def test_every_anchor_has_k_minus_1_pairs_when_no_class_is_excluded():
    pairs = class_pairs(torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(0)))
    assert ((pairs.positive + pairs.negative).sum(-1) == 19).all()
    assert (pairs.positive * pairs.negative).sum() == 0


def test_all_pairs_average_over_modalities_too():
    pairs = class_pairs(torch.tensor([0, 0, 0, 1]))
    weights = all_pairs(pairs, modalities=2)
    assert weights.positive[0, 0].tolist() == [0, 1, 1, 0]
    assert weights.average[0, 0].tolist() == [0, 0.25, 0.25, 0]
    assert weights.average[3].sum() == 0


def similarities(rows):
    """One anchor with K candidates in one modality; the other anchors of the batch are copies nobody looks at."""
    return torch.tensor(rows).expand(1, len(rows), 1, len(rows)).contiguous()


def test_selection_keeps_the_lowest_positives_and_the_highest_negatives():
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    s = similarities([1.0, 0.3, 0.1, 0.2, 0.4, 0.9, 0.6])
    weights = selected_pairs(s, class_pairs(classes), h=2, gamma=1.0)
    low, high = math.exp(1 / 1.1), math.exp(1 / 1.2)
    expected = torch.tensor([0, 0, low, high, 0, 0, 0]) / (low + high)
    assert torch.allclose(weights.positive[0, 0, 0], expected)
    assert torch.equal(weights.average, weights.positive)
    hard, harder = math.exp(0.6), math.exp(0.9)
    expected = torch.tensor([0, 0, 0, 0, 0, harder, hard]) / (hard + harder)
    assert torch.allclose(weights.negative[0, 0, 0], expected)


def test_selection_is_capped_by_the_pairs_there_are():
    classes = torch.tensor([0, 0, 1, 1, 1])
    weights = selected_pairs(torch.rand(3, 5, 2, 5), class_pairs(classes), h=5, gamma=1.0)
    assert ((weights.positive[:, 0] > 0).sum((-2, -1)) == 2).all()  # one positive sample in two modalities
    assert ((weights.negative[:, 0] > 0).sum((-2, -1)) == 5).all()  # h of 6
    one = torch.ones(3, 5)
    assert torch.allclose(weights.positive.sum((-2, -1)), one)
    assert torch.allclose(weights.negative.sum((-2, -1)), one)


def test_selection_pools_both_modalities_and_keeps_exactly_h_of_equal_pairs():
    classes = torch.zeros(6, dtype=torch.int64)
    weights = selected_pairs(torch.full((3, 6, 2, 6), 0.5), class_pairs(classes), h=3, gamma=1.0)
    assert ((weights.positive > 0).sum((-2, -1)) == 3).all()
    assert torch.allclose(weights.positive.max(), torch.tensor(1 / 3))
    assert weights.negative.abs().sum() == 0


def test_a_side_that_is_not_selected_becomes_the_plain_mean():
    pairs = class_pairs(torch.tensor([0, 0, 0, 1]))
    s = torch.rand(3, 4, 2, 4)
    weights = selected_pairs(s, pairs, h=1, gamma=1.0, positives=False)
    assert torch.allclose(weights.positive[0, 0], torch.tensor([0, 0.25, 0.25, 0]))
    assert (weights.negative > 0).sum() == 12  # h=1 for each of 3 x 4 anchors
    weights = selected_pairs(s, pairs, h=1, gamma=1.0, negatives=False)
    assert torch.allclose(weights.negative[0, 0], torch.tensor([0, 0, 0, 0.5]))
    assert torch.allclose(weights.negative[3, 0], torch.tensor([1, 1, 1, 0]) / 6)


def test_tiny_gamma_and_zero_similarity_stay_finite_and_selected():
    pairs = class_pairs(torch.zeros(4, dtype=torch.int64))
    s = similarities([1.0, 0.0, 0.5, 1.0])
    weights = selected_pairs(s, pairs, h=3, gamma=1e-6).positive[0, 0, 0]
    assert torch.isfinite(weights).all()
    assert weights[1] == 1
    assert (weights > 0).tolist() == [False, True, True, True]


def test_weights_carry_no_gradient():
    s = torch.rand(3, 4, 1, 4, requires_grad=True)
    weights = selected_pairs(s, class_pairs(torch.tensor([0, 0, 1, 1])), h=2, gamma=1.0)
    assert not (weights.positive.requires_grad or weights.negative.requires_grad)


def test_random_pair_is_uniform_over_the_mask_and_repeats_with_its_seed():
    pairs = class_pairs(torch.tensor([0, 0, 0, 1]))
    s = torch.zeros(3, 4, 2, 4)

    def draw(seed):
        return random_pair(s, pairs.positive, torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    draws = torch.stack([draw(seed) for seed in range(1000)])
    assert ((draws == 0) | (draws == 1)).all()
    assert (draws[:, :, :3].sum((-2, -1)) == 1).all()
    assert draws[:, :, 3].sum() == 0  # no positive to draw
    share = draws[:, :, 0].mean((0, 1))  # (2, 4): 3000 draws among 4 candidates
    assert torch.allclose(share, torch.tensor([[0, 0.25, 0.25, 0]] * 2), atol=0.04)  # 5 standard deviations


def test_hardest_pair_is_the_highest_score_in_the_mask():
    pairs = class_pairs(torch.tensor([0, 0, 0, 1]))
    s = similarities([0.9, 0.1, 0.3, 0.5])
    assert hardest_pair(s, pairs.positive)[0, 0, 0].tolist() == [0, 0, 1, 0]
    assert hardest_pair(-s, pairs.positive)[0, 0, 0].tolist() == [0, 1, 0, 0]
    assert hardest_pair(s, pairs.negative)[0, 0, 0].tolist() == [0, 0, 0, 1]
