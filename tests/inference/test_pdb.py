import dataclasses
import importlib
import io
import re
import warnings

import gemmi
import numpy as np
import pytest
from biotite.structure.io.pdb import PDBFile

from openfoldpp.errors import InputError
from openfoldpp.geometry.residues import ATOM37
from openfoldpp.inference.pdb import relabel_chains, to_pdb, with_coordinates


def read_with_biotite(text):
    atoms = PDBFile.read(io.StringIO(text)).get_structure(model=1, extra_fields=["b_factor", "occupancy"])
    return [
        (*row[:5], tuple(map(float, row[5])), float(row[6]), float(row[7]))
        for row in zip(
            atoms.chain_id,
            map(int, atoms.res_id),
            atoms.res_name,
            atoms.atom_name,
            atoms.element,
            atoms.coord,
            atoms.b_factor,
            atoms.occupancy,
            strict=True,
        )
    ]


def read_with_gemmi(text):
    model = gemmi.read_pdb_string(text)[0]
    return [
        (
            place.chain.name,
            place.residue.seqid.num,
            place.residue.name,
            place.atom.name,
            place.atom.element.name,
            tuple(place.atom.pos),
            place.atom.b_iso,
            place.atom.occ,
        )
        for place in model.all()
    ]


def read_with_biopython(text):
    # Importing Bio.PDB compiles nothing of ours; a reader of OpenFold's files warns of its PARENT records.
    parser = importlib.import_module("Bio.PDB").PDBParser(QUIET=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        atoms = parser.get_structure("x", io.StringIO(text)).get_atoms()
    return [
        (
            atom.parent.parent.id,
            atom.parent.id[1],
            atom.parent.resname,
            atom.name,
            atom.element,
            tuple(map(float, atom.coord)),
            atom.bfactor,
            atom.occupancy,
        )
        for atom in atoms
    ]


@pytest.mark.parametrize("read", [read_with_biotite, read_with_gemmi, read_with_biopython])
def test_every_reader_gets_the_structure_back(structure, read):
    rows = read(to_pdb(structure, remarks=["Predicted by a test"]))
    residue, atom = np.nonzero(structure.atom_mask)
    chains = [structure.chain_ids[chain] for chain in structure.chain_index[residue]]
    assert [row[0] for row in rows] == chains
    assert [row[1] for row in rows] == structure.residue_number[residue].tolist()
    assert [row[2] for row in rows] == [structure.names[row] for row in residue]
    assert [row[3] for row in rows] == [ATOM37[column] for column in atom]
    assert [row[4] for row in rows] == [ATOM37[column][0] for column in atom]
    coordinates = np.array([row[5] for row in rows])
    # Half of the last of three digits, and float32's own rounding.
    assert np.abs(coordinates - structure.atom_positions[residue, atom]).max() <= 0.0005 + 1e-5
    assert (
        np.abs(np.array([row[6] for row in rows]) - structure.b_factors[residue, atom]).max() <= 0.005 + 1e-5
    )
    assert {row[7] for row in rows} == {1.0}


def test_records_stand_in_the_formats_order_and_columns(structure):
    lines = to_pdb(structure, remarks=["word " * 40, "Å"]).splitlines()
    kinds = [line[:6].strip() for line in lines]
    assert list(dict.fromkeys(kinds)) == ["REMARK", "PARENT", "ATOM", "TER", "END"]
    assert kinds.count("PARENT") == kinds.count("TER") == 3
    assert max(map(len, lines)) == 80
    assert lines[0].startswith("REMARK   6 word word")
    assert "REMARK   6 ?" in lines
    atoms = [line for line in lines if line.startswith("ATOM")]
    pattern = (
        r"ATOM  [ \d]{5}  [A-Z]{1,2}[\dA-Z ]{1,2} [A-Z]{3} [HLA][ \d]{4}    "
        r"([ \d-]{4}\.\d{3}){3}  1\.00[ \d]{3}\.\d{2} {10} [CNOS]  "
    )
    assert [line for line in atoms if not re.fullmatch(pattern, line)] == []
    numbered = [line for line in lines if line[:6] in ("ATOM  ", "TER   ")]
    assert [int(line[6:11]) for line in numbered] == list(range(1, len(numbered) + 1))
    before_ter = [lines[i - 1][17:26] for i, line in enumerate(lines) if line.startswith("TER")]
    assert [line[17:26] for line in lines if line.startswith("TER")] == before_ter


def test_a_rounded_zero_has_no_sign(structure):
    positions = structure.atom_positions.copy()
    positions[0, 0] = [-0.0001, 0, -0.0]
    line = to_pdb(dataclasses.replace(structure, atom_positions=positions)).splitlines()[1]
    assert line[30:54] == "   0.000" * 3


def changed(structure, field, value):
    array = getattr(structure, field).copy()
    array[3, 0] = value
    return dataclasses.replace(structure, **{field: array})


@pytest.mark.parametrize("value", [9999.9996, 1e4, -1000])
def test_coordinates_too_wide_for_their_columns_are_refused(structure, value):
    with pytest.raises(
        InputError, match=r"coordinate of H ASP 4 N is .* holds -999\.999 to 9999\.999.*--cif_output"
    ):
        to_pdb(changed(structure, "atom_positions", value))


def test_the_widest_coordinates_fit(structure):
    text = to_pdb(changed(structure, "atom_positions", [9999.999, -999.999, 0]))
    assert "9999.999-999.999   0.000" in text


def test_too_wide_b_factors_are_refused(structure):
    with pytest.raises(InputError, match=r"B-factor of H ASP 4 N is \[1000\.0\]"):
        to_pdb(changed(structure, "b_factors", 1000))


def test_too_large_residue_numbers_are_refused(structure):
    numbers = structure.residue_number.copy()
    numbers[20] = 10000
    with pytest.raises(InputError, match=r"residue H UNK 10000, .*--cif_output"):
        to_pdb(dataclasses.replace(structure, residue_number=numbers))


@pytest.mark.parametrize("label", ["AA", "é", "-"])
def test_labels_of_other_than_one_letter_are_refused(structure, label):
    with pytest.raises(InputError, match=rf"chain label '{label}'.*--cif_output"):
        to_pdb(dataclasses.replace(structure, chain_ids=("H", "L", label)))


def many_residues(structure, count, chains):
    rows = np.zeros(count, int) + 1
    return dataclasses.replace(
        structure,
        **{
            name: getattr(structure, name)[rows]
            for name in ("aatype", "atom_positions", "atom_mask", "b_factors", "plddt")
        },
        residue_number=np.arange(count) // chains + 1 if chains == 1 else np.ones(count),
        chain_index=np.arange(count) if chains > 1 else np.zeros(count),
        chain_ids=tuple(chr(256 + i) for i in range(chains)) if chains > 1 else ("A",),
    )


def test_too_many_chains_or_atoms_are_refused(structure):
    with pytest.raises(InputError, match=r"63 chains, and a PDB file holds 62: .*--cif_output"):
        to_pdb(many_residues(structure, 63, 63))
    with pytest.raises(InputError, match=r"104501 atoms and chain ends, .* counts to 99999"):
        to_pdb(many_residues(structure, 9500, 1))


def test_relabelling_changes_labels_and_nothing_else(structure):
    text = "REMARK   6 chains A and B\nSSBOND   1 CYS A   22    CYS B   96\n" + to_pdb(
        dataclasses.replace(structure, chain_ids=("A", "B", "C"))
    )
    relabelled = relabel_chains(text, ("B", "A", "9"))
    assert relabelled.splitlines()[:2] == ["REMARK   6 chains A and B", "SSBOND   1 CYS B   22    CYS A   96"]
    expected = to_pdb(dataclasses.replace(structure, chain_ids=("B", "A", "9")))
    assert relabelled.split("\n", 2)[2] == expected
    assert relabel_chains(relabelled, ("A", "B", "C")) == text


def test_relabelling_keeps_windows_line_ends_and_short_lines():
    text = "ATOM      1  N   GLY A   1       0.000   0.000   0.000\r\nTER\r\nEND\r\n"
    assert relabel_chains(text, "H") == text.replace("GLY A", "GLY H")


@pytest.mark.parametrize(
    "labels", [("H",), ("H", "L", "A", "B"), ("H", "H", "L"), ("HH", "L", "A"), ("", "L", "A")]
)
def test_relabelling_refuses_labels_that_do_not_fit(structure, labels):
    with pytest.raises(InputError, match="chain"):
        relabel_chains(to_pdb(structure), labels)


def test_coordinates_are_taken_from_a_relaxed_file(structure):
    moved = dataclasses.replace(structure, atom_positions=structure.atom_positions + 1)
    lines = to_pdb(dataclasses.replace(moved, chain_ids=("A", "B", "C"))).splitlines()
    hydrogen = lines[2][:12] + " H1 " + lines[2][16:76] + " H  "
    lines.insert(4, hydrogen)
    taken = with_coordinates(structure, "\n".join(lines))
    assert taken.chain_ids == ("H", "L", "A")
    np.testing.assert_array_equal(taken.atom_mask, structure.atom_mask)
    difference = (taken.atom_positions - moved.atom_positions)[structure.atom_mask]
    assert np.abs(difference).max() <= 0.0005 + 1e-5
    np.testing.assert_array_equal(taken.plddt, structure.plddt)


def test_coordinates_of_another_structure_are_refused(structure):
    with pytest.raises(InputError, match="has 47 residues, and they are not the 47"):
        with_coordinates(dataclasses.replace(structure, aatype=structure.aatype[::-1]), to_pdb(structure))
    with pytest.raises(InputError, match="not a PDB file"):
        with_coordinates(structure, "no atoms here\n")
