from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from openfoldpp.geometry import atoms, residues, torsions
from openfoldpp.geometry.residues import LETTERS

# Upstream's batched_gather indexes with a list, which torch warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional:UserWarning")


@pytest.mark.parametrize("seed", range(4))
def test_torsions_are_upstreams_with_atoms_missing(upstream, ideal_chain, seed):
    import torch

    rng = np.random.default_rng(seed)
    chain = ideal_chain("".join(rng.permutation(list(LETTERS[:20] * 2))), seed)
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14, chain.mask14, chain.kind)
    mask37 &= rng.random(mask37.shape) < 0.9
    bonded = np.arange(40) > 0  # upstream knows no breaks
    mine = torsions.torsion_angles(atom37, mask37, chain.kind, bonded)
    theirs = upstream.transforms.atom37_to_torsion_angles()(
        {
            "aatype": torch.tensor(chain.kind, dtype=torch.int64),
            "all_atom_positions": torch.tensor(atom37),
            "all_atom_mask": torch.tensor(mask37).double(),
        }
    )
    assert np.array_equal(mine.known, theirs["torsion_angles_mask"].numpy() > 0)
    assert 0.3 < mine.known.mean() < 0.9
    for name, found in (("", mine.sin_cos), ("alt_", mine.alternative_sin_cos)):
        expected = theirs[f"{name}torsion_angles_sin_cos"].numpy()
        # Upstream's rotations are float32 (6e-8), applied to positions up to 100 A away.
        np.testing.assert_allclose(found[mine.known], expected[mine.known], atol=2e-5)


@pytest.mark.parametrize("seed", range(4))
def test_torsions_are_those_the_chain_was_made_of_wherever_it_lies(ideal_chain, measured, rigid_motion, seed):
    chain = ideal_chain(LETTERS[:20], seed)
    rotation, shift = rigid_motion(seed)
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14 @ rotation.T + shift, chain.mask14, chain.kind)
    found = measured(atom37, mask37, chain.kind)
    assert not found.known[0, :2].any()
    assert found.known[1:, :3].all()
    assert np.array_equal(found.known[:, 3:], residues.CHI_ATOMS[chain.kind][..., 0] >= 0)
    # Literature positions have three digits, those off the plane a torsion of up to 0.01 rad.
    np.testing.assert_allclose(found.sin_cos[found.known], chain.sin_cos[found.known], atol=0.01)


def test_unknown_angles_are_zero(ideal_chain, measured):
    chain = ideal_chain("AGX", 0)
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14, chain.mask14, chain.kind)
    found = measured(atom37, mask37, chain.kind)
    assert not found.known[2, 2:].any()
    assert np.array_equal(found.sin_cos[~found.known], np.tile([0.0, 1.0], ((~found.known).sum(), 1)))


def test_alternative_torsions_are_those_of_swapped_names(ideal_chain, measured):
    pairs = {"D": ("OD1", "OD2"), "E": ("OE1", "OE2"), "F": ("CD1", "CD2"), "Y": ("CD1", "CD2")}
    for letter, names in pairs.items():
        chain = ideal_chain(letter, 1)
        atom37, mask37 = atoms.atom14_to_atom37(chain.atom14, chain.mask14, chain.kind)
        one, other = map(residues.ATOM37.index, names)
        swapped = atom37.copy()
        swapped[:, [one, other]] = atom37[:, [other, one]]
        alternative = measured(atom37, mask37, chain.kind).alternative_sin_cos
        np.testing.assert_allclose(measured(swapped, mask37, chain.kind).sin_cos, alternative, atol=0.01)


@pytest.mark.parametrize("cause", ["chain", "number", "distance", "missing C", "missing N"])
def test_no_torsion_is_measured_across_a_break(ideal_chain, cause):
    chain = ideal_chain("ACDEFGHIK", 2)
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14, chain.mask14, chain.kind)
    chains, numbers = np.zeros(9, int), np.arange(9)
    if cause == "chain":
        chains[4:] = 1
    elif cause == "number":
        numbers[4:] += 1
    elif cause == "distance":
        atom37[4:] += 1.5
    elif cause == "missing C":
        mask37[3, residues.C] = False
    else:
        mask37[4, residues.N] = False
    bonded = torsions.peptide_bonds(atom37, mask37, chains, numbers)
    assert bonded.tolist() == [False, True, True, True, False, True, True, True, True]
    known = torsions.torsion_angles(atom37, mask37, chain.kind, bonded).known
    assert not known[4, :2].any()
    assert known[[1, 2, 3, 5, 6, 7, 8], 0].all()


def test_threads_give_the_same(ideal_chain, measured):
    chain = ideal_chain(LETTERS[:20] * 20, 3)
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14, chain.mask14, chain.kind)
    alone = measured(atom37, mask37, chain.kind).sin_cos
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: measured(atom37, mask37, chain.kind), range(16)):
            assert np.array_equal(found.sin_cos, alone)
