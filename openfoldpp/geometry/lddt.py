"""The local distance difference test of CA atoms (Mariani et al. 2013), in torch."""

from __future__ import annotations

import torch
from torch import Tensor

# Angstrom: pairs nearer than this in the reference count, and the errors that are told apart.
_RADIUS = 15.0
_THRESHOLDS = (0.5, 1.0, 2.0, 4.0)


def lddt_ca(model: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return for each residue how many of its distances to others are kept, as pLDDT expects it.

    Parameters
    ----------
    model, reference : torch.Tensor of shape (N_res, 3)
        CA, angstrom. Nothing is superposed.
    mask : torch.Tensor of shape (N_res,), bool, optional
        Residues that the model has; distances to others are lost.

    Returns
    -------
    torch.Tensor of shape (N_res,)
        0 to 1; 1 where there is no other residue within 15 angstrom. It has no gradient.

    Examples
    --------
    >>> line = torch.arange(30.0).outer(torch.tensor([3.8, 0.0, 0.0]))
    >>> lddt_ca(line, line).min().item()
    1.0
    """
    with torch.no_grad():
        there = torch.cdist(reference, reference)
        error = (torch.cdist(model, model) - there).abs()
        if mask is not None:
            error = error.masked_fill(~(mask & mask[:, None]), float("inf"))
        counted = (there < _RADIUS) & ~torch.eye(len(there), dtype=torch.bool, device=there.device)
        kept = torch.stack([error < threshold for threshold in _THRESHOLDS]).float().mean(0)
        count = counted.sum(1)
        return torch.where(count > 0, (kept * counted).sum(1) / count.clamp_min(1), 1.0)
