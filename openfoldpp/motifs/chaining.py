"""Hits of neighbouring windows that lie on one diagonal, joined into longer motifs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from openfoldpp.motifs.hits import MotifHit, expected_tm
from openfoldpp.motifs.library import Library
from openfoldpp.plm.cheap_head import K

if TYPE_CHECKING:
    from openfoldpp.motifs.retriever import WindowHits

#: Windows of a diagonal that are this far apart, or closer, are of one motif: what lies between is covered.
REACH = K // 2


def chain(
    library: Library, windows: WindowHits, *, min_score: float = 0.0, top: int | None = None
) -> list[MotifHit]:
    """Join hits.

    Two hits are on one diagonal if the same number of residues lies between them in the query's chain and in
    the library's segment.

    Parameters
    ----------
    library : Library
        Where the hits are from.
    windows : WindowHits
        Of one query.
    min_score : float
        Leave out motifs with a lower score.
    top : int, optional
        How many at most.

    Returns
    -------
    list of MotifHit
        By the sum of their windows' scores, the greatest first; equal ones by offset, then by segment.
    """
    rows, columns = np.nonzero(windows.shingles >= 0)
    if not len(rows):
        return []
    offsets, chains = windows.offsets[rows], windows.chains[rows]
    scores, distances = windows.scores[rows, columns], windows.distances[rows, columns]
    places = library.places(windows.shingles[rows, columns])
    diagonals = places.starts - offsets
    order = np.lexsort((offsets, diagonals, places.segments, chains))
    offsets, chains, diagonals, segments = (
        array[order] for array in (offsets, chains, diagonals, places.segments)
    )
    scores, distances = scores[order].astype(np.float64), distances[order].astype(np.float64)
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(chains) != 0) | (np.diff(segments) != 0) | (np.diff(diagonals) != 0)
    is_new[1:] |= np.diff(offsets) > REACH
    (starts,) = np.nonzero(is_new)
    ends = np.append(starts[1:], len(order))
    sums = np.add.reduceat(scores, starts)
    means = sums / (ends - starts)
    ranking = np.lexsort((segments[starts], offsets[starts], -sums))
    ranking = ranking[means[ranking] >= min_score][:top]
    return [
        _motif(
            library,
            int(segments[starts[i]]),
            int(diagonals[starts[i]] + offsets[starts[i]]),
            int(offsets[starts[i]]),
            int(offsets[ends[i] - 1] - offsets[starts[i]]) + K,
            float(means[i]),
            float(distances[starts[i] : ends[i]].mean()),
        )
        for i in ranking
    ]


def _motif(
    library: Library, segment: int, start: int, offset: int, length: int, score: float, distance: float
) -> MotifHit:
    info = library.segment(segment)
    return MotifHit(
        offset=offset,
        length=length,
        source=info.name,
        residue=info.residue_number(start),
        sequence=info.sequence[start : start + length],
        score=score,
        distance=distance,
        tm=expected_tm(distance, length),
        coords=library.coordinates(segment, start, length),
        segment=segment,
        start=start,
    )
