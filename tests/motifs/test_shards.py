"""Shards searched together are one library; an engine elsewhere needs no more than they have."""

import numpy as np
import pytest

from openfoldpp.motifs.embedder import installed_embedding, shingle_embedder
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import Options
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.retriever import Retriever
from openfoldpp.motifs.segments import Segment, SegmentInfo


@pytest.fixture
def segments(chains):
    found, _ = chains.random_segments(24, seed=3, length=(20, 60))
    # The first one again at the end: equally near, in another shard.
    again = Segment(
        SegmentInfo("again_B", found[0].info.numbering, found[0].info.sequence), found[0].coordinates
    )
    return [*found, again]


@pytest.fixture
def write(tmp_path):
    embedder = shingle_embedder()

    def write(name, segments, **options):
        vectors = np.concatenate(embedder.embed([segment.info.sequence for segment in segments]))
        write_library(tmp_path / name, segments, vectors, installed_embedding(), Options(**options))
        return tmp_path / name

    return write


class Engine:
    """Stands in for an engine elsewhere: vectors there, records here."""

    def __init__(self, records):
        self.records, self.counts = records, records.counts
        self.stored = records.vectors(np.arange(records.counts.shingles)).astype(np.float64)
        self.asked = []

    def nearest(self, vectors, k, *, ef):
        self.asked.append((len(vectors), k))
        distances = np.linalg.norm(vectors[:, None].astype(np.float64) - self.stored, axis=-1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        found = np.full((len(vectors), k), np.inf, np.float32), np.full((len(vectors), k), -1)
        found[0][:, : order.shape[1]] = np.take_along_axis(distances, order, 1)
        found[1][:, : order.shape[1]] = order
        return found

    def __getattr__(self, name):
        if name not in ("places", "segment", "letters", "vectors", "coordinates", "shingle_coordinates"):
            raise AttributeError(name)
        return getattr(self.records, name)


def hits(library, sequences):
    """Hits of each sequence; the engine rounds otherwise, so that equal ones may stand in another order."""
    return [
        sorted((hit.source, hit.residue, hit.offset, hit.length, round(hit.score, 4)) for hit in of)
        for of in Retriever(library).search(sequences)
    ]


@pytest.mark.parametrize("k", [1, 10, 700, 5000])
def test_shards_find_what_one_library_finds(write, segments, k):
    one = Library.open(write("all", segments))
    shards = Library.open([write(str(i), segments[i : i + 9]) for i in range(0, 25, 9)])
    assert len(shards.shards) == 3
    assert shards.counts.shingles == one.counts.shingles
    queries = one.vectors(np.arange(0, len(one), 7)) + np.float32(0.01)
    for found, expected in zip(shards.nearest(queries, k), one.nearest(queries, k), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert found.shape == (len(queries), k)
    if k > 1:  # the repeated segment is found in its first shard and in its last, in this order
        assert found[0, 0] == 0
        assert found[0, 1] == len(one) - (len(segments[0].info.sequence) - 9)


def test_shards_of_graphs_find_the_same_whichever_way_they_are_opened(write, segments):
    options = {"flat_below": 0}
    folders = [write(f"g{i}", segments[i : i + 9], **options) for i in range(0, 25, 9)]
    together = Library.open(folders)
    nested = Library([Library.open(folders[0]), Library.open(folders[1:])], together.embedding)
    queries = together.vectors(np.arange(0, len(together), 5)) + np.float32(0.01)
    expected = together.nearest(queries, 20)
    for found, one in zip(nested.nearest(queries, 20), expected, strict=True):
        np.testing.assert_array_equal(found, one)
    numbers = np.arange(len(together))
    for name in ("segments", "starts", "lengths"):
        found, one = (getattr(library.places(numbers), name) for library in (nested, together))
        np.testing.assert_array_equal(found, one)
    for method in ("vectors", "shingle_coordinates", "letters"):
        np.testing.assert_array_equal(getattr(nested, method)(numbers), getattr(together, method)(numbers))
    assert nested.segment(24).name == "again_B"
    np.testing.assert_array_equal(nested.coordinates(24, 2, 5), together.coordinates(24, 2, 5))


def test_an_engine_elsewhere_serves_the_retriever(write, segments):
    folder = write("lib", segments)
    opened = Library.open(folder)
    engine = Engine(opened)
    sequences = [segments[3].info.sequence, segments[20].info.sequence[:30] + ":" + segments[0].info.sequence]
    with Library([engine], opened.embedding) as elsewhere:
        elsewhere.load_index()
        assert hits(elsewhere, sequences) == hits(opened, sequences)
    assert engine.asked
    # Beside parts that are here, too: what both have is found in both, a rounding apart.
    both = Library([engine, *Library.open(write("more", segments[5:7])).shards], opened.embedding)
    _, found = both.nearest(both.vectors(np.arange(len(opened), len(both))), 2, ef=16)
    for numbers, there in ((found.min(1), 0), (found.max(1), len(opened))):
        names = {both.segment(int(number)).name for number in both.places(numbers).segments}
        assert names == {"s5_A", "s6_A"}
        assert (numbers >= there).all()
    assert (found.min(1) < len(opened)).all()
    assert Retriever(both).search(sequences)[0]
