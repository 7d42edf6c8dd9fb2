import numpy as np

from openfoldpp.motifs.exclusion import Exclusion
from openfoldpp.motifs.library import Library


def test_shingles_of_a_near_segment_are_left_out(make_library):
    folder, segments, _ = make_library(count=6)
    sequence = segments[2].info.sequence
    changed = sequence[:4] + "W" + sequence[5:]
    with Library.open(folder) as library:
        shingles = np.arange(len(library)).reshape(1, -1)
        own = library.places(shingles).segments == 2
        np.testing.assert_array_equal(Exclusion(library, [sequence], 1.0)(0, shingles), own)
        np.testing.assert_array_equal(Exclusion(library, [changed], 0.8)(0, shingles), own)
        assert not Exclusion(library, [changed], 1.0)(0, shingles).any()


def test_each_chain_has_its_own_and_no_shingle_is_left_out(make_library):
    folder, segments, _ = make_library(count=6)
    chains = [segments[0].info.sequence, segments[5].info.sequence]
    with Library.open(folder) as library:
        excluded = Exclusion(library, chains, 0.9)
        shingles = np.array([-1, 0, len(library) - 1])
        assert excluded(0, shingles).tolist() == [True, True, False]
        assert excluded(1, shingles).tolist() == [True, False, True]
