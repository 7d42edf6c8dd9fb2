"""Motifs of hits: windows on one diagonal joined, and put in an order of which the first are worth the most.

Two windows are on one diagonal if the same number of residues lies between them in the query's chain and in
the library's segment. A framework has hundreds of good candidates, and a window's finalists are few of them:
a segment that is near to the query all along is a finalist here and there. What lies between is judged by its
backbone: one that is near to that of the window's best hit is about as probable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from openfoldpp.geometry.fragment_rmsd import fragment_rmsd_pairs
from openfoldpp.motifs.hits import MotifHit, expected_tm
from openfoldpp.motifs.library import Library
from openfoldpp.plm.cheap_head import K

if TYPE_CHECKING:
    from openfoldpp.motifs.retriever import WindowHits

#: A motif has at least one of so many best hits of a window.
KEPT = 5
#: Windows join that are at least this part as probable as the best hit of their place.
SHARE = 0.5
#: A worse stretch between two is joined over if it is at least this part as probable as the best hits of its
#: places; a loop that is nearly all wrong ends a motif, however good the framework on both sides is.
BRIDGE = 0.25
#: A motif of which every window has been in so many motifs before it is left out: it would repeat them.
DEPTH = 8
#: Diagonals of each chain whose windows between finalists are judged too, those of the greatest sums: a fixed
#: cost, and many more than a chain needs to be covered several times.
EXTENDED = 48
#: Angstrom: what is so far from a right backbone, or farther, is not counted as right.
_NEAR = 1.5


def chain(
    library: Library, windows: WindowHits, *, min_score: float = 0.0, top: int | None = None
) -> list[MotifHit]:
    """Join hits.

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
        Each next one adds the most: the sum over its windows of their scores, each divided by one more than
        the motifs before it that have this window. So the first ones together cover the query, and
        alternatives follow, until every window of what is left has been in :data:`DEPTH` motifs. Fewer asked
        for are the first of more. Equal ones by offset, then by segment.

    Notes
    -----
    A motif's score is the mean over all of its windows. A window that is no finalist counts with the score of
    its place's best hit times ``1 - RMSD / 1.5`` angstrom, the RMSD being to that hit's backbone, and 0 at
    least. The distance is the mean over the windows that are finalists.
    """
    found = [
        motif
        for number in np.unique(windows.chains)
        for motif in _motifs(library, windows, windows.chains == number)
        if motif[3].mean() >= min_score
    ]
    found.sort(key=lambda motif: (motif[2], motif[0], motif[1]))
    total = int(windows.offsets[-1]) + 1 if len(windows.offsets) else 0
    return [_hit(library, *found[i]) for i in _ranking(found, total, len(found) if top is None else top)]


# Segment, first residue of it and of the query, the score of each window, the distance.
_Motif = tuple[int, int, int, np.ndarray, float]


def _motifs(library: Library, windows: WindowHits, chosen: np.ndarray) -> Iterator[_Motif]:
    """Yield the motifs of one chain of the query."""
    shingles, offsets = windows.shingles[chosen], windows.offsets[chosen]
    rows, columns = np.nonzero(shingles >= 0)
    if not len(rows):
        return
    places = library.places(shingles[rows, columns])
    diagonals = places.starts - rows
    keys, which = np.unique(np.stack([places.segments, diagonals]), axis=1, return_inverse=True)
    which = which.reshape(-1)
    segments, diagonals = keys
    # What is known of each diagonal at each window; negative where nothing is.
    scores = np.full((keys.shape[1], len(shingles)), -1.0)
    distances = np.full(scores.shape, np.nan)
    scores[which, rows] = windows.scores[chosen][rows, columns]
    distances[which, rows] = windows.distances[chosen][rows, columns]
    seeds = np.zeros(scores.shape, bool)
    seeds[which, rows] = columns < KEPT
    best = np.maximum(windows.scores[chosen][:, 0], 0)

    lengths, numbers = np.empty(len(segments), np.int64), np.empty(len(segments), np.int64)
    lengths[which] = places.lengths
    # Number of the shingle opposite the first window, had the segment one.
    numbers[which] = shingles[rows, columns] - rows
    sums = np.where(seeds.any(1), np.maximum(scores, 0).sum(1), -1)
    extended = np.argsort(-sums, kind="stable")[:EXTENDED]
    starts = diagonals[extended, None] + np.arange(len(shingles))
    unknown = (starts >= 0) & (starts <= lengths[extended, None] - K) & (scores[extended] < 0)
    some, places_of = np.nonzero(unknown & (shingles[:, 0] >= 0))
    own = library.shingle_coordinates(numbers[extended[some]] + places_of)[..., :3, :]
    best_of = library.shingle_coordinates(np.maximum(shingles[:, 0], 0))[places_of][..., :3, :]
    rmsd = fragment_rmsd_pairs(own.reshape(-1, 3 * K, 3), best_of.reshape(-1, 3 * K, 3))
    scores[extended[some], places_of] = best[places_of] * np.maximum(1 - rmsd / _NEAR, 0)

    for row in np.flatnonzero(seeds.any(1)):
        for start, end in _stretches(scores[row], best):
            if seeds[row, start:end].any():
                some = distances[row, start:end]
                distance = float(some[~np.isnan(some)].mean())
                first = int(diagonals[row]) + start
                yield int(segments[row]), first, int(offsets[start]), scores[row, start:end], distance


def _stretches(scores: np.ndarray, best: np.ndarray) -> list[tuple[int, int]]:
    """Cut a diagonal into stretches of windows that are probable enough.

    Two neighbours are joined over a worse stretch that is not all wrong, if it takes away less than either
    brings.
    """
    gains = np.where(scores < 0, -np.inf, scores - SHARE * best)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], gains >= 0, [False]]).astype(np.int8)))
    found: list[tuple[int, int, float]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        gain = float(gains[start:end].sum())
        while found:
            before, last, other = found[-1]
            loss = float(gains[last:start].sum())
            if -loss > min(gain, other, (SHARE - BRIDGE) * float(best[last:start].sum())):
                break
            start, gain = before, gain + other + loss
            found.pop()
        found.append((start, end, gain))
    return [(start, end) for start, end, _ in found]


def _ranking(motifs: list[_Motif], total: int, count: int) -> Iterator[int]:
    """Yield the numbers of the motifs that add the most, one after another."""
    scores = np.zeros((len(motifs), total))
    for row, (_, _, offset, some, _) in zip(scores, motifs, strict=True):
        row[offset : offset + len(some)] = some
    gains, times = scores.sum(1), np.ones(total)
    for _ in motifs:
        number = int(gains.argmax())  # of equal ones the first
        gains[number] = -np.inf
        span = slice(motifs[number][2], motifs[number][2] + len(motifs[number][3]))
        if times[span].min() > DEPTH:
            continue
        if not count:
            return
        yield number
        count -= 1
        gains -= scores[:, span] @ (1 / times[span] - 1 / (times[span] + 1))
        times[span] += 1


def _hit(
    library: Library, segment: int, start: int, offset: int, scores: np.ndarray, distance: float
) -> MotifHit:
    info, length = library.segment(segment), len(scores) + K - 1
    return MotifHit(
        offset=offset,
        length=length,
        source=info.name,
        residue=info.residue_number(start),
        sequence=info.sequence[start : start + length],
        score=float(scores.mean()),
        distance=distance,
        tm=expected_tm(distance, length),
        coords=library.coordinates(segment, start, length),
        segment=segment,
        start=start,
    )
