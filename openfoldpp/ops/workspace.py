"""Scratch memory of the native kernels, kept from one call to the next where that is asked for.

Memory that is fresh from the system costs a page fault for every page, which a kernel that runs again and
again, block after block, need not pay each time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np

CACHE_LINE_BYTES = 64
_LINE_FLOATS = CACHE_LINE_BYTES // 4


class _Kept(threading.local):
    depth = 0
    buffer: np.ndarray | None = None


_kept = _Kept()


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep this thread's workspace while the context lasts; it is freed when the outermost one ends.

    Examples
    --------
    >>> with kept():
    ...     first = workspace(1000)
    ...     second = workspace(500)  # the same memory
    >>> np.shares_memory(first, second)
    True
    """
    _kept.depth += 1
    try:
        yield
    finally:
        _kept.depth -= 1
        if not _kept.depth:
            _kept.buffer = None


def workspace(floats: int) -> np.ndarray:
    """Return uninitialised memory that begins at a cache line.

    Within :func:`kept` it is the same memory at each call of a thread, grown where it was too small: it
    belongs to the caller until the thread's next call. Elsewhere it is the caller's alone.

    Parameters
    ----------
    floats : int
        How many.

    Returns
    -------
    numpy.ndarray
        float32 ``[floats]``.

    Raises
    ------
    MemoryError
        Where the system has not that much.
    """
    if not _kept.depth:
        return _allocate(floats)
    if _kept.buffer is None or len(_kept.buffer) < floats:
        _kept.buffer = None  # before there is a larger one, so that both are never held
        _kept.buffer = _allocate(floats)
    return _kept.buffer[:floats]


def _allocate(floats: int) -> np.ndarray:
    # By numpy and not by torch: numpy asks Linux for huge pages.
    memory = np.empty(floats + _LINE_FLOATS, dtype=np.float32)
    offset = -memory.ctypes.data % CACHE_LINE_BYTES // memory.itemsize
    return memory[offset : offset + floats]
