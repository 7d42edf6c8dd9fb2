"""Workspaces: kept within the context, apart for each thread, freed at its end."""

import threading
import weakref

import numpy as np
import pytest

from openfoldpp.ops.workspace import CACHE_LINE_BYTES, kept, workspace


@pytest.mark.parametrize("floats", [1, 100, 1_000_003])
def test_it_is_float32_of_that_size_on_a_cache_line_and_writable(floats):
    for _ in range(5):
        memory = workspace(floats)
        assert memory.shape == (floats,)
        assert memory.dtype == np.float32
        assert memory.ctypes.data % CACHE_LINE_BYTES == 0
        memory[:] = 1.0


def test_two_callers_have_their_own():
    assert not np.shares_memory(workspace(100), workspace(100))


def test_within_the_context_it_is_the_same_and_grows():
    with kept():
        first = workspace(1000)
        assert np.shares_memory(first, workspace(10))
        assert len(workspace(10)) == 10
        larger = workspace(2000)
        assert len(larger) == 2000
        assert not np.shares_memory(first, larger)
        assert np.shares_memory(larger, workspace(1000))
    assert not np.shares_memory(larger, workspace(1000))


def buffer_of(memory):
    while memory.base is not None:
        memory = memory.base
    return weakref.ref(memory)


def test_it_is_freed_when_the_outermost_context_ends():
    with kept():
        with kept():
            alive = buffer_of(workspace(1000))
        assert alive() is not None
        workspace(2000)
        assert alive() is None  # replaced by the larger one
        alive = buffer_of(workspace(1))
    assert alive() is None


def test_it_is_freed_when_an_error_ends_the_context():
    alive = []

    def fail():
        with kept():
            alive.append(buffer_of(workspace(1000)))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert alive[0]() is None
    assert not np.shares_memory(workspace(10), workspace(10))


def test_each_thread_keeps_its_own():
    seen = []

    def elsewhere():
        seen.extend([workspace(100), workspace(100)])
        with kept():
            seen.append(workspace(100))

    with kept():
        mine = workspace(100)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert np.shares_memory(mine, workspace(100))
    assert len(seen) == 3
    for i, memory in enumerate(seen):
        assert not any(np.shares_memory(memory, other) for other in [mine, *seen[:i]])
