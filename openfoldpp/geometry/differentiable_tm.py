"""The TM-score with a gradient, for training."""

from __future__ import annotations

import torch
from torch import Tensor

# Rounds of superposition on what lies near. Of models that are about right, the third changes nothing.
_ROUNDS = 5


def differentiable_tm_score(model: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the TM-score of a model under the given correspondence (Zhang and Skolnick 2004).

    The superposition is a local optimum of the score, found from that of least RMSD by superposing again
    with the weights that make a step of least squares a step up the score: ``1 / (1 + (d / d0)^2)^2``. It
    carries no gradient: at an optimum the score does not change with it (envelope theorem).
    :func:`openfoldpp.geometry.superposition.tm_score`, without a gradient, searches from many starts.

    Parameters
    ----------
    model, reference : torch.Tensor of shape (N_res, 3)
        CA, angstrom.
    mask : torch.Tensor of shape (N_res,), bool, optional
        Residues that the model has; the others count as 0.

    Returns
    -------
    torch.Tensor of shape ()
        0 to 1, with the gradient of `model`.

    Examples
    --------
    >>> line = torch.arange(30.0).outer(torch.tensor([3.8, 0.0, 0.0])).requires_grad_()
    >>> round(differentiable_tm_score(line, line.detach()).item(), 4)
    1.0
    """
    total = len(reference)
    d0 = max(1.24 * float(max(total - 15, 0)) ** (1 / 3) - 1.8, 0.5)
    has = torch.ones(total, dtype=torch.bool, device=model.device) if mask is None else mask
    model, reference = model[has], reference[has]
    with torch.no_grad():
        weights = torch.ones_like(model[:, 0])
        for _ in range(_ROUNDS):
            rotation, shift = superposition(model, reference, weights)
            squares = (model @ rotation + shift - reference).square().sum(-1)
            weights = (1 + squares / d0**2) ** -2
    squares = (model @ rotation + shift - reference).square().sum(-1)
    return (1 / (1 + squares / d0**2)).sum() / total


def superposition(mobile: Tensor, fixed: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return what lays points on others with the least weighted square deviation (Kabsch 1976).

    Parameters
    ----------
    mobile, fixed : torch.Tensor of shape (N, 3)
        Point i of one belongs to point i of the other.
    weights : torch.Tensor of shape (N,)
        Above 0.

    Returns
    -------
    rotation : torch.Tensor of shape (3, 3)
        ``mobile @ rotation + shift`` lies on `fixed`; no mirror image.
    shift : torch.Tensor of shape (3,)
    """
    share = (weights / weights.sum())[:, None]
    here, there = (share * mobile).sum(0), (share * fixed).sum(0)
    u, _, vt = torch.linalg.svd(((mobile - here) * share).T @ (fixed - there))
    mirror = torch.ones_like(here)
    mirror[2] = torch.linalg.det(u @ vt).sign()
    rotation = (u * mirror) @ vt
    return rotation, there - here @ rotation
