"""Progress of ``openfoldpp motifs build``: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from openfoldpp.motifs.build import Progress

# Between two lines where standard error is no terminal.
_LINE_EVERY_S = 10.0


class Reporter:
    """Shows how far a build is; a context that ends with the build."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._phase = ""
        self._next_line_s = _LINE_EVERY_S
        # A terminal of type "dumb", that of an editor for instance, cannot redraw a line.
        self._on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, state: Progress) -> None:
        """Show a `state`."""
        if not state.total:
            return
        if self._on_terminal:
            self._show_bar(state)
            return
        if state.phase != self._phase:
            self._phase, self._next_line_s = state.phase, _LINE_EVERY_S
        if state.elapsed_s >= self._next_line_s and state.done < state.total:
            self._next_line_s = state.elapsed_s + _LINE_EVERY_S
            typer.echo(
                f"[{state.elapsed_s:8.1f} s] {state.done / state.total:4.0%}  {state.phase}: {state.done:,} "
                f"of {state.total:,} {state.unit}",
                err=True,
            )

    def _show_bar(self, state: Progress) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TaskProgressColumn,
                TextColumn,
                TimeElapsedColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                console=Console(file=sys.stderr, highlight=False),
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
        if state.phase != self._phase:
            self._phase = state.phase
            self._bar.add_task(state.phase, total=state.total, unit=state.unit)
        self._bar.update(self._bar.task_ids[-1], completed=state.done)
