"""How far two classes of points lie apart: the distance of their centroids over the spread around them."""

from __future__ import annotations

import numpy as np


def centroid_ratio(points: np.ndarray, classes: np.ndarray) -> float | None:
    """Distance of the two centroids / root mean square distance of points from their own class's centroid, >= 0.

    points: (N, d).  classes: (N,) of 0 and 1.  Scaling, moving or rotating all points does not change it. None where a
    class is empty, or where every point is its class's centroid.
    """
    points, classes = np.asarray(points, np.float64), np.asarray(classes, int)
    if not classes.any() or classes.all():
        return None
    centroids = np.stack([points[classes == c].mean(0) for c in (0, 1)])
    spread = float(np.sqrt(((points - centroids[classes]) ** 2).sum(1).mean()))
    return float(np.linalg.norm(centroids[1] - centroids[0])) / spread if spread > 0 else None
