"""Search a library for a sequence: candidates, their scores, and motifs of those that lie on one diagonal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.motifs import profile, scoring
from openfoldpp.motifs.candidates import STRIDE, Blocks, Strips, collect
from openfoldpp.motifs.chaining import chain
from openfoldpp.motifs.embedder import ShingleEmbedder, shingle_embedder
from openfoldpp.motifs.exclusion import Exclusion
from openfoldpp.motifs.hits import MotifHit
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.workers import each
from openfoldpp.plm.cheap_head import K

#: Shingles that each anchor finds. Twice as many take twice the time and found nothing better.
CANDIDATES = 128


@dataclass(frozen=True)
class WindowHits:
    """The best candidates of every window of a query, windows of all its chains in order.

    Attributes
    ----------
    offsets : numpy.ndarray of shape (W,), int64
        First residue of each window, counted from 0 through all chains.
    chains : numpy.ndarray of shape (W,), int64
        The query's chain that the window is of.
    shingles : numpy.ndarray of shape (W, M), int64
        The library's shingles, the most probable first; -1 where there are fewer.
    scores : numpy.ndarray of shape (W, M), float32
        Probability that the backbone is within 1.5 angstrom of the query's; 0 where there is none.
    distances : numpy.ndarray of shape (W, M), float32
        CheapHead's estimate of the RMSD, angstrom; infinite where there is none.
    """

    offsets: np.ndarray
    chains: np.ndarray
    shingles: np.ndarray
    scores: np.ndarray
    distances: np.ndarray


class Retriever:
    """Finds motifs for sequences.

    The same library and sequence give the same hits, whatever else is in the batch and however many threads
    there are, up to the last digits of the language model.

    Parameters
    ----------
    library : Library
        Searched; it stays open as long as it is used.
    max_identity : float, optional
        Leave out the library's segments of which this part of the residues, or more, is identical with the
        chain that is searched for, 0 to 1; 1 leaves out only the chain itself and pieces of it. By default
        nothing is left out.
    candidates : int
        Shingles that each anchor finds, see :mod:`openfoldpp.motifs.candidates`.
    embedder : ShingleEmbedder, optional
        By default the one that comes with openfoldpp, loaded once in a process.
    score : MotifScore, optional
        By default the one that comes with openfoldpp.

    Raises
    ------
    InputError
        An option is out of range.
    WeightsError
        Weights that come with openfoldpp are missing, damaged, or were made for another language model.
    """

    def __init__(
        self,
        library: Library,
        *,
        max_identity: float | None = None,
        candidates: int = CANDIDATES,
        embedder: ShingleEmbedder | None = None,
        score: scoring.MotifScore | None = None,
    ):
        if max_identity is not None and not 0 < max_identity <= 1:
            raise InputError(f"--max-identity {max_identity}: expected more than 0, at most 1")
        if candidates < 1:
            raise InputError(f"{candidates} candidates: expected 1 or more")
        self.library = library
        self.max_identity = max_identity
        self.candidates = candidates
        self.embedder = embedder or shingle_embedder()
        self.score = score or scoring.load()
        self.profile = profile.load(self.embedder.lite.fingerprint)
        self._strips = Strips(library)

    def search(
        self, sequences: Sequence[str], *, min_score: float = 0.0, top: int | None = None
    ) -> list[list[MotifHit]]:
        """Find motifs.

        Parameters
        ----------
        sequences : sequence of str
            One-letter codes; several chains of one query are separated by colons: ``VH:VL``. No motif goes
            across.
        min_score : float
            Leave out motifs with a lower score.
        top : int, optional
            How many of each query at most; by default all.

        Returns
        -------
        list of list of MotifHit
            For each query, in the order of :func:`openfoldpp.motifs.chaining.chain`: the first ones together
            cover the query, alternatives follow.

        Raises
        ------
        InputError
            A sequence is no protein's or too short, or the library is damaged.
        MissingDependencyError
            FAISS is not installed.
        """
        return [
            chain(self.library, windows, min_score=min_score, top=top) for windows in self.windows(sequences)
        ]

    def windows(self, sequences: Sequence[str], *, keep: int = scoring.FINALISTS) -> list[WindowHits]:
        """Find the best candidates of every window.

        Parameters
        ----------
        sequences : sequence of str
            See :meth:`search`.
        keep : int
            How many of each window, at most :data:`openfoldpp.motifs.scoring.FINALISTS`.

        Returns
        -------
        list of WindowHits
            For each query.

        Raises
        ------
        InputError
            See :meth:`search`.
        MissingDependencyError
            FAISS is not installed.
        """
        queries = [_chains(sequence) for sequence in sequences]
        chains = [one for query in queries for one in query]
        scored = iter([self._scored(blocks) for blocks in self.blocks(chains)])
        return [_joined(query, [next(scored) for _ in query], keep) for query in queries]

    def blocks(self, chains: Sequence[str]) -> list[Blocks]:
        """Find the candidates of chains, see :func:`openfoldpp.motifs.candidates.collect`.

        Parameters
        ----------
        chains : sequence of str
            One-letter codes.

        Returns
        -------
        list of Blocks
            For each chain.
        """
        if not chains:
            return []
        vectors, profiles = zip(*each(self._embedded, chains), strict=True)
        excluded = None
        if self.max_identity is not None:
            excluded = Exclusion(self.library, chains, self.max_identity)
        return collect(self.library, self._strips, chains, vectors, profiles, self.candidates, excluded)

    def finalists(self, blocks: Blocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose the finalists of a chain's windows by the first step of the score.

        Parameters
        ----------
        blocks : Blocks
            Candidates of the chain.

        Returns
        -------
        odds : numpy.ndarray of shape (W, M), float32
            Descending; -1e9 where there is none.
        shingles : numpy.ndarray of shape (W, M), int64
            -1 where there is none.
        distances : numpy.ndarray of shape (W, M), float32
            CheapHead's, between the anchors.
        """
        odds = self.score.first(blocks)
        shingles = blocks.shingles[:, None] + np.arange(STRIDE)[:, None]
        between = scoring.between_anchors(blocks).transpose(0, 2, 1)
        odds, shingles, between = (
            array.reshape(-1, array.shape[-1])[: blocks.windows] for array in (odds, shingles, between)
        )
        count = min(scoring.FINALISTS, odds.shape[1])
        best = np.argpartition(-odds, count - 1, axis=1)[:, :count]
        odds, shingles, between = (np.take_along_axis(a, best, 1) for a in (odds, shingles, between))
        order = np.lexsort((shingles, -odds), axis=1)
        odds, shingles, between = (np.take_along_axis(a, order, 1) for a in (odds, shingles, between))
        return odds, np.where(odds > scoring.NONE / 2, shingles, -1), between

    def features(
        self,
        blocks: Blocks,
        windows: np.ndarray,
        odds: np.ndarray,
        shingles: np.ndarray,
        distances: np.ndarray,
    ) -> np.ndarray:
        """Return what the second step sees, see :func:`openfoldpp.motifs.scoring.finalist_features`.

        Parameters
        ----------
        blocks : Blocks
            Of the chain.
        windows : numpy.ndarray of shape (W,), int64
            Their first residues.
        odds, shingles, distances : numpy.ndarray of shape (W, M)
            Of :meth:`finalists`, the rows of these windows.

        Returns
        -------
        numpy.ndarray of shape (W, M, FEATURES), float32
        """
        coords = self.library.shingle_coordinates(np.maximum(shingles, 0))[..., :3, :]
        agreements = profile.agreement(blocks.profile, windows, coords[..., 1, :])
        fragments = coords.reshape(*shingles.shape, 3 * K, 3)
        return scoring.finalist_features(odds, distances, fragments, agreements)

    def _embedded(self, chain: str) -> tuple[np.ndarray, profile.Profile]:
        [(residues, vectors)] = self.embedder.embed_both([chain])
        return vectors, self.profile.profile(residues)

    def _scored(self, blocks: Blocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        odds, shingles, distances = self.finalists(blocks)
        windows = np.arange(blocks.windows)
        scores = self.score.second(self.features(blocks, windows, odds, shingles, distances))
        none = shingles < 0
        scores, distances = np.where(none, 0, scores), np.where(none, np.inf, distances)
        order = np.lexsort((shingles, -scores), axis=1)
        return tuple(np.take_along_axis(array, order, 1) for array in (shingles, scores, distances))


def load(library: str | Path | Iterable[str | Path], *, max_identity: float | None = None) -> Retriever:
    """Open a library, or several as one, and return what searches it.

    Parameters
    ----------
    library : path-like, or iterable of path-like
        Folders that ``openfoldpp motifs build`` made.
    max_identity : float, optional
        See :class:`Retriever`.

    Returns
    -------
    Retriever
    """
    return Retriever(Library.open(library), max_identity=max_identity)


def _chains(sequence: str) -> list[str]:
    chains = sequence.split(":")
    for one in chains:
        other = sorted({letter for letter in one if not ("A" <= letter <= "Z")})
        if other or len(one) < K:
            what = f"characters {''.join(other)!r}" if other else f"{len(one)} residues"
            raise InputError(
                f"the chain {one[:30]!r} has {what}; expected {K} or more capital letters, chains separated "
                "by ':'"
            )
    return chains


def _joined(query: list[str], found: list[tuple[np.ndarray, ...]], keep: int) -> WindowHits:
    width = max(shingles.shape[1] for shingles, _, _ in found)
    first = np.cumsum([0, *map(len, query)])
    offsets = [first[i] + np.arange(len(shingles)) for i, (shingles, _, _) in enumerate(found)]
    arrays = [
        np.concatenate(
            [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=empty) for array in column]
        )[:, :keep]
        for column, empty in zip(zip(*found, strict=True), (-1, 0, np.inf), strict=True)
    ]
    chains = np.repeat(np.arange(len(query)), [len(one) for one in offsets])
    return WindowHits(np.concatenate(offsets), chains, *arrays)
