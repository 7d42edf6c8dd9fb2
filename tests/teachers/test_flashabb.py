"""FlashABB through our loader: the package's own result, bit for bit."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from openfoldpp.errors import InputError, MissingDependencyError
from openfoldpp.teachers import flashabb

# Trastuzumab (PDB 1N8Z) and avelumab (5GRJ).
TRASTUZUMAB = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS",
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFG"
    "QGTKVEIK",
)
AVELUMAB = (
    "EVQLLESGGGLVQPGGSLRLSCAASGFTFSSYIMMWVRQAPGKGLEWVSSIYPSGGITFYADTVKGRFTISRDNSKNTLYLQMNSLRAEDTAVYYCA"
    "RIKLGTVTTVDYWGQGTLVTVSS",
    "QSALTQPASVSGSPGQSITISCTGTSSDVGGYNYVSWYQQHPGKAPKLMIYDVSNRPSGVSNRFSGSKSGNTASLTISGLQAEDEADYYCSSYTSSSTRV"
    "FGTGTKVTVL",
)


@pytest.fixture(scope="module")
def model():
    return flashabb.load()


@pytest.fixture(scope="module")
def package():
    from flash_abb import pretrained

    return pretrained(device="cpu")


# The package's writer of PDB files, which we do not use, indexes in a way that torch warns of.
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
@pytest.mark.parametrize("fv", [TRASTUZUMAB, AVELUMAB], ids=["kappa", "lambda"])
def test_equals_the_package_bit_for_bit(model, package, fv, tmp_path):
    prediction = model.predict(*fv)
    with torch.no_grad():
        result = package(["|".join(fv)])
    n_res = sum(map(len, fv))
    assert prediction.coords.shape == (n_res, 14, 3)
    assert prediction.plddt_logits.shape == (n_res, 50)
    assert prediction.coords.dtype == prediction.plddt_logits.dtype == prediction.mask.dtype == np.float32
    np.testing.assert_array_equal(prediction.coords, result.coords[0].numpy())
    np.testing.assert_array_equal(prediction.plddt_logits, result.output["plddt"][0].numpy())

    # The mask leaves just those atoms that the package writes.
    result.to_pdbs(["fv"], pdb_dir=str(tmp_path))
    lines = (tmp_path / "fv.pdb").read_text().splitlines()
    written = np.array(
        [[float(line[x : x + 8]) for x in (30, 38, 46)] for line in lines if line[:4] == "ATOM"]
    )
    ours = prediction.coords[prediction.mask == 1]
    assert written.shape == ours.shape
    # A file has three decimals. Sorted, since its atoms are in atom37 order.
    np.testing.assert_allclose(np.sort(written, axis=0), np.sort(ours, axis=0), atol=5.1e-4)


def test_is_repeatable_whatever_the_seed(model):
    torch.manual_seed(1)
    first = model.predict(*TRASTUZUMAB)
    torch.manual_seed(2)
    second = model.predict(*TRASTUZUMAB)
    np.testing.assert_array_equal(first.coords, second.coords)
    np.testing.assert_array_equal(first.plddt_logits, second.plddt_logits)


def test_the_weights_are_read_without_running_code_in_them(monkeypatch):
    seen = []
    load = torch.load

    def spy(path, **arguments):
        seen.append((Path(path).name, arguments["weights_only"]))
        return load(path, **arguments)

    monkeypatch.setattr(torch, "load", spy)
    flashabb.FlashABB()
    assert seen == [("flabb_weights.pt", True)]


def test_a_process_loads_it_once(model):
    assert flashabb.load() is model
    assert model.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("heavy", "light", "message"),
    [
        ("EVQX", "DIQ", "heavy chain has letters 'X'"),
        ("EVQ", "DI|q", "light chain has letters 'q|'"),
        ("EVQ", "", "light chain has no residues"),
    ],
)
def test_refuses_what_it_does_not_know(model, heavy, light, message):
    with pytest.raises(InputError) as error:
        model.predict(heavy, light)
    assert message in str(error.value)


def test_names_its_version():
    assert flashabb.source() == "flash-abb 0.0.5"


def test_without_the_package_the_message_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_abb.model", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'openfoldpp\[fv\]'"):
        flashabb.FlashABB()
