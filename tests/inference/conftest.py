import numpy as np
import pytest

from openfoldpp.geometry.residues import ATOM37_EXISTS
from openfoldpp.inference.structure import Structure


@pytest.fixture
def structure():
    """Two equal chains H and L of all 21 residue types, and a short one, A, with atoms missing."""
    random = np.random.default_rng(0)
    aatype = np.concatenate([np.arange(21), np.arange(21), np.arange(5)])
    mask = ATOM37_EXISTS[aatype].copy()
    mask[44, 1] = mask[45, 4] = False
    plddt = random.uniform(0, 100, 47)
    return Structure(
        aatype=aatype,
        atom_positions=random.normal(0, 20, (47, 37, 3)),
        atom_mask=mask,
        residue_number=np.concatenate([np.arange(1, 22), np.arange(1, 22), np.arange(1, 6)]),
        b_factors=plddt,
        chain_index=np.repeat([0, 1, 2], [21, 21, 5]),
        chain_ids=("H", "L", "A"),
        plddt=plddt,
    )
