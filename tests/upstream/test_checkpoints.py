"""Checkpoint files: what is read, and what each unusable file is told apart by."""

import pickle
import sys

import numpy as np
import pytest
import torch

from openfoldpp.errors import CheckpointError
from openfoldpp.upstream import activate
from openfoldpp.upstream.checkpoints import load_parameters, read_checkpoint

STATE = {"trunk.weight": torch.arange(6.0).reshape(2, 3), "trunk.bias": torch.ones(2)}
LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 373292032\n"
)


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"ema": {"params": state}}])
def test_a_state_dict_and_training_state_are_read(wrap, tmp_path):
    torch.save(wrap(STATE), tmp_path / "weights.pt")
    read = read_checkpoint(tmp_path / "weights.pt")
    assert list(read) == list(STATE)
    assert all(torch.equal(read[name], value) for name, value in STATE.items())


def message(path):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    return text


def test_a_missing_file_names_the_flag(tmp_path):
    assert "--openfold_checkpoint_path expects a .pt file" in message(tmp_path / "none.pt")


def test_a_deepspeed_folder_names_its_converter(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    assert "zero_to_fp32.py" in message(tmp_path / "checkpoint")


def test_a_git_lfs_pointer_names_git_lfs_pull(tmp_path):
    (tmp_path / "weights.pt").write_text(LFS_POINTER)
    assert "git lfs pull" in message(tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["params_model_1_ptm.npz", "renamed.pt"])
def test_jax_parameters_name_their_own_flag(name, tmp_path):
    with (tmp_path / name).open("wb") as file:
        np.savez(file, weights=np.zeros(3))
    assert "--jax_param_path" in message(tmp_path / name)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_to_be_downloaded_again(legacy, fraction, tmp_path):
    path = tmp_path / "weights.pt"
    state = {"weight": torch.zeros(100, 100)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    text = message(path)
    assert "cut short or damaged" in text
    assert f"{path.stat().st_size:,} bytes" in text
    assert "Download it again" in text


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "weights.pt").touch()
    assert "empty" in message(tmp_path / "weights.pt")
    assert "Download it again" in message(tmp_path / "weights.pt")


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<title>404</title>\n", "Not Found\n", "a: b\n", "\n"])
def test_a_text_file_is_said_to_be_text(text, tmp_path):
    (tmp_path / "weights.pt").write_text(text)
    said = message(tmp_path / "weights.pt")
    assert "is a text file" in said
    assert repr(text.splitlines()[0]) in said


class Payload:
    """Unpickled, it would run."""

    def __reduce__(self):
        return (exec, ("import sys; sys.payload_has_run = True",))


@pytest.mark.parametrize("save", ["torch", "legacy torch", "pickle"])
def test_a_payload_is_refused_and_does_not_run(save, tmp_path):
    path = tmp_path / "weights.pt"
    holding = {"weight": torch.zeros(2), "payload": Payload()}
    if save == "pickle":
        path.write_bytes(pickle.dumps({"payload": Payload()}))
    else:
        torch.save(holding, path, _use_new_zipfile_serialization=save == "torch")
    assert "holds more than tensors and was not loaded" in message(path)
    assert not hasattr(sys, "payload_has_run")


@pytest.mark.parametrize("holding", [[1, 2], {"epoch": 3}, {"ema": {"decay": 0.999}}, {}, torch.ones(3)])
def test_a_file_without_a_state_dict_is_refused(holding, tmp_path):
    torch.save(holding, tmp_path / "weights.pt")
    assert "holds no state_dict" in message(tmp_path / "weights.pt")


@pytest.fixture(scope="module")
def models():
    """A model with upstream's confidence heads, with and without that of the _ptm presets."""
    activate()
    from openfold.config import model_config
    from openfold.model.heads import AuxiliaryHeads

    return {name: AuxiliaryHeads(model_config(name).model.heads) for name in ("model_1", "model_1_ptm")}


@pytest.mark.parametrize(
    ("trained", "preset", "difference"),
    [
        ("model_1_ptm", "model_1", "2 unknown (first: tm.linear.weight)"),
        ("model_1", "model_1_ptm", "2 parameters missing (first: tm.linear.weight)"),
    ],
)
def test_another_presets_checkpoint_names_the_flag(models, trained, preset, difference):
    before = {name: value.clone() for name, value in models[preset].state_dict().items()}
    parameters = {name: value + 1 for name, value in models[trained].state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_parameters(models[preset], parameters, path="some/weights.pt", preset=preset)
    text = str(caught.value)
    assert f"some/weights.pt is not a checkpoint of preset {preset!r}: {difference}" in text
    assert "--config_preset NAME" in text
    after = models[preset].state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_wrong_shapes_are_counted(models):
    parameters = dict(models["model_1"].state_dict())
    parameters["plddt.linear_1.weight"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError, match=r"1 of another shape \(first: plddt\.linear_1\.weight\)"):
        load_parameters(models["model_1"], parameters, path="weights.pt", preset="model_1")


def test_fitting_parameters_are_loaded(models):
    parameters = {name: torch.rand_like(value) for name, value in models["model_1"].state_dict().items()}
    load_parameters(models["model_1"], parameters, path="weights.pt", preset="model_1")
    loaded = models["model_1"].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in parameters.items())
