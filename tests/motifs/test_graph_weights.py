import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from openfoldpp.errors import WeightsError
from openfoldpp.motifs import graph_weights
from openfoldpp.motifs.compositor_blob import CompositorSizes
from openfoldpp.motifs.graph_compositor import GraphCompositor

SIZES = CompositorSizes(blocks=1, hidden=16, rank=4, pair_channels=16, window_j=64)


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = GraphCompositor(SIZES)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def test_a_file_gives_the_rounded_model_back(model, tmp_path):
    path = tmp_path / "one.safetensors"
    expected = {
        name: value.detach().clone() for name, value in graph_weights.rounded_parameters(model).items()
    }
    graph_weights.save(path, model, "me")
    read = graph_weights.read(path)
    assert read.compositor.sizes == SIZES
    assert not read.training
    for name, value in read.named_parameters():
        assert not value.requires_grad
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)
    # What is on the grid stays where it is.
    graph_weights.save(tmp_path / "two.safetensors", read, "me")
    tensors, again = (safetensors.torch.load_file(one) for one in (path, tmp_path / "two.safetensors"))
    for name, value in tensors.items():
        torch.testing.assert_close(again[name], value, rtol=1e-6, atol=0)
    kinds = {name: value.dtype for name, value in tensors.items() if not name.endswith(".scales")}
    assert {name for name, kind in kinds.items() if kind == torch.int8} == {
        name for name in kinds if graph_weights.is_rounded(name)
    }
    assert kinds["compositor.outer"] == kinds["around.weight"] == torch.int8
    assert kinds["compositor.norm.weight"] == kinds["embed.bias"] == torch.float32


def test_rounding_is_by_channel_and_has_the_straight_gradient(model):
    weight = model.around.weight
    found = graph_weights.rounded(weight)
    step = weight.detach().flatten(1).abs().amax(1) / 127
    error = (found - weight).detach().flatten(1).abs().amax(1)
    assert (error <= step / 2 * 1.001).all()
    assert (error > step / 10).all()
    (gradient,) = torch.autograd.grad((found * 3).sum(), weight)
    assert (gradient == 3).all()


@pytest.mark.parametrize("dim", [-1, -2])
def test_inputs_are_rounded_by_token(dim):
    x = torch.randn(6, 7, requires_grad=True, generator=torch.Generator().manual_seed(1))
    found = graph_weights.rounded_inputs(x, dim)
    step = x.detach().abs().amax(dim, keepdim=True) / 127
    torch.testing.assert_close((found / step).round(), found / step, atol=1e-3, rtol=0)
    assert ((found - x).abs() <= step / 2 * 1.001).all()
    found.sum().backward()
    assert (x.grad == 1).all()


def test_other_files_are_refused(model, tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match="not a file of `openfoldpp train compositor`"):
        graph_weights.read(path)
    graph_weights.save(path, model)
    tensors = safetensors.torch.load_file(path)
    told = {"format": "openfoldpp graph compositor 1", "sizes": json.dumps({"channels": "x"})}
    safetensors.torch.save_file(tensors, path, told)
    with pytest.raises(WeightsError, match="sizes are damaged"):
        graph_weights.read(path)
    graph_weights.save(path, model)
    with safetensors.safe_open(path, framework="pt") as file:
        told = file.metadata()
    safetensors.torch.save_file({k: v for k, v in tensors.items() if k != "pull.weight.scales"}, path, told)
    with pytest.raises(WeightsError, match=r"pull.weight of \[2, 16\] has no scales"):
        graph_weights.read(path)


def test_the_shipped_weights_are_those_that_their_description_names():
    path = Path(graph_weights.__file__).parents[1] / "weights" / "compositor.safetensors"
    told = json.loads(path.with_suffix(".json").read_text())
    data = path.read_bytes()
    assert told["bytes"] == len(data) <= 10_000_000
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert sum(row["residues"] for row in told["calibration"]["bins"]) > 1000
    assert told["calibration"]["expected_calibration_error"] < 0.05
    assert graph_weights.shipped() is graph_weights.shipped()
