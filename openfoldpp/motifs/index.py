"""FAISS: the index of a part's vectors, and a search whose order does not depend on chance.

A graph (HNSW, Malkov & Yashunin 2016, arXiv 1603.09320) above a number of vectors, every vector below it.
FAISS ranks by squared Euclidean distance; what is returned here is the distance, angstrom for CheapHead.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from openfoldpp.errors import InputError, MissingDependencyError
from openfoldpp.files import atomic_write

#: Neighbours of a vector in the graph's upper layers; twice as many in the lowest.
M = 32
#: Candidates looked at for a vector that enters the graph.
EF_CONSTRUCTION = 128
#: Candidates looked at in a search, at least; a search for more neighbours looks at as many. So many find
#: 99.2 % of the ten nearest of 200,000 shingles (benchmarks/motifs.py) in a fiftieth of the time of comparing
#: all; 32 find 99.7 % in one and a half times as long.
EF_SEARCH = 16
#: Fewer vectors are all compared: exact, and as fast up to about here (20,000: 0.4 ms a query, graph 0.2 ms;
#: for 500 neighbours 0.9 and 1.3 ms).
FLAT_BELOW = 20_000
# Between two looks at whether to go on: a second or so. Fewer at once make a slightly worse graph.
_ADDED_AT_ONCE = 10_000
# FAISS compares batches of 20 and more by matrix products, whose rounding depends on the batch; fewer one by
# one, so that a query's distances are the same whatever it is asked with.
_FLAT_BATCH = 16


def import_faiss() -> ModuleType:
    """Import FAISS.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    if (there := sys.modules.get("faiss")) is not None:
        return there
    try:
        with warnings.catch_warnings():
            # SWIG's types have no __module__, of which Python 3.12 and later warn.
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError as error:
        raise MissingDependencyError(
            f"FAISS, which searches libraries of motifs, cannot be imported ({error}); run: pip install "
            '"openfoldpp[motifs]"'
        ) from error
    return faiss


def make_index(
    vectors: np.ndarray, flat_below: int = FLAT_BELOW, progress: Callable[[int], None] | None = None
) -> Any:
    """Index vectors; the same vectors give the same index, byte for byte.

    A graph is made by one thread: several would link the vectors in the order in which they happen to come.
    The vectors enter it shuffled, always in the same way. Chain after chain, as a library has them, most
    neighbours of a shingle enter late: in 200,000 shingles one query in a hundred found none of its ten
    nearest, shuffled it is one in four hundred.

    It keeps vectors as float16, of which a search reads half as much and is faster. A library's float16
    vectors lose nothing; distances to its int8 vectors are off by 0.0001 angstrom on average, 0.0006 at most.

    Parameters
    ----------
    vectors : numpy.ndarray of shape (N, C), float32
        Row i gets the id i.
    flat_below : int
        Fewer vectors than this get no graph.
    progress : callable, optional
        Told now and then how many vectors are in; what it raises ends the making.

    Returns
    -------
    faiss.Index
        ``IndexHNSWSQ`` of float16 (``IndexHNSWFlat`` where float16 overflows), or ``IndexFlatL2``.

    Raises
    ------
    MissingDependencyError
        FAISS is not installed.
    """
    faiss = import_faiss()
    vectors = np.ascontiguousarray(vectors, np.float32)
    if len(vectors) < flat_below:
        index = faiss.IndexFlatL2(vectors.shape[1])
        index.add(vectors)
        return index
    index = _empty_graph(vectors)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    order = np.random.default_rng(0).permutation(len(vectors))
    try:
        for i in range(0, len(vectors), _ADDED_AT_ONCE):
            index.add(vectors[order[i : i + _ADDED_AT_ONCE]])
            if progress is not None:
                progress(min(i + _ADDED_AT_ONCE, len(vectors)))
    finally:
        faiss.omp_set_num_threads(threads)
    # The vector that went in as number i is row order[i] of the vectors.
    index.permute_entries(np.argsort(order))
    return index


def to_bytes(index: Any) -> memoryview:
    """Return the bytes of FAISS's file format for an `index`."""
    return memoryview(import_faiss().serialize_index(index))


def write_index(path: Path, index: Any) -> None:
    """Write an index in FAISS's file format, complete or not at all.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    index : faiss.Index
        Of :func:`make_index`.
    """
    data = to_bytes(index)
    with atomic_write(path, size=lambda: data.nbytes) as file:
        file.write(data)


def read_index(path: Path, shape: tuple[int, int]) -> Any:
    """Read an index.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    shape : (int, int)
        How many vectors it must have, and of how many channels.

    Returns
    -------
    faiss.Index

    Raises
    ------
    InputError
        It is no index of FAISS, damaged, or not of such vectors.
    MissingDependencyError
        FAISS is not installed.
    """
    try:
        return _checked(import_faiss().read_index(str(path)), path, shape)
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error


def from_bytes(data: np.ndarray, path: Path, shape: tuple[int, int]) -> Any:
    """Read an index from the bytes of its file.

    Parameters
    ----------
    data : numpy.ndarray of uint8
        Of :func:`to_bytes`.
    path : pathlib.Path
        Where they are from, for messages.
    shape : (int, int)
        See :func:`read_index`.

    Returns
    -------
    faiss.Index

    Raises
    ------
    InputError
        See :func:`read_index`.
    """
    try:
        return _checked(import_faiss().deserialize_index(data), path, shape)
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(path, error) from error


def to_gpu(index: Any) -> Any:
    """Move an index to the GPUs where FAISS is built for them and has any.

    FAISS has no HNSW for GPUs; there every vector is compared, which a GPU does fast and exactly. Not
    measured.

    Parameters
    ----------
    index : faiss.Index
        Of :func:`make_index`.

    Returns
    -------
    faiss.Index
        The same index where there is no GPU.
    """
    faiss = import_faiss()
    if not hasattr(faiss, "index_cpu_to_all_gpus") or not faiss.get_num_gpus():
        return index
    flat = index
    if isinstance(index, faiss.IndexHNSW):
        # GPUs have no index of float16 that compares all.
        flat = faiss.IndexFlatL2(index.d)
        flat.add(index.storage.reconstruct_n(0, index.ntotal))
    return faiss.index_cpu_to_all_gpus(flat)


def search(index: Any, queries: np.ndarray, k: int, ef: int = EF_SEARCH) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest vectors.

    Parameters
    ----------
    index : faiss.Index
        Of :func:`make_index` or :func:`to_gpu`.
    queries : numpy.ndarray of shape (Q, C)
        Each is searched by itself: its hits do not depend on the others.
    k : int
        Hits of each query.
    ef : int
        Candidates that a graph looks at; FAISS takes at least `k`. More find the nearest more surely.

    Returns
    -------
    distances : numpy.ndarray of shape (Q, k), float32
        Ascending; infinite where there are fewer hits.
    ids : numpy.ndarray of shape (Q, k), int64
        By distance, then by id; -1 where there are fewer hits.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    if isinstance(index, import_faiss().IndexHNSW):
        squared, ids = index.search(queries, k, params=_parameters(ef))
    else:
        squared, ids = _compare_all(index, queries, k)
    if np.count_nonzero(ids[:, -1] < 0):
        squared[ids < 0] = np.inf
    return ordered(np.sqrt(squared, out=squared), ids, k)


def ordered(distances: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort hits by distance, then by id, and keep the first of each query.

    Parameters
    ----------
    distances : numpy.ndarray of shape (Q, H)
        Infinite where there is no hit.
    ids : numpy.ndarray of shape (Q, H)
        -1 where there is no hit.
    k : int
        How many are kept.

    Returns
    -------
    distances, ids : numpy.ndarray of shape (Q, k)
        As given, sorted.
    """
    if distances.shape[1] == k and not np.count_nonzero(distances[:, 1:] <= distances[:, :-1]):
        return distances, ids
    order = np.lexsort((ids, distances), axis=1)[:, :k]
    rows = np.arange(len(order))[:, None]
    return distances[rows, order], ids[rows, order]


def _empty_graph(vectors: np.ndarray) -> Any:
    faiss = import_faiss()
    channels = vectors.shape[1]
    if np.abs(vectors).max(initial=0) > np.finfo(np.float16).max:
        return faiss.IndexHNSWFlat(channels, M)
    index = faiss.IndexHNSWSQ(channels, faiss.ScalarQuantizer.QT_fp16, M)
    # It has nothing to learn; FAISS asks for it all the same.
    index.train(vectors[:1])
    return index


def _compare_all(index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    faiss = import_faiss()
    squared, ids = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    threads = faiss.omp_get_max_threads()
    try:
        for i in range(0, len(queries), _FLAT_BATCH):
            few = slice(i, i + _FLAT_BATCH)
            # For fewer queries than threads FAISS shares out the vectors, and rounds in another way.
            faiss.omp_set_num_threads(min(threads, len(queries[few])))
            index.search(queries[few], k, D=squared[few], I=ids[few])
    finally:
        faiss.omp_set_num_threads(threads)
    return squared, ids


@functools.cache
def _parameters(ef: int) -> Any:
    return import_faiss().SearchParametersHNSW(efSearch=ef)


def _checked(index: Any, path: Path, shape: tuple[int, int]) -> Any:
    found = (index.ntotal, index.d)
    if found != tuple(shape) or index.metric_type != import_faiss().METRIC_L2:
        raise InputError(
            f"{path}: an index of {found[0]:,} vectors of {found[1]} channels, expected {shape[0]:,} of "
            f"{shape[1]} with Euclidean distances; copy the library again, or make it again"
        )
    return index


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[-160:]
    return InputError(f"{path}: FAISS cannot read it ({reason}); copy the library again, or make it again")
