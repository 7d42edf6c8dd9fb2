"""Candidates: for each window of a query the stretches of a library that may have its structure.

Neighbouring windows have neighbouring candidates: if residues 10 to 19 of the query look like residues 60 to
69 of a chain, 12 to 21 look like 62 to 71. So only every fourth window, an *anchor*, is searched. A *block*
is the windows from one anchor to the next; its candidates are the diagonals that either anchor found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from openfoldpp.motifs.library import Library
from openfoldpp.motifs.profile import Profile
from openfoldpp.plm.cheap_head import K

#: Windows from one anchor to the next.
STRIDE = 4
#: Residues before a window's first and after its last that its score looks at.
CONTEXT = 16
#: Residues of a block with the context of all of its windows.
STRIP = STRIDE - 1 + K + 2 * CONTEXT
#: Code of a place beyond the ends of a chain; the letters A to Z have the codes 1 to 26.
NOTHING = 0
CODES = 32

# Where hits are excluded, so many times as many are asked for, again and again up to so many times.
_FURTHER, _FARTHEST = 4, 64


@dataclass(frozen=True)
class Blocks:
    """The candidates of all windows of one chain.

    Attributes
    ----------
    windows : int
        Of the chain; block b has the windows ``4 b`` to ``4 b + 3``, as far as there are.
    query : numpy.ndarray of shape (B, STRIP), uint8
        Codes of the query's residues, from :data:`CONTEXT` before the block's first window on.
    codes : numpy.ndarray of shape (B, C, STRIP), uint8
        Codes of the residues opposite, of each candidate.
    shingles : numpy.ndarray of shape (B, C), int64
        The library's shingle opposite the block's first window: its number, had the segment enough residues.
    distances : numpy.ndarray of shape (B, C, 2), float32
        Angstrom from the anchor before and after the block; where that anchor did not find the diagonal, the
        greatest distance that it found.
    found : numpy.ndarray of shape (B, C, 2), bool
        Which anchor found the diagonal; neither where there is no such candidate.
    profile : Profile
        The backbone that is expected of the chain.
    """

    windows: int
    query: np.ndarray
    codes: np.ndarray
    shingles: np.ndarray
    distances: np.ndarray
    found: np.ndarray
    profile: Profile

    def valid(self) -> np.ndarray:
        """Tell which candidates have all residues of a window.

        Returns
        -------
        numpy.ndarray of shape (B, C, STRIDE), bool
            For each window of the block.
        """
        ends = CONTEXT + np.arange(STRIDE)
        whole = (self.codes[..., ends] != NOTHING) & (self.codes[..., ends + K - 1] != NOTHING)
        return whole & self.found.any(-1)[..., None]


class Strips:
    """Residues of a library's segments as codes, with nothing between one segment and the next.

    Parameters
    ----------
    library : Library
        Open.
    """

    def __init__(self, library: Library):
        self._library = library
        self._views: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._first = np.cumsum([0, *(shard.counts.shingles for shard in library.shards)])

    def around(self, shingles: np.ndarray, before: int) -> np.ndarray:
        """Return the codes of residues around shingles.

        Parameters
        ----------
        shingles : numpy.ndarray of shape (N,), int64
            Numbers in the library.
        before : int
            Residues before the shingle's first, at most ``CONTEXT + STRIDE``.

        Returns
        -------
        numpy.ndarray of shape (N, STRIP), uint8
        """
        found = np.empty((len(shingles), STRIP), np.uint8)
        owners = np.searchsorted(self._first, shingles, "right") - 1
        for number in np.unique(owners):
            chosen = owners == number
            view, firsts = self._view(int(number))
            places = self._library.shards[number].places(shingles[chosen] - self._first[number])
            found[chosen] = view[places.starts + firsts[places.segments] - before]
        return found

    def _view(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what of a shard begins at every place, and each segment's first place."""
        if number not in self._views:
            shard = self._library.shards[number]
            gap = bytes(STRIP)
            codes = [encode(shard.segment(i).sequence).tobytes() for i in range(shard.counts.segments)]
            padded = np.frombuffer(gap + b"".join(code + gap for code in codes), np.uint8)
            lengths = np.array([len(code) for code in codes], np.int64)
            firsts = np.cumsum(lengths + STRIP) - lengths
            self._views[number] = np.lib.stride_tricks.sliding_window_view(padded, STRIP), firsts
        return self._views[number]


def encode(sequence: str) -> np.ndarray:
    """Return the codes of a `sequence` of capital letters, uint8 ``[N_res]``."""
    return np.frombuffer(sequence.encode("ascii"), np.uint8) - np.uint8(ord("A") - 1)


def collect(
    library: Library,
    strips: Strips,
    sequences: Sequence[str],
    vectors: Sequence[np.ndarray],
    profiles: Sequence[Profile],
    count: int,
    excluded: Callable[[int, np.ndarray], np.ndarray] | None = None,
) -> list[Blocks]:
    """Search the anchors of chains and put together what they find.

    Parameters
    ----------
    library : Library
        Searched.
    strips : Strips
        Of the library.
    sequences : sequence of str
        Chains of at least ten residues.
    vectors : sequence of numpy.ndarray of shape (windows, 64)
        Of each chain's windows.
    profiles : sequence of Profile
        Of each chain.
    count : int
        Shingles that each anchor finds.
    excluded : callable, optional
        Given a chain's number and shingles, tells which of them it must not find.

    Returns
    -------
    list of Blocks
        For each chain.
    """
    # One more than blocks; the last block of a chain may be short.
    blocks = [-(-len(v) // STRIDE) for v in vectors]
    anchors = [
        np.minimum(np.arange(n + 1) * STRIDE, len(v) - 1) for n, v in zip(blocks, vectors, strict=True)
    ]
    wanted = np.concatenate([v[a] for v, a in zip(vectors, anchors, strict=True)])
    owner = np.repeat(np.arange(len(anchors)), [len(a) for a in anchors])
    distances, shingles = _nearest(library, wanted, owner, count, excluded)
    found, at = [], 0
    for sequence, profile, v, a in zip(sequences, profiles, vectors, anchors, strict=True):
        rows = slice(at, at + len(a))
        found.append(_blocks(strips, sequence, profile, len(v), a, distances[rows], shingles[rows]))
        at += len(a)
    return found


def _nearest(
    library: Library,
    wanted: np.ndarray,
    owner: np.ndarray,
    count: int,
    excluded: Callable[[int, np.ndarray], np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search; where too much of what was found is excluded, search further."""
    if excluded is None:
        return library.nearest(wanted, count)
    distances = np.full((len(wanted), count), np.inf, np.float32)
    shingles = np.full((len(wanted), count), -1, np.int64)
    rows, asked = np.arange(len(wanted)), count
    while len(rows):
        near, ids = library.nearest(wanted[rows], asked)
        bad = np.empty(ids.shape, bool)
        for number in np.unique(owner[rows]):
            of = owner[rows] == number
            bad[of] = excluded(int(number), ids[of])
        # What is left moves to the front in its order.
        order = np.argsort(bad, axis=1, kind="stable")[:, :count]
        near, ids = np.where(bad, np.inf, near), np.where(bad, -1, ids)
        distances[rows] = np.take_along_axis(near, order, 1)
        shingles[rows] = np.take_along_axis(ids, order, 1)
        if asked >= min(len(library), _FARTHEST * count):
            break
        rows, asked = rows[(~bad).sum(1) < count], asked * _FURTHER
    return distances, shingles


def _blocks(
    strips: Strips,
    sequence: str,
    profile: Profile,
    windows: int,
    anchors: np.ndarray,
    distances: np.ndarray,
    shingles: np.ndarray,
) -> Blocks:
    first = anchors[:-1]
    padded = np.zeros(len(sequence) + 2 * STRIP, np.uint8)
    padded[STRIP : STRIP + len(sequence)] = encode(sequence)
    query = np.lib.stride_tricks.sliding_window_view(padded, STRIP)[STRIP - CONTEXT + first]
    there = shingles >= 0
    codes = np.zeros((2, *shingles[1:].shape, STRIP), np.uint8)
    # Anchors are a stride apart, but the last two may be closer.
    shift = (anchors[1:] - first)[:, None]
    codes[0][there[:-1]] = strips.around(shingles[:-1][there[:-1]], CONTEXT)
    steps = np.broadcast_to(shift, there[1:].shape)[there[1:]]
    for step in np.unique(steps):
        chosen = np.zeros_like(there[1:])
        chosen[there[1:]] = steps == step
        codes[1][chosen] = strips.around(shingles[1:][chosen], CONTEXT + int(step))
    both = np.concatenate([shingles[:-1], np.where(there[1:], shingles[1:] - shift, -1 - len(sequence))], 1)
    worst = np.where(there, distances, -np.inf).max(1)
    worst = np.where(np.isfinite(worst), worst, 0.0).astype(np.float32)
    count = shingles.shape[1]
    near = np.empty((len(first), 2 * count, 2), np.float32)
    near[:, :count, 0], near[:, count:, 1] = distances[:-1], distances[1:]
    near[:, count:, 0], near[:, :count, 1] = worst[:-1, None], worst[1:, None]
    found = np.zeros(near.shape, bool)
    found[:, :count, 0], found[:, count:, 1] = there[:-1], there[1:]
    codes = np.concatenate([codes[0], codes[1]], 1)
    _merge(both, codes, near, found)
    near[~found.any(-1)] = 0
    return Blocks(windows, query, codes, both, near, found, profile)


def _merge(shingles: np.ndarray, codes: np.ndarray, distances: np.ndarray, found: np.ndarray) -> None:
    """Give diagonals that both anchors found both distances, once."""
    order = np.argsort(shingles, axis=1, kind="stable")
    ordered = np.take_along_axis(shingles, order, 1)
    rows, columns = np.nonzero((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    # The stable sort puts the diagonal of the anchor before the block first.
    one, two = order[rows, columns], order[rows, columns + 1]
    # A shingle number may be that of the neighbouring segment, where this one ends within the block.
    same = (codes[rows, one] == codes[rows, two]).all(-1)
    rows, one, two = rows[same], one[same], two[same]
    distances[rows, one, 1] = distances[rows, two, 1]
    found[rows, one, 1] = True
    found[rows, two] = False
