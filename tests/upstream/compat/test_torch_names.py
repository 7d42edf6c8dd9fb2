"""Files from a GPU, and names that torch deprecated."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch


@pytest.fixture
def save_as_on_a_gpu(monkeypatch):
    """``save(object, file)`` as torch does where the tensors are on a GPU."""

    def save(value, file):
        with monkeypatch.context() as saving:
            saving.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
            torch.save(value, file)

    return save


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's checkpoint can be read where there is a GPU")
def test_checkpoint_from_a_gpu(tmp_path, save_as_on_a_gpu, imported, reason):
    assert "map_location" in reason("torch.load")
    file = tmp_path / "checkpoint.pt"
    save_as_on_a_gpu({"weight": torch.arange(3.0)}, file)
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


@pytest.mark.upstream
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's file can be read where there is a GPU")
def test_embedding_from_a_gpu(tmp_path, save_as_on_a_gpu, imported, reason):
    assert "map_location" in reason("torch.load of an embedding")
    embedding = torch.arange(6.0).reshape(2, 3)
    save_as_on_a_gpu({"label": "x", "representations": {33: embedding}}, tmp_path / "x.pt")
    name = "openfold.data.data_pipeline"
    with imported(name) as module, pytest.raises(RuntimeError, match="CUDA"):
        module.DataPipeline(None)._process_seqemb_features(str(tmp_path))
    with imported(name, "torch.load of an embedding") as module:
        pipeline = module.DataPipeline(None)
        features = pipeline._process_seqemb_features(str(tmp_path))
        torch.testing.assert_close(features["seq_embedding"], embedding)
        torch.save({"representations": {33: Path}}, tmp_path / "x.pt")
        with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
            pipeline._process_seqemb_features(str(tmp_path))


def test_deprecated_autocast(imported, reason):
    assert "deprecates" in reason("torch.cuda.amp")
    precision = "openfold.utils.precision_utils"
    with imported(precision) as module, pytest.warns(DeprecationWarning, match="get_autocast_gpu_dtype"):
        assert module.is_fp16_enabled() is False
    with imported(precision, "torch.cuda.amp") as module, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module.is_fp16_enabled() is False


def test_bfloat16_does_not_warn(imported, reason):
    reason("torch.cuda.amp")
    name, x = "openfold.model.primitives", torch.ones(2, 4, dtype=torch.bfloat16)
    with (
        imported(name, "attn_core_inplace_cuda") as module,
        pytest.warns(FutureWarning, match="autocast"),
    ):
        expected = module.LayerNorm(4).bfloat16()(x)
    with imported(name, "attn_core_inplace_cuda", "torch.cuda.amp") as module, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(module.LayerNorm(4).bfloat16()(x), expected)
        mended = [
            f"{key}.{method}"
            for key, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == name
            for method, function in vars(value).items()
            if "amp" in getattr(getattr(function, "__code__", None), "co_names", ())
        ]
        # All of them, by today's name.
        assert mended
        assert all("cuda" not in _names(module, dotted) for dotted in mended)


def _names(module, dotted):
    owner, method = dotted.split(".")
    return vars(getattr(module, owner))[method].__code__.co_names
