import numpy as np
import pytest

from openfoldpp.motifs.candidates import CONTEXT, NOTHING, STRIDE, STRIP, Strips, collect, encode
from openfoldpp.motifs.library import Library
from openfoldpp.motifs.profile import GEOMETRY, Profile
from openfoldpp.plm.cheap_head import K


@pytest.fixture
def searched(make_library):
    """An open library, its segments, and what collects the candidates of one of them, by its number."""
    folder, segments, vectors = make_library(count=8)
    firsts = np.cumsum([0, *(len(segment.info.sequence) - 9 for segment in segments)])
    with Library.open(folder) as library:

        def blocks(number, count=200, excluded=None):
            sequence = segments[number].info.sequence
            own = vectors[firsts[number] : firsts[number + 1]]
            blank = Profile(*np.zeros((2, len(sequence), GEOMETRY), np.float32))
            return collect(library, Strips(library), [sequence], [own], [blank], count, excluded)[0]

        yield library, segments, blocks


def test_every_diagonal_of_a_block_is_there_once(searched):
    _, _, blocks = searched
    found = blocks(3)
    for row, shingles in enumerate(found.shingles):
        there = found.found[row].any(-1)
        codes = [found.codes[row, column].tobytes() for column in np.flatnonzero(there)]
        assert len(set(zip(shingles[there], codes, strict=True))) == there.sum()


def test_codes_are_those_of_the_segment_opposite(searched):
    library, segments, blocks = searched
    found = blocks(3)
    query = segments[3].info.sequence
    whole = found.valid()
    assert whole.any()
    for block, column, window in zip(*np.nonzero(whole), strict=True):
        at = CONTEXT + window
        letters = found.codes[block, column, at : at + K] + ord("A") - 1
        shingle = found.shingles[block, column] + window
        np.testing.assert_array_equal(letters, library.letters(np.array(shingle)))
        if block * STRIDE + window + K <= len(query):
            own = encode(query[block * STRIDE + window :][:K])
            np.testing.assert_array_equal(found.query[block, at : at + K], own)


def test_nothing_stands_beyond_the_ends_of_a_segment(searched):
    library, segments, _ = searched
    strip = Strips(library).around(np.array([0]), CONTEXT)[0]
    expected = np.full(STRIP, NOTHING, np.uint8)
    own = encode(segments[0].info.sequence)[: STRIP - CONTEXT]
    expected[CONTEXT : CONTEXT + len(own)] = own
    np.testing.assert_array_equal(strip, expected)


def test_what_is_excluded_is_replaced_by_what_is_farther(searched):
    _, _, blocks = searched
    found = blocks(3, count=4, excluded=lambda chain, shingles: (shingles < 0) | (shingles % 2 == 0))
    there = found.found[..., 0]
    # The anchor before a block is its first window: its shingles are what it found.
    assert (found.shingles[there] % 2 == 1).all()
    assert (there.sum(1) >= 4).all()
