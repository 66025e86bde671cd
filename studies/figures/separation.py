"""How far two classes lie apart in a representation space, in three numbers beside the picture of Fig. 4.

t-SNE keeps neighbours and gives up distances and densities, so a picture of it can show clusters where there are none;
these numbers are of the representation itself. None of them changes when all points are scaled, moved or rotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from studies.statistics.separation import centroid_ratio

NEIGHBOURS = 5  # chosen here: odd, so that two classes cannot tie
PERPLEXITY = 30.0  # van der Maaten & Hinton (2008) advise 5 to 50; scikit-learn's default
STATE = 0  # of t-SNE's random numbers, always the same


@dataclass(frozen=True)
class Separation:
    """Of points in their own space; a number is None where it is not defined.

    silhouette: mean silhouette coefficient (Rousseeuw 1987), from -1 to 1; 0: the classes overlap.
    knn_accuracy: share of points whose NEIGHBOURS nearest others vote for their class (leave one out).
    majority: share of the commoner class, what guessing would reach.
    centroid_ratio: see studies.statistics.separation.
    points: how many points have a class.
    """

    silhouette: float | None
    knn_accuracy: float | None
    majority: float | None
    centroid_ratio: float | None
    points: int


def sentiment_classes(label: np.ndarray, zero: str = "positive") -> np.ndarray:
    """Sentiment (N,) -> classes (N,): 0 negative, 1 positive, -1 a label of exactly 0, unless `zero` is "positive".

    zero: as in hycon.pairs.sentiment_classes; "third" and "exclude" both stay out of the two sentiments here.
    """
    classes = (label >= 0).astype(int)
    return classes if zero == "positive" else np.where(label == 0, -1, classes)


def separation(points: np.ndarray, classes: np.ndarray) -> Separation:
    """points: (N, d).  classes: (N,) of 0 and 1; points of class -1 are not counted."""
    from sklearn.metrics import silhouette_score

    points = np.asarray(points, np.float64)[classes >= 0]
    classes = classes[classes >= 0]
    n = len(points)
    counts = np.bincount(classes, minlength=2)
    majority = float(counts.max() / n) if n else None
    if n < 3 or counts.min() == 0:
        return Separation(None, None, majority, None, n)
    return Separation(
        silhouette=float(silhouette_score(points, classes)),
        knn_accuracy=knn_accuracy(points, classes),
        majority=majority,
        centroid_ratio=centroid_ratio(points, classes),
        points=n,
    )


def knn_accuracy(points: np.ndarray, classes: np.ndarray, k: int = NEIGHBOURS) -> float | None:
    """Leave-one-out accuracy of the vote of the `k` nearest others; None where there are not more than `k` points."""
    from sklearn.neighbors import NearestNeighbors

    if len(points) <= k:
        return None
    nearest = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)  # (N, k), without itself
    return float(((classes[nearest].mean(1) > 0.5) == classes).mean())


def embed(points: np.ndarray) -> np.ndarray:
    """t-SNE of points (N, d) -> (N, 2), the same for the same points: one thread, one seed, starting from the PCA.

    Points that are all equal stay one point.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    points = np.asarray(points, np.float64)
    if len(points) < 4 or np.ptp(points, axis=0).max() == 0:
        return np.zeros((len(points), 2))
    options: dict[str, Any] = {"perplexity": perplexity(len(points)), "init": "pca", "random_state": STATE}
    with threadpool_limits(1):  # sums over threads would round differently
        return TSNE(**options).fit_transform(points)


def perplexity(n: int) -> float:
    """PERPLEXITY, less for few points: a third of the others."""
    return min(PERPLEXITY, (n - 1) / 3)
