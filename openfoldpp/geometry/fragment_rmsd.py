"""RMSDs between fragments: of many pairs, or of all pairs in many small sets, at once."""

from __future__ import annotations

import numpy as np

_HALF_ROOT_3 = 0.75**0.5
# Pairs whose arrays stay in a core's cache.
_AT_ONCE = 4096


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
    upper = np.ravel_multi_index(np.triu_indices(count, 1), (count, count))
    found = np.zeros((sets, count * count), np.float32)
    at_once = max(1, _AT_ONCE // max(len(upper), 1))
    for i in range(0, sets if len(upper) else 0, at_once):
        # Axes first: x, y and z of all atoms, a matrix of fragments each.
        axes = np.ascontiguousarray(fragments[i : i + at_once].transpose(3, 0, 1, 2))
        axes -= axes.mean(-1, keepdims=True)
        covariance = np.empty((3, 3, axes.shape[1] * len(upper)))
        for a in range(3):
            for b in range(3):
                product = axes[a] @ axes[b].transpose(0, 2, 1)
                covariance[a, b] = product.reshape(-1, count * count).take(upper, 1).reshape(-1)
        own = np.einsum("xsma,xsma->sm", axes, axes, dtype=np.float64)
        both = (own[:, :, None] + own[:, None]).reshape(-1, count * count).take(upper, 1)
        squared = both - 2 * _overlap(covariance).reshape(both.shape)
        found[i : i + at_once, upper] = np.sqrt(np.maximum(squared, 0) / atoms)
    found = found.reshape(sets, count, count)
    return found + found.transpose(0, 2, 1)


def fragment_rmsd_to_one(fragments: np.ndarray, others: np.ndarray) -> np.ndarray:
    """RMSDs of the fragments of each set to one other, each after its best superposition (Kabsch 1976).

    By the closed form of :func:`fragment_rmsd_matrix`. What decomposes each pair, which is exact and slower,
    is :func:`openfoldpp.geometry.superposition.fragment_rmsd`.

    Parameters
    ----------
    fragments : numpy.ndarray of shape (S, M, A, 3)
        S sets of M fragments of A atoms, angstrom.
    others : numpy.ndarray of shape (S, A, 3)
        What those of each set are laid on.

    Returns
    -------
    numpy.ndarray of shape (S, M), float32
        Angstrom, exact to a few thousandths. Nothing is mirrored.
    """
    fragments, others = np.asarray(fragments, np.float32), np.asarray(others, np.float32)
    sets, count, atoms = fragments.shape[:3]
    axes = np.ascontiguousarray(fragments.transpose(0, 1, 3, 2))
    axes -= axes.mean(-1, keepdims=True)
    others = others - others.mean(1, keepdims=True)
    product = (axes.reshape(sets, count * 3, atoms) @ others).reshape(-1, 3, 3)
    covariance = np.ascontiguousarray(product.transpose(1, 2, 0), np.float64)
    own = np.einsum("smxa,smxa->sm", axes, axes, dtype=np.float64)
    own += np.einsum("sax,sax->s", others, others, dtype=np.float64)[:, None]
    squared = own - 2 * _overlap(covariance).reshape(own.shape)
    return np.sqrt(np.maximum(squared, 0) / atoms).astype(np.float32)


def _overlap(h: np.ndarray) -> np.ndarray:
    """Return the sum of singular values of `h`, ``[3, 3, P]``, the least with the determinant's sign."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = h
    # The columns' products, a symmetric matrix: x, y, z on the diagonal, a, b, c beside it.
    x, y, z = xx * xx + yx * yx + zx * zx, xy * xy + yy * yy + zy * zy, xz * xz + yz * yz + zz * zz
    a, b, c = xx * xy + yx * yy + zx * zy, xx * xz + yx * yz + zx * zz, xy * xz + yy * yz + zy * zz
    mean = (x + y + z) / 3
    x -= mean
    y -= mean
    z -= mean
    aa, bb, cc = a * a, b * b, c * c
    spread = np.sqrt(np.maximum((x * x + y * y + z * z + 2 * (aa + bb + cc)) / 6, 1e-60))
    half = (x * (y * z - cc) - z * aa - y * bb + 2 * a * b * c) / (2 * spread * spread * spread)
    angle = np.arccos(np.clip(half, -1, 1)) / 3
    cosine = np.cos(angle)
    # Of a third of a turn more; the angle is within 0 and 60 degrees, where the sine is positive.
    turned = -0.5 * cosine - _HALF_ROOT_3 * np.sqrt(1 - cosine * cosine)
    largest = mean + 2 * spread * cosine
    least = mean + 2 * spread * turned
    middle = np.maximum(3 * mean - largest - least, 0)
    determinant = xx * (yy * zz - yz * zy) - xy * (yx * zz - yz * zx) + xz * (yx * zy - yy * zx)
    first, second = np.sqrt(np.maximum(largest, 0)), np.sqrt(middle)
    # The least eigenvalue suffers from cancellation; the determinant has its root's size and sign exactly.
    return first + second + determinant / np.maximum(first * second, 1e-12)
