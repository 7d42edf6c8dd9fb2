"""Checkpoint files: what is read, and what each unusable file is told apart by."""

import pickle
import sys

import pytest
import torch

from openfoldpp.errors import CheckpointError
from openfoldpp.upstream import activate
from openfoldpp.upstream.checkpoints import explain_load_error, load_parameters, read_checkpoint

STATE = {"trunk.weight": torch.arange(6.0).reshape(2, 3), "trunk.bias": torch.ones(2)}


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


class Model(torch.nn.Module):
    """Parameters of the given names."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            *path, leaf = name.split(".")
            module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, torch.nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(leaf, torch.nn.Parameter(torch.zeros(2)))


TRUNK = ("evoformer.linear.weight", "structure_module.linear_in.weight", "template_pair_stack.weight")
TM = "aux_heads.tm.linear.weight"


@pytest.mark.parametrize(
    ("trained", "built", "preset", "words"),
    [
        ([*TRUNK, TM], TRUNK, "model_1", [f"1 unknown (first: {TM})", "--config_preset model_1_ptm."]),
        (TRUNK, [*TRUNK, TM], "model_1_ptm", [f"1 parameters missing (first: {TM})", "model_1 or model_2:"]),
        ([*TRUNK[:2], TM], [*TRUNK, TM], "model_2_ptm", ["model_3_ptm, model_4_ptm or model_5_ptm:"]),
        ([*TRUNK, "more.weight"], TRUNK, "model_1", ["another release", "--openfold_home DIR"]),
        (["encoder.weight"], TRUNK, "model_1", ["not those of OpenFold's model"]),
    ],
)
def test_upstreams_own_loading_errors_are_explained(trained, built, preset, words, tmp_path):
    activate()
    path = tmp_path / "weights.pt"
    torch.save(Model(trained).state_dict(), path)
    with pytest.raises(RuntimeError, match="state_dict") as caught:
        Model(built).load_state_dict(torch.load(path, weights_only=True))
    text = str(explain_load_error(caught.value, path, preset))
    assert text.startswith(f"{path} is not a checkpoint of preset {preset!r}: ")
    for word in words:
        assert word in text


def test_of_upstreams_two_attempts_the_nearer_is_explained(tmp_path):
    activate()
    path = tmp_path / "weights.pt"
    trained = Model([*TRUNK, TM]).state_dict()
    torch.save(trained, path)

    def load(model):  # as upstream does, which renames what is named as today already
        try:
            model.load_state_dict(trained)
        except RuntimeError:
            model.load_state_dict({f"{name}.linear": value for name, value in trained.items()})

    with pytest.raises(RuntimeError) as caught:
        load(Model(TRUNK))
    text = str(explain_load_error(caught.value, path, "model_1"))
    assert f"preset 'model_1': 1 unknown (first: {TM}). It holds" in text


def test_another_shape_is_explained(tmp_path):
    activate()
    path = tmp_path / "weights.pt"
    torch.save(Model(TRUNK).state_dict() | {TRUNK[0]: torch.zeros(3)}, path)
    with pytest.raises(RuntimeError) as caught:
        Model(TRUNK).load_state_dict(torch.load(path, weights_only=True))
    assert f"1 of another shape (first: {TRUNK[0]})" in str(explain_load_error(caught.value, path, "model_1"))


def test_what_is_wrong_with_the_file_is_said_first(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(2), "payload": Payload()}, path)
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch.load(path, weights_only=True)
    assert "holds more than tensors" in str(explain_load_error(caught.value, path, "model_1"))
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short or damaged" in str(explain_load_error(RuntimeError(), path, "model_1", jax=True))
    known = CheckpointError("known")
    assert explain_load_error(known, path, "model_1") is known


def test_an_error_of_another_kind_keeps_its_words(tmp_path):
    activate()
    torch.save(Model(TRUNK).state_dict(), tmp_path / "weights.pt")
    error = explain_load_error(ValueError("odd\nindeed"), tmp_path / "weights.pt", "model_1")
    assert "could not be loaded into the model of preset 'model_1' (ValueError: odd)" in str(error)
