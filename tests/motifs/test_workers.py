"""Threads for chains."""

import threading

import pytest
import torch

from openfoldpp.motifs.workers import each


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_thread_has_one_core_and_others_keep_theirs(two_threads):
    together = threading.Barrier(2, timeout=30)  # breaks where one comes after the other

    def look(item):
        together.wait()
        return item, torch.get_num_threads()

    assert each(look, [3, 4]) == [(3, 1), (4, 1)]
    assert torch.get_num_threads() == 2
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [2]


def test_an_error_comes_through(two_threads):
    with pytest.raises(ZeroDivisionError):
        each(lambda item: 1 / item, [1, 0])
