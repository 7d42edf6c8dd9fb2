import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import MissingDependencyError, WeightsError

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture(scope="module")
def package():
    """Return the embeddings of AntiBERTy's own package, ``[N_res, 512]``, of one layer."""
    with warnings.catch_warnings():
        # Of its parts (transformers, swig, tqdm), about themselves.
        warnings.simplefilter("ignore")
        from antiberty import AntiBERTyRunner

        runner = AntiBERTyRunner()

    def embed(sequences, layer=-1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [found[1:-1] for found in runner.embed(sequences, hidden_layer=layer)]

    return embed


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_it_equals_its_own_package(package):
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list(LETTERS + "XBZUO-"), length)) for length in (1, 2, 17, 118, 131)]
    assert_equal(plm.load("antiberty").embed(sequences), package(sequences))


@pytest.mark.parametrize("layer", [0, 3, 8])
def test_every_layer_equals_its_own_package(package, layer):
    sequences = ["EVQLVESGGGLVQPGGSLRLSCAAS", "DIQMTQSP"]
    assert_equal(plm.load("antiberty", layer=layer).embed(sequences), package(sequences, layer))


def test_a_sequence_longer_than_its_positions_is_windowed():
    sequence = "EVQLVESGGGLVQPGGSLRLSCAAS" * 24
    with pytest.warns(plm.LongSequenceWarning, match="510 residues that antiberty takes"):
        [found] = plm.load("antiberty").embed([sequence])
    assert found.shape == (600, 512)
    assert torch.isfinite(found).all()


def test_without_the_package_the_cure_is_said(monkeypatch):
    from openfoldpp.plm import antiberty

    monkeypatch.setattr(antiberty, "PACKAGE", "no-such-package")
    with pytest.raises(MissingDependencyError, match=r"pip install 'openfoldpp\[antiberty\]'"):
        plm.load("antiberty")


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "other.bin"
    torch.save({"bert.encoder.layer.0.attention.self.query.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(WeightsError, match="expected AntiBERTy's file"):
        plm.load("antiberty", path)


def test_its_own_package_is_not_imported():
    code = "import sys; from openfoldpp import plm; plm.load('antiberty').embed(['EVQ']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"transformers", "antiberty"} & set(done.stdout.split())
