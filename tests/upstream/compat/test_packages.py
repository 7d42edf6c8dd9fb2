"""Names that moved or went away: what breaks without each record, and that it works with it."""

import importlib.util
import sys

import pytest

from openfoldpp.errors import MissingDependencyError


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


@pytest.fixture
def flash_attention_2(tmp_path, monkeypatch):
    """A flash_attn laid out as version 2.7 is, as far as OpenFold imports it; the real one needs a GPU."""
    folder = tmp_path / "flash_attn"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "bert_padding.py").write_text(
        "pad_input = None\ndef unpad_input(x, mask): return x, mask, 'lengths', 7, 'fifth'\n"
    )
    (folder / "flash_attn_interface.py").write_text(
        "def flash_attn_varlen_kvpacked_func(q, kv): return ('attended', q, kv)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "flash_attn"]:
        del sys.modules[name]


@pytest.mark.usefixtures("flash_attention_2")
def test_flash_attention_2(imported, reason, records):
    (record,) = (name for name in records if name.startswith("flash_attn"))
    assert "which FlashAttention 2 calls" in reason(record)
    with pytest.raises(ImportError, match=r"unpadded|flash_attention"), imported("openfold.model.primitives"):
        pass
    with imported("openfold.model.primitives", "attn_core_inplace_cuda", record) as module:
        assert module.flash_attn_unpadded_kvpacked_func(1, 2) == ("attended", 1, 2)
        assert module.unpad_input("x", "mask") == ("x", "mask", "lengths", 7)
    interface = sys.modules["flash_attn.flash_attn_interface"]
    assert not hasattr(interface, "flash_attn_unpadded_kvpacked_func")
