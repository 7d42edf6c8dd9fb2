"""RMSDs between fragments: of many pairs, or of all pairs in many small sets, at once."""

from __future__ import annotations

import numpy as np


def fragment_rmsd_matrix(fragments: np.ndarray) -> np.ndarray:
    """Root-mean-square deviations of all pairs in each set, each after its best superposition (Kabsch 1976).

    The singular values of a pair's covariance are the roots of the eigenvalues of a symmetric matrix of
    three rows, which have a closed form (Smith 1961, doi:10.1145/355578.366316): hundreds of thousands of
    pairs take milliseconds, where a decomposition of each would take a second.

    Parameters
    ----------
    fragments : numpy.ndarray of shape (S, M, A, 3)
        S sets of M fragments of A atoms, angstrom.

    Returns
    -------
    numpy.ndarray of shape (S, M, M), float32
        Angstrom, exact to a few thousandths. Nothing is mirrored.
    """
    fragments = np.asarray(fragments, np.float32)
    sets, count, atoms = fragments.shape[:3]
    centred = fragments - fragments.mean(2, keepdims=True)
    rows = np.ascontiguousarray(centred.transpose(0, 1, 3, 2)).reshape(sets, count * 3, atoms)
    product = (rows @ rows.transpose(0, 2, 1)).reshape(sets, count, 3, count, 3)
    upper = np.triu_indices(count, 1)
    covariance = product.transpose(2, 4, 0, 1, 3)[:, :, :, upper[0], upper[1]].astype(np.float64)
    own = np.einsum("smax,smax->sm", centred, centred, dtype=np.float64)
    squared = own[:, upper[0]] + own[:, upper[1]] - 2 * _overlap(covariance)
    found = np.zeros((sets, count, count), np.float32)
    found[:, upper[0], upper[1]] = np.sqrt(np.maximum(squared, 0) / atoms)
    return found + found.transpose(0, 2, 1)


def fragment_rmsd_pairs(mobile: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """RMSDs of pairs of fragments, each after its best superposition (Kabsch 1976).

    By the closed form of :func:`fragment_rmsd_matrix`. What decomposes each pair, which is exact and slower,
    is :func:`openfoldpp.geometry.superposition.fragment_rmsd`.

    Parameters
    ----------
    mobile, fixed : numpy.ndarray of shape (S, A, 3)
        S pairs of fragments of A atoms, angstrom.

    Returns
    -------
    numpy.ndarray of shape (S,), float32
        Angstrom, exact to a few thousandths. Nothing is mirrored.
    """
    a, b = (x - x.mean(1, keepdims=True) for x in (np.asarray(mobile), np.asarray(fixed)))
    covariance = (a.transpose(0, 2, 1) @ b).astype(np.float64).transpose(1, 2, 0)
    own = sum(np.einsum("sax,sax->s", x, x, dtype=np.float64) for x in (a, b))
    return np.sqrt(np.maximum(own - 2 * _overlap(covariance), 0) / a.shape[1]).astype(np.float32)


def _overlap(h: np.ndarray) -> np.ndarray:
    """Return the sum of singular values of `h`, ``[3, 3, ...]``, the least with the determinant's sign."""
    a, b, c = (sum(h[k, i] * h[k, j] for k in range(3)) for i, j in ((0, 1), (0, 2), (1, 2)))
    x, y, z = (sum(h[k, i] ** 2 for k in range(3)) for i in range(3))
    mean = (x + y + z) / 3
    dx, dy, dz = x - mean, y - mean, z - mean
    off = a * a + b * b + c * c
    spread = np.sqrt(np.maximum((dx * dx + dy * dy + dz * dz + 2 * off) / 6, 1e-60))
    half = (dx * (dy * dz - c * c) - a * (a * dz - b * c) + b * (a * c - b * dy)) / (2 * spread**3)
    angle = np.arccos(np.clip(half, -1, 1)) / 3
    largest = mean + 2 * spread * np.cos(angle)
    least = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    middle = np.maximum(3 * mean - largest - least, 0)
    determinant = (
        h[0, 0] * (h[1, 1] * h[2, 2] - h[1, 2] * h[2, 1])
        - h[0, 1] * (h[1, 0] * h[2, 2] - h[1, 2] * h[2, 0])
        + h[0, 2] * (h[1, 0] * h[2, 1] - h[1, 1] * h[2, 0])
    )
    first, second = np.sqrt(np.maximum(largest, 0)), np.sqrt(middle)
    # The least eigenvalue suffers from cancellation; the determinant has its root's size and sign exactly.
    third = determinant / np.maximum(first * second, 1e-12)
    return first + second + third
