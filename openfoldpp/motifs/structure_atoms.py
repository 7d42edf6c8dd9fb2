"""Backbone atoms of structure files: PDB, mmCIF and BinaryCIF, also compressed with gzip.

Only the first model is read, and of it the atoms that a backbone is made of; side chains, hydrogens, waters
and nucleic acids have none of these, or are told apart later by their residues' names.
"""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from dataclasses import dataclass

import numpy as np

from openfoldpp.errors import InputError, is_out_of_memory

#: Endings of the files that are read, each also with ``.gz``.
PDB_SUFFIXES = (".pdb", ".ent")
CIF_SUFFIXES = (".cif", ".mmcif")
BCIF_SUFFIXES = (".bcif",)
SUFFIXES = PDB_SUFFIXES + CIF_SUFFIXES + BCIF_SUFFIXES
#: OXT stands in where a chain's last residue has no O.
ATOMS = ("N", "CA", "C", "O", "OXT")

# Columns of a PDB file's ATOM records.
_NAME, _RESIDUE, _OCCUPANCY, _B_FACTOR = slice(12, 16), slice(17, 27), slice(54, 60), slice(60, 66)


@dataclass(frozen=True)
class BackboneAtoms:
    """Atoms in the order of the file, of the first model; all arrays ``[N_atoms]``.

    Attributes
    ----------
    chains : numpy.ndarray of str
        The authors' names of the chains.
    numbers : numpy.ndarray of int
        The authors' residue numbers.
    insertion_codes : numpy.ndarray of str
        "" where there is none.
    residue_names : numpy.ndarray of str
        Three-letter codes, or those of the chemical component dictionary.
    is_hetero : numpy.ndarray of bool
        Whether the record is HETATM.
    names : numpy.ndarray of str
        One of :data:`ATOMS`.
    alternate : numpy.ndarray of str
        Alternate location, "" where there is one location.
    occupancies : numpy.ndarray of float
        1 where the file says nothing.
    coordinates : numpy.ndarray of shape (N_atoms, 3), float32
        Angstrom.
    residues_in_file : int
        Residues of any kind in the model.
    models : int
        How many models the file has.
    """

    chains: np.ndarray
    numbers: np.ndarray
    insertion_codes: np.ndarray
    residue_names: np.ndarray
    is_hetero: np.ndarray
    names: np.ndarray
    alternate: np.ndarray
    occupancies: np.ndarray
    coordinates: np.ndarray
    residues_in_file: int
    models: int


def suffix_of(name: str) -> str | None:
    """Return which of :data:`SUFFIXES` a file's `name` has, without ``.gz``; None for another."""
    lower = name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix) and lower != suffix), None)


def read_backbone(name: str, data: bytes) -> BackboneAtoms:
    """Read the backbone atoms of a structure file.

    Parameters
    ----------
    name : str
        Of the file: its ending says the format.
    data : bytes
        Its content, compressed where the name ends in ``.gz``.

    Returns
    -------
    BackboneAtoms

    Raises
    ------
    InputError
        The file is empty, has no atoms, or is damaged; or the ending is of no format known.
    """
    suffix = suffix_of(name)
    if suffix is None:
        raise InputError(f"its ending is none of {', '.join(SUFFIXES)} (or one of these with .gz)")
    if not data:
        raise InputError("is empty")
    if name.lower().endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"cannot be decompressed ({error}): it is damaged, or not of gzip") from error
    try:
        with warnings.catch_warnings():
            # What biotite guesses (elements, boxes) is not used.
            warnings.simplefilter("ignore")
            atoms = _read_pdb(data) if suffix in PDB_SUFFIXES else _read_pdbx(data, suffix in BCIF_SUFFIXES)
    except InputError:
        raise
    except Exception as error:  # a damaged or foreign file raises nearly anything
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        kind = "PDB" if suffix in PDB_SUFFIXES else "mmCIF"
        raise InputError(
            f"cannot be read as {kind} ({reason}): it is damaged, or another kind of file"
        ) from error
    if not np.isfinite(atoms.coordinates).all():
        raise InputError("a coordinate is not a finite number")
    return atoms


def _read_pdb(data: bytes) -> BackboneAtoms:
    from biotite.structure.io.pdb import PDBFile

    kept, residues, models = [], set(), 0
    for line in data.decode("utf-8", "replace").splitlines():
        if line.startswith("MODEL "):
            models += 1
        elif models <= 1 and line.startswith(("ATOM  ", "HETATM")):
            residues.add(line[_RESIDUE])
            if line[_NAME].strip() in ATOMS:
                kept.append(_completed(line))
    if not residues:
        raise InputError("has no ATOM records: it is no PDB file, or has no structure")
    if not kept:
        return _none(len(residues), models)
    array = PDBFile.read(io.StringIO("\n".join(kept) + "\n")).get_structure(
        model=1, altloc="all", extra_fields=["occupancy"]
    )
    return BackboneAtoms(
        array.chain_id,
        array.res_id,
        array.ins_code,
        array.res_name,
        array.hetero,
        array.atom_name,
        np.char.strip(array.altloc_id),
        array.occupancy,
        array.coord,
        len(residues),
        max(models, 1),
    )


def _completed(line: str) -> str:
    """Return a record with the columns that some programs leave empty."""
    line = line.ljust(80)
    occupancy = line[_OCCUPANCY] if line[_OCCUPANCY].strip() else "  1.00"
    # Columns after the coordinates are not read, and need not be right: charges for one.
    return f"{line[:54]}{occupancy}  0.00{'':10}{line[76:78]}  "


def _read_pdbx(data: bytes, is_binary: bool) -> BackboneAtoms:
    from biotite.structure.io.pdbx import BinaryCIFFile, CIFFile

    file = BinaryCIFFile.read(io.BytesIO(data)) if is_binary else CIFFile.read(io.StringIO(data.decode()))
    table = next((block["atom_site"] for block in file.values() if "atom_site" in block), None)
    if table is None:
        raise InputError("has no atom_site table: it has no structure")

    def column(*names: str) -> np.ndarray | None:
        """Return the first column that is there and has no gap, "" for "." and "?" in the last one."""
        found = [name for name in names if name in table]
        for name in found:
            values = np.char.strip(table[name].as_array(str, masked_value=""))
            if name == found[-1] or (values != "").all():
                return values
        return None

    def required(*names: str) -> np.ndarray:
        values = column(*names)
        if values is None:
            raise InputError(f"its atom_site table has no {names[0]}: it is damaged, or no mmCIF file")
        return values

    rows = table.row_count
    model = column("pdbx_PDB_model_num")
    first = np.ones(rows, bool) if model is None else model == model[0]
    chains = required("auth_asym_id", "label_asym_id")
    numbers = required("auth_seq_id", "label_seq_id")
    codes = column("pdbx_PDB_ins_code")
    codes = np.full(rows, "") if codes is None else codes
    components = required("label_comp_id", "auth_comp_id")
    residues = runs(chains[first], numbers[first], codes[first], components[first])
    names = required("label_atom_id", "auth_atom_id")
    kept = first & np.isin(names, ATOMS)
    models = 1 if model is None else len(np.unique(model))
    if not kept.any():
        return _none(int(residues[-1]) + 1, models)
    group, alternate, occupancy = (column(name) for name in ("group_PDB", "label_alt_id", "occupancy"))
    hetero = np.zeros(rows, bool) if group is None else group == "HETATM"
    alternate = np.full(rows, "") if alternate is None else alternate
    occupancies = np.ones(rows)
    if occupancy is not None:
        occupancies[occupancy != ""] = occupancy[occupancy != ""].astype(float)
    coordinates = [required(f"Cartn_{axis}")[kept].astype(np.float32) for axis in "xyz"]
    return BackboneAtoms(
        chains[kept],
        numbers[kept].astype(int),
        codes[kept],
        components[kept],
        hetero[kept],
        names[kept],
        alternate[kept],
        occupancies[kept],
        np.stack(coordinates, -1),
        int(residues[-1]) + 1,
        models,
    )


def runs(*columns: np.ndarray) -> np.ndarray:
    """Return the number of each row's run of rows that agree in all `columns`: 0, 0, 1, ..."""
    changes = np.zeros(len(columns[0]), bool)
    for values in columns:
        changes[1:] |= values[1:] != values[:-1]
    return np.cumsum(changes)


def _none(residues: int, models: int) -> BackboneAtoms:
    text, numbers = np.empty(0, "U1"), np.empty(0, int)
    return BackboneAtoms(
        text, numbers, text, text, np.empty(0, bool), text, text, np.empty(0), np.empty((0, 3), np.float32),
        residues, max(models, 1),
    )  # fmt: skip
