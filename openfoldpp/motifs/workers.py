"""Threads for the chains of a query, each with one core.

Torch splits a product of a hundred rows over the cores and waits for all of them after each; a chain on each
core waits once.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def each(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Apply a function to items, as many at once as torch uses threads.

    Parameters
    ----------
    function : callable
        It must not call this one.
    items : sequence
        One after another where there is one, or torch uses one thread.

    Returns
    -------
    list
        What the function returned, in the order of the items.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2:
        return [function(item) for item in items]
    return list(_pool(os.getpid(), threads).map(function, items))


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Start threads of a `process`: one that it forks has none of its parent's."""
    pool = ThreadPoolExecutor(threads, "openfoldpp-motifs")
    all_there = threading.Barrier(threads)

    def start() -> None:
        torch.set_num_threads(1)
        # A thread takes over the setting of the process when it first asks for it: now, not after the reset.
        torch.get_num_threads()
        all_there.wait()

    for started in [pool.submit(start) for _ in range(threads)]:
        started.result()
    # It is a setting of the thread, and of the threads that begin later: these are not ours.
    torch.set_num_threads(threads)
    return pool
