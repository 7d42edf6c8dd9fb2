"""Leave out of a search what is nearly the query itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openfoldpp.motifs.library import Library
from openfoldpp.motifs.sequence_identity import near

# So many sequences' words are compared at once: 70 kB each.
_AT_ONCE = 1024


class Exclusion:
    """Tells which shingles are of segments that are nearly identical with a chain of the query.

    Parameters
    ----------
    library : Library
        Whose shingles they are.
    chains : sequence of str
        The query's.
    max_identity : float
        From this share of identical residues on, of the shorter one's, a segment is left out, 0 to 1; see
        :mod:`openfoldpp.motifs.sequence_identity`.
    """

    def __init__(self, library: Library, chains: Sequence[str], max_identity: float):
        self._library = library
        self._chains = chains
        self._max_identity = max_identity
        self._known: list[dict[int, bool]] = [{} for _ in chains]

    def __call__(self, chain: int, shingles: np.ndarray) -> np.ndarray:
        """Tell which shingles are left out.

        Parameters
        ----------
        chain : int
            Number of the chain that they were found for.
        shingles : numpy.ndarray of int64
            Any shape; -1, which is none, is left out too.

        Returns
        -------
        numpy.ndarray of bool
            Of that shape.
        """
        known = self._known[chain]
        bad = shingles < 0
        segments = self._library.places(shingles[~bad]).segments
        distinct, which = np.unique(segments, return_inverse=True)
        new = [int(segment) for segment in distinct if int(segment) not in known]
        for i in range(0, len(new), _AT_ONCE):
            some = new[i : i + _AT_ONCE]
            sequences = [self._library.segment(segment).sequence for segment in some]
            known.update(zip(some, near(sequences, [self._chains[chain]], self._max_identity), strict=True))
        bad[~bad] = np.array([known[int(segment)] for segment in distinct], bool)[which]
        return bad
