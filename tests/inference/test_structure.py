import dataclasses

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.geometry.residues import ATOM37
from openfoldpp.inference.structure import Structure
from openfoldpp.types import Chain, Output, Target


@pytest.fixture
def target():
    return Target("x", (Chain("h", "AUV"), Chain("l", "XG")))


@pytest.fixture
def output():
    random = np.random.default_rng(1)
    mask = np.zeros((5, 37), np.float32)
    mask[:, :3] = 1
    return Output(
        {
            "final_atom_positions": random.normal(size=(5, 37, 3)).astype(np.float32),
            "final_atom_mask": mask,
            "plddt": np.array([10, 20, 30, 40, 50], np.float32),
        },
        source="test 1",
        chain_ids=("H", "L"),
        provenance={},
    )


def test_from_output_takes_labels_numbers_and_confidence(output, target):
    made = Structure.from_output(output, target)
    assert made.chain_ids == ("H", "L")
    assert made.residue_number.tolist() == [1, 2, 3, 1, 2]
    assert made.chain_index.tolist() == [0, 0, 0, 1, 1]
    assert made.names == ["ALA", "UNK", "VAL", "UNK", "GLY"]
    np.testing.assert_array_equal(made.atom_positions, output["final_atom_positions"])
    np.testing.assert_array_equal(made.b_factors, np.repeat(output["plddt"][:, None], 37, axis=1))
    np.testing.assert_array_equal(made.plddt, output["plddt"])


def test_subtracted_plddt_changes_b_factors_only(output, target):
    made = Structure.from_output(output, target, subtract_plddt=True)
    assert made.b_factors[:, 0].tolist() == [90, 80, 70, 60, 50]
    np.testing.assert_array_equal(made.plddt, output["plddt"])


def test_from_output_refuses_another_targets_output(output, target):
    other = dataclasses.replace(target, chains=target.chains[:1])
    with pytest.raises(InputError, match=r"target 'x' has 3 residues in 1 chains.*test 1.*\(5, 37, 3\)"):
        Structure.from_output(output, other)


def test_atom_array_has_every_atom(structure):
    atoms = structure.to_atom_array()
    residue, atom = np.nonzero(structure.atom_mask)
    assert len(atoms) == len(residue)
    np.testing.assert_array_equal(atoms.coord, structure.atom_positions[residue, atom])
    assert atoms.atom_name.tolist() == [ATOM37[column] for column in atom]
    assert atoms.res_id.tolist() == structure.residue_number[residue].tolist()
    assert atoms.res_name.tolist() == [structure.names[row] for row in residue]
    assert dict.fromkeys(atoms.chain_id) == {"H": None, "L": None, "A": None}
    assert set(atoms.element) == {"C", "N", "O", "S"}
    np.testing.assert_array_equal(atoms.b_factor, structure.b_factors[residue, atom])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("field", ["atom_positions", "b_factors"])
def test_numbers_that_are_not_finite_are_refused(structure, field, value):
    array = getattr(structure, field).copy()
    array[22, 1] = value
    with pytest.raises(InputError, match=r"1 atoms have .* not a finite number, the first is L ARG 2 CA"):
        dataclasses.replace(structure, **{field: array})


def test_numbers_of_absent_atoms_do_not_matter(structure):
    positions = structure.atom_positions.copy()
    positions[~structure.atom_mask] = np.nan
    dataclasses.replace(structure, atom_positions=positions)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"atom_positions": np.zeros((47, 14, 3))},
            r"atom_positions has shape \(47, 14, 3\): expected \(47, 37, 3\)",
        ),
        ({"plddt": np.zeros(46)}, r"plddt has shape \(46,\)"),
        ({"aatype": []}, "at least one residue"),
        ({"aatype": np.full(47, 21)}, "residue types go from 21 to 21"),
        ({"atom_mask": np.zeros((47, 37))}, "has no atoms"),
        ({"chain_ids": ("H", "H", "A")}, "not all different"),
        ({"chain_ids": ("H", "", "A")}, "not empty"),
        ({"chain_ids": ("H", "L")}, "chains 0 to 1 in order"),
        ({"chain_index": np.repeat([1, 0, 2], [21, 21, 5])}, "in order"),
        ({"chain_index": np.repeat([0, 2], [21, 26])}, "none without residues"),
        ({"residue_number": np.arange(47)}, "residue number 0 of chain H"),
        (
            {"residue_number": np.repeat([1, 2], [3, 44])},
            "residue number 1 of chain H: .* rise within the chain",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(structure, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(structure, **changes)
