"""Rigid frames of residues: backbone frames from atoms, rigid groups from torsions, atoms from groups.

All in float64. A rotation's columns are its axes, so that ``R @ local + origin`` is a global position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from openfoldpp import _native
from openfoldpp.geometry import residues


@dataclass(frozen=True)
class BackboneFrames:
    """One rigid frame for each residue.

    Attributes
    ----------
    rotations : numpy.ndarray
        float64 ``[N_res, 3, 3]``; x towards C, N in the xy-plane. The identity where ``known`` is False.
    origins : numpy.ndarray
        float64 ``[N_res, 3]``, angstrom: CA, or 0 where it is missing.
    known : numpy.ndarray
        bool ``[N_res]``: N, CA and C are there and do not lie on a line.
    """

    rotations: np.ndarray
    origins: np.ndarray
    known: np.ndarray

    def to_tensor7(self) -> np.ndarray:
        """Give the unit quaternion (w, x, y, z), w >= 0, then the origin: float64 ``[N_res, 7]``."""
        return np.concatenate([_native.coords.quaternions(self.rotations), self.origins], axis=-1)


def backbone_frames(atom37: np.ndarray, mask37: np.ndarray) -> BackboneFrames:
    """Frames from N, CA and C (AlphaFold 2 supplement, algorithm 21).

    Parameters
    ----------
    atom37 : numpy.ndarray
        ``[N_res, 37, 3]``, angstrom.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``.

    Returns
    -------
    BackboneFrames

    Raises
    ------
    ValueError
        Shapes do not fit.
    """
    rotations, origins, known = _native.coords.backbone_frames(atom37, mask37)
    return BackboneFrames(rotations, origins, known.astype(bool))


def rigid_group_frames(
    backbone: BackboneFrames, torsions_sin_cos: np.ndarray, residue_type: np.ndarray
) -> np.ndarray:
    """Place the eight rigid groups of each residue (AlphaFold 2 supplement, algorithm 24, lines 1 to 10).

    Parameters
    ----------
    backbone : BackboneFrames
        The residues' own frames.
    torsions_sin_cos : numpy.ndarray
        ``[N_res, 7, 2]``, see :mod:`openfoldpp.geometry.torsions`; each (sin, cos) of length 1.
    residue_type : numpy.ndarray
        int ``[N_res]``, 0 to 20.

    Returns
    -------
    numpy.ndarray
        float64 ``[N_res, 8, 4, 4]``, groups in the order of ``residues.RIGID_GROUPS``, local to global,
        angstrom. As upstream has it, a group that the residue type lacks has a zero rotation.

    Raises
    ------
    ValueError
        Shapes do not fit, or a residue type is out of range.
    """
    return _native.coords.rigid_group_frames(
        backbone.rotations, backbone.origins, torsions_sin_cos, residue_type, residues.native_tables()
    )


def rebuild_atom14(frames: np.ndarray, residue_type: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place all heavy atoms with ideal local geometry (AlphaFold 2 supplement, algorithm 24, line 11).

    Parameters
    ----------
    frames : numpy.ndarray
        ``[N_res, 8, 4, 4]``, from :func:`rigid_group_frames`.
    residue_type : numpy.ndarray
        int ``[N_res]``, 0 to 20. X has no ideal geometry: no atom is placed.

    Returns
    -------
    atom14 : numpy.ndarray
        float64 ``[N_res, 14, 3]``, angstrom; 0 where the residue type has no atom.
    mask14 : numpy.ndarray
        bool ``[N_res, 14]``.

    Raises
    ------
    ValueError
        Shapes do not fit, or a residue type is out of range.
    """
    atom14, mask14 = _native.coords.rebuild_atom14(frames, residue_type, residues.native_tables())
    return atom14, mask14.astype(bool)
