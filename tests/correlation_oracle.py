"""Canonical correlations by scipy."""

import numpy as np
import scipy.linalg


def slow_correlation(one, other, ridge):
    """By the generalised eigenproblem S12 S22^-1 S21 a = rho^2 S11 a."""
    one, other = one - one.mean(0), other - other.mean(0)
    n = len(one) - 1
    s11, s22 = one.T @ one / n, other.T @ other / n
    s11 = s11 + ridge * np.trace(s11) / len(s11) * np.eye(len(s11))
    s22 = s22 + ridge * np.trace(s22) / len(s22) * np.eye(len(s22))
    s12 = one.T @ other / n
    squares = scipy.linalg.eigh(s12 @ np.linalg.solve(s22, s12.T), s11, eigvals_only=True)
    return np.sqrt(squares.clip(min=0)).sum()
