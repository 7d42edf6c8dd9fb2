"""Where two motif hits cannot both be right: laid on each other, they would fill the same space."""

from __future__ import annotations

import itertools

import numpy as np

from openfoldpp.geometry import residues
from openfoldpp.motifs.pieces import Pieces

# Angstrom. Two CA that are not neighbours are at least 3.8 apart in a good structure, the rest is for motifs
# that bend a little.
_NEAREST = 3.0
# Residues that two hits must share for one to be laid on the other: three have nine backbone atoms.
_SHARED = 3
_BACKBONE = [residues.N, residues.CA, residues.C]


def clashes(pieces: Pieces, n_res: int) -> np.ndarray:
    """Find pairs of residues that two overlapping hits bring too near to each other.

    The second hit is laid on the first by N, CA and C of the residues that both have. Then CA of a residue
    that only the one has must stay 3 angstrom away from CA of one that only the other has.

    Parameters
    ----------
    pieces : Pieces
        The hits.
    n_res : int
        The target's residues.

    Returns
    -------
    numpy.ndarray of shape (n_res, n_res), float32
        0, or the product of the two hits' scores where they clash; of several the largest. Symmetric.
    """
    found = np.zeros((n_res, n_res), np.float32)
    hits = pieces.hits
    pairs = [
        (a, b)
        for a, b in itertools.permutations(range(len(hits)), 2)
        if hits[a].offset < hits[b].offset <= hits[a].offset + hits[a].length - _SHARED
        and hits[a].offset + hits[a].length < hits[b].offset + hits[b].length
    ]
    if not pairs:
        return found
    rotations, shifts = _laid_on(pieces, pairs)
    for (a, b), rotation, shift in zip(pairs, rotations, shifts, strict=True):
        end, start = hits[a].offset + hits[a].length, hits[b].offset
        before = pieces.ca[pieces.rows(a)][: start - hits[a].offset]
        after = pieces.ca[pieces.rows(b)][end - start :] @ rotation + shift
        apart = before[:, None] - after
        apart *= apart
        row, column = np.nonzero(apart[..., 0] + apart[..., 1] + apart[..., 2] < _NEAREST**2)
        row, column = row + hits[a].offset, column + end
        both = np.float32(hits[a].score * hits[b].score)
        found[row, column] = np.maximum(found[row, column], both)
    return np.maximum(found, found.T)


def _laid_on(pieces: Pieces, pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pair what lays the second hit on the first: ``x @ rotation + shift`` (Kabsch 1976)."""
    covariances, centres = np.empty((len(pairs), 3, 3)), np.empty((len(pairs), 2, 3))
    backbones = pieces.atom37[:, _BACKBONE]
    for number, (a, b) in enumerate(pairs):
        shared = pieces.hits[a].offset + pieces.hits[a].length - pieces.hits[b].offset
        fixed = backbones[pieces.rows(a)][-shared:].reshape(-1, 3)
        mobile = backbones[pieces.rows(b)][:shared].reshape(-1, 3)
        centres[number] = fixed.sum(0), mobile.sum(0)
        centres[number] /= len(fixed)
        covariances[number] = (mobile - centres[number, 1]).T @ (fixed - centres[number, 0])
    u, _, vt = np.linalg.svd(covariances)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]  # no mirror image
    rotations = u @ vt
    return rotations, centres[:, 0] - np.einsum("pi,pij->pj", centres[:, 1], rotations)
