"""The projector: what its file says, and what it refuses."""

from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from openfoldpp.errors import WeightsError
from openfoldpp.plm.projector import TokenProjector

PRESET = "model_1_ptm"


def embedder(**changed):
    given = {"name": "antiberty", "layer": 8, "channels": 6, "fingerprint": "abc:8:float32"}
    return SimpleNamespace(**given | changed)


@pytest.fixture
def projector():
    made = TokenProjector("antiberty", layer=8, c_plm=6, c_m=4, preset=PRESET, fingerprint="abc:8:float32")
    with torch.no_grad():
        made.weight.copy_(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
    return made


def test_is_a_linear_map_without_bias(projector):
    embedding = torch.randn(2, 1, 5, 6, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("mc,bsnc->bsnm", projector.weight, embedding)
    torch.testing.assert_close(projector(embedding), expected)
    assert not projector(torch.zeros(5, 6)).any()
    assert projector(embedding.bfloat16()).dtype == torch.bfloat16


def test_a_file_gives_back_what_was_saved(projector, tmp_path):
    projector.save(tmp_path / "p.safetensors")
    read = TokenProjector.load(tmp_path / "p.safetensors")
    assert torch.equal(read.weight, projector.weight)
    assert not read.weight.requires_grad
    assert not read.training
    for name in ("plm", "layer", "preset", "fingerprint", "c_plm", "c_m"):
        assert getattr(read, name) == getattr(projector, name), name
    assert read.require(embedder(), c_m=4, preset=PRESET) is None


def test_a_model_without_layers_has_none_in_the_file_too(tmp_path):
    made = TokenProjector("mine", layer=None, c_plm=2, c_m=3, preset=PRESET)
    torch.nn.init.ones_(made.weight)
    made.save(tmp_path / "p.safetensors")
    found = SimpleNamespace(name="mine", channels=2, fingerprint="x")
    assert TokenProjector.load(tmp_path / "p.safetensors").require(found, c_m=3, preset=PRESET) is None


@pytest.mark.parametrize(
    ("changed", "model", "said"),
    [
        ({"name": "esm1b"}, {}, "was trained for antiberty, layer 8, 6 channels, and .* is esm1b"),
        ({"layer": 7}, {}, "in use is antiberty, layer 7"),
        ({"channels": 5}, {}, "5 channels"),
        ({}, {"preset": "model_2_ptm"}, "give --config_preset model_1_ptm"),
        ({}, {"c_m": 8}, "is model_1_ptm with 8"),
    ],
)  # fmt: skip
def test_another_language_model_or_preset_is_refused(projector, changed, model, said):
    with pytest.raises(WeightsError, match=said):
        projector.require(embedder(**changed), **({"c_m": 4, "preset": PRESET} | model))


def test_other_weights_of_the_same_model_are_told(projector):
    said = projector.require(embedder(fingerprint="quantised:8:float32"), c_m=4, preset=PRESET)
    assert "with other weights or in another dtype" in said
    assert "quantised" in said


def test_embeddings_made_before_are_known_by_their_model_and_layer(projector):
    made = {"name": "precomputed", "channels": 6, "fingerprint": "soloseq:antiberty:abc:8:float32"}

    def said(model, layer):
        return projector.require(SimpleNamespace(model=model, layer=layer, **made), c_m=4, preset=PRESET)

    assert said("antiberty", 8) is None
    for model, layer, found in (("esm1b", 8, "is esm1b"), ("antiberty", 7, "layer 7"), (None, 7, "layer 7")):
        with pytest.raises(WeightsError, match=found):
            said(model, layer)
    takes = "the projector takes embeddings of antiberty, layer 8, 6 channels; these do not say their "
    assert said(None, 8) == takes + "model"
    assert said("antiberty", None) == takes + "layer"
    assert said(None, None) == takes + "model and layer"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"--projector_weights .*none: there is no such file"):
        TokenProjector.load(tmp_path / "none")


def test_a_file_cut_short_is_refused(projector, tmp_path):
    path = tmp_path / "p.safetensors"
    projector.save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="cannot be read as safetensors"):
        TokenProjector.load(path)


def test_another_safetensors_file_is_refused(tmp_path):
    safetensors.torch.save_file({"weight": torch.ones(4, 6)}, tmp_path / "p.safetensors")
    with pytest.raises(WeightsError, match="is no token projector"):
        TokenProjector.load(tmp_path / "p.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, told: tensors["weight"].fill_(torch.nan), "holds NaN"),
        (lambda tensors, told: tensors.update(weight=torch.ones(6, 4)), r"expected weight \[4, 6\]"),
        (lambda tensors, told: tensors.update(bias=torch.ones(4)), r"bias \[4\]"),
        (lambda tensors, told: told.pop("preset"), "incomplete"),
        (lambda tensors, told: told.update(layer="last"), "incomplete"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused(projector, tmp_path, change, said):
    path = tmp_path / "p.safetensors"
    projector.save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        told, tensors = file.metadata(), {"weight": file.get_tensor("weight")}
    change(tensors, told)
    safetensors.torch.save_file(tensors, path, metadata=told)
    with pytest.raises(WeightsError, match=said):
        TokenProjector.load(path)


def test_one_that_was_never_trained_is_refused(tmp_path):
    TokenProjector("antiberty", layer=8, c_plm=6, c_m=4, preset=PRESET).save(tmp_path / "p.safetensors")
    with pytest.raises(WeightsError, match="never trained"):
        TokenProjector.load(tmp_path / "p.safetensors")
