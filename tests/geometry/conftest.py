from types import SimpleNamespace

import numpy as np
import pytest

from openfoldpp.geometry import frames, residues, torsions
from openfoldpp.upstream import activate


@pytest.fixture(scope="session")
def upstream():
    """The parts of OpenFold that say what is right."""
    activate()
    from openfold.data import data_transforms
    from openfold.np import residue_constants
    from openfold.utils import feats, loss, rigid_utils

    return SimpleNamespace(
        constants=residue_constants, feats=feats, loss=loss, rigid=rigid_utils, transforms=data_transforms
    )


@pytest.fixture
def rigid_motion():
    """Make a random rotation (not a mirror image) and translation."""

    def make(seed):
        rng = np.random.default_rng(seed)
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        rotation[:, 0] *= np.linalg.det(rotation)
        return rotation, rng.normal(scale=30, size=3)

    return make


def _place(a, b, c, length, angle, dihedral):
    """Point d with |c d|, angle b c d and dihedral a b c d (natural extension reference frame)."""
    x = (c - b) / np.linalg.norm(c - b)
    y = (a - b) - ((a - b) @ x) * x
    y /= np.linalg.norm(y)
    z = np.cross(x, y)
    across = np.cos(dihedral) * y + np.sin(dihedral) * z
    return c + length * (-np.cos(angle) * x + np.sin(angle) * across)


@pytest.fixture
def ideal_chain():
    """Make a chain of ideal local geometry with random torsions; it knows the torsions it was made of."""

    def make(sequence, seed):
        rng = np.random.default_rng(seed)
        kind = residues.residue_types(sequence)
        angles = rng.uniform(-np.pi, np.pi, (len(kind), 7))
        angles[:, 0] = np.pi + rng.normal(scale=0.1, size=len(kind))
        backbone = np.zeros((len(kind), 3, 3))
        for i, residue_type in enumerate(kind):
            n, ca, c = residues.LITERATURE_POSITIONS[residue_type % 20, :3]  # X as alanine
            to_n, to_c = np.linalg.norm(n - ca), np.linalg.norm(c - ca)
            corner = np.arccos((n - ca) @ (c - ca) / (to_n * to_c))
            if i == 0:
                backbone[0] = [n, ca, c]
                continue
            row = list(backbone[i - 1])
            row.append(_place(*row[-3:], 1.33, np.radians(116.6), angles[i - 1, 2]))
            row.append(_place(*row[-3:], to_n, np.radians(121.4), angles[i, 0]))
            row.append(_place(*row[-3:], to_c, corner, angles[i, 1]))
            backbone[i] = row[3:]
        atom37, mask37 = np.zeros((len(kind), 37, 3)), np.zeros((len(kind), 37), bool)
        atom37[:, :3], mask37[:, :3] = backbone, True
        sin_cos = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        placed = frames.rigid_group_frames(frames.backbone_frames(atom37, mask37), sin_cos, kind)
        atom14, mask14 = frames.rebuild_atom14(placed, kind)
        atom14[kind == 20, :3], mask14[kind == 20, :3] = backbone[kind == 20], True
        return SimpleNamespace(
            kind=kind, sin_cos=sin_cos, atom14=atom14, mask14=mask14, sequence=sequence, seed=seed
        )

    return make


@pytest.fixture
def measured():
    """Torsions of an atom37 structure that is one chain, numbered through."""

    def make(atom37, mask37, kind):
        numbers = np.arange(len(kind))
        bonded = torsions.peptide_bonds(atom37, mask37, np.zeros_like(numbers), numbers)
        return torsions.torsion_angles(atom37, mask37, kind, bonded)

    return make
