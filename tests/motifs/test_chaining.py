"""Motifs of window hits that the test sets by hand, in libraries of a few segments."""

import numpy as np
import pytest

from openfoldpp.motifs.chaining import DEPTH, chain
from openfoldpp.motifs.embedder import installed_embedding
from openfoldpp.motifs.hits import expected_tm
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.part_files import write_library
from openfoldpp.motifs.retriever import WindowHits
from openfoldpp.motifs.segments import Segment, SegmentInfo

LENGTH = 40
WINDOWS = LENGTH - 9


@pytest.fixture
def library(tmp_path, chains):
    """Eleven segments of one backbone, then one of another."""

    def make(bent=()):
        segments = []
        for number in range(12):
            coordinates = chains.backbone(LENGTH, seed=number // 11)
            if number in bent:
                # The second half goes elsewhere: its last windows have another shape than the others'.
                coordinates = np.concatenate([coordinates[:20], chains.backbone(LENGTH, seed=9)[20:]])
            info = SegmentInfo(f"s{number}_A", f"1..{LENGTH}", "ACDEFGHIKL" * 4)
            segments.append(Segment(info, coordinates))
        vectors = np.zeros((12 * WINDOWS, 64), np.float32)
        write_library(tmp_path / "lib", segments, vectors, installed_embedding())
        opened.append(Library.open(tmp_path / "lib"))
        return opened[-1]

    opened = []
    yield make
    for one in opened:
        one.close()


def windows(*columns, breaks=()):
    """Hits of one query: each column a segment, a diagonal, and a score for each window (None: no hit)."""
    shingles = np.full((WINDOWS, len(columns)), -1)
    scores = np.zeros(shingles.shape, np.float32)
    for column, (segment, diagonal, some) in enumerate(columns):
        for window, score in enumerate(some):
            if score is not None:
                shingles[window, column] = segment * WINDOWS + window + diagonal
                scores[window, column] = score
    chains = np.searchsorted(breaks, np.arange(WINDOWS), "right")
    distances = np.where(shingles >= 0, np.float32(0.5), np.inf)
    return WindowHits(np.arange(WINDOWS) + 9 * chains, chains, shingles, scores, distances)


def test_a_segment_found_everywhere_is_one_motif(library):
    lib = library()
    [hit] = chain(lib, windows((3, 0, [0.9] * WINDOWS)))
    assert (hit.segment, hit.start, hit.offset, hit.length) == (3, 0, 0, LENGTH)
    assert hit.score == pytest.approx(0.9)
    assert (hit.distance, hit.tm) == (0.5, expected_tm(0.5, LENGTH))
    np.testing.assert_array_equal(hit.coords, lib.coordinates(3))


def test_windows_between_finalists_join_by_their_backbone(library):
    # Segment 4 is a finalist at both ends alone; its backbone is that of segment 3 all along.
    ends = [0.8] * 3 + [None] * (WINDOWS - 6) + [0.8] * 3
    hits = chain(library(), windows((3, 0, [0.8] * WINDOWS), (4, 0, ends)))
    assert [(hit.segment, hit.length) for hit in hits] == [(3, LENGTH), (4, LENGTH)]
    assert hits[1].score == pytest.approx(0.8, abs=0.01)


def test_a_motif_ends_where_its_backbone_leaves_that_of_the_best(library):
    start = [0.8] * 3 + [None] * (WINDOWS - 3)
    hits = chain(library(bent={4}), windows((3, 0, [0.8] * WINDOWS), (4, 0, start)))
    other = next(hit for hit in hits if hit.segment == 4)
    assert other.offset == 0
    assert 20 <= other.length < 30


def test_an_improbable_loop_is_covered_and_a_wrong_one_is_not(library):
    lib, better = library(), (11, 0, [None] * 12 + [0.8] * 6 + [None] * (WINDOWS - 18))
    for loop, count in ((0.3, 1), (0.05, 2)):
        own = [0.9] * 12 + [loop] * 6 + [0.9] * (WINDOWS - 18)
        hits = windows(better, (3, 0, own))
        # The first column has the best hit of each window.
        swap = hits.shingles[:, 0] < 0
        for array in (hits.shingles, hits.scores, hits.distances):
            array[swap] = array[swap, ::-1]
        found = [hit for hit in chain(lib, hits) if hit.segment == 3]
        assert len(found) == count
        assert sum(hit.length - 9 for hit in found) == WINDOWS - 6 * (count - 1)
        assert np.sum([hit.score * (hit.length - 9) for hit in found]) == pytest.approx(
            0.9 * (WINDOWS - 6) + 6 * loop * (count == 1), rel=1e-5
        )


def test_diagonals_are_not_mixed_and_chains_not_crossed(library):
    lib = library()
    half = [0.9] * 12 + [None] * (WINDOWS - 12)
    other = [None] * 14 + [0.9] * (WINDOWS - 20) + [None] * 6
    hits = chain(lib, windows((3, 0, half), (3, 5, other)))
    assert {(hit.offset, hit.start) for hit in hits} == {(0, 0), (14, 19)}
    hits = chain(lib, windows((3, 0, [0.9] * WINDOWS), breaks=(15,)))
    assert [(hit.offset, hit.start, hit.length) for hit in hits] == [(24, 15, 25), (0, 0, 24)]


def test_the_first_motifs_cover_the_query_and_copies_come_after(library):
    # Three copies of the first half are more probable than the one of the second.
    first, second = [0.9] * 15 + [None] * (WINDOWS - 15), [None] * 15 + [0.5] * (WINDOWS - 15)
    lib = library()
    found = windows((0, 0, first), (1, 0, first), (2, 0, first), (11, 0, second))
    for array in (found.shingles, found.scores, found.distances):
        array[15:] = np.roll(array[15:], 1, 1)
    everything = [hit.segment for hit in chain(lib, found)]
    assert everything == [0, 11, 1, 2]
    assert [hit.segment for hit in chain(lib, found, top=2)] == everything[:2]


def test_what_repeats_many_motifs_is_left_out(library):
    lib = library()
    # Each window has five best, and these are others at each.
    columns = [(number, 0, [0.9 - 0.01 * number] * WINDOWS) for number in range(11)]
    found = windows(*columns)
    order = np.stack([np.roll(np.arange(11), window) for window in range(WINDOWS)])
    shuffled = WindowHits(
        found.offsets,
        found.chains,
        *(np.take_along_axis(a, order, 1) for a in (found.shingles, found.scores, found.distances)),
    )
    hits = chain(lib, shuffled)
    assert len(hits) == DEPTH
    assert [hit.segment for hit in hits] == list(range(DEPTH))


def test_nothing_found_gives_nothing(library):
    lib = library()
    assert chain(lib, windows((0, 0, [None] * WINDOWS))) == []
    assert chain(lib, windows((3, 0, [0.4] * WINDOWS)), min_score=0.5) == []
