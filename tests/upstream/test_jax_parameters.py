"""AlphaFold's parameters: the same weights as .npz and as .pt, and every file that does not fit."""

import copy
import functools

import numpy as np
import pytest
import torch

from openfoldpp.errors import CheckpointError
from openfoldpp.upstream import activate
from openfoldpp.upstream.checkpoints import load_jax_parameters

# Few blocks and few channels, all different: what is turned the wrong way round does not fit.
SMALL = {
    "globals.c_m": 24,
    "globals.c_z": 20,
    "globals.c_t": 12,
    "globals.c_e": 16,
    "globals.c_s": 28,
    "model.evoformer_stack.no_blocks": 2,
    "model.extra_msa.extra_msa_stack.no_blocks": 2,
    "model.template.template_pair_stack.no_blocks": 2,
}


@pytest.fixture(scope="module")
def build():
    """Build upstream's model of a preset, small, its parameters drawn with a seed."""
    activate()
    from openfold.config import model_config
    from openfold.model.model import AlphaFold

    @functools.cache
    def template(preset):
        config = model_config(preset)
        config.update_from_flattened_dict(SMALL)
        return AlphaFold(config)

    def make(preset, seed):
        model = copy.deepcopy(template(preset))
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
        return model

    return make


@pytest.fixture(scope="module")
def arrays(build, to_jax):
    """AlphaFold's arrays of a preset's model, made once."""
    return functools.cache(lambda preset: to_jax(build(preset, 1), preset))


@pytest.fixture
def archive(arrays, tmp_path):
    """Write AlphaFold's file of a preset; returns its path."""

    def write(preset, name=None):
        path = tmp_path / (name or f"params_{preset}.npz")
        np.savez(path, **arrays(preset))
        return path

    return write


@pytest.mark.parametrize("preset", ["model_1", "model_2_ptm", "model_3_ptm"])
def test_every_parameter_comes_from_the_file(preset, build, archive):
    expected, model = build(preset, 1), build(preset, 2)
    load_jax_parameters(model, archive(preset), preset=preset)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_file_of_another_preset_with_the_same_parameters_fits(build, archive):
    expected, model = build("model_2_ptm", 1), build("model_1_ptm", 2)
    load_jax_parameters(model, archive("model_2_ptm"), preset="model_1_ptm")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize(
    ("file", "preset", "reason"),
    [
        ("model_1", "model_1_ptm", "it lacks 2 parameters of the model (first: aux_heads.tm.linear.weight)"),
        ("model_1_ptm", "model_1", "no attribute 'tm'"),
        ("model_3", "model_1", "parameters of the model (first: template_"),
        ("model_1", "model_3", "no attribute 'template_pair_stack'"),
    ],
)
def test_a_file_of_another_preset_names_the_flag(file, preset, reason, build, archive):
    path = archive(file)
    with pytest.raises(CheckpointError) as caught:
        load_jax_parameters(build(preset, 2), path, preset=preset)
    text = str(caught.value)
    assert f"{path} does not fit preset {preset!r}: " in text
    assert reason in text
    assert text.endswith(f"--config_preset {file}.")


def test_a_misnamed_file_says_what_it_lacks(build, archive):
    path = archive("model_1", name="params_model_1_ptm.npz")
    with pytest.raises(CheckpointError, match=r"it lacks 2 parameters .*predicted_aligned_error_head"):
        load_jax_parameters(build("model_1_ptm", 2), path, preset="model_1_ptm")


@pytest.mark.parametrize("size", [0, 100, 200_000])
def test_a_truncated_file_is_to_be_downloaded_again(size, build, archive):
    path = archive("model_1")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError) as caught:
        load_jax_parameters(build("model_1", 2), path, preset="model_1")
    assert str(path) in str(caught.value)
    assert "Download it again" in str(caught.value)


@pytest.mark.parametrize("change", [lambda value: value[:-1], lambda value: value[..., :-1]])
def test_another_shape_names_the_parameter(change, build, archive):
    path = archive("model_1")
    name = "alphafold/alphafold_iteration/evoformer/preprocess_1d//weights"
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name] = change(arrays[name])
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match=f"does not fit preset 'model_1': {name}"):
        load_jax_parameters(build("model_1", 2), path, preset="model_1")
