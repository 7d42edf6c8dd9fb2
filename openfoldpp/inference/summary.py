"""The table at the end of a run: what came out, how sure it is, and what failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

# What a table in a pipe is fitted to: the width of a terminal when it is looked at later.
_WIDTH = 80


@dataclass(frozen=True)
class TargetSummary:
    """One target's line.

    Attributes
    ----------
    tag : str
        The target's, or the file's name where no target could be read.
    residues : int
        Of all chains.
    mean_plddt : float or None
        0 to 100, None where there is none.
    ptm : float or None
        0 to 1, None where no PAE was predicted.
    seconds : float or None
        From features to written files.
    files : tuple of pathlib.Path
        Everything written.
    error : str or None
        Why it failed; the other figures are then not shown.
    """

    tag: str
    residues: int = 0
    mean_plddt: float | None = None
    ptm: float | None = None
    seconds: float | None = None
    files: tuple[Path, ...] = ()
    error: str | None = None


def print_summary(summaries: Sequence[TargetSummary], file: TextIO | None = None) -> None:
    """Print the table, the files below their folder, and the failures.

    Parameters
    ----------
    summaries : sequence of TargetSummary
        In the order in which to show them. None: nothing is printed.
    file : text file, optional
        Standard output unless given. A terminal gets a rule and bold heads, a pipe aligned plain text of
        the same columns. Names are never cut: one that is too long is folded on a terminal, and has a
        line of its own in a pipe.
    """
    file = sys.stdout if file is None else file
    done = [summary for summary in summaries if summary.error is None]
    failed = [summary for summary in summaries if summary.error is not None]
    if done:
        rows = [_row(summary) for summary in done]
        if file.isatty():
            _print_rich(rows, file)
        else:
            _print_plain(rows, file)
        _print_files(done, file)
    if failed:
        total = len(done) + len(failed)
        print(f"\n{len(failed)} of {total} {'target' if total == 1 else 'targets'} failed:", file=file)
        for summary in failed:
            print(f"  {summary.tag}: {' '.join(str(summary.error).split())}", file=file)


# Stands for the tag at the start of a file's name; no file name can have it.
_TAG = "\0"

_HEAD = ("target", "residues", "mean pLDDT", "pTM", "seconds", "files")


def _row(summary: TargetSummary) -> tuple[str, ...]:
    return (
        summary.tag,
        str(summary.residues),
        _number(summary.mean_plddt, 1),
        _number(summary.ptm, 2),
        "-" if summary.seconds is None else f"{summary.seconds:.1f}",
        str(len(summary.files)),
    )


def _number(value: float | None, digits: int) -> str:
    return "not predicted" if value is None else f"{value:.{digits}f}"


def _print_plain(rows: list[tuple[str, ...]], file: TextIO) -> None:
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    gap = 2
    # The other columns take 50 or so; a longer name has a line of its own.
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - gap * (len(widths) - 1))
    for row in (_HEAD, *rows):
        name = row[0]
        if len(name) > widths[0]:
            print(name, file=file)
            name = ""
        cells = [name.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print((" " * gap).join(cells), file=file)


def _print_rich(rows: list[tuple[str, ...]], file: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(_HEAD[0], overflow="fold")
    for title in _HEAD[1:]:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=file, highlight=False).print(table)


def _print_files(done: list[TargetSummary], file: TextIO) -> None:
    """Name the files below their folder: once for all targets whose names differ only in the tag."""
    groups: dict[tuple[Path, tuple[str, ...]], list[str]] = {}
    for summary in done:
        for folder in dict.fromkeys(path.parent for path in summary.files):
            names = [path.name for path in summary.files if path.parent == folder]
            if all(name.startswith(summary.tag) for name in names):
                names = [_TAG + name.removeprefix(summary.tag) for name in names]
            groups.setdefault((folder, tuple(names)), []).append(summary.tag)
    for (folder, names), tags in groups.items():
        print(f"\nfiles in {folder}{', for each target' if len(tags) > 1 else ''}:", file=file)
        for name in names:
            print(f"  {name.replace(_TAG, 'TARGET' if len(tags) > 1 else tags[0])}", file=file)
