"""Motifs of hits: windows on one diagonal joined, and put in an order of which the first are worth the most.

Two windows are on one diagonal if the same number of residues lies between them in the query's chain and in
the library's segment. A framework has hundreds of good candidates, and a window's finalists are few of them:
a segment that is near to the query all along is a finalist here and there. What lies between is judged by its
backbone: one that is near to that of the window's best hit is about as probable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from openfoldpp.geometry.fragment_rmsd import fragment_rmsd_to_one
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
# Angstrom: of windows that are so far from a right backbone half are right themselves, and how fast that
# falls. Of generated Fvs' (40, held out) 98 % are right at 0.9, 68 % at 1.35 and 7 % at 1.75 angstrom.
_HALF, _WIDTH = 1.45, 0.14
# What a window of which nothing is known takes away: more than any number of good ones brings.
_NEVER = 1e6


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
    its place's best hit times the share of windows that are right so far (RMSD) from a right one, a logistic
    function that was fitted to generated Fvs. The distance is the mean over the windows that are finalists.
    """
    found = [
        motif
        for number in np.unique(windows.chains)
        for motif in _motifs(library, windows, windows.chains == number)
        if motif.score >= min_score
    ]
    found.sort(key=lambda motif: (motif.offset, motif.segment, motif.start))
    total = int(windows.offsets[-1]) + 1 if len(windows.offsets) else 0
    return [_hit(library, found[i]) for i in _ranking(found, total, len(found) if top is None else top)]


class _Motif(NamedTuple):
    """A segment and the first residue of it and of the query; the scores of the windows, their mean."""

    segment: int
    start: int
    offset: int
    scores: np.ndarray
    score: float
    distance: float


def _motifs(library: Library, windows: WindowHits, chosen: np.ndarray) -> list[_Motif]:
    """Return the motifs of one chain of the query."""
    shingles, offsets = windows.shingles[chosen], windows.offsets[chosen]
    rows, columns = np.nonzero(shingles >= 0)
    if not len(rows):
        return []
    count = len(shingles)
    places = library.places(shingles[rows, columns])
    # A segment and a diagonal, -count at least, as one number, in the order of both.
    keys, first, which = np.unique(
        (places.segments << 32) + places.starts - rows + count, return_index=True, return_inverse=True
    )
    segments, lengths = places.segments[first], places.lengths[first]
    diagonals = places.starts[first] - rows[first]
    # What is known of each diagonal at each window; negative where nothing is.
    scores = np.full((len(keys), count), -1.0)
    distances, known = np.zeros(scores.shape), np.zeros(scores.shape, bool)
    scores[which, rows] = windows.scores[chosen][rows, columns]
    distances[which, rows] = windows.distances[chosen][rows, columns]
    known[which, rows] = True
    seeds = np.zeros(scores.shape, bool)
    seeds[which, rows] = columns < KEPT
    best = np.maximum(windows.scores[chosen][:, 0], 0).astype(np.float64)

    seeded = np.flatnonzero(seeds.any(1))
    sums = np.maximum(scores[seeded], 0).sum(1)
    some = seeded[np.argsort(-sums, kind="stable")[:EXTENDED]]
    apart = _from_best(library, segments[some], diagonals[some], lengths[some], shingles[:, 0])
    judged = best / (1 + np.exp((apart - _HALF) / _WIDTH))
    scores[some] = np.where((scores[some] < 0) & np.isfinite(apart), judged, scores[some])

    found, starts, ends = _stretches(scores[seeded], best)
    found = seeded[found]
    has_seed = _between(seeds, found, starts, ends) > 0
    found, starts, ends = found[has_seed], starts[has_seed], ends[has_seed]
    means = _between(scores, found, starts, ends) / (ends - starts)
    nearness = _between(distances, found, starts, ends) / _between(known, found, starts, ends)
    columns = found, diagonals[found] + starts, offsets[starts], starts, ends, means, nearness
    return [
        _Motif(int(segments[row]), first, offset, scores[row, start:end], mean, distance)
        for row, first, offset, start, end, mean, distance in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _from_best(
    library: Library, segments: np.ndarray, diagonals: np.ndarray, lengths: np.ndarray, best: np.ndarray
) -> np.ndarray:
    """Measure how far the windows of diagonals are from the windows' best hits.

    Parameters
    ----------
    library : Library
        Whose segments they are.
    segments, diagonals, lengths : numpy.ndarray of shape (D,), int64
        Of each diagonal, its segment, the segment's residue opposite the query's first, and its residues.
    best : numpy.ndarray of shape (W,), int64
        The best hit of each window, -1 where there is none.

    Returns
    -------
    numpy.ndarray of shape (D, W), float32
        RMSD of N, CA and C, angstrom; infinite where the segment has no such window, or the window no hit.
    """
    count = len(best)
    residues = np.zeros((len(segments), count + K - 1, 9), np.float32)
    there = np.zeros((len(segments), count), bool)
    for row, (segment, diagonal, length) in enumerate(zip(segments, diagonals, lengths, strict=True)):
        start, end = max(-int(diagonal), 0), min(int(length - diagonal), count + K - 1)
        backbone = library.coordinates(int(segment), int(diagonal) + start, end - start)
        residues[row, start:end] = backbone[:, :3].reshape(-1, 9)
        there[row, start : end - K + 1] = True
    fragments = np.lib.stride_tricks.sliding_window_view(residues, K, axis=1).transpose(1, 0, 3, 2)
    fixed = library.shingle_coordinates(np.maximum(best, 0))[:, :, :3]
    apart = fragment_rmsd_to_one(
        fragments.reshape(count, len(segments), 3 * K, 3), fixed.reshape(count, 3 * K, 3)
    )
    return np.where(there & (best >= 0), apart.T, np.inf)


def _stretches(scores: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut diagonals into stretches of windows that are probable enough.

    Two neighbours are joined over a worse stretch that is not all wrong, if it takes away less than either
    brings.

    Parameters
    ----------
    scores : numpy.ndarray of shape (D, W)
        Of each diagonal's windows; negative where nothing is known.
    best : numpy.ndarray of shape (W,)
        Of the windows' best hits.

    Returns
    -------
    rows, starts, ends : numpy.ndarray of shape (S,), int64
        Diagonals and their windows, ``[start, end)``.
    """
    gains = np.where(scores < 0, -_NEVER, scores - SHARE * best)
    good = np.zeros((len(gains), len(best) + 2), np.int8)
    good[:, 1:-1] = gains >= 0
    rows, edges = np.nonzero(np.diff(good, axis=1))
    rows, starts, ends = rows[::2], edges[::2], edges[1::2]
    own = _between(gains, rows, starts, ends).tolist()
    # What joining a stretch to the one before it takes away, and how much it may.
    before, same = np.roll(ends, 1), rows == np.roll(rows, 1)
    if len(same):
        same[0] = False
    before = np.where(same, before, starts)
    losses = np.where(same, -_between(gains, rows, before, starts), np.inf).tolist()
    allowed = ((SHARE - BRIDGE) * _between(best[None], np.zeros_like(rows), before, starts)).tolist()
    found: list[tuple[int, int, float]] = []
    for last, gain in enumerate(own):
        first = last
        while found and losses[first] <= min(gain, found[-1][2], allowed[first]):
            gain -= losses[first]
            first, _, other = found.pop()
            gain += other
        found.append((first, last, gain))
    firsts, lasts = np.array([(first, last) for first, last, _ in found], np.int64).reshape(-1, 2).T
    return rows[firsts], starts[firsts], ends[lasts]


def _between(values: np.ndarray, rows: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return sums of stretches ``[start, end)`` of rows of `values`, ``[D, W]``."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums[rows, ends] - sums[rows, starts]


def _ranking(motifs: list[_Motif], total: int, count: int) -> Iterator[int]:
    """Yield the numbers of the motifs that add the most, one after another."""
    scores = np.zeros((len(motifs), total))
    for row, motif in zip(scores, motifs, strict=True):
        row[motif.offset : motif.offset + len(motif.scores)] = motif.scores
    gains, times = scores.sum(1), np.ones(total)
    for _ in motifs:
        number = int(gains.argmax())  # of equal ones the first
        gains[number] = -np.inf
        motif = motifs[number]
        span = slice(motif.offset, motif.offset + len(motif.scores))
        if times[span].min() > DEPTH:
            continue
        if not count:
            return
        yield number
        count -= 1
        gains -= scores[:, span] @ (1 / times[span] - 1 / (times[span] + 1))
        times[span] += 1


def _hit(library: Library, motif: _Motif) -> MotifHit:
    info, length = library.segment(motif.segment), len(motif.scores) + K - 1
    return MotifHit(
        offset=motif.offset,
        length=length,
        source=info.name,
        residue=info.residue_number(motif.start),
        sequence=info.sequence[motif.start : motif.start + length],
        score=motif.score,
        distance=motif.distance,
        tm=expected_tm(motif.distance, length),
        coords=library.coordinates(motif.segment, motif.start, length),
        segment=motif.segment,
        start=motif.start,
    )
