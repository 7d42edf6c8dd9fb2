"""Ctrl-C and the signals with which a scheduler or a terminal ends a run: what is half done is cleared away.

A signal becomes an exception in the main thread, so that every ``finally`` runs: temporary files are removed,
upstream's modules are put back, finished targets stay. Python hears of a signal between two of its own steps;
inside one call of torch that is after the call.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

#: A program that starts another often passes on a signal that the other has got already, from the terminal
#: or from the scheduler. Within this time, the second is the same wish.
_SAME_WISH_S = 1.0

# SIGHUP: the terminal was closed. Not every system has it.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end. No ``Exception``, so that no handler of errors takes it for one.

    Parameters
    ----------
    signum : int
        The signal's number.

    Attributes
    ----------
    signal : signal.Signals
        Which.
    """

    def __init__(self, signum: int = signal.SIGINT):
        self.signal = signal.Signals(signum)
        super().__init__(f"interrupted by {self.signal.name}")

    @property
    def exit_code(self) -> int:
        """As a shell reports a program that the signal ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


class Interruption:
    """Remembers the first signal of a run; made by :func:`interruptible`."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._since = 0.0

    def check(self) -> None:
        """Raise what a signal raised once more, where a library has swallowed it.

        Raises
        ------
        Interrupted
            There has been a signal.
        """
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._since = signum, time.monotonic()
            raise Interrupted(signum)
        if time.monotonic() - self._since > _SAME_WISH_S:
            # She will not wait for the clearing up.
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Raise :class:`Interrupted` in the block where Ctrl-C, SIGTERM or SIGHUP comes; a second one kills.

    Signals that are ignored stay so (``nohup``, a shell's background jobs). Outside the main thread, where
    Python takes no handlers, nothing is changed.

    Yields
    ------
    Interruption
        Its ``check()`` is for the places between two targets.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # None: a handler that was not set from Python.
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    ours = [signum for signum, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for signum in ours:
            signal.signal(signum, interruption._handle)
        yield interruption
    finally:
        for signum in ours:
            signal.signal(signum, before[signum])


def interruption_message(error: KeyboardInterrupt, finished: Sequence[str]) -> str:
    """Say what ended a run and what is in place.

    Parameters
    ----------
    error : KeyboardInterrupt
        What ended it.
    finished : sequence of str
        Tags of the targets that were predicted and written.

    Returns
    -------
    str
        One line.
    """
    reason = str(error) or "interrupted by SIGINT"
    names = ", ".join(dict.fromkeys(finished)) or "none"
    return f"{reason}; finished targets: {names}; every file written is complete"
