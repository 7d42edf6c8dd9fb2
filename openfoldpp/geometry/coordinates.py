"""Coordinate arrays of any usual layout, read and checked once for everything after it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from openfoldpp.errors import InputError
from openfoldpp.geometry import residues
from openfoldpp.geometry.atoms import atom14_to_atom37

#: What upstream adds to the residue numbers at each new chain (its ``--multimer_ri_gap``).
CHAIN_GAP: int = 200
#: Labels for chains in order; a PDB file has one character for them.
CHAIN_LABELS: str = string.ascii_uppercase + string.ascii_lowercase + string.digits
_OXT = residues.ATOM37.index("OXT")


@dataclass(frozen=True)
class Coordinates:
    """Residues of one or more chains with the atoms that are there.

    Attributes
    ----------
    atom37 : numpy.ndarray
        float64 ``[N_res, 37, 3]``, angstrom; 0 where there is no atom.
    mask37 : numpy.ndarray
        bool ``[N_res, 37]``.
    residue_type : numpy.ndarray
        int32 ``[N_res]``, 0 to 20.
    chain_index : numpy.ndarray
        int64 ``[N_res]``, from 0.
    residue_index : numpy.ndarray
        int64 ``[N_res]``, rising within a chain.
    chain_ids : tuple of str
        One label for each chain.
    notes : tuple of str
        What a reader of the coordinates should know, for example that atoms are missing.
    """

    atom37: np.ndarray
    mask37: np.ndarray
    residue_type: np.ndarray
    chain_index: np.ndarray
    residue_index: np.ndarray
    chain_ids: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())

    @classmethod
    def from_arrays(
        cls,
        coords,
        sequence: str,
        *,
        mask=None,
        residue_index=None,
        chain_ids: Sequence[str] | None = None,
    ) -> Coordinates:
        """Read coordinates and a sequence that belong together.

        Parameters
        ----------
        coords : array
            numpy or torch, angstrom: ``[N_res, 14, 3]`` in atom14 order, ``[N_res, 37, 3]`` in atom37
            order, or CA alone as ``[N_res, 1, 3]`` or ``[N_res, 3]``. Any atom may be missing, CA and
            whole residues too, but not all atoms. Without a mask a missing atom is NaN.
        sequence : str
            One-letter codes, ``:`` between chains, X for any other residue.
        mask : array, optional
            ``[N_res, 14]``, ``[N_res, 37]`` or, for CA alone, ``[N_res]``: 1 or True where there is an atom.
        residue_index : array of int, optional
            ``[N_res]``, rising within each chain. By default 0, 1, 2, ... with :data:`CHAIN_GAP` added at
            each new chain.
        chain_ids : sequence of str, optional
            By default A, B, ...

        Returns
        -------
        Coordinates
            OXT, and of an X all but N, CA, C, O and CB, are dropped; ``notes`` says so.

        Raises
        ------
        InputError
            Something does not fit; the message says what and where.
        """
        chains = _split(sequence)
        residue_type = residues.residue_types("".join(chains))
        chain_index = np.repeat(np.arange(len(chains)), [len(chain) for chain in chains])
        atoms, present = _read_atoms(coords, mask, chains)
        atom37, mask37, notes = _to_known_atoms(atoms, present, residue_type, masked=mask is not None)
        return cls(
            atom37,
            mask37,
            residue_type,
            chain_index,
            _read_residue_index(residue_index, chain_index),
            _read_chain_ids(chain_ids, len(chains)),
            notes,
        )


def to_numpy(array) -> np.ndarray:
    """View a numpy or torch array, on any device, as numpy; bfloat16, which numpy lacks, as float32."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":
            array = array.float()
        array = array.numpy()
    return np.asarray(array)


def read_numbers(name: str, array) -> np.ndarray:
    """View an array as numpy numbers; :class:`InputError` with its name where it holds anything else."""
    try:
        array = to_numpy(array)
    except (TypeError, ValueError) as error:  # a ragged list, for one
        raise InputError(
            f"{name}: cannot be read as an array ({error}). Pass a numpy or torch array."
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: dtype {array.dtype}, expected numbers.")
    return array


def _split(sequence: str) -> list[str]:
    chains = sequence.split(":")
    if not all(chains):
        raise InputError(
            f"sequence: chain {chains.index('') + 1} of {len(chains)} is empty in {sequence[:40]!r}. "
            "Put ':' only between chains."
        )
    return chains


def _read_atoms(coords, mask, chains: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates as float64 ``[N_res, A, 3]``, NaN where missing, and the mask, bool ``[N_res, A]``."""
    atoms = read_numbers("coords", coords).astype(np.float64)
    if atoms.ndim == 2:
        atoms = atoms[:, None]
    if atoms.ndim != 3 or atoms.shape[1] not in (1, 14, 37) or atoms.shape[2] != 3:
        raise InputError(
            f"coords: shape {list(np.shape(coords))}, expected [N_res, 14, 3] (atom14), [N_res, 37, 3] "
            "(atom37), or CA alone as [N_res, 3]. Drop a batch dimension, if there is one."
        )
    lengths = [len(chain) for chain in chains]
    if len(atoms) != sum(lengths):
        of_chains = f" (chains of {', '.join(map(str, lengths))})" if len(lengths) > 1 else ""
        raise InputError(
            f"coords: {len(atoms)} residues, but the sequence has {sum(lengths)}{of_chains}. "
            "Give a row for each residue; a missing residue is a row of NaN."
        )
    finite = np.isfinite(atoms)
    present = finite.all(axis=-1)
    if mask is None:
        partial = finite.any(axis=-1) & ~present
        _refuse_first(
            partial, "has coordinates that are partly NaN or infinite. Mark a missing atom by NaN alone"
        )
        _refuse_first(np.isinf(atoms).any(axis=-1), "is infinite. Mark a missing atom by NaN")
    else:
        given = read_numbers("mask", mask)
        if given.ndim == 1 and atoms.shape[1] == 1:
            given = given[:, None]
        if given.shape != present.shape:
            raise InputError(
                f"mask: shape {list(np.shape(mask))}, expected {list(present.shape)} to go with coords."
            )
        if not np.isin(given, (0, 1)).all():
            raise InputError("mask: holds values other than 0 and 1. Give 1 where there is an atom.")
        _refuse_first(given.astype(bool) & ~present, "is in the mask, but NaN or infinite. Set its mask to 0")
        present = given.astype(bool)
    atoms[~present] = np.nan
    if atoms.shape[1] == 1:
        ca = residues.ATOM14[0].index("CA")
        wide, wide_present = np.full((len(atoms), 14, 3), np.nan), np.zeros((len(atoms), 14), bool)
        wide[:, ca], wide_present[:, ca] = atoms[:, 0], present[:, 0]
        atoms, present = wide, wide_present
    return atoms, present


def _to_known_atoms(
    atoms: np.ndarray, present: np.ndarray, residue_type: np.ndarray, *, masked: bool
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Atom37 arrays of the atoms that each residue type has, and notes; refuses atoms of another type."""
    in_atom14 = atoms.shape[1] == 14
    of_type = (
        residues.ATOM37_OF_ATOM14[residue_type] >= 0 if in_atom14 else residues.ATOM37_EXISTS[residue_type]
    )
    at_zero = present & (atoms == 0).all(axis=-1)
    if not masked:
        # Arrays padded with zeros are common; a place that the residue lacks may hold them.
        present = present & (of_type | ~at_zero)
        if (at_zero & of_type).sum() > 1:
            row, column = np.argwhere(at_zero & of_type)[1]
            raise InputError(
                f"coords: {(at_zero & of_type).sum()} atoms lie at exactly (0, 0, 0), one of them in place "
                f"{column} of residue {row + 1}. If zeros stand for missing atoms, say so with a mask or NaN."
            )
    droppable = np.zeros_like(present)
    if not in_atom14:
        droppable[residue_type == residues.UNKNOWN] = True
        droppable[:, _OXT] = True
    stray = present & ~of_type
    if (stray & ~droppable).any():
        row, column = np.argwhere(stray & ~droppable)[0]
        atom = f"place {column} of atom14" if in_atom14 else residues.ATOM37[column]
        raise InputError(
            f"coords: residue {row + 1} is {residues.NAMES[residue_type[row]]} and has an atom {atom}, which "
            "that residue does not have. Do coords and sequence belong together, and is the atom order right?"
        )
    present = present & of_type
    if not present.any():
        raise InputError("coords: not one atom is there, by NaN or by mask. Give at least one.")
    notes = []
    expected = of_type & (residue_type != residues.UNKNOWN)[:, None]
    if missing := int((expected & ~present).sum()):
        notes.append(f"{missing} of {int(expected.sum())} atoms missing, mask 0")
    if dropped := int(stray.sum()):
        notes.append(f"{dropped} dropped: OXT, or of an X all but N, CA, C, O and CB")
    if in_atom14:
        atom37, mask37 = atom14_to_atom37(atoms, present, residue_type)
    else:
        atom37, mask37 = np.where(present[..., None], atoms, 0.0), present
    return atom37, mask37, tuple(notes)


def _refuse_first(wrong: np.ndarray, what: str) -> None:
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(f"coords: atom {column} of residue {row + 1} {what}.")


def _read_residue_index(residue_index, chain_index: np.ndarray) -> np.ndarray:
    if residue_index is None:
        return np.arange(len(chain_index)) + CHAIN_GAP * chain_index
    numbers = read_numbers("residue_index", residue_index)
    if numbers.shape != chain_index.shape or numbers.dtype.kind not in "iu":
        raise InputError(
            f"residue_index: {numbers.dtype} {list(numbers.shape)}, expected integers [{len(chain_index)}], "
            "one for each residue."
        )
    numbers = numbers.astype(np.int64)
    falling = np.flatnonzero((np.diff(numbers) <= 0) & (np.diff(chain_index) == 0))
    if falling.size:
        at = int(falling[0])
        raise InputError(
            f"residue_index: {numbers[at]} is followed by {numbers[at + 1]} at residue {at + 2}, expected "
            "rising numbers within a chain. Number residues with insertion codes through."
        )
    return numbers


def _read_chain_ids(chain_ids: Sequence[str] | None, chains: int) -> tuple[str, ...]:
    if chain_ids is None:
        if chains > len(CHAIN_LABELS):
            raise InputError(
                f"sequence: {chains} chains, but only {len(CHAIN_LABELS)} default labels. Pass chain_ids."
            )
        return tuple(CHAIN_LABELS[:chains])
    labels = tuple(chain_ids)
    if (
        len(labels) != chains
        or len(set(labels)) != chains
        or not all(isinstance(x, str) and x for x in labels)
    ):
        raise InputError(f"chain_ids: {labels!r}, expected {chains} different labels, one for each chain.")
    return labels
