"""Superposition and similarity of two structures whose residues correspond one to one.

RMSD goes through biotite. Biotite's own ``tm_score`` takes coordinates as they lie, and its
``superimpose_structural_homologs`` finds a correspondence of its own, so the search for the best
superposition under a known correspondence is here.
"""

from __future__ import annotations

import numpy as np

from openfoldpp.errors import InputError

#: Shortest fragment that starts a superposition, as in the TM-score program.
_SHORTEST_SEED = 4
#: Rounds of re-superposition for each seed, as in the TM-score program.
_ROUNDS = 20


def superimpose(mobile: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Move points onto others with the least root-mean-square deviation (Kabsch 1976).

    Parameters
    ----------
    mobile, fixed : numpy.ndarray
        ``[N, 3]``, angstrom, N at least 3; point i of one belongs to point i of the other.

    Returns
    -------
    numpy.ndarray
        ``[N, 3]``, ``mobile`` after rotation and translation; never mirrored.

    Raises
    ------
    InputError
        The shapes differ or a coordinate is not finite.
    """
    from biotite import structure

    mobile, fixed = _pair(mobile, fixed)
    fitted, _ = structure.superimpose(fixed, mobile)
    return fitted


def ca_rmsd(a: np.ndarray, b: np.ndarray) -> float:
    """Root-mean-square deviation of CA atoms after the best superposition, angstrom.

    Parameters
    ----------
    a, b : numpy.ndarray
        ``[N, 3]``, angstrom; leave out residues that one of them lacks.

    Returns
    -------
    float

    Raises
    ------
    InputError
        The shapes differ or a coordinate is not finite.
    """
    from biotite import structure

    a, b = _pair(a, b)
    return float(structure.rmsd(b, superimpose(a, b)))


def fragment_rmsd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Root-mean-square deviations of many pairs, each after its best superposition (Kabsch 1976).

    Parameters
    ----------
    a, b : numpy.ndarray
        ``[P, A, 3]``, angstrom: fragment i of one belongs to fragment i of the other, atom by atom.

    Returns
    -------
    numpy.ndarray of shape (P,), float64
        Angstrom. Nothing is mirrored.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    covariance = a.transpose(0, 2, 1) @ b
    singular = np.linalg.svd(covariance, compute_uv=False)
    singular[:, 2] *= np.sign(np.linalg.det(covariance))
    squared = (a**2).sum((1, 2)) + (b**2).sum((1, 2)) - 2 * singular.sum(1)
    return np.sqrt(np.maximum(squared, 0) / a.shape[1])


def tm_score(model_ca: np.ndarray, reference_ca: np.ndarray) -> float:
    """TM-score of a model under the given correspondence (Zhang & Skolnick 2004), 0 to 1.

    The superposition is the best that the TM-score program's search finds: seeds are fragments of all
    lengths N, N/2, N/4, ... down to 4 at all places; each is superimposed, then again on the residues that
    came close, until nothing changes. Normalised by the number of residues given.

    Parameters
    ----------
    model_ca, reference_ca : numpy.ndarray
        ``[N, 3]``, angstrom; leave out residues that one of them lacks.

    Returns
    -------
    float

    Raises
    ------
    InputError
        The shapes differ or a coordinate is not finite.
    """
    model, reference = _pair(model_ca, reference_ca)
    length = len(model)
    # 0.5 A below about 21 residues, where the formula would go to 0 and below; as in the TM-score program.
    d0 = max(1.24 * np.cbrt(length - 15.0) - 1.8, 0.5)
    near = float(np.clip(d0, 4.5, 8.0))
    best, seed_length = 0.0, length
    while True:
        starts = np.arange(length - seed_length + 1)[:, None]
        places = np.arange(length)
        chosen = (places >= starts) & (places < starts + seed_length)
        cutoff = near - 1.0
        for _ in range(_ROUNDS):
            distances = _distances(model, reference, chosen)
            best = max(best, float((1.0 / (1.0 + (distances / d0) ** 2)).mean(axis=1).max()))
            closest = np.maximum(np.partition(distances, 2, axis=1)[:, 2:3], cutoff)
            updated = distances <= closest
            if (updated == chosen).all():
                break
            chosen, cutoff = updated, near + 1.0
        if seed_length <= _SHORTEST_SEED:
            return best
        seed_length = max(seed_length // 2, _SHORTEST_SEED)


def _pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3 or len(a) < 3:
        raise InputError(
            f"superposition: shapes {list(a.shape)} and {list(b.shape)}, expected the same [N, 3] "
            "with N >= 3. Pass the residues that both structures have."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("superposition: a coordinate is not finite. Leave out residues without CA.")
    return a, b


def _distances(model: np.ndarray, reference: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Distances ``[S, N]`` after S superpositions, each on its chosen residues (bool ``[S, N]``)."""
    weights = chosen / chosen.sum(axis=1, keepdims=True)
    model_center, reference_center = weights @ model, weights @ reference
    covariance = np.einsum("sn,ni,nj->sij", weights, model, reference, optimize=True)
    covariance -= model_center[:, :, None] * reference_center[:, None, :]
    u, _, vt = np.linalg.svd(covariance)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # no mirror image
    fitted = (model - model_center[:, None]) @ (u @ vt) + reference_center[:, None]
    return np.linalg.norm(fitted - reference, axis=-1)
