"""The learning rate rises, falls and ends at a fiftieth."""

import numpy as np
import pytest

from openfoldpp.training.schedule import warm_up_and_cosine


def rates(**options):
    return [warm_up_and_cosine(step, 1000, highest=2.0, warm_up=100, **options) for step in range(1000)]


def test_it_rises_to_the_highest_and_falls_along_a_cosine():
    found = rates(falls_from=100)
    assert found[0] == pytest.approx(0.02)
    assert found[99:101] == [2.0, 2.0]
    assert found[:100] == sorted(found[:100])
    assert found[100:] == sorted(found[100:], reverse=True)
    assert found[550] == pytest.approx(2 * 0.51)
    assert found[-1] == pytest.approx(0.04, rel=0.01)


def test_a_cosine_from_the_first_step_on_lowers_the_rise():
    found = rates()
    assert found[0] == pytest.approx(0.02)
    assert np.argmax(found) == 99
    assert found[99] < 1.96
    assert found[500] == pytest.approx(2 * 0.51)
    assert found[-1] == pytest.approx(0.04, abs=1e-3)
