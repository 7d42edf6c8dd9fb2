import numpy as np
import pytest

from openfoldpp.geometry.superposition import tm_score
from openfoldpp.motifs.hits import expected_tm


@pytest.mark.parametrize("length", [10, 30, 120])
def test_nothing_off_is_one_and_more_is_less(length):
    assert expected_tm(0.0, length) == 1
    assert expected_tm(1.0, length) > expected_tm(2.0, length)


def test_it_is_about_the_tm_score_of_residues_that_are_that_far_off():
    rng = np.random.default_rng(0)
    chain = np.cumsum(rng.normal(size=(150, 3)) * 2.2, 0)
    off = rng.normal(size=(150, 3))
    off *= 1.5 / np.linalg.norm(off, axis=1, keepdims=True)
    assert expected_tm(1.5, 150) == pytest.approx(tm_score(chain + off, chain), abs=0.02)
