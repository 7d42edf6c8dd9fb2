from types import SimpleNamespace

import numpy as np
import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.motifs import profile, scoring
from openfoldpp.motifs.embedder import installed_embedding
from openfoldpp.motifs.index import import_faiss
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.library_files import Options
from openfoldpp.motifs.retriever import Retriever


class KnownVectors:
    """Embeds chains that it has been told of; their residues are all alike."""

    def __init__(self, vectors):
        self.vectors = vectors
        self.lite = SimpleNamespace(fingerprint=installed_embedding().fingerprint)
        self.channels = profile.load(self.lite.fingerprint).enter.in_features

    def embed_both(self, sequences):
        return [(torch.zeros(len(one), self.channels), self.vectors[one]) for one in sequences]


@pytest.fixture
def found(make_library):
    """A library of random segments, and a retriever that ranks by distance, whose embedder knows them."""
    folder, segments, vectors = make_library(count=40)
    known, at = {}, 0
    for segment in segments:
        count = len(segment.info.sequence) - 9
        known[segment.info.sequence] = vectors[at : at + count]
        at += count
    library = Library.open(folder)

    def retriever(**options):
        return Retriever(library, embedder=KnownVectors(known), score=by_distance(), **options)

    yield SimpleNamespace(segments=segments, library=library, retriever=retriever, known=known)
    library.close()


def by_distance():
    """A score whose odds fall with the distance, in both steps."""
    distances = np.zeros(scoring.DISTANCES, np.float32)
    distances[0] = -1
    expand = np.zeros((scoring.FEATURES, 1), np.float32)
    expand[2] = -1
    zeros = {
        "places": (scoring.PLACES, scoring.TABLES),
        "bias": (1,),
        "mean": (scoring.FEATURES,),
    }
    return scoring.MotifScore(
        distances=distances,
        scale=np.ones(scoring.FEATURES, np.float32),
        expand=expand,
        expand_bias=np.full(1, 14, np.float32),
        contract=np.full(1, 0.5, np.float32),
        contract_bias=np.full(1, -5, np.float32),
        **{name: np.zeros(shape, np.float32) for name, shape in zeros.items()},
    )


def test_a_chain_of_the_library_finds_itself_as_one_motif(found):
    for number in (0, 7, 39):
        segment = found.segments[number]
        hit = found.retriever().search([segment.info.sequence])[0][0]
        assert (hit.segment, hit.start, hit.offset) == (number, 0, 0)
        assert hit.length == len(segment.info.sequence)
        assert hit.sequence == segment.info.sequence
        assert (hit.source, hit.residue) == (segment.info.name, "1")
        assert hit.distance == pytest.approx(0, abs=0.02)
        apart = hit.coords - hit.coords[0, 0] - (segment.coordinates - segment.coordinates[0, 0])
        assert np.abs(apart).max() < 0.02


def test_max_identity_leaves_out_the_chain_itself_and_nothing_else(found):
    sequence = found.segments[3].info.sequence
    windows = found.retriever(max_identity=1.0).windows([sequence])[0]
    there = windows.shingles >= 0
    segments = found.library.places(windows.shingles[there]).segments
    assert 3 not in segments
    assert there.all()


def test_residue_after_residue_of_a_window_is_opposite_the_shingle(found):
    # What the anchors found is moved to the windows between them: also to where no anchor is.
    a, b = found.segments[5].info.sequence, found.segments[6].info.sequence
    windows = found.retriever().windows([f"{a}:{b}"])[0]
    best = windows.shingles[:, 0]
    letters = found.library.letters(best)
    query = a + b
    for offset, row in zip(windows.offsets, letters, strict=True):
        assert row.tobytes().decode() == query[offset : offset + 10]
    assert windows.offsets.tolist() == [*range(len(a) - 9), *range(len(a), len(a + b) - 9)]


def test_no_motif_goes_across_chains(found):
    # Both halves of one segment, given as two chains, lie on one diagonal.
    sequence = next(s.info.sequence for s in found.segments if len(s.info.sequence) >= 30)
    found.known |= {sequence[:15]: found.known[sequence][:6], sequence[15:]: found.known[sequence][15:]}
    hits = found.retriever().search([f"{sequence[:15]}:{sequence[15:]}"])[0]
    assert all(hit.offset + hit.length <= 15 or hit.offset >= 15 for hit in hits)
    assert {(hit.offset, hit.length) for hit in hits[:2]} == {(0, 15), (15, len(sequence) - 15)}


def test_hits_do_not_depend_on_the_batch(found):
    queries = [segment.info.sequence for segment in found.segments[:6]]
    together = found.retriever().windows(queries)
    for query, one in zip(queries, together, strict=True):
        alone = found.retriever().windows([query])[0]
        np.testing.assert_array_equal(alone.shingles, one.shingles)
        np.testing.assert_array_equal(alone.scores, one.scores)


def test_hits_do_not_depend_on_the_number_of_threads(found):
    faiss = import_faiss()
    threads, torch_threads = faiss.omp_get_max_threads(), torch.get_num_threads()
    queries, results = [segment.info.sequence for segment in found.segments[:4]], []
    try:
        for count in (1, 4):
            faiss.omp_set_num_threads(count)
            torch.set_num_threads(count)
            results.append(found.retriever().windows(queries))
    finally:
        faiss.omp_set_num_threads(threads)
        torch.set_num_threads(torch_threads)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one.shingles, other.shingles)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_letters_that_are_no_amino_acids_are_searched_too(chains, make_library):
    folder, *_ = make_library(count=5)
    with Library.open(folder) as library:
        for query in ("X" * 12, "ACDEFBJOUZGHIKL"):
            hits = Retriever(library, score=by_distance()).search([query])[0]
            assert hits
            assert all(np.isfinite([hit.score, hit.distance, hit.tm]).all() for hit in hits)


@pytest.mark.parametrize("name", ["coordinates.npy", "starts.npy", "index.faiss", "segments.json"])
def test_a_file_that_is_cut_after_the_library_was_opened_is_an_error(make_library, name):
    folder, segments, _ = make_library(count=5)
    with Library.open(folder) as library:
        path = folder / "part-00000" / name
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(InputError, match=f"{name}.*again"):
            Retriever(library, score=by_distance()).search([segments[0].info.sequence])


def test_several_libraries_are_searched_as_one(found, make_library):
    folder, segments, vectors = make_library("other", count=5, seed=1, options=Options(vectors="int8"))
    known = segments[0].info.sequence
    found.known[known] = vectors[: len(known) - 9]
    with Library.open([found.library.folders[0], folder]) as both:
        retriever = Retriever(both, embedder=KnownVectors(found.known), score=by_distance())
        for sequence, number in ((known, 40), (found.segments[2].info.sequence, 2)):
            hit = retriever.search([sequence])[0][0]
            assert (hit.segment, hit.length) == (number, len(sequence))


def test_a_library_with_fewer_shingles_than_candidates(make_library):
    folder, segments, vectors = make_library("tiny", count=1)
    sequence = segments[0].info.sequence
    with Library.open(folder) as library:
        retriever = Retriever(library, embedder=KnownVectors({sequence: vectors}), score=by_distance())
        hits = retriever.search([sequence])[0]
        assert hits[0].length == len(sequence)
        nothing = Retriever(
            library, embedder=KnownVectors({sequence: vectors}), score=by_distance(), max_identity=0.9
        )
        assert nothing.search([sequence]) == [[]]
    assert np.isfinite([hit.score for hit in hits]).all()


def test_motifs_below_a_score_and_beyond_a_number_are_left_out(found):
    sequence = found.segments[0].info.sequence
    everything = found.retriever().search([sequence])[0]
    cut = sorted(hit.score for hit in everything)[len(everything) // 2]
    some = found.retriever().search([sequence], min_score=cut, top=3)[0]
    assert [hit.score for hit in some] == [hit.score for hit in everything if hit.score >= cut][:3]


@pytest.mark.parametrize(
    ("query", "said"), [("ACDEF", "5 residues"), ("acdefghiklm", "characters"), ("A" * 12 + ":", "0 res")]
)
def test_what_is_no_chain_is_refused(found, query, said):
    with pytest.raises(InputError, match=said):
        found.retriever().search([query])


@pytest.mark.parametrize("options", [{"max_identity": 0.0}, {"max_identity": 1.2}, {"candidates": 0}])
def test_options_out_of_range_are_refused(found, options):
    with pytest.raises(InputError, match="expected"):
        found.retriever(**options)
