"""From motif hits to features of residues and of pairs of residues, as an adapter adds them to OpenFold's.

Where hits overlap, each feature is the mean over the hits that know it, weighted by their scores. Nothing
depends on the frame that a hit's coordinates are in. Without hits, and where there are none, all is zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

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
    known_weight = np.zeros((n_res, known.shape[1]), np.float32)
    missed = np.ones((n_res, 1), np.float32)
    for number, hit in enumerate(pieces.hits):
        rows, score = pieces.rows(number), np.float32(hit.score)
        span = slice(hit.offset, hit.offset + hit.length)
        total[span] += score * values[rows]
        known_weight[span] += score * known[rows]
        missed[span] *= 1 - score
    # Where nothing is known the sum is zero too.
    total /= np.where(known_weight > 0, known_weight, 1).take(_KNOWN, 1)
    total[:, SINGLE["coverage"]] = 1 - missed
    total[:, SINGLE["hits"]] = np.log1p(np.bincount(places, minlength=n_res))[:, None]
    return total


def _residue_values(pieces: Pieces, sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what each hit says of each of its residues, ``[R, 256]``, and which of it is known.

    The latter, float32 ``[R, 5 + 2 * _REACH]``, has a column for all that is always known, for each torsion,
    for the bins of phi and psi, and for each neighbour: :data:`_KNOWN` says which channel has which.
    """
    count = len(pieces.types)
    values = np.zeros((count, SINGLE_CHANNELS), np.float32)
    known = np.ones((count, _NEIGHBOURS + 2 * _REACH), np.float32)
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
    known[:, 1:4] = seen
    both = seen[:, 0] & seen[:, 1]
    # -180 to 180 degrees, the end being the start again.
    turns = np.arctan2(angles[..., 0], angles[..., 1]) / (2 * np.pi) + 0.5
    bins = np.floor(turns * _RAMA).astype(int) % _RAMA
    column = SINGLE["ramachandran"].start + bins[:, 0] * _RAMA + bins[:, 1]
    values[rows[both], column[both]] = 1
    known[:, 4] = both

    places = within[:, None] + _STEPS
    there = (places >= 0) & (places < lengths[:, None])
    others = np.where(there, rows[:, None] + _STEPS, rows[:, None])
    axes = np.ascontiguousarray(pieces.ca.T)
    moved = [(one[others] - one[:, None]).astype(np.float32) for one in axes]
    frames = pieces.rotations.astype(np.float32)
    local = values[:, SINGLE["neighbours"]].reshape(count, len(_STEPS), 3)
    for axis in range(3):
        local[..., axis] = sum(one * frames[:, i, axis, None] for i, one in enumerate(moved)) / _SCALE
    known[:, _NEIGHBOURS:] = there
    return values, known


# Where a neighbour stands from the residue; which column of what is known tells of it, see _residue_values.
_STEPS = np.array([*range(-_REACH, 0), *range(1, _REACH + 1)])
_NEIGHBOURS = 5
_KNOWN = np.zeros(SINGLE_CHANNELS, np.int64)
_KNOWN[SINGLE["torsions"]] = 1 + np.arange(6) // 2
_KNOWN[SINGLE["ramachandran"]] = 4
_KNOWN[SINGLE["neighbours"]] = _NEIGHBOURS + np.arange(6 * _REACH) // 3


def _pair(pieces: Pieces, n_res: int) -> np.ndarray:
    total = np.zeros((n_res, n_res, PAIR_CHANNELS), np.float32)
    if not pieces.hits:
        return total
    covers = np.zeros((len(pieces.hits), n_res), np.float32)
    # Sine and cosine of phi and psi of the residues that a hit covers, and whether it knows them.
    angles = np.zeros((2, 3, len(pieces.hits), n_res), np.float32)
    known = pieces.torsions.known.astype(np.float32)
    sin_cos = pieces.torsions.sin_cos.astype(np.float32) * known[..., None]
    missed = np.ones((n_res, n_res), np.float32)
    for number, hit in enumerate(pieces.hits):
        rows, span = pieces.rows(number), slice(hit.offset, hit.offset + hit.length)
        covers[number, span] = 1
        angles[:, :2, number, span] = sin_cos[rows, 1:3].transpose(1, 2, 0)
        angles[:, 2, number, span] = known[rows, 1:3].T
        missed[span, span] *= np.float32(1 - hit.score)
    scores = np.array([hit.score for hit in pieces.hits], np.float32)
    # A sum over hits of what depends on the row alone, where they cover the column too, is a product.
    weighted = scores[:, None] * covers
    weight = _product(weighted, covers)
    share = np.divide(1, weight, out=np.zeros_like(weight), where=weight > 0)
    tms = np.array([hit.tm for hit in pieces.hits], np.float32)
    _add_places(total, pieces, share)
    total[..., PAIR["tm"].start] = _product(tms[:, None] * weighted, covers) * share
    for name, (sine, cosine, seen) in zip(("phi", "psi"), angles, strict=True):
        start = PAIR[name].start
        sine, cosine, seen = (_product(one, weighted) for one in (sine, cosine, seen))
        seen = np.where(seen > 0, seen, 1)
        for i, one in enumerate((sine / seen, cosine / seen)):
            # The row's angle, the column's.
            total[..., start + i], total[..., start + 2 + i] = one, one.T
    total[..., PAIR["clash"].start] = clashes(pieces, n_res)
    total[..., PAIR["coverage"].start] = 1 - missed
    return total


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a.T @ b`` by torch: NumPy would take all cores for it, and keep them busy for a while."""
    return (torch.from_numpy(a).t() @ torch.from_numpy(b)).numpy()


def _add_places(total: np.ndarray, pieces: Pieces, share: np.ndarray) -> None:
    """Add distances and directions: `share`, ``[N_res, N_res]``, is one divided by the hits' weights."""
    n_res = len(total)
    flat = total.reshape(-1)
    first = np.arange(n_res * n_res).reshape(n_res, n_res) * PAIR_CHANNELS + PAIR["distance"].start
    width = (_LAST_BIN - _FIRST_BIN) / (DISTANCE_BINS - 1)
    directions = np.zeros((3, n_res, n_res), np.float32)
    for number, hit in enumerate(pieces.hits):
        rows, span = pieces.rows(number), slice(hit.offset, hit.offset + hit.length)
        part = np.float32(hit.score) * share[span, span]
        bins = _distances(pieces.pseudo_beta[rows])
        bins -= _FIRST_BIN
        bins /= width
        # Nearer than the first bin is in none.
        far = part * (bins >= 0)
        channels = np.clip(bins, 0, DISTANCE_BINS - 1, out=bins).astype(np.int64)
        channels += first[span, span]
        flat[channels.ravel()] += far.ravel()
        local = _directions(pieces.ca[rows], pieces.rotations[rows])
        local *= part
        directions[:, span, span] += local
    for axis, one in enumerate(directions):
        total[..., PAIR["orientation"].start + axis] = one


def _distances(points: np.ndarray) -> np.ndarray:
    """Return distances between points ``[L, 3]``: ``[L, L]``, 0 from a point to itself."""
    points = points - points.mean(0)
    squared = np.einsum("ij,ij->i", points, points)
    found = points @ points.T
    found *= -2
    found += squared[:, None]
    found += squared
    np.fill_diagonal(found, 0)
    return np.sqrt(np.maximum(found, 0, out=found), out=found)


def _directions(ca: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Return unit vectors to CA of the column's residue in the frame of the row's, float32 ``[3, L, L]``."""
    length, ca = len(ca), ca - ca.mean(0)  # centred, so that float32 keeps the digits
    axes = np.ascontiguousarray(rotations.transpose(2, 0, 1))
    own = (axes * ca).sum(-1)
    local = axes.astype(np.float32).reshape(-1, 3) @ ca.T.astype(np.float32)
    local -= own.reshape(-1, 1).astype(np.float32)
    local = local.reshape(3, length, length)
    squared = local[0] * local[0] + local[1] * local[1] + local[2] * local[2]
    local /= np.sqrt(np.maximum(squared, np.float32(1e-6)))
    local[:, np.arange(length), np.arange(length)] = 0  # to itself there is none
    return local


def _each(pieces: Pieces, values: Sequence[float]) -> np.ndarray:
    """Repeat a value of each hit for each of its residues."""
    return np.repeat(np.asarray(values), [hit.length for hit in pieces.hits])
