"""A run goes on where its checkpoint ends, and no other run takes it."""

import json

import pytest
import torch
from torch import nn

from openfoldpp.errors import ConfigError, WeightsError
from openfoldpp.training.run_folder import RunFolder, load_parts


def test_resuming_sets_the_parts_and_cuts_the_log_to_the_checkpoint(tmp_path):
    layer = nn.Linear(3, 2)
    folder = RunFolder(tmp_path / "new" / "run", {"seed": 1}, {"layer": layer})
    assert folder.resume() == 0
    folder.note(1, loss=torch.tensor(0.25, requires_grad=True), rounded=False)
    folder.save(1)
    weight = layer.weight.detach().clone()
    folder.note(2, loss=0.125)
    nn.init.zeros_(layer.weight)

    other = nn.Linear(3, 2)
    again = RunFolder(tmp_path / "new" / "run", {"seed": 1}, {"layer": other})
    assert again.resume() == 1
    assert torch.equal(other.weight, weight)
    lines = [json.loads(line) for line in again.log.read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.25, "rounded": False}]


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path):
    parts = {"layer": nn.Linear(3, 2)}
    RunFolder(tmp_path, {"seed": 1, "steps": 5}, parts).save(1)
    with pytest.raises(ConfigError, match=r"seed 1, not 2.*another --out"):
        RunFolder(tmp_path, {"seed": 2, "steps": 5}, parts).resume()


def test_a_folder_without_a_checkpoint_starts_a_new_log(tmp_path):
    folder = RunFolder(tmp_path, {}, {})
    folder.note(1, loss=1.0)
    assert RunFolder(tmp_path, {}, {}).resume() == 0
    assert not folder.log.exists()


@pytest.mark.parametrize(
    ("parts", "message"),
    [({"layer": nn.Linear(4, 2)}, "size mismatch"), ({"other": nn.Linear(3, 2)}, "other")],
)
def test_parts_of_another_model_are_refused(tmp_path, parts, message):
    RunFolder(tmp_path, {}, {"layer": nn.Linear(3, 2)}).save(1)
    with pytest.raises(WeightsError, match=message):
        load_parts(tmp_path / "checkpoint.pt", parts)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_parts(tmp_path / "checkpoint.pt", {})
