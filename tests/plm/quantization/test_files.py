import pytest
import torch
from safetensors.torch import load_file

from openfoldpp.errors import WeightsError
from openfoldpp.plm.quantization import describe, is_quantised, quantise, save


@pytest.fixture
def tensors(model):
    return quantise(model.encoder, [], 4, method="nearest")


def test_a_file_comes_back_as_it_was(tmp_path, tensors, description):
    path = tmp_path / "tiny.safetensors"
    save(path, tensors, description(4))
    # safetensors' own reader, not ours.
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert describe(path) == description(4)
    assert is_quantised(path)


def test_other_files_are_told_apart(tmp_path, tensors):
    from safetensors.torch import save_file

    (tmp_path / "text").write_text("openfoldpp")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors", {"format": "pt"})
    for path in (tmp_path / "text", tmp_path / "other.safetensors", tmp_path, tmp_path / "absent"):
        assert not is_quantised(path)
    with pytest.raises(WeightsError, match="no file of openfoldpp quantize"):
        describe(tmp_path / "other.safetensors")


def test_a_file_cut_short_is_said_to_be_damaged(tmp_path, tensors, description):
    path = tmp_path / "tiny.safetensors"
    save(path, tensors, description(4))
    whole = path.read_bytes()
    for length in (5000, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert is_quantised(path)
        with pytest.raises(WeightsError, match="damaged"):
            describe(path)


def test_a_header_without_its_fields_is_said_to_be_damaged(tmp_path):
    from safetensors.torch import save_file

    for text in ("{}", "[]", '{"model": "tiny"}', "no JSON"):
        header = {"format": "openfoldpp quantised 1", "description": text}
        save_file({"a": torch.zeros(1)}, tmp_path / "f", header)
        with pytest.raises(WeightsError, match="damaged"):
            describe(tmp_path / "f")
