"""What is compared in ``benchmarks/motifs.py``: a library of openfoldpp, hnswlib, usearch, and exact search.

Every side is given the same vectors and parameters: 32 neighbours of a vector in the graph, 64 in its lowest
layer, 128 candidates looked at for a vector that enters. A library keeps its vectors as float16, so that
usearch is measured with float32 and with float16, which loses nothing either.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from openfoldpp.motifs import index as indexing
from openfoldpp.motifs.library import Library
from openfoldpp.plm.cheap_head import CHANNELS

#: Neighbours that are asked for.
NEAREST = 10
# Queries of numpy's matrix product: more have a matrix of distances that no cache holds.
_AT_ONCE = 16


class Graph(Protocol):
    """An index that finds nearly all of the nearest, the more surely the more candidates it looks at."""

    def build(self, vectors: np.ndarray, threads: int) -> None:
        """Make the index."""

    def search(self, queries: np.ndarray, ef: int, threads: int) -> np.ndarray:
        """Return ids, int64 ``[Q, NEAREST]``."""


class OpenFoldPP:
    """The library itself, by :meth:`openfoldpp.motifs.library.Library.nearest`."""

    def __init__(self, folder: Path):
        self.faiss = indexing.import_faiss()
        self.library = Library.open(folder, gpu=False)
        self.threads = 0

    def build(self, vectors: np.ndarray, threads: int) -> None:
        """Make the graph of a part, which one thread does, and forget it: the library has its own."""
        self.made = indexing.make_index(vectors, flat_below=0)

    def search(self, queries: np.ndarray, ef: int, threads: int) -> np.ndarray:
        """Search the library."""
        if threads != self.threads:
            self.faiss.omp_set_num_threads(threads)
            self.threads = threads
        return self.library.nearest(queries, NEAREST, ef=ef)[1]


class HnswLib:
    """hnswlib, which keeps float32."""

    def build(self, vectors: np.ndarray, threads: int) -> None:
        """Make the index."""
        import hnswlib

        self.index = hnswlib.Index("l2", CHANNELS)
        self.index.init_index(
            len(vectors), M=indexing.M, ef_construction=indexing.EF_CONSTRUCTION, random_seed=1
        )
        self.index.set_num_threads(threads)
        self.index.add_items(vectors)
        self.set = (0, 0)

    def search(self, queries: np.ndarray, ef: int, threads: int) -> np.ndarray:
        """Search it."""
        if self.set != (ef, threads):
            self.index.set_ef(ef)
            self.index.set_num_threads(threads)
            self.set = (ef, threads)
        return self.index.knn_query(queries, NEAREST)[0]


class USearch:
    """usearch, which keeps float32 or float16."""

    def __init__(self, dtype: str):
        self.dtype = dtype

    def build(self, vectors: np.ndarray, threads: int) -> None:
        """Make the index."""
        from usearch.index import Index

        self.index = Index(
            ndim=CHANNELS,
            metric="l2sq",
            dtype=self.dtype,
            connectivity=indexing.M,
            expansion_add=indexing.EF_CONSTRUCTION,
        )
        self.index.add(np.arange(len(vectors)), vectors, threads=threads)

    def search(self, queries: np.ndarray, ef: int, threads: int) -> np.ndarray:
        """Search it."""
        self.index.expansion_search = ef
        keys = np.asarray(self.index.search(queries, NEAREST, threads=threads).keys)
        return keys.reshape(len(queries), NEAREST).astype(np.int64)


def graphs(library: Path) -> dict[str, Graph]:
    """Return the sides by name; the `library` is openfoldpp's."""
    return {
        "openfoldpp": OpenFoldPP(library),
        "hnswlib": HnswLib(),
        "usearch float32": USearch("f32"),
        "usearch float16": USearch("f16"),
    }


class Exact:
    """Every way to compare all vectors that might be the fastest.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (N, 64), float32
        Compared with.
    threads : int
        Of the machine.
    """

    def __init__(self, vectors: np.ndarray, threads: int):
        self.faiss = faiss = indexing.import_faiss()
        self.vectors = vectors
        self.norms = np.square(vectors).sum(1)
        self.flat = faiss.IndexFlatL2(CHANNELS)
        self.flat.add(vectors)
        self.half = faiss.IndexScalarQuantizer(CHANNELS, faiss.ScalarQuantizer.QT_fp16)
        self.half.train(vectors[:1])
        self.half.add(vectors)
        self.pieces = []
        for some in np.array_split(vectors, threads):
            self.pieces.append(faiss.IndexFlatL2(CHANNELS))
            self.pieces[-1].add(some)
        self.pool = ThreadPoolExecutor(threads, initializer=faiss.omp_set_num_threads, initargs=(1,))

    def ways(self) -> dict[str, object]:
        """Return by name what takes queries ``[Q, 64]``."""
        return {
            "FAISS IndexFlatL2": lambda queries: self.flat.search(queries, NEAREST),
            "FAISS float16": lambda queries: self.half.search(queries, NEAREST),
            "FAISS IndexFlatL2, a piece for each thread": self._pieces,
            "numpy": self._numpy,
        }

    def distances(self, queries: np.ndarray) -> np.ndarray:
        """Return the squared distance of each query's tenth neighbour, float64."""
        ids = self.flat.search(queries, NEAREST)[1]
        return squared(self.vectors, queries, ids).max(1)

    def _pieces(self, queries: np.ndarray) -> list:
        return list(self.pool.map(lambda piece: piece.search(queries, NEAREST), self.pieces))

    def _numpy(self, queries: np.ndarray) -> np.ndarray:
        found = [
            np.argpartition(self.norms - 2 * (some @ self.vectors.T), NEAREST)[:, :NEAREST]
            for some in np.array_split(queries, -(-len(queries) // _AT_ONCE))
        ]
        return np.concatenate(found)


def squared(vectors: np.ndarray, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the squared distances of queries to vectors by their ids, float64 ``[Q, NEAREST]``."""
    return np.square(vectors[ids].astype(np.float64) - queries[:, None]).sum(-1)


def recall(vectors: np.ndarray, queries: np.ndarray, ids: np.ndarray, tenth: np.ndarray) -> float:
    """Return the share of the ten nearest that are found, by distance.

    Shingles that repeat are equally near: a neighbour counts if it is not farther than the tenth of exact
    search. No id counts twice.
    """
    near = squared(vectors, queries, ids) <= tenth[:, None] * (1 + 1e-6)
    ordered = np.sort(ids, 1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).sum()
    return float((near.sum() - twice) / near.size)
