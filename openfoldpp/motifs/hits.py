"""What a search of a library finds: motifs, pieces of known structure for stretches of a query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class MotifHit:
    """A stretch of a library's chain that stands for a stretch of the query.

    Attributes
    ----------
    offset : int
        First residue of the query, counted from 0 through all of its chains.
    length : int
        Residues, ten or more.
    source : str
        The structure and its chain: ``1abc_A``.
    residue : str
        Number of the first residue in the source's file, with its insertion code.
    sequence : str
        The source's, one-letter codes.
    score : float
        Probability that the backbone (N, CA, C) of ten residues is within 1.5 angstrom of the query's after
        superposition, 0 to 1; of a longer motif the mean over its windows of ten.
    distance : float
        CheapHead's estimate of that RMSD, angstrom; of a longer motif the mean over its windows.
    tm : float
        TM-score that a motif of this length has if its residues are off by the distance, 0 to 1. An estimate.
    coords : numpy.ndarray of shape (length, 4, 3), float32
        N, CA, C and O, angstrom, in the frame of the source's structure: that of all of its chains.
    segment, start : int
        Number of the library's segment, and the first residue counted from the segment's.
    """

    offset: int
    length: int
    source: str
    residue: str
    sequence: str
    score: float
    distance: float
    tm: float
    coords: np.ndarray
    segment: int
    start: int


def expected_tm(distance: float, length: int) -> float:
    """Return the TM-score of residues that are all equally far off (Zhang and Skolnick 2004).

    Parameters
    ----------
    distance : float
        Of each residue from where it belongs, angstrom.
    length : int
        Residues, which decide the scale; below about 21 it is 0.5 angstrom.

    Returns
    -------
    float
        0 to 1.
    """
    d0 = max(1.24 * float(np.cbrt(length - 15.0)) - 1.8, 0.5)
    return 1.0 / (1.0 + (distance / d0) ** 2)
