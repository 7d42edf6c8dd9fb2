"""Names that moved or went away: what breaks without each record, and that it works with it."""

import importlib.util
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from openfoldpp.errors import MissingDependencyError


@pytest.mark.skipif("object" in vars(np), reason="this numpy has np.object")
def test_numpy_object(imported, reason):
    assert "np.object" in reason("numpy.object")
    with (
        pytest.raises(AttributeError, match="object"),
        warnings.catch_warnings(action="ignore", category=FutureWarning),
        imported("openfold.data.templates"),
    ):
        pass
    with imported("openfold.data.templates", "numpy.object") as module:
        assert module.TEMPLATE_FEATURES["template_sequence"] is object
    assert "object" not in vars(np)


class NumpyWithoutBool:
    """numpy 1.24 to 1.26, as one module sees it; taking the name from the real one breaks numpy 2 itself."""

    def __getattr__(self, name):
        if name == "bool":
            raise AttributeError("module 'numpy' has no attribute 'bool'")
        return getattr(np, name)


def test_numpy_bool(monkeypatch, imported, reason, records):
    with monkeypatch.context() as patch:
        patch.delattr(np, "bool", raising=False)
        assert "np.bool" in reason("numpy.bool")
    mask = np.ones((2, 37))
    with imported("openfold.np.relax.utils") as module:
        module.np = NumpyWithoutBool()
        module.np.__name__ = "numpy"
        with pytest.raises(AttributeError, match="bool"):
            module.assert_equal_nonterminal_atom_types(mask, mask)
        (mend,) = records["numpy.bool"].mends
        vars(module).update(mend.names(module))
        module.assert_equal_nonterminal_atom_types(mask, mask)
        with pytest.raises(AssertionError):
            module.assert_equal_nonterminal_atom_types(mask, 2 * mask)


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="numpy 1 does not warn")
def test_numpy_array_of_a_tensor(imported, reason):
    assert "np.array on tensors" in reason("numpy.array of a tensor")
    tensor = torch.arange(3.0)
    with imported("openfold.utils.loss") as module, pytest.warns(DeprecationWarning, match="copy"):
        module.np.array(tensor)
    with imported("openfold.utils.loss", "numpy.array of a tensor") as module:
        copied = module.np.array(tensor)
        tensor[0] = 9
        np.testing.assert_array_equal(copied, [0, 1, 2])
        np.testing.assert_array_equal(module.np.array([1, 2], dtype=np.int8), [1, 2])
        assert module.np.float32 is np.float32


# Biopython, Lightning, torch


@pytest.mark.skipif(importlib.util.find_spec("Bio.Data.SCOPData") is not None, reason="this Biopython has it")
def test_scopdata(imported, reason):
    assert "SCOPData" in reason("Bio.Data.SCOPData")
    with pytest.raises(ImportError, match="SCOPData"), imported("openfold.data.mmcif_parsing"):
        pass
    with imported("openfold.data.mmcif_parsing", "Bio.Data.SCOPData") as module:
        codes = module.SCOPData.protein_letters_3to1
        assert (codes["ALA"], codes["MSE"], codes.get("HOH", "X")) == ("A", "M", "X")
    assert "Bio.Data.SCOPData" not in sys.modules


@pytest.mark.usefixtures("no_lightning")
def test_script_utils_without_lightning(imported, reason):
    record = "pytorch_lightning.utilities.deepspeed"
    assert "which is not installed" in reason(record)
    with pytest.raises(ImportError, match="pytorch_lightning"), imported("openfold.utils.script_utils"):
        pass
    cure = "pip install pytorch-lightning deepspeed"
    with (
        imported("openfold.utils.script_utils", record) as module,
        pytest.raises(MissingDependencyError, match=cure),
    ):
        module.convert_zero_checkpoint_to_fp32_state_dict("folder", "file.pt")
    assert record not in sys.modules


@pytest.mark.usefixtures("lightning_2")
def test_lightning_without_its_deepspeed_module(reason):
    assert "gone from the installed Lightning" in reason("pytorch_lightning.utilities.deepspeed")


@pytest.mark.usefixtures("no_lightning")
def test_seed_without_lightning(imported, reason):
    record = "pytorch_lightning.utilities.seed"
    assert "which is not installed" in reason(record)
    with pytest.raises(ImportError, match="pytorch_lightning"), imported("openfold.utils.seed"):
        pass
    cure = "pip install pytorch-lightning"
    with imported("openfold.utils.seed", record) as module, pytest.raises(MissingDependencyError, match=cure):
        module.seed_everything(seed=1)


@pytest.mark.usefixtures("lightning_2")
def test_seed_with_lightning_2(imported, reason):
    record = "pytorch_lightning.utilities.seed"
    assert "moved from" in reason(record)
    with pytest.raises(ImportError, match="seed_everything"), imported("openfold.utils.seed"):
        pass
    with imported("openfold.utils.seed", record) as module:
        assert module.seed_everything(seed=5) == ("seeded", 5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's checkpoint can be read where there is a GPU")
def test_checkpoint_from_a_gpu(tmp_path, monkeypatch, imported, reason):
    assert "map_location" in reason("torch.load")
    file = tmp_path / "checkpoint.pt"
    with monkeypatch.context() as saving:
        saving.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save({"weight": torch.arange(3.0)}, file)
    lightning = "pytorch_lightning.utilities.deepspeed"
    with (
        imported("openfold.utils.script_utils", lightning) as module,
        pytest.raises(RuntimeError, match="CUDA"),
    ):
        module.torch.load(file)
    with imported("openfold.utils.script_utils", lightning, "torch.load") as module:
        loaded = module.torch.load(file)
        torch.testing.assert_close(loaded["weight"], torch.arange(3.0))
        assert module.torch.no_grad is torch.no_grad
        torch.save({"code": Path}, file)
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            module.torch.load(file)
        assert module.torch.load is not torch.load
