import dataclasses

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.motifs import graph_cache
from openfoldpp.motifs.embedder import ShingleEmbedder, installed_embedding, shingle_embedder
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import Options
from openfoldpp.plm.cache import CacheWarning


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENFOLDPP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def flattened(segments):
    """(segment, start) of every shingle."""
    return [(i, j) for i, s in enumerate(segments) for j in range(len(s.info.sequence) - 9)]


def test_everything_is_as_it_was_written(make_library):
    path, segments, vectors = make_library()
    with Library.open(path) as library:
        assert len(library) == len(vectors) == library.counts.shingles
        assert library.counts.segments == library.counts.chains == 20
        every = np.arange(len(library))
        places = library.places(every)
        assert list(zip(places.segments.tolist(), places.starts.tolist(), strict=True)) == flattened(segments)
        assert places.lengths.tolist() == [len(segments[i].info.sequence) for i, _ in flattened(segments)]
        np.testing.assert_allclose(library.vectors(every), vectors, rtol=1e-3, atol=1e-4)
        for number, segment in enumerate(segments):
            assert library.segment(number) == segment.info
            found = library.coordinates(number)
            # As they lie: all segments of a structure are in one frame.
            np.testing.assert_allclose(found, segment.coordinates, atol=0.0101)
            np.testing.assert_array_equal(library.coordinates(number, 2, 5), found[2:7])
        of_shingles = library.shingle_coordinates(every)
        for shingle, (segment, start) in enumerate(flattened(segments)):
            np.testing.assert_array_equal(of_shingles[shingle], library.coordinates(segment, start, 10))
    assert of_shingles.dtype == np.float32


def test_letters_end_where_the_segment_does(make_library):
    path, segments, _ = make_library()
    library = Library.open(path)
    shingles = np.arange(len(library)).reshape(-1, 1)
    letters = library.letters(shingles, before=4, after=6)
    assert letters.shape == (len(library), 1, 20)
    for row, (segment, start) in zip(letters[:, 0], flattened(segments), strict=True):
        padded = "\0" * 4 + segments[segment].info.sequence + "\0" * 6
        assert bytes(row).decode() == padded[start : start + 20]


def test_several_libraries_are_numbered_on(make_library):
    (one, *_), (two, *_) = make_library("one", seed=1), make_library("two", seed=2)
    a, b = Library.open(one), Library.open(two)
    both = Library.open([one, two])
    assert len(both) == len(a) + len(b)
    assert both.counts == a.counts + b.counts
    shingles = np.array([0, len(a) - 1, len(a), len(both) - 1])
    local = np.array([0, len(b) - 1])
    np.testing.assert_array_equal(both.vectors(shingles[2:]), b.vectors(local))
    np.testing.assert_array_equal(both.letters(shingles[:2]), a.letters(shingles[:2]))
    np.testing.assert_array_equal(both.shingle_coordinates(shingles[2:]), b.shingle_coordinates(local))
    np.testing.assert_array_equal(both.places(shingles[2:]).segments, b.places(local).segments + 20)
    assert both.segment(25) == b.segment(5)
    np.testing.assert_array_equal(both.coordinates(25), b.coordinates(5))
    queries = np.random.default_rng(3).normal(size=(30, 64)).astype(np.float32)
    distances, found = both.nearest(queries, 15)
    everything = np.concatenate([a.vectors(np.arange(len(a))), b.vectors(np.arange(len(b)))])
    exact = np.linalg.norm(queries[:, None] - everything, axis=-1)
    np.testing.assert_array_equal(found, np.argsort(exact, axis=1, kind="stable")[:, :15])
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :15], rtol=1e-5)


def test_fewer_shingles_than_are_asked_for(make_library):
    path, *_ = make_library(count=1)
    library = Library.open(path)
    distances, found = library.nearest(np.zeros((2, 64)), len(library) + 3)
    assert (found[:, -3:] == -1).all()
    assert np.isinf(distances[:, -3:]).all()
    assert sorted(found[0, :-3]) == list(range(len(library)))


def test_fewer_shingles_than_are_asked_for_in_several_libraries(make_library):
    library = Library.open([make_library(name, count=1, seed=n)[0] for n, name in enumerate(("one", "two"))])
    distances, found = library.nearest(np.zeros((1, 64)), len(library) + 3)
    assert sorted(found[0].tolist()) == [-1, -1, -1, *range(len(library))]
    assert np.isinf(distances[0, -3:]).all()


def test_eight_bits_are_nearly_the_vectors(make_library):
    path, _, vectors = make_library(options=Options("int8"))
    library = Library.open(path)
    found = library.vectors(np.arange(len(library)))
    steps = np.abs(vectors).max(0) / 127
    assert (np.abs(found - vectors) <= steps / 2 + 1e-6).all()
    assert (path / "part-00000" / "vectors.npy").stat().st_size < 65 * len(library) + 200
    # The index is of the vectors as they are kept.
    distances, shingles = library.nearest(found[:5], 1)
    assert shingles[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (distances < 1e-3).all()


def test_a_long_segment_has_larger_steps(tmp_path, make_library, chains):
    from openfoldpp.motifs.part_files import write_library

    segments, vectors = chains.random_segments(1)
    long = dataclasses.replace(segments[0], coordinates=segments[0].coordinates * 40)
    extent = np.ptp(long.coordinates, axis=(0, 1)).max()
    assert extent > 2 * 327.67
    write_library(tmp_path / "long", [long], vectors, installed_embedding())
    found = Library.open(tmp_path / "long").coordinates(0)
    np.testing.assert_allclose(found, long.coordinates, atol=extent / 65534 * 1.1)


@pytest.mark.parametrize("vectors", ["float16", "int8"])
def test_a_graph_that_is_not_there_is_made_once_and_kept(make_library, cache, vectors):
    with_graph, *_ = make_library("with", options=Options(vectors, flat_below=50))
    without, *_ = make_library("without", options=Options(vectors, graph=False, flat_below=50))
    assert not (without / "part-00000" / "index.faiss").exists()
    queries = np.random.default_rng(3).normal(size=(5, 64)).astype(np.float32)
    expected = Library.open(with_graph).nearest(queries, 10)
    notes = []
    for _ in range(2):
        for one, other in zip(
            Library.open(without, note=notes.append).nearest(queries, 10), expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)
    [note] = notes
    assert "comes without its graph" in note
    [kept] = (cache / "motifs" / "graphs").iterdir()
    # A damaged one is made again.
    good = kept.read_bytes()
    for bad in (good[:-100], good[:60] + b"\1" + good[61:], b""):
        kept.write_bytes(bad)
        Library.open(without, note=notes.append).nearest(queries, 10)
        assert kept.read_bytes() == good
    assert len(notes) == 4


def test_a_graph_that_cannot_be_kept_is_said(make_library, cache):
    path, *_ = make_library(options=Options(graph=False, flat_below=50))
    cache.write_text("a file where a folder should be")
    library = Library.open(path)
    with pytest.warns(CacheWarning, match="name a folder with OPENFOLDPP_CACHE_DIR"):
        library.load_index()
    assert library.nearest(np.zeros((1, 64)), 1)[1][0, 0] >= 0


def test_where_graphs_are_kept():
    assert str(graph_cache.graph_folder({"OPENFOLDPP_CACHE_DIR": "/c"})) == "/c/motifs/graphs"
    assert str(graph_cache.graph_folder({"XDG_CACHE_HOME": "/x"})) == "/x/openfoldpp/motifs/graphs"


def test_a_small_library_without_an_index_needs_none(make_library, cache):
    path, *_ = make_library(options=Options(graph=False))
    assert len(Library.open(path).nearest(np.zeros((1, 64)), 3)[1][0]) == 3
    assert not cache.exists()


def test_vectors_of_other_weights_are_refused(make_library):
    path, *_ = make_library()
    for name, value in (("fingerprint", "0" * 64), ("head", "1" * 64), ("plm", "esm1b")):
        other = dataclasses.replace(installed_embedding(), **{name: value})
        with pytest.raises(InputError, match=f"made with other weights \\({name} .*motifs build"):
            Library.open(path, embedding=other)


def test_what_is_installed_is_what_embeds():
    embedder = shingle_embedder()
    assert isinstance(embedder, ShingleEmbedder)
    assert installed_embedding().fingerprint == embedder.lite.fingerprint
    sequences = ["EVQLVESGGGLVQPGGSLRLSCAAS", "DIQMTQSPSSLS"]
    long, short = embedder.embed(sequences)
    assert (long.shape, short.shape, long.dtype) == ((16, 64), (3, 64), np.float32)
    expected = embedder.head.shingles(embedder.lite.project(embedder.lite.embed(sequences[1:])[0])).numpy()
    np.testing.assert_allclose(short, expected, atol=1e-5)
    with pytest.raises(InputError, match="'ACD' has 3 residues, and a motif is searched with at least 10"):
        embedder.embed(["ACD"])
    for load in (shingle_embedder, installed_embedding):
        with pytest.raises(InputError, match=r"--plm esm1b: .* CheapHead, which was trained on .* plm_lite"):
            load("esm1b")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda lib: lib.nearest(np.zeros((1, 32)), 3), r"expected k of 1 or more and \[Q, 64\]"),
        (lambda lib: lib.nearest(np.zeros((1, 64)), 0), "k = 0"),
        (lambda lib: lib.segment(20), "segment 20: expected 0 to 19"),
        (lambda lib: lib.vectors(np.array([-1])), "shingle -1"),
        (lambda lib: lib.places(np.array([0, 10**6])), "shingle 0 or 1000000"),
        (lambda lib: lib.coordinates(0, 3, 1000), "it has no such stretch"),
    ],
)
def test_numbers_that_are_not_there(make_library, wrong, message):
    with pytest.raises(InputError, match=message):
        wrong(Library.open(make_library()[0]))


@pytest.mark.parametrize("name", ["index.faiss", "coordinates.npy"])
def test_a_library_with_a_file_cut_or_missing_is_not_opened(make_library, name):
    path, *_ = make_library()
    file = path / "part-00000" / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{name}: has .* bytes, expected .*copy the library again"):
        Library.open(path)
    file.unlink()
    with pytest.raises(InputError, match=f"{name}: is missing; copy the library again"):
        Library.open(path)


def test_paths_that_make_no_library(make_library, tmp_path):
    path, *_ = make_library()
    with pytest.raises(InputError, match="got none"):
        Library.open([])
    with pytest.raises(InputError, match="named twice"):
        Library.open([path, tmp_path / "." / "lib"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("starts.npy", b"\x00"),
        ("vectors.npy", b"\x00"),
        ("segments.json", b"{"),
        ("index.faiss", b"\x00"),
    ],
)
def test_damage_that_keeps_the_size_gives_no_hit(make_library, name, content):
    path, *_ = make_library()
    file = path / "part-00000" / name
    file.write_bytes(content * file.stat().st_size)
    library = Library.open(path)

    def use_all():
        library.places(library.nearest(library.vectors(np.array([0])), 1)[1])
        library.segment(0)

    with pytest.raises(InputError, match=f"{name}: .*(copy|make) the library again"):
        use_all()
