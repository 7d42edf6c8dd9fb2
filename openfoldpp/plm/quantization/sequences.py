"""The sequences that a model is calibrated with, and those that it is then measured on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from openfoldpp.errors import InputError
from openfoldpp.plm.alphabet import ANTIBERTY, Alphabet
from openfoldpp.plm.extract_fasta import read_records

_FOLDER = Path(__file__).parents[2] / "weights"
_ANTIBODIES = _FOLDER / "calibration_antibodies.fasta"
_PROTEINS = _FOLDER / "calibration_proteins.fasta"
_HELD_OUT = "held_out"


class SequenceSet(NamedTuple):
    """Sequences for calibration, and others for measuring.

    Attributes
    ----------
    calibration, held_out : tuple of str
        Capital letters.
    name : str
        Of the calibration set.
    """

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    name: str


def sequence_set(alphabet: Alphabet, calibration: Path | None = None) -> SequenceSet:
    """Return what a model is calibrated with and measured on.

    Parameters
    ----------
    alphabet : Alphabet
        The model's: an antibody model gets antibodies.
    calibration : pathlib.Path, optional
        A FASTA file of the user's. By default the set that comes with openfoldpp; the sequences for measuring
        are always of that one, less those that the user's file has too.

    Returns
    -------
    SequenceSet

    Raises
    ------
    InputError
        The file does not exist, has no sequence, or one that cannot be read.
    """
    shipped = _ANTIBODIES if alphabet == ANTIBERTY else _PROTEINS
    records = read_records([shipped]).records
    own = tuple(record.sequence for record in records if not record.tag.startswith(_HELD_OUT))
    held_out = [record.sequence for record in records if record.tag.startswith(_HELD_OUT)]
    if calibration is None:
        return SequenceSet(own, tuple(held_out), shipped.name)
    found = read_records([calibration])
    if found.failures:
        raise InputError(f"--calibration {calibration}: {found.failures[0]}")
    given = tuple(record.sequence for record in found.records)
    rest = tuple(sequence for sequence in held_out if sequence not in given)
    if not rest:
        raise InputError(
            f"--calibration {calibration} has all sequences for measuring; leave some of them out"
        )
    return SequenceSet(given, rest, calibration.name)
