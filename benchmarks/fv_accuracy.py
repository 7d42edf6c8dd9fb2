"""Accuracy of the whole command on antibody Fvs, against their crystal structures.

    python benchmarks/fv_accuracy.py --data FOLDER [--json FILE]

FOLDER has a file NAME.pdb for each Fv: chains H and L, each a variable domain without a gap. Their
sequences go through ``run_pretrained_openfold.py --plugins openfoldpp``; what is measured are the
files that it wrote, also against the coordinates that FlashABB itself gives. FlashABB may have been
trained on these very structures, so these are figures of agreement, not of generalisation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from biotite import structure
from biotite.sequence import ProteinSequence
from biotite.structure.io import pdb

from openfoldpp.files import read_pickle
from openfoldpp.geometry import residues
from openfoldpp.geometry.superposition import ca_rmsd, tm_score
from openfoldpp.inference import driver
from openfoldpp.teachers import flashabb
from openfoldpp.teachers.antibody import Domain, classify
from openfoldpp.upstream import schema

NOTE = (
    "FlashABB may have been trained on these structures. RMSD in angstrom: CA and all heavy atoms after "
    "superposition of all CA (symmetric: with the better of two equivalent names of a side chain's atoms); a "
    "CDR (IMGT) by its CA after superposition of its own chain's framework CA; to_FlashABB is the CA RMSD "
    "of the written PDB to FlashABB's own coordinates, as they lie."
)
CDRS = ("H1", "H2", "H3", "L1", "L2", "L3")
# Atoms that a half turn exchanges, so that their names in a crystal are arbitrary (AlphaFold 2
# supplement, table 3).
EXCHANGEABLE = {
    "D": (("OD1", "OD2"),),
    "E": (("OE1", "OE2"),),
    "F": (("CD1", "CD2"), ("CE1", "CE2")),
    "Y": (("CD1", "CD2"), ("CE1", "CE2")),
}


def main() -> None:
    """Measure every structure of the folder, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of NAME.pdb files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("*.pdb"))
    if not files:
        parser.error(f"--data {arguments.data}: no NAME.pdb files; give a folder of Fv structures")

    with tempfile.TemporaryDirectory() as folder:
        predictions = run_command(files, Path(folder))
        rows = {file.stem: measure(file, predictions / f"{file.stem}_model_1_ptm") for file in files}
    columns = list(next(iter(rows.values())))
    rows["mean"] = {column: float(np.mean([row[column] for row in rows.values()])) for column in columns}
    widths = {column: max(len(column), 5) + 2 for column in columns}
    print("name  " + "".join(f"{column:>{width}}" for column, width in widths.items()))
    for name, row in rows.items():
        print(f"{name:6}" + "".join(f"{row[column]:{width}.4f}" for column, width in widths.items()))
    print(f"\n{len(files)} Fvs, {flashabb.source()}. {NOTE}")
    if arguments.json:
        figures = {"source": flashabb.source(), "note": NOTE, "fvs": rows}
        arguments.json.write_text(json.dumps(figures, indent=2))


def run_command(files: list[Path], folder: Path) -> Path:
    """Predict the sequences of all structures by the command; return the folder of its files."""
    (folder / "fasta").mkdir()
    for file in files:
        heavy, light = (read_chain(file, chain)[0] for chain in "HL")
        (folder / "fasta" / f"{file.stem}.fasta").write_text(f">{file.stem}\n{heavy}:{light}\n")
    arguments = [str(folder / "fasta"), "--plugins", "openfoldpp", "--output_dir", str(folder)]
    code = driver.main([*arguments, "--skip_relaxation"], program="run_pretrained_openfold.py")
    assert code == 0, "the command failed; its message is above"
    return folder / "predictions"


def measure(file: Path, written: Path) -> dict[str, float]:
    """Compare the files that were written for one crystal structure with it, and with FlashABB."""
    (heavy, heavy_atoms), (light, light_atoms) = (read_chain(file, chain) for chain in "HL")
    crystal = np.concatenate([heavy_atoms, light_atoms])
    domains = classify([heavy, light])
    assert all(isinstance(domain, Domain) for domain in domains), f"{file}: {domains}"

    output = read_pickle(f"{written}_output_dict.pkl")
    schema.check(output, schema.load("0.0.1", "model_1_ptm"))
    predicted = np.concatenate([read_chain(Path(f"{written}_unrelaxed.pdb"), chain)[1] for chain in "HL"])
    direct = flashabb.load().predict(heavy, light).coords[:, 1]

    ca, crystal_ca = predicted[:, residues.CA], crystal[:, residues.CA]
    _, transform = structure.superimpose(crystal_ca, ca)
    fitted = transform.apply(predicted.reshape(-1, 3)).reshape(predicted.shape)
    row = {
        "TM": tm_score(ca, crystal_ca),
        "CA": ca_rmsd(ca, crystal_ca),
        "all_atom": atom_rmsd(fitted, crystal),
        "symmetric": atom_rmsd(fitted, exchanged_like(fitted, crystal, heavy + light)),
    }
    row |= dict(zip(CDRS, cdr_rmsds(ca, crystal_ca, domains, (len(heavy), len(light))), strict=True))
    return row | {
        "mean_pLDDT": float(output["plddt"].mean()),
        "to_FlashABB": float(np.sqrt(((ca - direct) ** 2).sum(-1).mean())),
    }


def read_chain(file: Path, chain: str) -> tuple[str, np.ndarray]:
    """Read a chain's sequence, and its atoms as atom37, NaN where one is missing."""
    atoms = pdb.PDBFile.read(file).get_structure(model=1)
    atoms = atoms[(atoms.chain_id == chain) & structure.filter_amino_acids(atoms)]
    starts = structure.get_residue_starts(atoms)
    sequence = "".join(ProteinSequence.convert_letter_3to1(name) for name in atoms.res_name[starts])
    atom37 = np.full((len(starts), 37, 3), np.nan)
    for number, residue in enumerate(structure.residue_iter(atoms)):
        for atom in residue:
            if atom.atom_name in residues.ATOM37:
                atom37[number, residues.ATOM37.index(atom.atom_name)] = atom.coord
    return sequence, atom37


def atom_rmsd(a: np.ndarray, b: np.ndarray) -> float:
    """Root-mean-square deviation of the atoms that both have, as they lie."""
    squares = ((a - b) ** 2).sum(axis=-1)
    return float(np.sqrt(np.nanmean(squares)))


def exchanged_like(model: np.ndarray, crystal: np.ndarray, sequence: str) -> np.ndarray:
    """Exchange the crystal's equivalent atoms wherever they are then closer to the model's."""
    result = crystal.copy()
    for number, letter in enumerate(sequence):
        pairs = [[residues.ATOM37.index(name) for name in pair] for pair in EXCHANGEABLE.get(letter, ())]
        if not pairs:
            continue
        named, swapped = np.array(pairs).ravel(), np.array(pairs)[:, ::-1].ravel()
        as_named, as_swapped = (
            np.nansum((model[number, named] - crystal[number, order]) ** 2) for order in (named, swapped)
        )
        if as_swapped < as_named:
            result[number, named] = crystal[number, swapped]
    return result


def cdr_rmsds(
    ca: np.ndarray, crystal_ca: np.ndarray, domains: list[Domain], lengths: tuple[int, int]
) -> list[float]:
    """CA RMSD of CDR1 to CDR3 of each chain, after superposition of the chain's framework."""
    found, offset = [], 0
    for domain, length in zip(domains, lengths, strict=True):
        chain, crystal = ca[offset : offset + length], crystal_ca[offset : offset + length]
        framework = np.ones(length, bool)
        for start, end in domain.cdrs:
            framework[start:end] = False
        fitted, _ = structure.superimpose(crystal, chain, atom_mask=framework)
        found += [float(structure.rmsd(crystal[start:end], fitted[start:end])) for start, end in domain.cdrs]
        offset += length
    return found


if __name__ == "__main__":
    main()
