"""Structure files that OpenFold or openfoldpp wrote, read back: their chains and their B-factors."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from openfoldpp.errors import InputError

# The chain label, residue number and insertion code, and the B-factor: columns 22 to 27 and 61 to 66.
_RESIDUE = slice(21, 27)
_B_FACTOR = slice(60, 66)
# The file has two decimals.
_B_FACTOR_TOLERANCE = 0.006


def read_as_pdb(file: Path) -> str:
    """Read a structure file as PDB text.

    Parameters
    ----------
    file : pathlib.Path
        PDB, which is returned as it is, or mmCIF, whose first model is converted.

    Returns
    -------
    str
        PDB text; the B-factors are the file's.

    Raises
    ------
    InputError
        The file cannot be read, or an mmCIF's structure does not fit the PDB format.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the structure {file}: {error}") from error
    return _converted(text, file) if file.suffix == ".cif" else text


def _converted(text: str, file: Path) -> str:
    from biotite import InvalidFileError
    from biotite.structure import BadStructureError
    from biotite.structure.io.pdb import PDBFile
    from biotite.structure.io.pdbx import CIFFile, get_structure

    converted = PDBFile()
    try:
        with warnings.catch_warnings():
            # It repeats label_atom_id, and modelcif leaves it out.
            warnings.filterwarnings("ignore", "Attribute 'auth_atom_id' not found", UserWarning)
            atoms = get_structure(CIFFile.read(io.StringIO(text)), model=1, extra_fields=["b_factor"])
        converted.set_structure(atoms)
    except (InvalidFileError, BadStructureError, KeyError, ValueError) as error:
        raise InputError(f"{file} cannot be converted to PDB: {error}") from error
    out = io.StringIO()
    converted.write(out)
    return out.getvalue()


def chain_lengths(pdb_text: str) -> dict[str, int]:
    """Count the residues of each chain in ``pdb_text``, in its order: ``{"H": 120, "L": 107}``."""
    lengths: dict[str, int] = {}
    for residue, _ in _residues(pdb_text):
        lengths[residue[0]] = lengths.get(residue[0], 0) + 1
    return lengths


def matched_to_plddt(pdb_text: str, plddt: np.ndarray, file: Path) -> tuple[str, str | None]:
    """Compare a PDB file with the pLDDT of its prediction, and turn B-factors of 100 - pLDDT back.

    Parameters
    ----------
    pdb_text : str
        The file's text.
    plddt : numpy.ndarray
        0 to 100, ``[N_res]``.
    file : pathlib.Path
        Where the text is from, for messages.

    Returns
    -------
    text : str
        With pLDDT as B-factors where the file had 100 - pLDDT, as ``--subtract_plddt`` writes; else as given.
    note : str or None
        What was changed, or that the B-factors are neither.

    Raises
    ------
    InputError
        The file has another number of residues.
    """
    b_factors = np.array([b for _, b in _residues(pdb_text)])
    if len(b_factors) != len(plddt):
        raise InputError(
            f"{file} has {len(b_factors)} residues and its output dictionary {len(plddt)}: they are of two "
            "predictions, or padded by --trace_model; predict again without that flag"
        )
    if np.abs(b_factors - plddt).max() <= _B_FACTOR_TOLERANCE:
        return pdb_text, None
    if np.abs(b_factors - (100 - plddt)).max() <= _B_FACTOR_TOLERANCE:
        lines = [_subtracted(line) if _is_atom(line) else line for line in pdb_text.splitlines(keepends=True)]
        return "".join(lines), f"{file.name} has 100 - pLDDT as B-factors; the exported file has pLDDT"
    return (
        pdb_text,
        f"{file.name} has B-factors that are not the pLDDT of its output dictionary; they are kept",
    )


def _is_atom(line: str) -> bool:
    return line.startswith(("ATOM  ", "HETATM"))


def _residues(pdb_text: str) -> list[tuple[str, float]]:
    """Chain label with residue number, and the first atom's B-factor, for each residue of the first model."""
    residues: list[tuple[str, float]] = []
    for line in pdb_text.splitlines():
        if line.startswith("ENDMDL"):
            break
        if _is_atom(line) and (not residues or residues[-1][0] != line[_RESIDUE]):
            residues.append((line[_RESIDUE], float(line[_B_FACTOR])))
    return residues


def _subtracted(line: str) -> str:
    return f"{line[: _B_FACTOR.start]}{100 - float(line[_B_FACTOR]):6.2f}{line[_B_FACTOR.stop :]}"
