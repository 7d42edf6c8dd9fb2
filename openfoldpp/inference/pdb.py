"""PDB files: fixed columns, format version 3.3 (wwPDB, 2012), and the records of upstream's own.

biotite writes neither REMARK nor TER, and readers of OpenFold's files look for ``PARENT`` lines. These lines
are written here.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.geometry.residues import ATOM37
from openfoldpp.inference.structure import Structure

# The columns' widths: F8.3 for coordinates, F6.2 for B-factors, I4 residue number, I5 atom number.
_COORDINATE_RANGE = (-999.999, 9999.999)
_B_FACTOR_RANGE = (-99.99, 999.99)
_MAX_RESIDUE_NUMBER = 9999
_MAX_SERIAL = 99999
# One printable column: A-Z, a-z, 0-9 make 62.
_MAX_CHAINS = 62
# Remarks 6 to 99 are free text.
_REMARK = "REMARK   6 "

# Columns, counted from 0, that hold a chain label.
_CHAIN_COLUMNS = {
    **dict.fromkeys(("ATOM  ", "HETATM", "ANISOU", "TER   "), (21,)),
    "SEQRES": (11,),
    "HELIX ": (19, 31),
    "SHEET ": (21, 32),
    "SSBOND": (15, 29),
    "LINK  ": (21, 51),
    "CISPEP": (15, 29),
    "MODRES": (16,),
}
_CURE = "write ModelCIF instead, with --cif_output"


def to_pdb(structure: Structure, *, remarks: Iterable[str] = ()) -> str:
    """Write a structure as the text of a PDB file.

    Parameters
    ----------
    structure : Structure
        B-factors are written as they are: pLDDT, from 0 to 100.
    remarks : iterable of str
        Free text, such as what predicted the structure; wrapped at the format's 80 columns.

    Returns
    -------
    str
        ``REMARK``, then for each chain ``PARENT N/A`` (upstream's record for "no template"), ``ATOM`` and
        ``TER``, then ``END``.

    Raises
    ------
    InputError
        The structure does not fit the format: over 62 chains, a label of more than one letter or digit, a
        residue number over 9999, over 99,999 records, or a coordinate or B-factor too wide for its columns.
    """
    _check_fits(structure)
    lines = [
        (_REMARK + line).rstrip()
        for remark in remarks
        for line in textwrap.wrap(_ascii(remark), 80 - len(_REMARK)) or [""]
    ]
    serial = 1
    for chain, label in enumerate(structure.chain_ids):
        lines.append("PARENT N/A")
        last = None
        for residue in np.nonzero(structure.chain_index == chain)[0]:
            for atom in np.nonzero(structure.atom_mask[residue])[0]:
                lines.append(_atom_line(structure, residue, atom, serial))
                serial += 1
                last = residue
        if last is not None:
            number = structure.residue_number[last]
            lines.append(f"TER   {serial:>5}      {structure.names[last]:>3} {label}{number:>4}".ljust(80))
            serial += 1
    # Of a record that is not as wide as a card, Biopython says that it does not know it.
    return "\n".join([*lines, "END".ljust(80), ""])


def _atom_line(structure: Structure, residue: int, atom: int, serial: int) -> str:
    name = ATOM37[atom]
    # Adding 0.0 turns -0.0, which rounding makes of small negative numbers, into 0.0.
    x, y, z = (round(float(value), 3) + 0.0 for value in structure.atom_positions[residue, atom])
    return (
        # One-letter elements: the name starts in the second of its four columns.
        f"ATOM  {serial:>5} {' ' + name:<4} {structure.names[residue]:>3} "
        f"{structure.chain_ids[structure.chain_index[residue]]}{structure.residue_number[residue]:>4}    "
        f"{x:>8.3f}{y:>8.3f}{z:>8.3f}{1.0:>6.2f}{structure.b_factors[residue, atom]:>6.2f}          "
        f"{name[0]:>2}  "
    )


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _check_fits(structure: Structure) -> None:
    if len(structure.chain_ids) > _MAX_CHAINS:
        raise InputError(f"{len(structure.chain_ids)} chains, and a PDB file holds {_MAX_CHAINS}: {_CURE}")
    for label in structure.chain_ids:
        if not (len(label) == 1 and label.isascii() and label.isalnum()):
            raise InputError(f"chain label {label!r}, and a PDB file has one letter or digit for it: {_CURE}")
    if structure.residue_number.max() > _MAX_RESIDUE_NUMBER:
        residue = int(structure.residue_number.argmax())
        raise InputError(
            f"residue {structure.residue_label(residue)}, and a PDB file holds numbers to "
            f"{_MAX_RESIDUE_NUMBER}: {_CURE}"
        )
    records = int(structure.atom_mask.sum()) + len(structure.chain_ids)
    if records > _MAX_SERIAL:
        raise InputError(f"{records} atoms and chain ends, and a PDB file counts to {_MAX_SERIAL}: {_CURE}")
    for name, array, (low, high) in (
        ("coordinate", structure.atom_positions.reshape(-1, 37, 3), _COORDINATE_RANGE),
        ("B-factor", structure.b_factors[..., None], _B_FACTOR_RANGE),
    ):
        outside = structure.atom_mask & ((array < low) | (array > high)).any(axis=-1)
        if outside.any():
            residue, atom = np.argwhere(outside)[0]
            raise InputError(
                f"a {name} of {structure.residue_label(residue)} {ATOM37[atom]} is "
                f"{array[residue, atom].tolist()}, and a PDB file holds {low} to {high}: {_CURE}"
            )


def with_coordinates(structure: Structure, pdb_text: str) -> Structure:
    """Take the atoms of a PDB file, such as a relaxed one, for the residues of a structure.

    Parameters
    ----------
    structure : Structure
        Keeps everything but positions and mask.
    pdb_text : str
        The same residues in the same order; labels and numbers are not compared. Atoms that atom37 does not
        have, hydrogens for one, are left out.

    Returns
    -------
    Structure
        The B-factor of a residue's atoms is the largest that it had.

    Raises
    ------
    InputError
        The text is not a PDB file of one model, or its residues are others.
    """
    from biotite import InvalidFileError
    from biotite.structure import BadStructureError, get_residue_starts
    from biotite.structure.io.pdb import PDBFile

    try:
        atoms = PDBFile.read(io.StringIO(pdb_text)).get_structure(model=1)
    except (BadStructureError, InvalidFileError, ValueError) as error:
        raise InputError(f"the text is not a PDB file: {error}") from error
    starts = get_residue_starts(atoms, add_exclusive_stop=True)
    names = atoms.res_name[starts[:-1]].tolist()
    if names != structure.names:
        raise InputError(
            f"the PDB text has {len(names)} residues, and they are not the {len(structure.names)} of the "
            "structure in its order"
        )
    columns = {name: column for column, name in enumerate(ATOM37)}
    positions = np.zeros_like(structure.atom_positions)
    mask = np.zeros_like(structure.atom_mask)
    for residue, (start, stop) in enumerate(itertools.pairwise(starts)):
        for atom in range(start, stop):
            column = columns.get(atoms.atom_name[atom])
            if column is not None:
                positions[residue, column] = atoms.coord[atom]
                mask[residue, column] = True
    b_factors = np.broadcast_to(structure.b_factors.max(axis=1, keepdims=True), mask.shape)
    return dataclasses.replace(structure, atom_positions=positions, atom_mask=mask, b_factors=b_factors)


def relabel_chains(pdb_text: str, chain_ids: Sequence[str]) -> str:
    """Give the chains of a PDB file other labels and keep everything else.

    Relaxation through upstream returns its chains as A, B, C; this gives them the target's labels back.

    Parameters
    ----------
    pdb_text : str
        Text of a PDB file.
    chain_ids : sequence of str
        One letter or digit for each chain, in the order in which the chains' atoms first appear.

    Returns
    -------
    str
        The text, with as many lines and line ends as before.

    Raises
    ------
    InputError
        There are more or fewer chains than labels, a label is not one letter or digit, or two are the same.
    """
    if len(set(chain_ids)) != len(chain_ids) or not all(
        len(label) == 1 and label.isascii() and label.isalnum() for label in chain_ids
    ):
        raise InputError(f"chain labels {tuple(chain_ids)}: expected different single letters or digits")
    lines = pdb_text.splitlines(keepends=True)
    present = list(dict.fromkeys(line[21] for line in lines if line[:6] in ("ATOM  ", "HETATM")))
    if len(present) != len(chain_ids):
        raise InputError(
            f"the PDB text has chains {', '.join(present) or 'none'}, and {len(chain_ids)} labels were "
            f"given: {', '.join(chain_ids)}"
        )
    table = str.maketrans(dict(zip(present, chain_ids, strict=True)))
    return "".join(_relabelled(line, table) for line in lines)


def _relabelled(line: str, table: dict[int, str]) -> str:
    letters = list(line)
    for column in _CHAIN_COLUMNS.get(line[:6], ()):
        if column < len(letters):
            letters[column] = letters[column].translate(table)
    return "".join(letters)
