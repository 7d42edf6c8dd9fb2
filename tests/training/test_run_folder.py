"""A run goes on where its checkpoint ends, and no other run takes it."""

import json

import pytest
import torch
from torch import nn

from openfoldpp.errors import ConfigError, InputError, WeightsError
from openfoldpp.training.run_folder import RunFolder, load_parts, one_run_in


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


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', "\0\0\0", '{"step": 1, "loss": 0.5}'])
def test_a_torn_last_line_of_the_log_is_no_obstacle(torn, tmp_path):
    folder = RunFolder(tmp_path, {}, {})
    folder.note(1, loss=0.25)
    folder.save(1)
    with folder.log.open("a") as file:
        file.write(torn)
    assert folder.resume() == 1
    folder.note(2, loss=0.125)
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    assert [lines[0], lines[-1]] == [{"step": 1, "loss": 0.25}, {"step": 2, "loss": 0.125}]


@pytest.mark.parametrize("content", [{"model": {}}, {"step": 1, "settings": {}, "parts": [1]}, {}])
def test_a_foreign_checkpoint_is_named(content, tmp_path):
    torch.save(content, tmp_path / "checkpoint.pt")
    for use in (RunFolder(tmp_path, {}, {}).resume, lambda: load_parts(tmp_path / "checkpoint.pt", {})):
        with pytest.raises(WeightsError, match=r"checkpoint\.pt: has .*, expected step, settings, parts"):
            use()


def test_one_run_at_a_time_writes_into_a_folder(tmp_path):
    with (
        one_run_in(tmp_path / "run", print),
        pytest.raises(InputError, match=r"another run of openfoldpp train is writing there.*--out"),
        one_run_in(tmp_path / "run", print),
    ):
        pass
    with one_run_in(tmp_path / "run", print):
        pass


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
