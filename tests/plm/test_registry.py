import pytest
import torch

from openfoldpp import plm
from openfoldpp.errors import InputError, WeightsError


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="'esm2_650M' is unknown; did you mean esm2_t33_650M_UR50D"):
        plm.load("esm2_650M")


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="there is no such file or folder"):
        plm.load("antiberty", tmp_path / "absent")


def test_another_package_adds_a_model(tmp_path, monkeypatch):
    info = tmp_path / "lab_plm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-plm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[openfoldpp.plm]\nlab = lab_plm:load\n")
    (tmp_path / "lab_plm.py").write_text(
        "import torch\n"
        "class Lab:\n"
        "    name, channels, max_residues, fingerprint = 'lab', 4, None, 'lab-1'\n"
        "    def embed(self, sequences):\n"
        "        return [torch.ones(len(s), 4) for s in sequences]\n"
        "    def embed_each(self, sequences):\n"
        "        yield from enumerate(self.embed(sequences))\n"
        "def load(name, *, weights, layer, dtype, device):\n"
        "    return Lab()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = plm.load("lab")
    assert isinstance(model, plm.Embedder)
    assert "lab" in plm.names()
    torch.testing.assert_close(model.embed(["ACD"])[0], torch.ones(3, 4))
