"""From motif hits to features of residues and of pairs of residues, as an adapter adds them to OpenFold's.

Where hits overlap, each feature is the mean over the hits that know it, weighted by their scores. Nothing
depends on the frame that a hit's coordinates are in. Without hits, and where there are none, all is zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from openfoldpp.geometry import residues
from openfoldpp.motifs.clashes import clashes
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.pieces import Pieces

#: Raised with every change of what a channel means; weights are trained for one version.
VERSION = 1

# 30 degrees a bin, as far as a library of ten-residue windows can tell phi and psi of the target.
_RAMA = 12
# Residues before and after whose CA a residue sees in its own frame: three turns of a helix.
_REACH = 12
# CheapHead's distance, angstrom: which residues are within 0.5, 1, 1.5 and 2.5.
_RMSD_EDGES = (0.5, 1.0, 1.5, 2.5)
# Angstrom; brings coordinates of neighbours to the size of the other channels.
_SCALE = 10.0

#: Channels of the single features: name and how many, in their order; 256 in all, as many as C_m.
SINGLE_LAYOUT: dict[str, int] = {
    "coverage": 1,
    "score": 1,
    "tm": 1,
    "rmsd": 1,
    "hits": 1,
    "identity": 1,
    "from_start": 1,
    "to_end": 1,
    "rmsd_bins": len(_RMSD_EDGES) + 1,
    "residue_type": len(residues.LETTERS),
    "torsions": 6,
    "ramachandran": _RAMA**2,
    "neighbours": 2 * _REACH * 3,
}
SINGLE_CHANNELS: int = sum(SINGLE_LAYOUT.values())

#: Bins of the distance between pseudo-beta atoms: those of OpenFold's template distogram.
DISTANCE_BINS, _FIRST_BIN, _LAST_BIN = 39, 3.25, 50.75
#: Channels of the pair features, in their order.
PAIR_LAYOUT: dict[str, int] = {
    "tm": 1,
    "phi": 4,
    "psi": 4,
    "distance": DISTANCE_BINS,
    "orientation": 3,
    "clash": 1,
    "coverage": 1,
}
PAIR_CHANNELS: int = sum(PAIR_LAYOUT.values())


def _slices(layout: dict[str, int]) -> dict[str, slice]:
    ends = itertools.accumulate(layout.values())
    return {name: slice(end - size, end) for (name, size), end in zip(layout.items(), ends, strict=True)}


#: Where each channel lies.
SINGLE, PAIR = _slices(SINGLE_LAYOUT), _slices(PAIR_LAYOUT)


def motif_features(hits: Sequence[MotifHit], chains: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Make the features of a target.

    Parameters
    ----------
    hits : sequence of MotifHit
        With a score above 0; the others count for nothing.
    chains : sequence of str
        The target's sequences. Pairs of residues of two chains stay zero: no motif knows them.

    Returns
    -------
    single : numpy.ndarray of shape (N_res, 256), float32
        In the order of :data:`SINGLE_LAYOUT`.
    pair : numpy.ndarray of shape (N_res, N_res, PAIR_CHANNELS), float32
        In the order of :data:`PAIR_LAYOUT`.

    Raises
    ------
    InputError
        A hit does not lie within one chain of the target.
    """
    pieces = Pieces.of([hit for hit in hits if hit.score > 0], chains)
    return _single(pieces, "".join(chains)), _pair(pieces, sum(map(len, chains)))


def _single(pieces: Pieces, sequence: str) -> np.ndarray:
    n_res, places = len(sequence), pieces.places
    total = np.zeros((n_res, SINGLE_CHANNELS), np.float32)
    if not pieces.hits:
        return total
    values, known = _residue_values(pieces, sequence)
    known_weight = np.zeros_like(total)
    missed = np.ones((n_res, 1), np.float32)
    for number, hit in enumerate(pieces.hits):
        rows, score = pieces.rows(number), np.float32(hit.score)
        span = slice(hit.offset, hit.offset + hit.length)
        total[span] += score * values[rows]
        known_weight[span] += score * known[rows]
        missed[span] *= 1 - score
    _divide(total, known_weight)
    total[:, SINGLE["coverage"]] = 1 - missed
    total[:, SINGLE["hits"]] = np.log1p(np.bincount(places, minlength=n_res))[:, None]
    return total


def _residue_values(pieces: Pieces, sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what each hit says of each of its residues, and which of it is known: two ``[R, 256]``."""
    count = len(pieces.types)
    values = np.zeros((count, SINGLE_CHANNELS), np.float32)
    known = np.ones((count, SINGLE_CHANNELS), np.float32)
    lengths = _each(pieces, [hit.length for hit in pieces.hits])
    within = np.arange(count) - np.repeat(pieces.first, [hit.length for hit in pieces.hits])
    distances = _each(pieces, [hit.distance for hit in pieces.hits])
    own = residues.residue_types(sequence)[pieces.places]
    columns = {
        "score": _each(pieces, [hit.score for hit in pieces.hits]),
        "tm": _each(pieces, [hit.tm for hit in pieces.hits]),
        "rmsd": distances,
        "identity": pieces.types == own,
        "from_start": 1 / (1 + within),
        "to_end": 1 / (lengths - within),
    }
    for name, column in columns.items():
        values[:, SINGLE[name].start] = column
    rows = np.arange(count)
    values[rows, SINGLE["rmsd_bins"].start + np.searchsorted(_RMSD_EDGES, distances)] = 1
    values[rows, SINGLE["residue_type"].start + pieces.types] = 1

    angles = pieces.torsions.sin_cos[:, [1, 2, 0]]  # phi, psi, pre-omega
    seen = pieces.torsions.known[:, [1, 2, 0]]
    values[:, SINGLE["torsions"]] = (angles * seen[..., None]).reshape(count, 6)
    known[:, SINGLE["torsions"]] = np.repeat(seen, 2, axis=1)
    both = seen[:, 0] & seen[:, 1]
    # -180 to 180 degrees, the end being the start again.
    turns = np.arctan2(angles[..., 0], angles[..., 1]) / (2 * np.pi) + 0.5
    bins = np.floor(turns * _RAMA).astype(int) % _RAMA
    column = SINGLE["ramachandran"].start + bins[:, 0] * _RAMA + bins[:, 1]
    values[rows[both], column[both]] = 1
    known[:, SINGLE["ramachandran"]] = both[:, None]

    start = SINGLE["neighbours"].start
    for step in (*range(-_REACH, 0), *range(1, _REACH + 1)):
        there = (within + step >= 0) & (within + step < lengths)
        moved = pieces.ca[rows[there] + step] - pieces.ca[there]
        values[there, start : start + 3] = np.einsum("rji,rj->ri", pieces.rotations[there], moved) / _SCALE
        known[:, start : start + 3] = there[:, None]
        start += 3
    return values, known


def _pair(pieces: Pieces, n_res: int) -> np.ndarray:
    # Channels first, so that what a hit adds to lies together.
    total = np.zeros((PAIR_CHANNELS, n_res, n_res), np.float32)
    if not pieces.hits:
        return total.transpose(1, 2, 0)
    weight, missed = np.zeros((n_res, n_res), np.float32), np.ones((n_res, n_res), np.float32)
    # Of the hits that know the angle of the row's residue, and of the column's.
    weight_phi, weight_psi = np.zeros((2, n_res, n_res), np.float32), np.zeros((2, n_res, n_res), np.float32)
    known = pieces.torsions.known.astype(np.float32)
    sin_cos = pieces.torsions.sin_cos.astype(np.float32) * known[..., None]
    for number, hit in enumerate(pieces.hits):
        rows, score = pieces.rows(number), np.float32(hit.score)
        span = slice(hit.offset, hit.offset + hit.length)
        block = total[:, span, span]
        weight[span, span] += score
        missed[span, span] *= 1 - score
        block[PAIR["tm"]] += score * np.float32(hit.tm)
        for name, angle, weights in (("phi", 1, weight_phi), ("psi", 2, weight_psi)):
            start = PAIR[name].start
            sine, cosine = score * sin_cos[rows, angle].T
            block[start : start + 2] += np.stack([sine, cosine])[:, :, None]
            block[start + 2 : start + 4] += np.stack([sine, cosine])[:, None, :]
            weights[0, span, span] += score * known[rows, angle][:, None]
            weights[1, span, span] += score * known[rows, angle][None, :]
        _add_distances(block[PAIR["distance"]], pieces.pseudo_beta[rows], score)
        block[PAIR["orientation"]] += score * _directions(pieces.ca[rows], pieces.rotations[rows])
    for name in ("tm", "distance", "orientation"):
        _divide(total[PAIR[name]], weight)
    for name, weights in (("phi", weight_phi), ("psi", weight_psi)):
        _divide(total[PAIR[name]], np.repeat(weights, 2, axis=0))
    total[PAIR["clash"]] = clashes(pieces, n_res)
    total[PAIR["coverage"]] = 1 - missed
    return np.ascontiguousarray(total.transpose(1, 2, 0))


def _add_distances(block: np.ndarray, beta: np.ndarray, score: np.float32) -> None:
    """Add a hit's distances to the bins ``[DISTANCE_BINS, L, L]``; nearer than the first bin is in none."""
    width = (_LAST_BIN - _FIRST_BIN) / (DISTANCE_BINS - 1)
    row, column = _upper(len(beta))
    distances = np.linalg.norm(beta[row] - beta[column], axis=-1)
    bins = np.floor((distances - _FIRST_BIN) / width).astype(int)
    far = bins >= 0
    bins, row, column = np.minimum(bins[far], DISTANCE_BINS - 1), row[far], column[far]
    block[bins, row, column] += score
    block[bins, column, row] += score


@lru_cache(256)
def _upper(length: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(length, 1)


def _directions(ca: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return unit vectors to CA of the column's residue in the frame of the row's, float32 ``[3, L, L]``."""
    length, ca = len(ca), ca - ca.mean(0)  # centred, so that float32 keeps the digits
    axes = rotations.transpose(2, 0, 1)
    local = (axes.reshape(-1, 3) @ ca.T).reshape(3, length, length).astype(np.float32)
    local -= np.einsum("iaj,aj->ia", axes, ca)[:, :, None].astype(np.float32)
    squared = local[0] ** 2 + local[1] ** 2 + local[2] ** 2
    local[:, np.arange(length), np.arange(length)] = 0  # to itself there is none
    return local / np.sqrt(np.maximum(squared, 1e-6))


def _divide(values: np.ndarray, weight: np.ndarray) -> None:
    np.divide(values, weight, out=values, where=weight > 0)


def _each(pieces: Pieces, values: Sequence[float]) -> np.ndarray:
    """Repeat a value of each hit for each of its residues."""
    return np.repeat(np.asarray(values), [hit.length for hit in pieces.hits])
