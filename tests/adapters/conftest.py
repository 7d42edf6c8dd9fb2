"""Fixtures of the adapter for coordinates: OpenFold's own functions, an adapter, random atoms."""

from types import SimpleNamespace

import numpy as np
import pytest

from openfoldpp.adapters.coord_adapter import CoordAdapter
from openfoldpp.geometry import residues
from openfoldpp.upstream import activate

SEQUENCE = "ARNDC:QEGHILK:MFPSTWYVX"
N_RES = 21


@pytest.fixture(scope="module")
def upstream():
    """The parts of OpenFold that say what is right."""
    activate()
    from openfold.np import residue_constants
    from openfold.utils import feats, loss, rigid_utils

    return SimpleNamespace(constants=residue_constants, feats=feats, loss=loss, rigid=rigid_utils)


@pytest.fixture(scope="module")
def adapter():
    return CoordAdapter(preset="model_1_ptm", version="0.0.1")


@pytest.fixture
def atom14():
    """Random atoms of all residue types, NaN where there is none; two N, CA, C of the 21 are missing."""
    rng = np.random.default_rng(0)
    kind = residues.residue_types(SEQUENCE.replace(":", ""))
    xyz = rng.normal(scale=10, size=(N_RES, 14, 3)).astype(np.float32)
    xyz[residues.ATOM37_OF_ATOM14[kind] < 0] = np.nan
    xyz[rng.random((N_RES, 14)) < 0.1] = np.nan
    xyz[3], xyz[4, 1] = np.nan, np.nan
    return xyz
