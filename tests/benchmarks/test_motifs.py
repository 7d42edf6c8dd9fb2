"""The benchmark of the index counts what it says, and its quick run has what others read from it."""

import json
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture
def indices(load):
    pytest.importorskip("faiss")
    return load("motif_indices")


def test_recall_is_by_distance(indices):
    vectors = np.arange(40, dtype=np.float32)[:, None] // 2  # each twice
    queries = np.zeros((1, 1), np.float32)
    tenth = np.array([4.0**2])
    assert indices.recall(vectors, queries, np.arange(10)[None], tenth) == 1
    # Two of 5 are beyond the two of 4; the same one twice is one.
    assert indices.recall(vectors, queries, np.array([[0, 1, 2, 3, 4, 5, 6, 7, 10, 11]]), tenth) == 0.8
    assert indices.recall(vectors, queries, np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 8]]), tenth) == 0.9


def test_all_ways_of_exact_search_find_the_same(indices):
    vectors = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float16).astype(np.float32)
    queries = vectors[:5] + np.float32(0.1)
    expected = np.sort(np.square(queries[:, None].astype(np.float64) - vectors).sum(-1), 1)[:, 9]
    exact = indices.Exact(vectors, 2)
    np.testing.assert_allclose(exact.distances(queries), expected)
    for name, way in exact.ways().items():
        found = way(queries)
        if "piece" in name:
            ids = np.concatenate([ids + 250 * i for i, (_, ids) in enumerate(found)], 1)
            far = np.sort(indices.squared(vectors, queries, ids), 1)[:, 9]
        else:
            ids = found if isinstance(found, np.ndarray) else found[1]
            far = indices.squared(vectors, queries, ids).max(1)
        np.testing.assert_allclose(far, expected, err_msg=name)


def test_sides_are_compared_at_equal_recall(load):
    tables = load("motif_tables")
    points = [{"ef": 10, "recall": 0.9, "s": 1.0}, {"ef": 20, "recall": 0.96, "s": 3.0}]
    report = {"curves": {"one": [*points, {"ef": 30, "recall": 0.97, "s": 2.0}]}}
    assert tables.fastest_at(report, "one", 0.95, "s")["ef"] == 30
    assert tables.fastest_at(report, "one", 0.99, "s") is None


@pytest.mark.slow
def test_a_quick_run(program, tmp_path):
    for name in ("faiss", "hnswlib", "olga", "usearch"):
        pytest.importorskip(name)
    report = tmp_path / "report.json"
    command = [sys.executable, program("motifs.py"), "--quick", "--json", report]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(report.read_text())
    assert found["recall_at_10"] >= 0.95
    assert set(found["curves"]) == set(found["build"]) == {
        "openfoldpp", "hnswlib", "usearch float32", "usearch float16",
    }  # fmt: skip
    assert found["shingles"] >= 20_000
    assert 400 < found["bytes"]["index.faiss"] < 410  # 64 links of 4 bytes, 64 channels of 2
    again = subprocess.run(
        [sys.executable, program("motifs.py"), "--markdown", report],
        check=True,
        capture_output=True,
        text=True,
    )
    assert again.stdout == printed
