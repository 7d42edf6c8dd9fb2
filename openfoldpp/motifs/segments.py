"""Segments: stretches of protein chains without a break, and the numbers of their residues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from openfoldpp.errors import InputError

#: The atoms of a residue that are kept.
BACKBONE = ("N", "CA", "C", "O")


@dataclass(frozen=True)
class SegmentInfo:
    """What is known of a segment beside its coordinates.

    Attributes
    ----------
    name : str
        The structure's, and the chain's: ``1abc_A``.
    numbering : str
        The residues' numbers in the structure's file: ``1..52,52A,53..113``.
    sequence : str
        One-letter codes, X for what is none of the twenty.
    """

    name: str
    numbering: str
    sequence: str

    def residue_number(self, residue: int) -> str:
        """Return the number of a residue in the structure's file.

        Parameters
        ----------
        residue : int
            Counted from the segment's first.

        Returns
        -------
        str
            With the insertion code: ``52A``.

        Raises
        ------
        InputError
            The segment has no such residue.
        """
        if residue < 0:
            raise InputError(f"residue {residue} of {self.name}: expected 0 or more")
        left = residue
        for run in self.numbering.split(","):
            first, _, last = run.partition("..")
            count = int(last) - int(first) + 1 if last else 1
            if left < count:
                return str(int(first) + left) if last else first
            left -= count
        raise InputError(f"residue {residue} of {self.name}: it has {len(self.sequence)}, counted from 0")


@dataclass(frozen=True)
class Segment:
    """A stretch of one protein chain without a break.

    Attributes
    ----------
    info : SegmentInfo
        What it is.
    coordinates : numpy.ndarray of shape (N_res, 4, 3), float32
        N, CA, C and O, angstrom.
    """

    info: SegmentInfo
    coordinates: np.ndarray


def numbering_of(numbers: Sequence[int], insertion_codes: Sequence[str]) -> str:
    """Write residue numbers shortly.

    Parameters
    ----------
    numbers : sequence of int
        Of the residues, in order.
    insertion_codes : sequence of str
        "" where there is none.

    Returns
    -------
    str
        Runs of consecutive numbers, and those with an insertion code one by one: ``1..52,52A,53..113``.
    """
    runs: list[list[int] | str] = []
    for number, code in zip(map(int, numbers), insertion_codes, strict=True):
        if code:
            runs.append(f"{number}{code}")
        elif runs and isinstance(runs[-1], list) and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(
        run if isinstance(run, str) else str(run[0]) if run[0] == run[1] else f"{run[0]}..{run[1]}"
        for run in runs
    )
