"""Atoms of a residue in atom14 and atom37 order, and the points that stand for a residue."""

from __future__ import annotations

import numpy as np

from openfoldpp import _native
from openfoldpp.geometry import residues


def atom14_to_atom37(
    atom14: np.ndarray, mask14: np.ndarray, residue_type: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put atoms in the order that is the same for all residue types.

    Parameters
    ----------
    atom14 : numpy.ndarray
        ``[N_res, 14, 3]``, angstrom. Where the mask is False anything may stand, NaN too.
    mask14 : numpy.ndarray
        bool ``[N_res, 14]``. Places that the residue type does not have are left out.
    residue_type : numpy.ndarray
        int ``[N_res]``, 0 to 20.

    Returns
    -------
    atom37 : numpy.ndarray
        ``[N_res, 37, 3]`` in the dtype of ``atom14``, angstrom; 0 where there is no atom.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``.

    Raises
    ------
    ValueError
        Shapes do not fit, or a residue type is out of range.
    """
    return _reorder(_native.coords.atom14_to_atom37, atom14, mask14, residue_type)


def atom37_to_atom14(
    atom37: np.ndarray, mask37: np.ndarray, residue_type: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put atoms in the short order of each residue type.

    Parameters
    ----------
    atom37 : numpy.ndarray
        ``[N_res, 37, 3]``, angstrom. Where the mask is False anything may stand, NaN too.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``. Atoms that the residue type does not have are left out.
    residue_type : numpy.ndarray
        int ``[N_res]``, 0 to 20.

    Returns
    -------
    atom14 : numpy.ndarray
        ``[N_res, 14, 3]`` in the dtype of ``atom37``, angstrom; 0 where there is no atom.
    mask14 : numpy.ndarray
        bool ``[N_res, 14]``.

    Raises
    ------
    ValueError
        Shapes do not fit, or a residue type is out of range.
    """
    return _reorder(_native.coords.atom37_to_atom14, atom37, mask37, residue_type)


def pseudo_beta(
    atom37: np.ndarray, mask37: np.ndarray, residue_type: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """CB of each residue, CA of glycine: the points whose distances a distogram is about.

    Parameters
    ----------
    atom37 : numpy.ndarray
        ``[N_res, 37, 3]``, angstrom.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``.
    residue_type : numpy.ndarray
        int ``[N_res]``, 0 to 20.

    Returns
    -------
    points : numpy.ndarray
        ``[N_res, 3]``, angstrom.
    known : numpy.ndarray
        bool ``[N_res]``.
    """
    glycine = residues.LETTERS.index("G")
    column = np.where(np.asarray(residue_type) == glycine, residues.CA, residues.CB)
    rows = np.arange(len(column))
    return np.asarray(atom37)[rows, column], np.asarray(mask37, bool)[rows, column]


def _reorder(convert, atoms, mask, residue_type):
    atoms = np.asarray(atoms)
    moved, moved_mask = convert(atoms, mask, residue_type, residues.native_tables())
    return moved.astype(atoms.dtype, copy=False), moved_mask.astype(bool)
