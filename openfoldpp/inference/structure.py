"""A predicted structure: what is written to PDB and ModelCIF files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.geometry.residues import ATOM37, LETTERS, NAMES, UNKNOWN
from openfoldpp.types import Output, Target

if TYPE_CHECKING:
    from biotite.structure import AtomArray

# Letters that are none of the 20, such as U, are unknown residues, as upstream has them.
_TYPES = {letter: number for number, letter in enumerate(LETTERS)}


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms of one or more chains, checked when made.

    Attributes
    ----------
    aatype : numpy.ndarray
        Residue types in upstream's order, 20 for unknown; int32 ``[N_res]``.
    atom_positions : numpy.ndarray
        Coordinates in angstrom, atom37 order; float32 ``[N_res, 37, 3]``.
    atom_mask : numpy.ndarray
        Which atoms there are; bool ``[N_res, 37]``. Numbers above 0.5 count as true.
    residue_number : numpy.ndarray
        As written, from 1 in each chain; int32 ``[N_res]``.
    b_factors : numpy.ndarray
        What goes into the B-factor column; float32 ``[N_res, 37]``. Given as ``[N_res]``, each residue's
        atoms have the same.
    chain_index : numpy.ndarray
        Place of each residue's chain in ``chain_ids``, never falling; int32 ``[N_res]``.
    chain_ids : tuple of str
        Label of each chain.
    plddt : numpy.ndarray or None
        Predicted confidence, 0 to 100; float32 ``[N_res]``. ModelCIF has its own place for it, whatever the
        B-factors are. None where there is none.

    Raises
    ------
    InputError
        Shapes differ, a coordinate or B-factor of an atom is not finite, a chain has no residue, labels or
        residue numbers repeat, or there is no atom at all.
    """

    aatype: np.ndarray
    atom_positions: np.ndarray
    atom_mask: np.ndarray
    residue_number: np.ndarray
    b_factors: np.ndarray
    chain_index: np.ndarray
    chain_ids: tuple[str, ...]
    plddt: np.ndarray | None = None

    def __post_init__(self):
        count = len(self.aatype)
        b_factors = np.asarray(self.b_factors, np.float32)
        if b_factors.ndim == 1:
            b_factors = np.repeat(b_factors[:, None], len(ATOM37), axis=1)
        arrays = {
            "aatype": np.asarray(self.aatype, np.int32),
            "atom_positions": np.asarray(self.atom_positions, np.float32),
            "atom_mask": np.asarray(self.atom_mask) > 0.5,
            "residue_number": np.asarray(self.residue_number, np.int32),
            "b_factors": b_factors,
            "chain_index": np.asarray(self.chain_index, np.int32),
        }
        expected = {"atom_positions": (count, 37, 3), "atom_mask": (count, 37), "b_factors": (count, 37)}
        if self.plddt is not None:
            arrays["plddt"] = np.asarray(self.plddt, np.float32)
        for name, array in arrays.items():
            shape = expected.get(name, (count,))
            if array.shape != shape or count == 0:
                raise InputError(
                    f"{name} has shape {array.shape}: expected {shape}, with at least one residue"
                )
            object.__setattr__(self, name, array)
        object.__setattr__(self, "chain_ids", tuple(self.chain_ids))
        self._check_chains()
        self._check_atoms()

    def _check_chains(self) -> None:
        index, labels = self.chain_index, self.chain_ids
        if len(set(labels)) != len(labels) or not all(labels):
            raise InputError(f"chain labels {labels} are not all different and not empty: label each chain")
        if not np.array_equal(np.unique(index), np.arange(len(labels))) or np.any(np.diff(index) < 0):
            raise InputError(
                f"chain_index does not go through chains 0 to {len(labels) - 1} in order: expected the "
                f"residues of each of the {len(labels)} chains together, none without residues"
            )
        falls = (np.diff(self.residue_number) <= 0) & (np.diff(index) == 0)
        if falls.any() or self.residue_number.min() < 1:
            at = int(np.argmax(falls)) + 1 if falls.any() else int(self.residue_number.argmin())
            raise InputError(
                f"residue number {self.residue_number[at]} of chain {labels[index[at]]}: expected numbers "
                "that begin at 1 or above and rise within the chain"
            )

    def _check_atoms(self) -> None:
        if self.aatype.min() < 0 or self.aatype.max() > UNKNOWN:
            low, high = self.aatype.min(), self.aatype.max()
            raise InputError(f"residue types go from {low} to {high}: expected 0 to {UNKNOWN}")
        if not self.atom_mask.any():
            raise InputError("the structure has no atoms: nothing to write")
        broken = self.atom_mask & ~(
            np.isfinite(self.atom_positions).all(axis=-1) & np.isfinite(self.b_factors)
        )
        if broken.any():
            residue, atom = np.argwhere(broken)[0]
            raise InputError(
                f"{int(broken.sum())} atoms have a coordinate or confidence that is not a finite number, the "
                f"first is {self.residue_label(residue)} {ATOM37[atom]}: the prediction failed; run it in "
                "float32, or predict the target by itself"
            )

    @classmethod
    def from_output(cls, output: Output, target: Target, *, subtract_plddt: bool = False) -> Structure:
        """Take ``final_atom_positions``, ``final_atom_mask`` and ``plddt`` of a prediction.

        Parameters
        ----------
        output : Output
            Chain labels come from ``output.chain_ids``.
        target : Target
            Its chains give residue types and chain lengths; numbers begin at 1 in each chain.
        subtract_plddt : bool, default False
            Put 100 - pLDDT instead of pLDDT into the B-factors, as upstream's flag of that name.

        Returns
        -------
        Structure
            All residues of the target.

        Raises
        ------
        InputError
            The output does not have the target's number of residues or chains, or see the class.
        """
        lengths = target.chain_lengths
        positions = np.asarray(output["final_atom_positions"])
        if positions.shape[:1] != (sum(lengths),) or len(output.chain_ids) != len(lengths):
            raise InputError(
                f"target '{target.tag}' has {sum(lengths)} residues in {len(lengths)} chains, but what "
                f"{output.source} predicted has coordinates {positions.shape} and "
                f"{len(output.chain_ids)} chain labels"
            )
        plddt = np.asarray(output["plddt"], np.float32)
        return cls(
            aatype=[_TYPES.get(letter, UNKNOWN) for letter in target.sequence],
            atom_positions=positions,
            atom_mask=output["final_atom_mask"],
            residue_number=np.concatenate([np.arange(1, length + 1) for length in lengths]),
            b_factors=100 - plddt if subtract_plddt else plddt,
            chain_index=np.repeat(np.arange(len(lengths)), lengths),
            chain_ids=output.chain_ids,
            plddt=plddt,
        )

    @cached_property
    def names(self) -> list[str]:
        """Three-letter code of each residue, ``UNK`` for unknown ones."""
        return [NAMES[residue_type] for residue_type in self.aatype]

    def residue_label(self, residue: int) -> str:
        """Name a residue in a message.

        Parameters
        ----------
        residue : int
            Row, from 0.

        Returns
        -------
        str
            Chain, three-letter code and number: ``"H ALA 23"``.
        """
        chain = self.chain_ids[self.chain_index[residue]]
        return f"{chain} {NAMES[self.aatype[residue]]} {self.residue_number[residue]}"

    def to_atom_array(self) -> AtomArray:
        """Return the atoms as biotite holds them, residue by residue in atom37 order.

        Returns
        -------
        biotite.structure.AtomArray
            With the annotation ``b_factor``.
        """
        from biotite.structure import AtomArray

        residue, atom = np.nonzero(self.atom_mask)
        atoms = AtomArray(len(residue))
        atoms.coord = self.atom_positions[residue, atom]
        atoms.chain_id = np.array(self.chain_ids)[self.chain_index[residue]]
        atoms.res_id = self.residue_number[residue]
        atoms.res_name = np.array(self.names)[residue]
        atoms.atom_name = np.array(ATOM37)[atom]
        # All 37 are carbon, nitrogen, oxygen or sulphur, whose symbol is the name's first letter.
        atoms.element = np.array([name[0] for name in ATOM37])[atom]
        atoms.set_annotation("b_factor", self.b_factors[residue, atom])
        return atoms
