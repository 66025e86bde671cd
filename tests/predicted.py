"""Predictions and labels, for tests of what is computed from them."""

import numpy as np

METRICS = ("acc7", "acc2", "f1", "mae", "corr")
EMOTIONS = ("happy", "sad", "angry")
RNG = np.random.default_rng(0)


def sentiment(seed=0, runs=3, n=40):
    """Rounded, so that labels and predictions of 0 and on the edges of classes occur."""
    rng = np.random.default_rng(seed)
    label = np.round(rng.normal(0, 1.5, n) * 2) / 2
    return np.round((label + rng.normal(0, 1, (runs, n))) * 2) / 2, label.clip(-3, 3)
