"""Torsion angles of the backbone and the side chains, and where the chain is broken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openfoldpp import _native
from openfoldpp.geometry import residues

#: The longest C-N distance, angstrom, that still counts as a peptide bond. The bond is 1.33; a strained
#: prediction stretches it by a few tenths, while atoms that are not bonded stay over 2.5 apart.
MAX_PEPTIDE_BOND: float = 2.0


@dataclass(frozen=True)
class Torsions:
    """Seven torsion angles for each residue, in the order of ``residues.TORSIONS``.

    Attributes
    ----------
    sin_cos : numpy.ndarray
        float64 ``[N_res, 7, 2]``: (sin, cos); angle 0 where ``known`` is False.
    known : numpy.ndarray
        bool ``[N_res, 7]``: all four atoms are there and the angle is defined for the residue type.
    alternative_sin_cos : numpy.ndarray
        The same with each pi-periodic chi (ASP, GLU, PHE, TYR) turned by 180 degrees: the angle that the
        same structure has when its equivalent atoms swap names.
    """

    sin_cos: np.ndarray
    known: np.ndarray
    alternative_sin_cos: np.ndarray


def peptide_bonds(
    atom37: np.ndarray, mask37: np.ndarray, chain_index: np.ndarray, residue_index: np.ndarray
) -> np.ndarray:
    """Say which residues are bonded to the residue before them.

    Parameters
    ----------
    atom37 : numpy.ndarray
        ``[N_res, 37, 3]``, angstrom.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``.
    chain_index, residue_index : numpy.ndarray
        int ``[N_res]``.

    Returns
    -------
    numpy.ndarray
        bool ``[N_res]``: the same chain, the next number, and C within :data:`MAX_PEPTIDE_BOND` of N, both
        of which are there. False for the first residue.
    """
    atom37, mask37 = np.asarray(atom37), np.asarray(mask37, bool)
    bonded = np.zeros(len(atom37), bool)
    gap = atom37[1:, residues.N] - atom37[:-1, residues.C]
    bonded[1:] = (
        (np.diff(chain_index) == 0)
        & (np.diff(residue_index) == 1)
        & mask37[1:, residues.N]
        & mask37[:-1, residues.C]
        & (np.linalg.norm(gap, axis=-1) <= MAX_PEPTIDE_BOND)
    )
    return bonded


def torsion_angles(
    atom37: np.ndarray, mask37: np.ndarray, residue_type: np.ndarray, bonded: np.ndarray
) -> Torsions:
    """Measure pre-omega, phi, psi and chi1 to chi4 (AlphaFold 2 supplement, 1.2.1 and table 2).

    Pre-omega is the omega of the peptide bond before the residue. psi is measured to O and turned by 180
    degrees, so it needs no next residue and rebuilds O exactly.

    Parameters
    ----------
    atom37 : numpy.ndarray
        ``[N_res, 37, 3]``, angstrom.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``.
    residue_type : numpy.ndarray
        int ``[N_res]``, 0 to 20.
    bonded : numpy.ndarray
        bool ``[N_res]``, from :func:`peptide_bonds`; pre-omega and phi are unknown where it is False.

    Returns
    -------
    Torsions

    Raises
    ------
    ValueError
        Shapes do not fit, or a residue type is out of range.
    """
    sin_cos, known = _native.coords.torsion_angles(
        atom37, mask37, residue_type, bonded, residues.native_tables()
    )
    known = known.astype(bool)
    turn = residues.CHI_IS_PI_PERIODIC[residue_type] & known[:, 3:]
    alternative = sin_cos.copy()
    alternative[:, 3:][turn] *= -1.0
    return Torsions(sin_cos, known, alternative)
