"""Canonical correlations of two sets of vectors, as deep CCA maximises them (Andrew et al., ICML 2013).

The fast body runs on every device, and not for speed: differentiating the eigendecompositions of the plain one divides
by differences of eigenvalues, which vanish when spectra are degenerate (few rows, constant or identical columns).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def canonical_correlation(one: Tensor, other: Tensor, ridge: float = 1e-3) -> Tensor:
    """Sum of the canonical correlations of two sets of vectors, (B, k) and (B, l): a number from 0 to min(k, l).

    The trace norm of S11^(-1/2) S12 S22^(-1/2), where the diagonals of S11 and of S22 are raised by `ridge` times their
    means, so that scaling an input changes nothing. Computed in float64, whatever comes in. 0, without gradient, for
    fewer than 2 max(k, l) rows, where any vectors would correlate, and for inputs constant but for float32's rounding.
    """
    if len(one) < 2 * max(one.shape[1], other.shape[1]):
        return (one.sum() + other.sum()).float() * 0.0
    return _Correlation.apply(one.double(), other.double(), ridge).float()  # autocast leaves float64 alone


def plain_correlation(one: Tensor, other: Tensor, ridge: float) -> Tensor:
    """The trace norm in ordinary PyTorch, for float64 inputs that vary."""
    one, other = one - one.mean(0), other - other.mean(0)
    n = len(one) - 1
    root1, root2 = (_inverse_root(x.t() @ x / n, ridge) for x in (one, other))
    return torch.linalg.matrix_norm(root1 @ (one.t() @ other / n) @ root2, "nuc")


class _Correlation(torch.autograd.Function):
    """The gradient in closed form (Andrew et al., ICML 2013, eqs. 11-13)."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor, ridge: float) -> Tensor:
        varies = _varies(one) & _varies(other)
        one, other = one - one.mean(0), other - other.mean(0)
        n = len(one) - 1
        root1, root2 = (_inverse_root(x.t() @ x / n, ridge) for x in (one, other))
        u, s, vh = torch.linalg.svd(root1 @ (one.t() @ other / n) @ root2, full_matrices=False)
        s = s * varies
        kept = s > 1e-10  # where a singular value is 0 its direction is arbitrary: 0 is a subgradient
        ctx.save_for_backward(one, other, root1, root2, u * kept, s, vh)
        ctx.ridge = ridge
        return s.sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # type: ignore[override]
        one, other, root1, root2, u, s, vh = ctx.saved_tensors
        cross = root1 @ u @ vh @ root2  # d(sum)/d(S12)
        own1 = _with_ridge(root1 @ (u * s) @ u.t() @ root1, ctx.ridge)  # -2 d(sum)/d(S11)
        own2 = _with_ridge(root2 @ (vh.t() * s) @ vh @ root2, ctx.ridge)
        scale = grad / (len(one) - 1)
        return scale * (other @ cross.t() - one @ own1), scale * (one @ cross - other @ own2), None


def _varies(x: Tensor) -> Tensor:
    """Whether the spread of x is more than rounding in float32, from which x came."""
    return x.var(0).mean() > 1e-12 * x.square().mean()


def _with_ridge(matrix: Tensor, ridge: float) -> Tensor:
    """matrix + ridge * (mean of its diagonal) * I. The derivative by such a sum becomes that by the matrix likewise."""
    diagonal = matrix.diagonal()
    return matrix + torch.diag_embed(ridge * diagonal.mean() * torch.ones_like(diagonal))


def _inverse_root(covariance: Tensor, ridge: float) -> Tensor:
    """(S + ridge)^(-1/2) of a positive semi-definite matrix; finite where S is 0."""
    values, vectors = torch.linalg.eigh(_with_ridge(covariance, ridge))
    least = ridge * covariance.diagonal().mean()  # of the eigenvalues, but for rounding
    return (vectors * values.clamp(min=least.clamp(min=1e-300)).rsqrt()) @ vectors.t()
