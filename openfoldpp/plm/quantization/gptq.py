"""GPTQ (Frantar et al., arXiv 2210.17323): a rounding error is made up for in the weights still to come."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Of the mean of the Hessian's diagonal, added to it. Ten times the paper's: calibration sets are small here,
# and sequences unlike them may come out worse than rounded to nearest where their Hessian is trusted more.
_DAMPING = 0.1
# Columns whose errors are gathered before they are passed on to all later ones.
_BLOCK = 128


def round_compensated(
    weight: Tensor,
    hessian: Tensor,
    nearest: Callable[[Tensor, int], Tensor],
) -> Tensor:
    """Round a weight column by column, and pass each column's error on to those that follow.

    The columns whose inputs are largest go first (act-order in the paper's implementation): they find
    the most columns left to make up for them.

    Parameters
    ----------
    weight : torch.Tensor of shape (out, in)
        float32.
    hessian : torch.Tensor of shape (in, in)
        Sum over inputs x of ``x x^T``, float32, of any scale.
    nearest : callable
        Takes a column, ``[out]``, and its number; returns the column rounded.

    Returns
    -------
    torch.Tensor of shape (out, in)
        On the grid, float32.
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    factor = _inverse_factor(hessian[order][:, order])
    # Rows of the transposed weight are columns: contiguous ones are updated faster.
    left = weight.t()[order].float()
    rounded = torch.empty_like(left)
    numbers = order.tolist()
    for start in range(0, len(left), _BLOCK):
        end = min(start + _BLOCK, len(left))
        errors = torch.empty_like(left[start:end])
        for i in range(start, end):
            rounded[i] = nearest(left[i], numbers[i])
            errors[i - start] = (left[i] - rounded[i]) / factor[i, i]
            left[i + 1 : end].addr_(factor[i, i + 1 : end], errors[i - start], alpha=-1)
        left[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)
    result = torch.empty_like(rounded)
    result[order] = rounded
    return result.t().contiguous()


def _inverse_factor(hessian: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of the damped Hessian."""
    damped = hessian.double() if len(hessian) <= 1024 else hessian.clone()
    diagonal = damped.diagonal()
    # An input that is always zero: its weights matter to nothing.
    diagonal[diagonal == 0] = 1
    diagonal += _DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True).float()
