"""The score of a candidate: the probability that its backbone is within 1.5 angstrom of the query's.

It is learned, in two steps. The first is linear, for thousands of candidates: exchange scores (BLOSUM62),
equal residues and exchanged glycines and prolines at each place in and around the window, weighted by
place, where either chain ends, and CheapHead's distances. The best go on to the second, a small network that
sees how far they agree with each other, and with what the language model leads one to expect
(:mod:`openfoldpp.motifs.profile`): a candidate whose backbone the others share is more likely right.
Nothing in it knows of antibodies, but the figures in ``weights/motif_score.json`` are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from openfoldpp.errors import WeightsError
from openfoldpp.files import atomic_write
from openfoldpp.geometry.fragment_rmsd import fragment_rmsd_matrix
from openfoldpp.motifs.candidates import CODES, CONTEXT, NOTHING, STRIDE, STRIP, Blocks
from openfoldpp.motifs.profile import AGREEMENT
from openfoldpp.plm.cheap_head import K

#: Angstrom: a candidate is right if its backbone is no farther from the query's.
NEAR = 1.5
#: Candidates of a window that the second step sees.
FINALISTS = 24
#: Places of a window with its context.
PLACES = K + 2 * CONTEXT
FORMAT = "openfoldpp motif_score 2"
#: What stands at a place: exchange score, equal residues, an exchanged glycine or proline, no residue.
TABLES = 4
#: Between the anchors' distances: see :func:`distance_features`.
DISTANCES = 6
#: See :func:`finalist_features`.
FEATURES = 13 + AGREEMENT

_SHIPPED = Path(__file__).parents[1] / "weights" / "motif_score.safetensors"
#: Log-odds of a candidate that is none.
NONE = np.float32(-1e9)


@dataclass(frozen=True)
class MotifScore:
    """The weights of both steps, all float32.

    Attributes
    ----------
    places : numpy.ndarray of shape (PLACES, TABLES)
        Weights of what stands at each place, from :data:`CONTEXT` before the window on.
    distances : numpy.ndarray of shape (DISTANCES,)
        Weights of the distances.
    bias : numpy.ndarray of shape (1,)
        Added to the first step's sum, the log-odds.
    mean, scale : numpy.ndarray of shape (FEATURES,)
        What is taken from the second step's features, and what they are then multiplied with.
    expand : numpy.ndarray of shape (FEATURES, H)
        Followed by ReLU.
    expand_bias : numpy.ndarray of shape (H,)
        Added before it.
    contract : numpy.ndarray of shape (H,)
        To the log-odds.
    contract_bias : numpy.ndarray of shape (1,)
        Added to them.
    """

    places: np.ndarray
    distances: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    expand: np.ndarray
    expand_bias: np.ndarray
    contract: np.ndarray
    contract_bias: np.ndarray

    def first(self, blocks: Blocks) -> np.ndarray:
        """Return the first step's log-odds.

        Parameters
        ----------
        blocks : Blocks
            Candidates of a chain.

        Returns
        -------
        numpy.ndarray of shape (B, STRIDE, C), float32
            For each window; -1e9 where the candidate lacks a residue of it.
        """
        stands = standing(blocks)
        count, candidates = stands.shape[:2]
        # Window s of a block begins s places later: the same weights, shifted.
        weights = np.zeros((STRIP, TABLES, STRIDE), np.float32)
        for window in range(STRIDE):
            weights[window : window + PLACES, :, window] = self.places
        # By torch: NumPy would take all cores for it, and keep them busy for milliseconds after.
        odds = torch.mm(
            torch.from_numpy(stands.reshape(count * candidates, STRIP * TABLES)),
            torch.from_numpy(weights.reshape(STRIP * TABLES, STRIDE)),
        )
        odds = odds.numpy().reshape(count, candidates, STRIDE)
        for weight, column in zip(self.distances, _distance_columns(blocks), strict=True):
            odds += weight * column
        odds += self.bias
        odds[~blocks.valid()] = NONE
        return odds.transpose(0, 2, 1)

    def second(self, features: np.ndarray) -> np.ndarray:
        """Return the probabilities.

        Parameters
        ----------
        features : numpy.ndarray of shape (..., FEATURES), float32
            Of :func:`finalist_features`.

        Returns
        -------
        numpy.ndarray of shape (...), float32
        """
        hidden = ((features - self.mean) * self.scale) @ self.expand + self.expand_bias
        return _logistic(np.maximum(hidden, 0) @ self.contract + self.contract_bias)


def standing(blocks: Blocks) -> np.ndarray:
    """Return what stands at each place of a block's candidates, float32 ``[B, C, STRIP, TABLES]``."""
    # 32 codes for each of the query's: one number for both.
    pairs = blocks.query[:, None].astype(np.uint16) * CODES + blocks.codes
    return table().take(pairs, axis=0)


def distance_features(blocks: Blocks) -> np.ndarray:
    """Return the features of candidates that their distances give.

    Parameters
    ----------
    blocks : Blocks
        Candidates of a chain.

    Returns
    -------
    numpy.ndarray of shape (B, C, STRIDE, DISTANCES), float32
        Interpolated between the anchors; the lesser and the greater; whether the anchor before and the one
        after found it; how much more than the block's least.
    """
    columns = _distance_columns(blocks)
    return np.stack([np.broadcast_to(column, columns[0].shape) for column in columns], -1).astype(np.float32)


def between_anchors(blocks: Blocks) -> np.ndarray:
    """Return the distances of `blocks` interpolated between anchors, float32 ``[B, C, STRIDE]``."""
    part = (np.arange(STRIDE) / STRIDE).astype(np.float32)
    return blocks.distances[..., :1] * (1 - part) + blocks.distances[..., 1:] * part


def _distance_columns(blocks: Blocks) -> list[np.ndarray]:
    between = between_anchors(blocks)
    there = blocks.found.any(-1)[..., None]
    least = np.where(there, between, np.inf).min(1, keepdims=True)
    before, after = blocks.distances[..., :1], blocks.distances[..., 1:]
    found = blocks.found.astype(np.float32)
    return [
        between,
        np.minimum(before, after),
        np.maximum(before, after),
        found[..., :1],
        found[..., 1:],
        np.where(there, between - np.where(np.isfinite(least), least, 0), 0),
    ]


def finalist_features(
    odds: np.ndarray, distances: np.ndarray, fragments: np.ndarray, agreements: np.ndarray
) -> np.ndarray:
    """Return what the second step sees of a window's finalists.

    Parameters
    ----------
    odds : numpy.ndarray of shape (W, M), float32
        The first step's, descending; -1e9 where there is none.
    distances : numpy.ndarray of shape (W, M), float32
        CheapHead's, angstrom.
    fragments : numpy.ndarray of shape (W, M, 3 K, 3), float32
        Their backbones (N, CA, C), angstrom.
    agreements : numpy.ndarray of shape (W, M, AGREEMENT), float32
        Of :func:`openfoldpp.motifs.profile.agreement`.

    Returns
    -------
    numpy.ndarray of shape (W, M, FEATURES), float32
        Log-odds, and less the window's greatest; distance; the share of the finalists' probability within
        about 1.5, 1.0 and 0.6 angstrom, and that share's greatest in the window; the mean RMSD to them, their
        mean spread; the window's greatest and mean probability; the agreements.
    """
    there = odds > NONE / 2
    odds = np.where(there, odds, -30).astype(np.float32)
    rmsd = fragment_rmsd_matrix(fragments)
    weights = _logistic(odds) * there + np.float32(1e-9)
    share = weights / weights.sum(1, keepdims=True)
    columns = [odds, odds - odds[:, :1], distances]
    for radius, width in ((NEAR, 0.3), (1.0, 0.2), (0.6, 0.12)):
        near = rmsd - np.float32(radius)
        near *= np.float32(1 / width)
        # An RMSD of hundreds of angstrom is no number to raise e to.
        np.exp(np.minimum(near, 60, out=near), out=near)
        near += 1
        agreeing = (np.reciprocal(near, out=near) @ share[..., None])[..., 0]
        columns += [agreeing, agreeing - agreeing.max(1, keepdims=True)]
    apart = (rmsd @ share[..., None])[..., 0]
    columns += [apart, (apart * share).sum(1, keepdims=True), weights.max(1, keepdims=True)]
    columns += [weights.mean(1, keepdims=True)]
    found = np.empty((*odds.shape, FEATURES), np.float32)
    for i, column in enumerate(columns):
        found[..., i] = column
    found[..., len(columns) :] = agreements
    return found


def load(path: Path | None = None) -> MotifScore:
    """Load the weights of the score.

    Parameters
    ----------
    path : pathlib.Path, optional
        A file that ``openfoldpp train motif-score`` made; by default the one that comes with openfoldpp.

    Returns
    -------
    MotifScore

    Raises
    ------
    WeightsError
        The file is missing, damaged or of another kind.
    """
    from openfoldpp.plm.weights import read_safetensors

    path = path or _SHIPPED
    metadata, state = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"weights {path}: not a file of `openfoldpp train motif-score` (its format is "
            f"{metadata.get('format', 'not given')!r}, expected {FORMAT!r})"
        )
    arrays = {name: value.numpy() for name, value in state.items()}
    hidden = arrays["expand_bias"].shape if "expand_bias" in arrays else (0,)
    expected = {
        "places": (PLACES, TABLES),
        "distances": (DISTANCES,),
        "bias": (1,),
        "mean": (FEATURES,),
        "scale": (FEATURES,),
        "expand": (FEATURES, *hidden),
        "expand_bias": hidden,
        "contract": hidden,
        "contract_bias": (1,),
    }
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected or not all(np.isfinite(array).all() for array in arrays.values()):
        raise WeightsError(
            f"weights {path}: arrays {found}, expected {expected}, all finite; install it again"
        )
    return MotifScore(**arrays)


def write(path: Path, score: MotifScore) -> None:
    """Write the weights of a score to a file (safetensors), complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    score : MotifScore
        To be written.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in vars(score).items()}
    data = save(arrays, {"format": FORMAT})
    with atomic_write(path, size=lambda: len(data)) as file:
        file.write(data)


@cache
def table() -> np.ndarray:
    """Return what stands at a place by both codes, float32 ``[32 * 32, TABLES]``."""
    from biotite.sequence.align import SubstitutionMatrix

    blosum = SubstitutionMatrix.std_protein_matrix()
    known = {
        letter: letter if letter in blosum.get_alphabet1() else "X" for letter in map(chr, range(65, 91))
    }
    found = np.zeros((CODES, CODES, TABLES), np.float32)
    found[NOTHING, :, 3] = found[:, NOTHING, 3] = 1
    for i, a in enumerate(known, 1):
        for j, b in enumerate(known, 1):
            found[i, j, 0] = blosum.get_score(known[a], known[b])
            found[i, j, 1] = a == b != "X"
            found[i, j, 2] = a != b and bool({a, b} & {"G", "P"})
    return found.reshape(CODES * CODES, TABLES)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
