import numpy as np
import pytest

from openfoldpp.geometry import atoms, frames, residues
from openfoldpp.geometry.residues import LETTERS

# Upstream's batched_gather indexes with a list, which torch warns about.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence for multidimensional:UserWarning")


def upstream_rebuild(upstream, tensor7, sin_cos, kind):
    """Frames and atoms from upstream's own functions, in float64."""
    import torch

    rc = upstream.constants
    kind = torch.tensor(kind, dtype=torch.int64)
    tables = [
        torch.tensor(table).double()
        for table in (rc.restype_rigid_group_default_frame, rc.restype_atom14_rigid_group_positions)
    ]
    rigids = upstream.rigid.Rigid.from_tensor_7(torch.tensor(tensor7))
    groups = upstream.feats.torsion_angles_to_frames(rigids, torch.tensor(sin_cos), kind, tables[0])
    positions = upstream.feats.frames_and_literature_positions_to_atom14_pos(
        groups,
        kind,
        tables[0],
        torch.tensor(rc.restype_atom14_to_rigid_group),
        torch.tensor(rc.restype_atom14_mask).double(),
        tables[1],
    )
    return groups.to_tensor_4x4().numpy(), positions.numpy()


@pytest.mark.parametrize("seed", range(3))
def test_groups_and_atoms_are_upstreams_for_all_residue_types(upstream, ideal_chain, rigid_motion, seed):
    chain = ideal_chain(LETTERS, seed)
    rotation, shift = rigid_motion(seed)
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14 @ rotation.T + shift, chain.mask14, chain.kind)
    backbone = frames.backbone_frames(atom37, mask37)
    groups = frames.rigid_group_frames(backbone, chain.sin_cos, chain.kind)
    rebuilt, mask14 = frames.rebuild_atom14(groups, chain.kind)
    expected_groups, expected = upstream_rebuild(upstream, backbone.to_tensor7(), chain.sin_cos, chain.kind)
    # Upstream's rotations are float32 (6e-8), applied along chains of groups up to 100 A from the origin.
    np.testing.assert_allclose(groups, expected_groups, atol=1e-4)
    np.testing.assert_allclose(rebuilt, expected, atol=1e-4)
    assert np.array_equal(mask14, upstream.constants.restype_atom14_mask[chain.kind] > 0)


@pytest.mark.parametrize("letter", LETTERS[:20])
def test_side_chain_is_rebuilt_from_its_measured_torsions(ideal_chain, measured, letter):
    chain = ideal_chain(letter * 4, seed=ord(letter))
    atom37, mask37 = atoms.atom14_to_atom37(chain.atom14, chain.mask14, chain.kind)
    angles = measured(atom37, mask37, chain.kind)
    groups = frames.rigid_group_frames(frames.backbone_frames(atom37, mask37), angles.sin_cos, chain.kind)
    rebuilt, _ = frames.rebuild_atom14(groups, chain.kind)
    # Literature positions are rounded to 0.001 A, so a ring atom may lie that far out of its plane.
    np.testing.assert_allclose(rebuilt, chain.atom14, atol=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_backbone_frames_are_upstreams_and_move_with_the_atoms(upstream, rigid_motion, seed):
    import torch

    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 20, 30)
    atom37, mask37 = rng.normal(scale=5, size=(30, 37, 3)), residues.ATOM37_EXISTS[kind]
    mine = frames.backbone_frames(atom37, mask37)
    theirs = upstream.transforms.atom37_to_frames(
        {
            "aatype": torch.tensor(kind),
            "all_atom_positions": torch.tensor(atom37),
            "all_atom_mask": torch.tensor(mask37).double(),
        }
    )["rigidgroups_gt_frames"][:, 0].numpy()
    assert mine.known.all()
    # Upstream's rotations are float32.
    np.testing.assert_allclose(mine.rotations, theirs[:, :3, :3], atol=1e-6)
    np.testing.assert_allclose(mine.origins, theirs[:, :3, 3], atol=1e-6)

    rotation, shift = rigid_motion(seed)
    moved = frames.backbone_frames(atom37 @ rotation.T + shift, mask37)
    np.testing.assert_allclose(moved.rotations, rotation @ mine.rotations, atol=1e-12)
    np.testing.assert_allclose(moved.origins, mine.origins @ rotation.T + shift, atol=1e-12)


@pytest.mark.parametrize("missing", [residues.N, residues.CA, residues.C])
def test_frame_without_one_of_its_atoms_is_unknown(missing):
    atom37 = np.random.default_rng(0).normal(size=(2, 37, 3))
    mask37 = np.ones((2, 37), bool)
    mask37[1, missing] = False
    atom37[1, missing] = np.nan
    found = frames.backbone_frames(atom37, mask37)
    assert found.known.tolist() == [True, False]
    assert np.array_equal(found.rotations[1], np.eye(3))
    origin = np.zeros(3) if missing == residues.CA else atom37[1, residues.CA]
    assert np.array_equal(found.origins[1], origin)


def test_frame_of_atoms_on_a_line_is_unknown():
    atom37 = np.zeros((1, 37, 3))
    atom37[0, :3, 0] = [-1, 0, 1]
    assert not frames.backbone_frames(atom37, np.ones((1, 37), bool)).known[0]


def half_turns():
    """Rotations by 180 degrees about the axes, where w is 0, and the identity."""
    return [np.eye(3), *(np.diag(d) for d in ([1, -1, -1], [-1, 1, -1], [-1, -1, 1]))]


def test_quaternions_give_the_rotation_back(upstream, rigid_motion):
    import torch

    rotations = np.stack([rigid_motion(seed)[0] for seed in range(50)] + half_turns())
    tensor7 = frames.BackboneFrames(rotations, np.zeros((54, 3)), np.ones(54, bool)).to_tensor7()
    np.testing.assert_allclose(np.linalg.norm(tensor7[:, :4], axis=1), 1, atol=1e-14)
    assert (tensor7[:, 0] >= 0).all()
    back = upstream.rigid.Rigid.from_tensor_7(torch.tensor(tensor7)).get_rots().get_rot_mats()
    np.testing.assert_allclose(back, rotations, atol=1e-6)  # upstream's rotations are float32
