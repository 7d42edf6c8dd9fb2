import sys

import numpy as np
import pytest

from openfoldpp.errors import InputError, MissingDependencyError
from openfoldpp.motifs import index as indexing


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def graph(vectors):
    return indexing.make_index(vectors, flat_below=100)


@pytest.fixture(scope="module")
def flat(vectors):
    return indexing.make_index(vectors, flat_below=10_000)


def exact(vectors, queries, k):
    distances = np.linalg.norm(queries[:, None].astype(np.float64) - vectors, axis=-1)
    ids = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, ids, 1), ids


def test_the_size_decides_the_kind(graph, flat):
    faiss = indexing.import_faiss()
    assert isinstance(graph, faiss.IndexHNSWSQ)
    assert graph.hnsw.nb_neighbors(1) == 32
    assert graph.hnsw.efConstruction == 128
    assert isinstance(flat, faiss.IndexFlatL2)


def test_a_graph_keeps_float16_under_the_rows_numbers(vectors):
    faiss = indexing.import_faiss()
    half = vectors.astype(np.float16).astype(np.float32)
    graph = indexing.make_index(half, flat_below=100)
    assert isinstance(graph, faiss.IndexHNSWSQ)
    assert graph.storage.sa_code_size() == 2 * 64
    np.testing.assert_array_equal(graph.storage.reconstruct_n(0, 3000), half)
    queries = vectors[:200] + np.float32(0.1)
    distances, ids = indexing.search(graph, queries, 10, ef=64)
    np.testing.assert_allclose(distances, np.linalg.norm(half[ids] - queries[:, None], axis=-1), rtol=1e-5)
    assert (ids[:, 0] == np.arange(200)).mean() > 0.98
    # Beyond what float16 can hold nothing is cut.
    assert isinstance(indexing.make_index(vectors * 1e5, flat_below=100), faiss.IndexHNSWFlat)


def test_comparing_all_is_exact_and_in_angstrom(vectors, flat):
    queries = vectors[:50] + np.float32(0.1)
    distances, ids = indexing.search(flat, queries, 12)
    expected, order = exact(vectors, queries, 12)
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    assert distances.dtype == np.float32
    assert ids.dtype == np.int64


def test_a_graph_finds_nearly_all(vectors, graph):
    queries = vectors[::30] + np.float32(0.05)
    _, ids = indexing.search(graph, queries, 10, ef=256)
    _, order = exact(vectors, queries, 10)
    found = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(ids, order, strict=True)])
    assert found > 0.95
    # As many candidates as hits at least: 200 hits are not what 64 candidates leave.
    assert (indexing.search(graph, queries, 200)[1] >= 0).all()


@pytest.fixture(params=[1, 2, 8])
def threads(request):
    faiss = indexing.import_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(request.param)
    yield request.param
    assert faiss.omp_get_max_threads() == request.param
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("kind", ["graph", "flat"])
def test_a_query_has_the_same_hits_alone_and_among_others(vectors, kind, request, threads):
    index = request.getfixturevalue(kind)
    if kind == "flat":
        # FAISS turns to matrix products, which round otherwise, where there is more to compare.
        vectors = np.random.default_rng(2).normal(size=(20_000, 64)).astype(np.float32)
        index = indexing.make_index(vectors, flat_below=30_000)
    queries = vectors[:70] + np.float32(0.1)
    together = indexing.search(index, queries, 10)
    alone = [indexing.search(index, query[None], 10) for query in queries]
    np.testing.assert_array_equal(together[0], np.concatenate([one[0] for one in alone]))
    np.testing.assert_array_equal(together[1], np.concatenate([one[1] for one in alone]))


def test_equal_distances_are_ordered_by_id(vectors):
    repeated = np.repeat(vectors[:40], 5, 0)[np.random.default_rng(1).permutation(200)]
    for below in (1, 1000):
        distances, ids = indexing.search(indexing.make_index(repeated, below), repeated[:7], 20)
        order = np.lexsort((ids, distances), axis=1)
        np.testing.assert_array_equal(order, np.broadcast_to(np.arange(20), (7, 20)))


def test_sorted_hits_stay_and_equal_ones_are_sorted():
    distances, ids = np.array([[1.0, 2, 3], [0, 4, 5]], np.float32), np.array([[5, 4, 3], [9, 8, 7]])
    kept = indexing.ordered(distances, ids, 3)
    assert kept[0] is distances
    assert kept[1] is ids
    distances[1, 1] = 5
    np.testing.assert_array_equal(indexing.ordered(distances, ids, 3)[1], [[5, 4, 3], [9, 7, 8]])
    np.testing.assert_array_equal(indexing.ordered(distances, ids, 2)[1], [[5, 4], [9, 7]])


def test_fewer_vectors_than_hits(vectors):
    for below in (1, 100):
        distances, ids = indexing.search(indexing.make_index(vectors[:3], below), vectors[:2], 5)
        assert (ids[:, 3:] == -1).all()
        assert np.isinf(distances[:, 3:]).all()
        assert (np.sort(ids[:, :3], 1) == [0, 1, 2]).all()


def test_the_same_vectors_give_the_same_bytes_with_any_threads(vectors, graph):
    faiss = indexing.import_faiss()
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(4)
        again = indexing.make_index(vectors, flat_below=100)
        assert faiss.omp_get_max_threads() == 4
    finally:
        faiss.omp_set_num_threads(before)
    assert bytes(indexing.to_bytes(again)) == bytes(indexing.to_bytes(graph))


def test_making_a_graph_can_be_watched_and_stopped(vectors, monkeypatch):
    monkeypatch.setattr(indexing, "_ADDED_AT_ONCE", 2000)
    seen = []
    indexing.make_index(vectors, 100, seen.append)
    assert seen == [2000, 3000]

    def stop(count):
        raise KeyError(count)

    with pytest.raises(KeyError, match="2000"):
        indexing.make_index(vectors, 100, stop)


def test_an_index_is_written_and_read(vectors, graph, tmp_path):
    path = tmp_path / "index.faiss"
    indexing.write_index(path, graph)
    data = np.fromfile(path, np.uint8)
    expected = indexing.search(graph, vectors[:9], 5)
    for read in (indexing.read_index(path, (3000, 64)), indexing.from_bytes(data, path, (3000, 64))):
        for one, other in zip(indexing.search(read, vectors[:9], 5), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="an index of 3,000 vectors of 64 channels, expected 2,999 of 64"):
        indexing.read_index(path, (2999, 64))
    path.write_bytes(data[:-1000].tobytes())
    with pytest.raises(InputError, match="FAISS cannot read it"):
        indexing.read_index(path, (3000, 64))
    with pytest.raises(InputError, match="FAISS cannot read it"):
        indexing.from_bytes(data[:-1000], path, (3000, 64))


def test_gpus_get_the_vectors_of_a_graph(monkeypatch, vectors, graph, flat):
    faiss = indexing.import_faiss()
    assert indexing.to_gpu(graph) is graph
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: index, raising=False)
    whole = indexing.make_index(vectors * 1e5, flat_below=100)
    for index, scale in ((graph, 1), (flat, 1), (whole, 1e5)):
        moved = indexing.to_gpu(index)
        assert isinstance(moved, faiss.IndexFlat)
        assert moved.ntotal == 3000
        np.testing.assert_allclose(moved.reconstruct(7), vectors[7] * scale, rtol=1e-3)


def test_without_faiss_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "openfoldpp\[motifs\]"'):
        indexing.make_index(np.zeros((3, 64), np.float32))
