import re

import numpy as np
import pytest

from openfoldpp.errors import InputError
from openfoldpp.geometry import residues


def test_names_and_orders_are_upstreams(upstream):
    rc = upstream.constants
    assert list(residues.LETTERS) == rc.restypes_with_x
    assert list(residues.NAMES) == rc.resnames
    assert list(residues.ATOM37) == rc.atom_types
    for name, atoms in zip(residues.NAMES[:20], residues.ATOM14[:20], strict=True):
        assert list(atoms) == rc.restype_name_to_atom14_names[name]


def test_ideal_geometry_is_upstreams(upstream):
    rc = upstream.constants
    exists = rc.restype_atom14_mask.astype(bool)
    assert np.array_equal(residues.RIGID_GROUP >= 0, exists)
    assert np.array_equal(residues.RIGID_GROUP[exists], rc.restype_atom14_to_rigid_group[exists])
    assert np.array_equal(
        residues.LITERATURE_POSITIONS.astype(np.float32), rc.restype_atom14_rigid_group_positions
    )
    # Upstream's table is float32 made by the same steps in another order.
    defined = rc.restype_rigid_group_default_frame[..., 3, 3] == 1
    expected = rc.restype_rigid_group_default_frame
    assert np.array_equal(residues.DEFAULT_FRAMES[..., 3, 3] == 1, defined)
    np.testing.assert_allclose(residues.DEFAULT_FRAMES, expected, atol=1e-6)


def test_chi_angles_are_upstreams(upstream):
    rc = upstream.constants
    defined = np.array(rc.chi_angles_mask, bool)
    assert np.array_equal(residues.CHI_ATOMS[:20, :, 0] >= 0, defined)
    assert np.array_equal(residues.CHI_ATOMS[:20][defined], rc.chi_angles_atom_indices[defined])
    assert np.array_equal(residues.CHI_IS_PI_PERIODIC, np.array(rc.chi_pi_periodic, bool))


def test_existing_atoms_are_upstreams_but_for_x(upstream):
    expected = upstream.constants.STANDARD_ATOM_MASK.astype(bool)
    assert np.array_equal(residues.ATOM37_EXISTS[:20], expected[:20])
    assert not expected[residues.UNKNOWN].any()
    kept = [name for name, there in zip(residues.ATOM37, residues.ATOM37_EXISTS[20], strict=True) if there]
    assert kept == ["N", "CA", "C", "CB", "O"]


def test_tables_cannot_be_written():
    for table in (residues.ATOM37_EXISTS, residues.CHI_ATOMS, residues.DEFAULT_FRAMES, residues.RIGID_GROUP):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


def test_residue_types_follow_the_letters():
    assert residues.residue_types(residues.LETTERS).tolist() == list(range(21))


@pytest.mark.parametrize("sequence", ["AbC", "A-C", "AC*", "A C", "AJB"])
def test_unknown_letters_are_named_with_their_place(sequence):
    wrong = next(i for i, letter in enumerate(sequence) if letter not in residues.LETTERS)
    with pytest.raises(InputError, match=re.escape(f"{sequence[wrong]!r} at residue {wrong + 1}")):
        residues.residue_types(sequence)
