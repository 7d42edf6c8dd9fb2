"""Protein chains of structure files as a library of motifs takes them: what is mended, and what is left out.

A residue that is an amino acid, by its name in the chemical component dictionary or by its backbone atoms, is
part of its chain's sequence, whether or not its backbone is complete: the language model reads the chain as
it is seen in the structure. A *stretch* is a run of residues with complete backbones, each bonded to the
next; the distance from C to N decides that, not the numbers, some of which antibodies' schemes skip.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openfoldpp.geometry import residues as residue_tables
from openfoldpp.motifs.segments import numbering_of
from openfoldpp.motifs.structure_atoms import ATOMS, BackboneAtoms, read_backbone, runs
from openfoldpp.plm.cheap_head import K

# Angstrom. A C-N bond is 1.33 long. Models before relaxation stretch it, or press it to nearly nothing, and
# that is no break; where a residue is missing, the next N is 3 and more away.
_BOND = 2.5
# A C-O bond is 1.23 long.
_DOUBLE = (0.9, 1.7)
# N-CA is 1.46 and CA-C 1.52; half of that, or atoms on one place, is no residue.
_INSIDE = (1.0, 2.0)
_CARBONYL = 1.23
_N, _CA, _C, _O, _OXT = range(len(ATOMS))


@dataclass(frozen=True)
class Stretch:
    """Residues of a chain with complete backbones, each bonded to the next.

    Attributes
    ----------
    start : int
        Place of the first in the chain's sequence.
    numbering : str
        Their numbers in the file, see :func:`openfoldpp.motifs.segments.numbering_of`.
    coordinates : numpy.ndarray of shape (N_res, 4, 3), float32
        N, CA, C and O, angstrom.
    """

    start: int
    numbering: str
    coordinates: np.ndarray

    def __len__(self) -> int:
        return len(self.coordinates)


@dataclass(frozen=True)
class ProteinChain:
    """A chain.

    Attributes
    ----------
    name : str
        As its authors call it.
    sequence : str
        One-letter codes of all residues that the structure has anything of; X for what is none of the twenty.
    stretches : tuple of Stretch
        Of ten residues and more.
    """

    name: str
    sequence: str
    stretches: tuple[Stretch, ...]


@dataclass(frozen=True)
class Structure:
    """The chains of a file.

    Attributes
    ----------
    chains : tuple of ProteinChain
        Those with a stretch of ten residues or more.
    mended : collections.Counter
        Residues by what was done: ``alternate_locations`` (that of the highest occupancy was taken, the first
        of equal ones), ``nonstandard_residues`` (read as the amino acid they derive from),
        ``unknown_residues`` (read as X), ``oxygens_placed`` (O from the plane of the peptide bond, or OXT).
    left_out : collections.Counter
        ``models`` (beyond the first), ``other_residues`` (waters, ligands, nucleic acids),
        ``incomplete_residues`` (N, CA, C or O is missing), ``distorted_residues`` (impossible bond lengths),
        ``short_stretches`` (of less than ten residues) and ``short_stretch_residues``, ``chains`` (proteins
        without a stretch of ten).
    """

    chains: tuple[ProteinChain, ...]
    mended: Counter[str]
    left_out: Counter[str]


def read_structure(path: Path, data: bytes | None = None) -> Structure:
    """Read the protein chains of a structure file.

    Parameters
    ----------
    path : pathlib.Path
        PDB, mmCIF or BinaryCIF; its name says which, see :data:`openfoldpp.motifs.structure_atoms.SUFFIXES`.
    data : bytes, optional
        The file's content, where it has been read.

    Returns
    -------
    Structure

    Raises
    ------
    InputError
        The file is empty or damaged. The message does not name it.
    OSError
        It cannot be read.
    """
    atoms = read_backbone(path.name, path.read_bytes() if data is None else data)
    mended: Counter[str] = Counter()
    left_out: Counter[str] = Counter(models=atoms.models - 1, other_residues=atoms.residues_in_file)
    residues = _residues(atoms, mended)
    chains = []
    # A chain's ligands may stand at the file's end, far from the chain.
    for name in dict.fromkeys(residues.chains.tolist()):
        chain = _chain(name, residues.of(residues.chains == name), mended, left_out)
        if chain.stretches:
            chains.append(chain)
        elif chain.sequence:
            left_out["chains"] += 1
    # A Counter keeps zeros, which say nothing.
    return Structure(tuple(chains), +mended, +left_out)


@dataclass(frozen=True)
class _Residues:
    """Residues in the order of the file; coordinates ``[R, 5, 3]`` are NaN where an atom is missing."""

    chains: np.ndarray
    numbers: np.ndarray
    insertion_codes: np.ndarray
    names: np.ndarray
    is_hetero: np.ndarray
    is_alternate: np.ndarray
    coordinates: np.ndarray

    def of(self, chosen: np.ndarray) -> _Residues:
        return _Residues(*(values[chosen] for values in vars(self).values()))


def _residues(atoms: BackboneAtoms, mended: Counter[str]) -> _Residues:
    # Two kinds of residue at one place, by alternate locations, have the same number and are one residue.
    residue = runs(atoms.chains, atoms.numbers, atoms.insertion_codes)
    kept = np.ones(len(residue), bool)
    alternate = np.unique(residue[atoms.alternate != ""])
    for number in alternate:
        rows = np.flatnonzero(residue == number)
        kept[rows] = False
        kept[_one_location(atoms, rows)] = True
    rows = np.flatnonzero(kept)
    count = int(residue[-1]) + 1 if len(residue) else 0
    coordinates = np.full((count, len(ATOMS), 3), np.nan, np.float32)
    column = {name: number for number, name in enumerate(ATOMS)}
    # Backwards: of an atom that is there twice, the first stays.
    columns = np.array([column[name] for name in atoms.names[rows].tolist()], int)[::-1]
    coordinates[residue[rows][::-1], columns] = atoms.coordinates[rows][::-1]
    _, first = np.unique(residue[rows], return_index=True)
    first = rows[first]
    is_alternate = np.zeros(count, bool)
    is_alternate[alternate] = True
    return _Residues(
        atoms.chains[first],
        atoms.numbers[first],
        atoms.insertion_codes[first],
        atoms.residue_names[first],
        atoms.is_hetero[first],
        is_alternate,
        coordinates,
    )


def _one_location(atoms: BackboneAtoms, rows: np.ndarray) -> list[int]:
    """Return the rows of one location of a residue: the most occupied, of equal ones the first."""
    locations = atoms.alternate[rows]
    totals = {
        location: atoms.occupancies[rows[locations == location]].sum()
        for location in dict.fromkeys(locations.tolist())
        if location
    }
    best = max(totals, key=totals.__getitem__)
    chosen = []
    for name in dict.fromkeys(atoms.names[rows].tolist()):
        same = rows[atoms.names[rows] == name]
        ours = same[np.isin(atoms.alternate[same], ["", best])]
        # An atom that this location lacks is where the others have it.
        chosen.append(int(ours[0] if len(ours) else same[np.argmax(atoms.occupancies[same])]))
    return sorted(chosen)


def _chain(name: str, residues: _Residues, mended: Counter[str], left_out: Counter[str]) -> ProteinChain:
    letters = [_letter(residue) for residue in residues.names.tolist()]
    place = residues.coordinates
    whole = np.isfinite(place[:, [_N, _CA, _C]]).all((1, 2))
    is_residue = np.array([letter is not None for letter in letters], bool) | whole
    # A free amino acid, or a ligand with atoms of these names, is no part of the chain.
    chosen = np.flatnonzero(is_residue)
    bonded = _bonded(place[chosen])
    alone = ~(np.append(bonded, False) | np.append(False, bonded))
    chosen = chosen[~(residues.is_hetero[chosen] & alone)]
    residues = residues.of(chosen)
    left_out["other_residues"] -= len(chosen)
    own = [letters[i] for i in chosen]
    mended["alternate_locations"] += int(residues.is_alternate.sum())
    mended["unknown_residues"] += sum(letter in (None, "X") for letter in own)
    standard = np.isin(residues.names, residue_tables.NAMES)
    mended["nonstandard_residues"] += sum(
        letter not in (None, "X") and not known for letter, known in zip(own, standard, strict=True)
    )
    sequence = "".join(letter or "X" for letter in own)
    return ProteinChain(name, sequence, _stretches(residues, mended, left_out))


def _stretches(residues: _Residues, mended: Counter[str], left_out: Counter[str]) -> tuple[Stretch, ...]:
    place = residues.coordinates.copy()
    if not len(place):
        return ()
    bonded = _bonded(place)
    mended["oxygens_placed"] += _place_oxygens(place, bonded)
    complete = np.isfinite(place[:, :_OXT]).all((1, 2))
    with np.errstate(invalid="ignore"):  # NaN where an atom is missing
        inside = np.linalg.norm(place[:, [_N, _CA, _C]] - place[:, [_CA, _C, _O]], axis=-1)
    sound = ((inside[:, :2] >= _INSIDE[0]) & (inside[:, :2] <= _INSIDE[1])).all(1)
    sound &= (inside[:, 2] >= _DOUBLE[0]) & (inside[:, 2] <= _DOUBLE[1])
    left_out["incomplete_residues"] += int((~complete).sum())
    left_out["distorted_residues"] += int((complete & ~sound).sum())
    usable = complete & sound
    starts = np.flatnonzero(usable & ~np.append(False, usable[:-1] & bonded))
    ends = np.flatnonzero(usable & ~np.append(usable[1:] & bonded, False)) + 1
    found = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start < K:
            left_out["short_stretches"] += 1
            left_out["short_stretch_residues"] += end - start
            continue
        numbering = numbering_of(residues.numbers[start:end], residues.insertion_codes[start:end])
        found.append(Stretch(start, numbering, place[start:end, :_OXT].astype(np.float32)))
    return tuple(found)


def _bonded(place: np.ndarray) -> np.ndarray:
    """Whether each residue's C is bonded to the next one's N; bool ``[R - 1]``."""
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(place[:-1, _C] - place[1:, _N], axis=-1)
    return distance <= _BOND


def _place_oxygens(place: np.ndarray, bonded: np.ndarray) -> int:
    """Set each missing O that OXT or the next residue's N tells; return how many."""
    missing = ~np.isfinite(place[:, _O]).all(-1)
    place[missing, _O] = place[missing, _OXT]
    after = np.full((len(place), 3), np.nan, np.float32)
    after[:-1][bonded] = place[1:, _N][bonded]
    planar = ~np.isfinite(place[:, _O]).all(-1)
    # C is bonded to CA, N and O in a plane, O opposite the middle of the other two.
    toward = _unit(place[planar, _C] - place[planar, _CA]) + _unit(place[planar, _C] - after[planar])
    place[planar, _O] = place[planar, _C] + _CARBONYL * _unit(toward)
    return int((missing & np.isfinite(place[:, _O]).all(-1)).sum())


def _unit(vectors: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@functools.cache
def _letter(name: str) -> str | None:
    """Return the one-letter code of an amino acid, X where it has none; None for another molecule."""
    if name in residue_tables.NAMES:
        return residue_tables.LETTERS[residue_tables.NAMES.index(name)]
    from biotite.structure import info

    if name not in info.amino_acid_names():
        return None
    letter = info.one_letter_code(name)
    return letter if letter in tuple(residue_tables.LETTERS) else "X"
