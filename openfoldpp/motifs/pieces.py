"""Motif hits laid out on the target: atoms, frames and torsions of all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.geometry import frames, residues, torsions
from openfoldpp.motifs.hits import MotifHit

_GLY = residues.LETTERS.index("G")


@dataclass(frozen=True, eq=False)
class Pieces:
    """The residues of several hits, one hit after the other.

    Attributes
    ----------
    hits : tuple of MotifHit
        In the order given.
    first : numpy.ndarray of shape (H,), int64
        Where each hit begins in the arrays.
    places : numpy.ndarray of shape (R,), int64
        For each residue, the target's residue that it stands for.
    types : numpy.ndarray of shape (R,), int32
        The source's residue types.
    atom37 : numpy.ndarray of shape (R, 37, 3), float64
        N, CA, C, O, and CB where ideal geometry puts it; angstrom, each hit in its source's own frame.
    mask37 : numpy.ndarray of shape (R, 37), bool
        Which of them are there: GLY has no CB, and of an X nobody knows its place.
    rotations : numpy.ndarray of shape (R, 3, 3), float64
        Backbone frames (AlphaFold 2 supplement, algorithm 21); their origins are CA.
    """

    hits: tuple[MotifHit, ...]
    first: np.ndarray
    places: np.ndarray
    types: np.ndarray
    atom37: np.ndarray
    mask37: np.ndarray
    rotations: np.ndarray

    @classmethod
    def of(cls, hits: Sequence[MotifHit], chains: Sequence[str]) -> Pieces:
        """Lay hits out on a target.

        Parameters
        ----------
        hits : sequence of MotifHit
            Offsets count through all chains.
        chains : sequence of str
            The target's sequences.

        Returns
        -------
        Pieces

        Raises
        ------
        InputError
            A hit lies outside of the target or goes across chains, or its arrays are not of its length.
        """
        ends = np.cumsum([len(chain) for chain in chains])
        for hit in hits:
            _require_place(hit, ends)
        lengths = np.array([hit.length for hit in hits], np.int64)
        first = np.cumsum(lengths) - lengths
        places = np.arange(lengths.sum()) + np.repeat([hit.offset for hit in hits] - first, lengths)
        types = residues.residue_types("".join(hit.sequence for hit in hits))
        atom37 = np.zeros((len(types), 37, 3))
        mask37 = np.zeros((len(types), 37), bool)
        columns = [residues.N, residues.CA, residues.C, residues.O]
        if len(types):
            atom37[:, columns] = np.concatenate([hit.coords for hit in hits])
            mask37[:, columns] = True
        backbone = frames.backbone_frames(atom37, mask37)
        has = (types != _GLY) & (types != residues.UNKNOWN) & backbone.known
        local = residues.LITERATURE_POSITIONS[types, _CB14]
        ideal = np.einsum("rij,rj->ri", backbone.rotations, local) + backbone.origins
        atom37[has, residues.CB] = ideal[has]
        mask37[:, residues.CB] = has
        return cls(tuple(hits), first, places, types, atom37, mask37, backbone.rotations)

    def rows(self, hit: int) -> slice:
        """Return the residues of a `hit`, by its number."""
        return slice(int(self.first[hit]), int(self.first[hit]) + self.hits[hit].length)

    @cached_property
    def ca(self) -> np.ndarray:
        """CA atoms, float64 ``[R, 3]``."""
        return self.atom37[:, residues.CA]

    @cached_property
    def pseudo_beta(self) -> np.ndarray:
        """CB, or CA where there is none, float64 ``[R, 3]``; as upstream's ``pseudo_beta_fn`` for GLY."""
        return np.where(self.mask37[:, residues.CB, None], self.atom37[:, residues.CB], self.ca)

    @cached_property
    def torsions(self) -> torsions.Torsions:
        """Torsion angles; pre-omega and phi of a hit's first residue are unknown."""
        bonded = np.ones(len(self.types), bool)
        bonded[self.first] = False
        return torsions.torsion_angles(self.atom37, self.mask37, self.types, bonded)


#: Place of CB in atom14 order, that of all residue types which have one.
_CB14 = residues.ATOM14[0].index("CB")


def _require_place(hit: MotifHit, ends: np.ndarray) -> None:
    what = f"motif {hit.source} {hit.residue} at residue {hit.offset + 1} of the target"
    if hit.coords.shape != (hit.length, 4, 3) or len(hit.sequence) != hit.length or hit.length < 1:
        raise InputError(
            f"{what}: {hit.length} residues with coordinates {list(hit.coords.shape)} and a sequence of "
            f"{len(hit.sequence)}; expected [{hit.length}, 4, 3] and {hit.length}"
        )
    total, last = int(ends[-1]), hit.offset + hit.length - 1
    if hit.offset < 0 or last >= total:
        raise InputError(
            f"{what}: its {hit.length} residues do not lie within the target's {total}: the hits are of "
            "another target"
        )
    if np.searchsorted(ends, hit.offset, side="right") != np.searchsorted(ends, last, side="right"):
        raise InputError(
            f"{what}: its {hit.length} residues go across chains, which end at {', '.join(map(str, ends))}: "
            "search each chain of a target, VH:VL for two"
        )
