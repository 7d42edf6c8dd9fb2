"""Pairs of fragments: which are drawn, and what agreement with RMSD means."""

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.training.fragment_pairs import KINDS, Pairs, agreement, spearman
from openfoldpp.training.fragments import Windows

FVS, PLACES = 30, 12


@pytest.fixture
def windows():
    """Twelve places: fragments of a place are alike, each bent by an amount of its own."""
    rng = np.random.default_rng(0)
    shapes = rng.normal(scale=4, size=(PLACES, 1, 30, 3))
    bends = rng.normal(size=(1, 1, 30, 3))
    fragments = shapes + bends * rng.random((PLACES, FVS, 1, 1))
    place = np.repeat(np.arange(PLACES), FVS)
    return Windows(
        fragments=(fragments - fragments.mean(2, keepdims=True)).reshape(-1, 30, 3).astype(np.float32),
        letters=rng.integers(65, 85, (PLACES * FVS, 10)).astype(np.uint8),
        fv=np.tile(np.arange(FVS, dtype=np.int32), PLACES),
        is_heavy=place % 2 == 0,
        place=(place // 2).astype(np.int16),
        cdr=np.where(place < 4, 3, 0).astype(np.int8),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_of_two_fvs_and_of_their_kind(windows, kind):
    first, second = Pairs(windows).draw(kind, 3000, np.random.default_rng(1))
    assert len(first) == len(second) == 3000
    assert (windows.fv[first] != windows.fv[second]).all()
    same = windows.place[first] == windows.place[second]
    same &= windows.is_heavy[first] == windows.is_heavy[second]
    if kind == "anywhere":
        assert 0.05 < same.mean() < 0.12  # one of twelve
        assert len(np.unique(first)) > 0.99 * len(windows)
    else:
        assert same.all()
        assert len(np.unique(windows.place[first])) == (2 if kind == "same CDR place" else 6)
        if kind == "same CDR place":
            assert (windows.cdr[np.append(first, second)] == 3).all()


def test_one_fv_has_no_pairs(windows):
    one = Windows(**{name: value[windows.fv == 0] for name, value in vars(windows).items()})
    with pytest.raises(InputError, match="give more than one"):
        Pairs(one)


def test_only_what_tells_windows_of_a_place_apart_agrees_within_it(windows):
    pairs = Pairs(windows)
    place = np.stack([windows.place * 2 + windows.is_heavy], 1).astype(float)
    found = agreement(
        windows,
        {
            "rmsd": pairs.rmsd,
            "place": lambda a, b: (place[a] != place[b]).sum(1),
            "nothing": lambda a, b: np.random.default_rng(2).random(len(a)),
        },
        count=5000,
    )
    assert all(value == pytest.approx(1) for value in found["rmsd"].values())
    assert found["place"]["anywhere"] > 0.4
    assert found["place"]["within a place"] == found["place"]["same place"] == 0
    assert all(abs(value) < 0.1 for value in found["nothing"].values())
    assert set(found["rmsd"]) == {
        *KINDS,
        "within a place",
        "within a CDR place",
        "within a CDR-H3 place",
    }


def test_spearman_shares_the_rank_of_equal_values():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: by hand.
    assert spearman(np.array([1, 5, 5, 9]), np.array([0.1, 0.2, 0.3, 7])) == pytest.approx(
        4.5 / np.sqrt(4.5 * 5)
    )
    assert spearman(np.array([3, 2, 1]), np.array([1, 10, 100])) == pytest.approx(-1)
    assert spearman(np.ones(5), np.arange(5)) == 0
