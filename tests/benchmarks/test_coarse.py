"""The benchmark of coarse models tables what was measured."""

import pytest


@pytest.fixture
def coarse(load):
    return load("coarse")


def test_the_tables_hold_what_was_measured(coarse):
    one = {"rmsd": 1.0, "tm": 0.9, "lddt": [80.0, 90.0], "plddt": [75.0, 96.0]}
    two = {"rmsd": 3.0, "tm": 0.7, "lddt": [60.0], "plddt": [49.0]}
    text = coarse.markdown({"1abc": one, "2xyz": two})
    assert "| 1abc | 1.00 | 0.900 | 85.0 | 85.5 |" in text
    assert "| median; mean | 2.00 | 0.800 | 76.7 | 73.3 |" in text
    assert "| 70 to 80 | 1 | 75.0 | 80.0 |" in text
    assert "80 to 90" not in text
