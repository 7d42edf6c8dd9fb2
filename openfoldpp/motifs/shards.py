"""What a library consists of: shards, each of which finds shingles by vector and fetches them by number.

A part of a library on this disk is a shard, and so is a library of several parts. An engine elsewhere becomes
one by answering the same questions; see ``docs/scale.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from openfoldpp.motifs.index import ordered
from openfoldpp.motifs.library_files import Counts
from openfoldpp.motifs.segments import SegmentInfo

Found = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Places:
    """Where shingles lie.

    Attributes
    ----------
    segments : numpy.ndarray of int64
        The number of each shingle's segment.
    starts : numpy.ndarray of int64
        Each shingle's first residue, counted from its segment's.
    lengths : numpy.ndarray of int64
        Residues of its segment.
    """

    segments: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


class Nearest(Protocol):
    """What an engine does: find the numbers of the shingles whose vectors are nearest."""

    def nearest(self, vectors: np.ndarray, k: int, *, ef: int) -> Found:
        """Find the nearest shingles.

        Parameters
        ----------
        vectors : numpy.ndarray of shape (Q, 64), float32
            Each is searched by itself.
        k : int
            How many for each.
        ef : int
            Candidates that an index looks at, where it looks at some.

        Returns
        -------
        distances : numpy.ndarray of shape (Q, k), float32
            Euclidean, ascending; infinite where there are fewer.
        shingles : numpy.ndarray of shape (Q, k), int64
            Numbers from 0, equal distances by number; -1 where there are fewer.
        """


class Records(Protocol):
    """What is known of shingles and segments, by number.

    Attributes
    ----------
    counts : Counts
        How many there are. Shingles are numbered from 0, those of a segment one after another; segments too.
    """

    counts: Counts

    def places(self, shingles: np.ndarray) -> Places:
        """Say where `shingles` lie, arrays of their shape."""

    def segment(self, number: int) -> SegmentInfo:
        """Return name, numbering and sequence of a segment by its `number`."""

    def letters(self, shingles: np.ndarray, before: int, after: int) -> np.ndarray:
        """Return the residues of `shingles`, `before` and `after`, uint8 ``[..., before + 10 + after]``."""

    def vectors(self, shingles: np.ndarray) -> np.ndarray:
        """Return the vectors of `shingles`, float32 ``[..., 64]``."""

    def coordinates(self, segment: int, start: int, length: int | None) -> np.ndarray:
        """Return the backbone from `start` in a `segment`, float32 ``[length, 4, 3]``."""

    def shingle_coordinates(self, shingles: np.ndarray) -> np.ndarray:
        """Return the backbones of `shingles`, float32 ``[..., 10, 4, 3]``."""


class Shard(Nearest, Records, Protocol):
    """A piece of a library, with numbers of its own."""


def nearest_of(shards: Sequence[Nearest], firsts: np.ndarray, vectors: np.ndarray, k: int, ef: int) -> Found:
    """Search shards as one: the hits of all, sorted by distance and then by number.

    Parameters
    ----------
    shards : sequence of Nearest
        At least one.
    firsts : numpy.ndarray of int64
        Number of each shard's first shingle.
    vectors : numpy.ndarray of shape (Q, 64), float32
        See :meth:`Nearest.nearest`.
    k, ef : int
        See :meth:`Nearest.nearest`.

    Returns
    -------
    distances, shingles : numpy.ndarray of shape (Q, k)
        See :meth:`Nearest.nearest`.
    """
    if len(shards) == 1:
        return shards[0].nearest(vectors, k, ef=ef)
    # One after another: FAISS spreads the queries over the cores itself; threads for shards on top of it
    # gained nothing with a batch, and cost a tenth of a millisecond with a single query.
    found = [shard.nearest(vectors, k, ef=ef) for shard in shards]
    distances = np.concatenate([distances for distances, _ in found], 1)
    numbers = [np.where(ids < 0, -1, ids + first) for (_, ids), first in zip(found, firsts, strict=False)]
    return ordered(distances, np.concatenate(numbers, 1), k)
