"""CheapHead: pooling, vectors of windows, and which weights are taken."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openfoldpp.errors import InputError, WeightsError
from openfoldpp.plm import cheap_head
from openfoldpp.plm.cheap_head import CHANNELS, FORMAT, CheapHead, K, pool_windows

PROJECTION = "0123:4:float32"


@pytest.fixture
def head():
    """A head whose every weight is random."""
    generator = torch.Generator().manual_seed(0)
    head = CheapHead()
    with torch.no_grad():
        for tensor in head.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return head


@pytest.fixture
def file(head, tmp_path):
    path = tmp_path / "head.safetensors"
    cheap_head.write(path, head, PROJECTION)
    return path


@pytest.mark.parametrize("n_res", [K, K + 1, 33])
def test_windows_are_means_of_ten_residues(n_res):
    residues = torch.randn(n_res, CHANNELS, generator=torch.Generator().manual_seed(n_res))
    expected = torch.stack([residues[i : i + 10].mean(0) for i in range(n_res - 9)])
    torch.testing.assert_close(pool_windows(residues), expected)


@pytest.mark.parametrize("shape", [(K - 1, CHANNELS), (20, CHANNELS + 1), (2, 20, CHANNELS)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"expected \[N_res, 64\] with N_res at least 10"):
        pool_windows(torch.zeros(shape))


def test_a_vector_is_the_scaled_mean_and_two_layers(head):
    residues = torch.randn(25, CHANNELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state = {name: tensor.double() for name, tensor in head.state_dict().items()}
    for row, vector in enumerate(head.shingles(residues)):
        z = (residues[row : row + 10].mean(0) - state["mean"]) * state["scale"]
        hidden = (state["expand.weight"] @ z + state["expand.bias"]).clamp(min=0)
        expected = z + state["contract.weight"] @ hidden + state["contract.bias"]
        torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_written_is_loaded(head, file):
    found = cheap_head.load(PROJECTION, weights=file)
    for name, tensor in head.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in found.parameters())


def damage(path, name, change):
    state = load_file(path)
    state[name] = change(state[name])
    save_file(state, path, {"format": FORMAT, "projection": PROJECTION})


def test_nan_is_refused(file):
    damage(file, "expand.bias", lambda tensor: tensor * torch.nan)
    with pytest.raises(WeightsError, match=r"expand\.bias holds NaN"):
        cheap_head.load(PROJECTION, weights=file)


def test_wrong_shapes_are_refused(file):
    damage(file, "contract.weight", lambda tensor: tensor.T.contiguous())
    with pytest.raises(WeightsError, match=r"contract\.weight has shape \[256, 64\], expected \[64, 256\]"):
        cheap_head.load(PROJECTION, weights=file)


def test_another_projection_is_refused(file):
    with pytest.raises(
        WeightsError, match="trained on the projection of plm_lite 0123:4:float32, given that"
    ):
        cheap_head.load("4567:4:float32", weights=file)


def test_other_files_are_refused(file, tmp_path):
    with pytest.raises(WeightsError, match="there is no such file"):
        cheap_head.load(PROJECTION, weights=tmp_path / "missing.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be read"):
        cheap_head.load(PROJECTION, weights=file)
    save_file({"tensor": torch.zeros(1)}, file, {"format": "other"})
    with pytest.raises(
        WeightsError, match=r"not a file of `openfoldpp train cheap-head` \(its format is 'other'"
    ):
        cheap_head.load(PROJECTION, weights=file)


def test_the_shipped_weights_fit_the_shipped_projection_as_the_page_has_it(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "plm.md").read_text()
    [code] = [code for code in re.findall(r"```python\n(.*?)```", page, flags=re.S) if "cheap_head" in code]
    (tmp_path / "example.py").write_text(code)
    given = runpy.run_path(tmp_path / "example.py")
    assert given["first"].shape == given["second"].shape == (16, CHANNELS)
    assert given["distances"].isfinite().all()
