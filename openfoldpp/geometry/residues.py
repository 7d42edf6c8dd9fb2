"""The residue tables: names, atom orders, chi angles and ideal local geometry; one copy for Python and C++.

The figures stand in ``residues.json`` beside this file. They are facts of the AlphaFold 2 model (its
``residue_constants``, Copyright 2021 DeepMind Technologies Limited, Apache License 2.0) that OpenFold
shares: the order of the 37 atom names, the order of the up to 14 heavy atoms of a residue, and the ideal
position of each atom in the frame of the rigid group that carries it.

Residue types are numbered 0 to 19 in the order of :data:`LETTERS`; 20 is X. X has no side chain and no
ideal geometry, but its N, CA, C, O and CB have places, so that measured atoms are kept. Upstream gives
X no atoms at all.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np

from openfoldpp import _native
from openfoldpp.errors import InputError

_DATA = json.loads((resources.files("openfoldpp.geometry") / "residues.json").read_text())
_RESIDUES = _DATA["residues"]
_NAMES14 = [[name for name, _, _ in residue["atoms"]] for residue in _RESIDUES]
#: What is kept of an X, in atom14 order.
_BACKBONE_OF_X = ["N", "CA", "C", "O", "CB"]

#: One-letter codes by residue type, X last.
LETTERS: str = "".join(residue["letter"] for residue in _RESIDUES) + "X"
#: Three-letter codes by residue type, UNK last.
NAMES: tuple[str, ...] = (*(residue["name"] for residue in _RESIDUES), "UNK")
#: Residue type of X.
UNKNOWN: int = len(_RESIDUES)
#: The rigid groups of a residue, in order (AlphaFold 2 supplement, table 2).
RIGID_GROUPS: tuple[str, ...] = ("backbone", "pre-omega", "phi", "psi", "chi1", "chi2", "chi3", "chi4")
#: The torsion angles of a residue, in upstream's order.
TORSIONS: tuple[str, ...] = RIGID_GROUPS[1:]
#: Atom names in atom37 order.
ATOM37: tuple[str, ...] = tuple(_DATA["atom37"])
#: Atom names in atom14 order for each residue type, "" where there is no atom.
ATOM14: tuple[tuple[str, ...], ...] = tuple(
    tuple(names + [""] * (14 - len(names))) for names in [*_NAMES14, _BACKBONE_OF_X]
)

_COLUMN37 = {name: column for column, name in enumerate(ATOM37)}
N, CA, C, O, CB = (_COLUMN37[name] for name in ("N", "CA", "C", "O", "CB"))  # noqa: E741


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


def _atom37_of_atom14() -> np.ndarray:
    return np.array([[_COLUMN37.get(name, -1) for name in names] for names in ATOM14], np.int32)


def _atom37_exists() -> np.ndarray:
    exists = np.zeros((21, 37), bool)
    for residue_type, columns in enumerate(ATOM37_OF_ATOM14):
        exists[residue_type, columns[columns >= 0]] = True
    return exists


def _chi_atoms() -> np.ndarray:
    atoms = np.full((21, 4, 4), -1, np.int32)
    for residue_type, residue in enumerate(_RESIDUES):
        for chi, names in enumerate(residue["chi"]):
            atoms[residue_type, chi] = [_COLUMN37[name] for name in names]
    return atoms


def _chi_is_pi_periodic() -> np.ndarray:
    periodic = np.zeros((21, 4), bool)
    for residue_type, residue in enumerate(_RESIDUES):
        for chi in residue["pi_periodic_chi"]:
            periodic[residue_type, chi - 1] = True
    return periodic


def _local_geometry() -> tuple[np.ndarray, np.ndarray]:
    groups, positions = np.full((21, 14), -1, np.int32), np.zeros((21, 14, 3))
    for residue_type, residue in enumerate(_RESIDUES):
        for place, (_, group, position) in enumerate(residue["atoms"]):
            groups[residue_type, place], positions[residue_type, place] = group, position
    return groups, positions


def _frame(x_axis: np.ndarray, in_xy_plane: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """4x4 transform with the given x-axis, the second vector in the xy-plane with positive y."""
    x = x_axis / np.linalg.norm(x_axis)
    y = in_xy_plane - (in_xy_plane @ x) * x
    y /= np.linalg.norm(y)
    frame = np.eye(4)
    frame[:3] = np.stack([x, y, np.cross(x, y), origin], axis=1)
    return frame


def _default_frames() -> np.ndarray:
    """Transform of each group to its parent at torsion 0.

    The parent of chi2, chi3 and chi4 is the chi before, that of all others the backbone.

    A frame's origin is the end of its torsion's axis, its x-axis the axis (AlphaFold 2 supplement, 1.8.4).
    The atom before a chi's axis lies in the xy-plane with positive y, the next atom too at chi = 0; psi's
    plane is turned by 180 degrees, so that O, opposite to the next N, has positive y at psi = 0. Groups that
    a residue does not have are zero.
    """
    frames = np.zeros((21, 8, 4, 4))
    for residue_type, residue in enumerate(_RESIDUES):
        at = {name: np.array(position) for name, _, position in residue["atoms"]}
        frames[residue_type, 0] = frames[residue_type, 1] = np.eye(4)
        frames[residue_type, 2] = _frame(at["N"] - at["CA"], np.array([1.0, 0.0, 0.0]), at["N"])
        frames[residue_type, 3] = _frame(at["C"] - at["CA"], at["CA"] - at["N"], at["C"])
        for chi, names in enumerate(residue["chi"]):
            before, start, end = (at[name] for name in names[:3])
            if chi > 0:  # in the previous chi's frame the axis starts at 0, on its x-axis
                before, start = np.array([-1.0, 0.0, 0.0]), np.zeros(3)
            frames[residue_type, 4 + chi] = _frame(end - start, before - start, end)
    return frames


#: Column in atom37 of each atom14 place, -1 where there is no atom; int32 ``[21, 14]``.
ATOM37_OF_ATOM14: np.ndarray = _frozen(_atom37_of_atom14())
#: Atoms that a residue type may have; bool ``[21, 37]``.
ATOM37_EXISTS: np.ndarray = _frozen(_atom37_exists())
#: Columns in atom37 of the four atoms of each chi angle, -1 where it is not defined; int32 ``[21, 4, 4]``.
CHI_ATOMS: np.ndarray = _frozen(_chi_atoms())
#: Chi angles that a turn by 180 degrees leaves unchanged but for atom names; bool ``[21, 4]``.
CHI_IS_PI_PERIODIC: np.ndarray = _frozen(_chi_is_pi_periodic())
#: Rigid group of each atom14 place, -1 where there is none; int32 ``[21, 14]``.
#: Its position in that group's frame, angstrom; float64 ``[21, 14, 3]``.
RIGID_GROUP, LITERATURE_POSITIONS = map(_frozen, _local_geometry())
#: Each rigid group in its parent's frame at torsion 0; float64 ``[21, 8, 4, 4]``.
DEFAULT_FRAMES: np.ndarray = _frozen(_default_frames())


@cache
def native_tables() -> _native.coords.ResidueTables:
    """Hand the tables to the native library; made once."""
    return _native.coords.ResidueTables(
        atom37_of_atom14=ATOM37_OF_ATOM14,
        chi_atoms=CHI_ATOMS,
        rigid_group=RIGID_GROUP,
        literature_positions=LITERATURE_POSITIONS,
        default_frames=DEFAULT_FRAMES,
    )


def residue_types(sequence: str) -> np.ndarray:
    """Give the residue types of a sequence.

    Parameters
    ----------
    sequence : str
        ``N_res`` one-letter codes of the 20 amino acids and X, upper case, without separators.

    Returns
    -------
    numpy.ndarray
        int32 ``[N_res]``, 0 to 20.

    Raises
    ------
    InputError
        A letter is none of these; the message has all such letters and their places.
    """
    types = np.array([LETTERS.find(letter) for letter in sequence], np.int32)
    wrong = np.flatnonzero(types < 0)
    if wrong.size:
        places = ", ".join(f"{sequence[i]!r} at residue {i + 1}" for i in wrong[:10])
        more = f" and {wrong.size - 10} more" if wrong.size > 10 else ""
        raise InputError(
            f"sequence: unknown residue {places}{more}. Expected upper-case letters of {LETTERS}; "
            "write X for any other residue."
        )
    return types
