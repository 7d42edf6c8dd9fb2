"""Rigid motions in numpy: the weighted superposition, and the mean of rotations."""

from __future__ import annotations

import numpy as np


def superposition(
    mobile: np.ndarray, fixed: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what lays points on others with the least weighted square deviation (Kabsch 1976).

    Parameters
    ----------
    mobile, fixed : numpy.ndarray of shape (n, 3)
        Point i of one belongs to point i of the other.
    weights : numpy.ndarray of shape (n,)
        Above 0.

    Returns
    -------
    rotation : numpy.ndarray of shape (3, 3), float64
        ``mobile @ rotation + shift`` lies on `fixed`; no mirror image.
    shift : numpy.ndarray of shape (3,), float64
    """
    share = weights / weights.sum()
    here, there = share @ mobile, share @ fixed
    rotation = nearest_rotation(((mobile - here) * share[:, None]).T @ (fixed - there))
    return rotation, there - here @ rotation


def mean_rotation(rotations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the rotation nearest to the weighted mean of others.

    Parameters
    ----------
    rotations : numpy.ndarray of shape (n, 3, 3)
        Rotations.
    weights : numpy.ndarray of shape (n,)
        Above 0.

    Returns
    -------
    numpy.ndarray of shape (3, 3), float64
    """
    return nearest_rotation(np.einsum("n,nij->ij", weights, rotations))


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """Return the rotation, ``[3, 3]``, that is nearest to a `matrix`: no mirror image."""
    u, _, vt = np.linalg.svd(matrix)
    u[:, 2] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt
