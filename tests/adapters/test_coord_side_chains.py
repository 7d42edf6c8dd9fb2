"""Side chains of the coordinate adapter: OpenFold's functions rebuild them from its frames and torsions."""

import json

import numpy as np
import pytest
import torch

from openfoldpp.geometry import residues

SEQUENCE = "ARNDC:QEGHILK:MFPSTWYVX"


def rebuilt(upstream, output, kind):
    """Side-chain frames and atoms, by upstream's functions, from the last frames and torsions."""
    rc = upstream.constants
    kind = torch.tensor(kind, dtype=torch.int64)
    frames = torch.tensor(rc.restype_rigid_group_default_frame)
    rigids = upstream.rigid.Rigid.from_tensor_7(torch.tensor(output["final_affine_tensor"]))
    groups = upstream.feats.torsion_angles_to_frames(
        rigids, torch.tensor(output["sm"]["angles"][-1]), kind, frames
    )
    tables = (
        rc.restype_atom14_to_rigid_group,
        rc.restype_atom14_mask,
        rc.restype_atom14_rigid_group_positions,
    )
    atoms = upstream.feats.frames_and_literature_positions_to_atom14_pos(
        groups, kind, frames, *map(torch.tensor, tables)
    )
    return groups.to_tensor_4x4().numpy(), atoms.numpy()


def test_side_chain_frames_are_upstreams_whatever_is_missing(upstream, adapter, atom14):
    kind = residues.residue_types(SEQUENCE.replace(":", ""))
    output = adapter.output(atom14, SEQUENCE)
    groups, _ = rebuilt(upstream, output, kind)
    np.testing.assert_allclose(output["sm"]["sidechain_frames"][-1], groups, atol=1e-4)


@pytest.fixture(scope="module")
def flashabb_fv():
    """One antibody Fv as FlashABB predicts it: sequence, atom14 with all atoms, pLDDT logits."""
    pytest.importorskip("flash_abb")
    from importlib import resources

    import yaml
    from flash_abb.model.flash_abb import FlashABB, featurize

    weights = resources.files("flash_abb") / "weights"
    model = FlashABB(yaml.safe_load((weights / "params.yaml").read_text())["model"]).eval()
    model.load_state_dict(torch.load(weights / "flabb_weights.pt", weights_only=True, map_location="cpu"))
    heavy = (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
        "SRWGGDGFYAMDYWGQGTLVTVSS"
    )
    light = (
        "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPP"
        "TFGQGTKVEIK"
    )
    with torch.no_grad():
        x = featurize([f"{heavy}|{light}"], torch.device("cpu"))
        found = model.model({"single": x["single"]}, x["aatype"], x["res_idx"], x["mask"])
    return f"{heavy}:{light}", found["positions"][-1, 0], found["plddt"][0]


def test_fv_of_ideal_geometry_is_rebuilt_by_upstream(upstream, adapter, flashabb_fv):
    sequence, atom14, logits = flashabb_fv
    kind = residues.residue_types(sequence.replace(":", ""))
    output = adapter.output(atom14, sequence, plddt_logits=logits)
    assert np.array_equal(output["lddt_logits"], logits)
    lddt = upstream.loss.compute_plddt(torch.tensor(output["lddt_logits"]))
    np.testing.assert_allclose(lddt, output["plddt"], atol=1e-4)
    _, atoms = rebuilt(upstream, output, kind)
    off = np.linalg.norm(atoms - output["sm"]["positions"][-1], axis=-1)
    there = residues.RIGID_GROUP[kind] >= 0
    assert off[there].max() < 0.001  # asked for: 0.05 A on N, CA, C, O and CB; side chains are here too


def test_crystal_fvs_are_rebuilt_but_for_their_own_geometry(upstream, adapter, data_dir):
    from biotite.structure.io.pdb import PDBFile

    names = json.loads((data_dir / "fv" / "chains.json").read_text())
    backbone, side_chain = [], []
    for name, entry in names.items():
        atoms = PDBFile.read(data_dir / "fv" / f"{name}.pdb").get_structure(model=1)
        sequence = ":".join(entry["chains"][chain]["sequence"] for chain in "HL")
        kind = residues.residue_types(sequence.replace(":", ""))
        offset = {"H": -1, "L": len(entry["chains"]["H"]["sequence"]) - 1}
        xyz = np.full((len(kind), 37, 3), np.nan)
        for chain, number, atom, position in zip(
            atoms.chain_id, atoms.res_id, atoms.atom_name, atoms.coord, strict=True
        ):
            xyz[offset[chain] + number, residues.ATOM37.index(atom)] = position
        output = adapter.output(xyz, sequence)
        _, again = rebuilt(upstream, output, kind)
        given = output["sm"]["positions"][-1]
        there = given.any(-1)
        off = np.linalg.norm(again - given, axis=-1)
        backbone.append(off[:, :5][there[:, :5]])
        side_chain.append(off[:, 5:][there[:, 5:]])
    backbone, side_chain = np.concatenate(backbone), np.concatenate(side_chain)
    print(
        f"{len(names)} crystal Fvs, A: N, CA, C, O, CB mean {backbone.mean():.3f}, "
        f"99th percentile {np.percentile(backbone, 99):.3f}, max {backbone.max():.3f}; "
        f"side chains mean {side_chain.mean():.3f}, 99th percentile {np.percentile(side_chain, 99):.3f}"
    )
    # Bond angles of crystals vary by a few degrees: tenths of an angstrom, not more.
    assert backbone.mean() < 0.1
    assert side_chain.mean() < 0.25
