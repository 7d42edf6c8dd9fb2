import numpy as np
import pytest

from openfoldpp.geometry.fragment_rmsd import fragment_rmsd_matrix, fragment_rmsd_to_one
from openfoldpp.geometry.superposition import fragment_rmsd


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    sets = rng.normal(size=(3, 6, 30, 3)).cumsum(2)
    sets[:, 1] = sets[:, 0] * [1, 1, -1]  # a mirror image
    sets[:, 2] = sets[:, 0] + 0.05 * rng.normal(size=(3, 30, 3))
    sets[:, 3] = sets[:, 0] + [50, 0, 0]
    sets[:, 4] = np.arange(30)[:, None] * [1, 0, 0]  # on a line
    return sets


def test_matrix_is_that_of_kabsch(sets):
    first, second = np.indices((6, 6)).reshape(2, -1)
    expected = np.stack([fragment_rmsd(one[first], one[second]).reshape(6, 6) for one in sets])
    np.testing.assert_allclose(fragment_rmsd_matrix(sets), expected, atol=5e-3)


def test_one_row_is_that_of_the_matrix(sets):
    found = fragment_rmsd_to_one(sets, sets[:, 2])
    np.testing.assert_allclose(found, fragment_rmsd_matrix(sets)[:, 2], atol=5e-3)


def test_fragments_that_are_all_at_one_place_have_no_distance():
    assert not fragment_rmsd_matrix(np.ones((1, 3, 10, 3))).any()
