"""The benchmark of language models: each side reads the same weights from its own file, and embeds alike."""

import pytest
import torch

from openfoldpp.plm import esm

NAME = "esm2_t6_8M_UR50D"


@pytest.fixture
def plm(load, monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setitem(esm.SIZES, NAME, (2, 40, 4))
    return load("plm")


def test_every_side_embeds_alike(plm, tmp_path):
    loaders = plm.sides(NAME, plm.write_all(NAME, tmp_path, None), [])
    assert {"fair-esm", "transformers", "openfoldpp"} <= loaders.keys()
    seconds, cosines = plm.times(loaders, "ACDEFGHIKL", 2)
    assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in seconds.values())
    assert cosines.keys() == loaders.keys()
    found = plm.memory_alone(loaders["openfoldpp"], "ACDEFGHIKL")
    assert 0 < found["before"] <= found["peak"]


def test_a_side_that_differs_ends_the_run(plm):
    def side(value):
        return lambda: lambda sequence: torch.full((len(sequence), 4), value)

    with pytest.raises(AssertionError, match="openfoldpp differs from fair-esm by 1"):
        plm.times({"fair-esm": side(1.0), "openfoldpp": side(1.01)}, "ACD", 1)
