"""How far classes lie apart, and the embedding: against naive loops, scikit-learn and numbers worked by hand."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
pytest.importorskip("sklearn", reason="figures need the extra 'plots'")


from studies.figures.separation import embed, knn_accuracy, perplexity, sentiment_classes, separation


def clusters(apart: float, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    classes = np.arange(n) % 2
    return rng.normal(0, 1, (n, 5)) + apart * classes[:, None], classes


def test_numbers_of_four_points_worked_by_hand():
    points = np.array([[-1.5], [-0.5], [0.5], [1.5]])
    found = separation(points, np.array([0, 0, 1, 1]))
    # Outer points: own class 1 away, the other 2.5 on average; inner ones: 1 and 1.5.
    assert found.silhouette == pytest.approx(((2.5 - 1) / 2.5 + (1.5 - 1) / 1.5) / 2)
    assert found.centroid_ratio == pytest.approx(2 / 0.5)
    assert (found.majority, found.points, found.knn_accuracy) == (0.5, 4, None)  # fewer points than 5 neighbours


@pytest.mark.parametrize("apart", [0.0, 1.0, 4.0])
def test_silhouette_and_neighbours_agree_with_naive_loops(apart):
    points, classes = clusters(apart)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    scores, hits = [], []
    for i in range(len(points)):
        others = [j for j in range(len(points)) if j != i]
        own = np.mean([distance[i, j] for j in others if classes[j] == classes[i]])
        other = np.mean([distance[i, j] for j in others if classes[j] != classes[i]])
        scores.append((other - own) / max(own, other))
        votes = [classes[j] for j in sorted(others, key=lambda j: distance[i, j])[:5]]
        hits.append((sum(votes) >= 3) == classes[i])
    found = separation(points, classes)
    assert found.silhouette == pytest.approx(np.mean(scores))
    assert found.knn_accuracy == pytest.approx(np.mean(hits))


def test_neighbours_agree_with_scikit_learn_s_leave_one_out():
    from sklearn.model_selection import LeaveOneOut, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier

    points, classes = clusters(1.0)
    oracle = cross_val_score(KNeighborsClassifier(3), points, classes, cv=LeaveOneOut()).mean()
    assert knn_accuracy(points, classes, k=3) == pytest.approx(oracle)
    assert knn_accuracy(points[:3], classes[:3], k=3) is None


def test_numbers_do_not_depend_on_scale_place_or_rotation():
    points, classes = clusters(1.0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    before, after = separation(points, classes), separation(7.0 * points @ turn + 3.0, classes)
    for name in ("silhouette", "knn_accuracy", "centroid_ratio"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_points_without_class_are_not_counted_and_what_is_undefined_is_none():
    points, classes = clusters(3.0)
    more = np.concatenate([points, 100 * np.ones((4, 5))])
    assert separation(more, np.append(classes, [-1] * 4)) == separation(points, classes)
    one = separation(points, np.zeros(len(points), int))
    assert (one.silhouette, one.knn_accuracy, one.centroid_ratio, one.majority) == (None, None, None, 1.0)
    none = separation(points, np.full(len(points), -1))
    assert (none.points, none.majority) == (0, None)
    assert separation(np.ones((8, 2)), np.arange(8) % 2).centroid_ratio is None  # collapsed: no spread


@pytest.mark.parametrize("zero", ["positive", "exclude", "third"])
def test_classes_are_those_of_the_losses(zero):
    import torch

    from hycon.pairs import sentiment_classes as of_the_losses

    label = np.array([-3.0, -0.2, 0.0, 0.2, 3.0])
    theirs = of_the_losses(torch.tensor(label), zero).numpy()
    assert sentiment_classes(label, zero).tolist() == np.where(theirs == 2, -1, theirs).tolist()


def test_the_embedding_keeps_clusters_and_repeats_and_survives_equal_points():
    points, classes = clusters(8.0)
    position = embed(points)
    assert position.shape == (40, 2)
    assert np.array_equal(position, embed(points))
    assert separation(position, classes).knn_accuracy == 1.0
    assert np.array_equal(embed(np.ones((9, 3))), np.zeros((9, 2)))
    assert (perplexity(686), perplexity(31)) == (30.0, 10.0)
