from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openfoldpp.plm.batching import Window, batches, blend, windows


@given(length=st.integers(1, 5000), limit=st.integers(4, 1022))
def test_windows_cover_the_sequence_and_neighbours_share_a_quarter(length, limit):
    found = windows(7, length, limit)
    assert {window.sequence for window in found} == {7}
    assert found[0].start == 0
    assert found[-1].end == length
    if length <= limit:
        assert found == [Window(7, 0, length)]
        return
    assert {len(window) for window in found} == {limit}
    for left, right in pairwise(found):
        assert left.start < right.start
        # Starts are rounded to whole residues.
        assert left.end - right.start >= limit // 4 - 1


def test_a_window_more_is_not_made_where_the_last_fits():
    assert len(windows(0, 1022 + 767, 1022)) == 2
    assert len(windows(0, 1022 + 768, 1022)) == 3


@given(lengths=st.lists(st.integers(1, 300), max_size=40), tokens=st.integers(1, 500))
def test_batches_hold_each_window_once_within_the_budget_longest_first(lengths, tokens):
    pieces = [Window(i, 0, length) for i, length in enumerate(lengths)]
    found = list(batches(pieces, tokens))
    flat = [window for batch in found for window in batch]
    assert sorted(flat, key=lambda window: window.sequence) == pieces
    assert [len(window) for window in flat] == sorted(lengths, reverse=True)
    for batch in found:
        assert len(batch) == 1 or sum(map(len, batch)) <= tokens


@pytest.mark.parametrize("limit", [10, 37, 60])
def test_windows_that_agree_blend_to_what_they_agree_on(limit):
    whole = torch.from_numpy(np.random.default_rng(0).standard_normal((97, 3)))
    pieces = [(window, whole[window.start : window.end]) for window in windows(0, 97, limit)]
    torch.testing.assert_close(blend(pieces, 97), whole)


def test_the_fade_is_linear_between_two_windows():
    pieces = [(Window(0, 0, 6), torch.zeros(6, 1)), (Window(0, 3, 9), torch.ones(6, 1))]
    fade = [0, 0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    torch.testing.assert_close(blend(pieces, 9)[:, 0], torch.tensor(fade))
