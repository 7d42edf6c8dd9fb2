"""Projections of motif features: their file, and which are refused."""

import pytest
import safetensors.torch
import torch

from openfoldpp.errors import WeightsError
from openfoldpp.motifs.features import PAIR_CHANNELS, VERSION
from openfoldpp.motifs.projections import MotifProjections

PRESET = "model_1_ptm"


@pytest.fixture
def trained():
    projections = MotifProjections(c_m=6, c_z=5, preset=PRESET)
    torch.nn.init.normal_(projections.single, generator=torch.Generator().manual_seed(0))
    torch.nn.init.normal_(projections.pair, generator=torch.Generator().manual_seed(1))
    return projections


def test_new_ones_are_zero_and_ask_for_gradients():
    projections = MotifProjections(c_m=6, c_z=5, preset=PRESET)
    assert {name: tuple(p.shape) for name, p in projections.named_parameters()} == {
        "single": (6, 256),
        "pair": (5, PAIR_CHANNELS),
    }
    assert all(parameter.requires_grad and not parameter.any() for parameter in projections.parameters())


def test_they_are_linear(trained):
    draw = torch.Generator().manual_seed(2)
    single, pair = torch.randn(3, 256, generator=draw), torch.randn(3, 3, PAIR_CHANNELS, generator=draw)
    torch.testing.assert_close(trained.project_single(single), single @ trained.single.T)
    torch.testing.assert_close(trained.project_pair(pair), pair @ trained.pair.T)
    assert trained.project_pair(pair.bfloat16()).dtype == torch.bfloat16
    assert not trained.project_single(torch.zeros(3, 256)).any()


def test_a_file_gives_back_what_was_saved(trained, tmp_path):
    trained.save(tmp_path / "m.safetensors")
    loaded = MotifProjections.load(tmp_path / "m.safetensors")
    assert torch.equal(loaded.single, trained.single)
    assert torch.equal(loaded.pair, trained.pair)
    assert (loaded.preset, loaded.c_m, loaded.c_z) == (PRESET, 6, 5)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.training


@pytest.mark.parametrize("given", [("model_2_ptm", 6, 5), (PRESET, 7, 5), (PRESET, 6, 4)])
def test_those_of_another_model_are_refused(trained, given):
    preset, c_m, c_z = given
    trained.require_preset(PRESET, c_m=6, c_z=5)
    said = f"trained for preset {PRESET} with C_m 6 and C_z 5, and the model is {preset} with {c_m} and {c_z}"
    with pytest.raises(WeightsError, match=said):
        trained.require_preset(preset, c_m=c_m, c_z=c_z)


def test_untrained_ones_are_refused(tmp_path):
    MotifProjections(c_m=6, c_z=5, preset=PRESET).save(tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="all its weights are zero, so it was never trained"):
        MotifProjections.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "holds no motif projections"),
        ({"feature_version": str(VERSION + 1)}, f"features of version {VERSION + 1}, and these are"),
        ({"c_m": "six"}, "what it says of itself is incomplete"),
        ({"preset": None}, "what it says of itself is incomplete"),
        (
            {"c_m": "7"},
            r"holds pair \[5, 53\], single \[6, 256\], expected pair \[5, 53\], single \[7, 256\]",
        ),
    ],
)
def test_another_file_is_refused(trained, tmp_path, change, said):
    told = {
        "format": "openfoldpp motif projections 1",
        "feature_version": str(VERSION),
        "c_m": "6",
        "c_z": "5",
    }
    told = {key: value for key, value in (told | {"preset": PRESET} | change).items() if value is not None}
    tensors = {name: value.detach() for name, value in trained.state_dict().items()}
    safetensors.torch.save_file(tensors, tmp_path / "m.safetensors", metadata=told)
    with pytest.raises(WeightsError, match=said):
        MotifProjections.load(tmp_path / "m.safetensors")


def test_numbers_that_are_none_are_refused(trained, tmp_path):
    trained.pair.data[0, 0] = torch.nan
    trained.save(tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="holds NaN or infinity"):
        MotifProjections.load(tmp_path / "m.safetensors")
