"""Progress on standard error: a bar on a terminal, plain lines in a pipe, nothing when quiet."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

from openfoldpp.plugins.hookspecs import hookimpl
from openfoldpp.types import ProgressEvent

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress

# What each phase is called.
_PHASES = {
    "load": "loading the model",
    "features": "making features",
    "trace": "tracing the model",
    "predict": "predicting",
    "write": "writing files",
    "relax": "relaxing",
    "done": "done",
    "failed": "failed",
}


class ProgressReporter:
    """Shows the events of a run; a plugin, registered for the run.

    Use it as a context manager, so that the bar is closed before anything else is printed.

    Parameters
    ----------
    file : text file, optional
        Standard error unless given. A terminal gets a bar; anything else gets one line for each step, with
        the seconds since the start.
    quiet : bool, default False
        Show nothing.
    """

    def __init__(self, file: TextIO | None = None, *, quiet: bool = False):
        self._file = sys.stderr if file is None else file
        self._quiet = quiet
        self._start = time.perf_counter()
        self._bar: Progress | None = None
        self._last = ""

    def __enter__(self) -> ProgressReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it is and give the terminal back. Doing so twice is the same as once."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @hookimpl
    def openfoldpp_progress(self, event: ProgressEvent) -> None:
        """Show one step of the run.

        Parameters
        ----------
        event : ProgressEvent
            Phases other than the known ones are shown by their own name.
        """
        if self._quiet:
            return
        text = _PHASES.get(event.phase, event.phase)
        if event.target is not None:
            text = f"{event.target.tag}: {text}"
        fraction = min(max(event.fraction, 0.0), 1.0)
        # A terminal of type "dumb", that of an editor for instance, cannot redraw a line.
        if self._file.isatty() and os.environ.get("TERM") != "dumb":
            self._show_bar(text, fraction)
        elif text != self._last:  # a phase that reports every step of its own is one line
            seconds = time.perf_counter() - self._start
            print(f"[{seconds:8.1f} s] {fraction:4.0%}  {text}", file=self._file, flush=True)
        self._last = text

    def _show_bar(self, text: str, fraction: float) -> None:
        if self._bar is None:
            self._bar = _new_bar(self._file)
            self._bar.start()
            self._bar.add_task(text, total=1.0)
        self._bar.update(self._bar.task_ids[0], completed=fraction, description=text, refresh=True)


def _new_bar(file: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    return Progress(
        # Shortened when narrow: the closing table has the whole names.
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(file=file, highlight=False),
        expand=True,
        # What the run prints, warnings for instance, goes to its own stream unchanged.
        redirect_stdout=False,
        redirect_stderr=False,
    )
