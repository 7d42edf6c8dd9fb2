import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from openfoldpp.inference import doctor
from openfoldpp.inference import doctor_checks as checks
from openfoldpp.inference.findings import NOTE, OK, PROBLEM, Finding, Question
from openfoldpp.inference.free_memory import UNKNOWN
from openfoldpp.upstream import Installation, activate, locate

LIMIT = "OPENFOLDPP_MEMORY_LIMIT_GIB"


def by_name(findings):
    return {finding.name: finding for finding in findings}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with upstream's folders for weights."""
    monkeypatch.chdir(tmp_path)
    for name in ("params", "openfold_params", "openfold_soloseq_params"):
        (tmp_path / "openfold/resources" / name).mkdir(parents=True)
    return tmp_path / "openfold/resources"


def test_weights_are_found_where_upstream_keeps_them(folder):
    np.savez(folder / "params/params_model_1_ptm.npz", a=np.zeros(3))
    torch.save({"a": torch.zeros(3)}, folder / "openfold_params/finetuning_ptm_1.pt")
    torch.save({"a": torch.zeros(3)}, folder / "openfold_soloseq_params/seq_model_esm1b_ptm.pt")
    found = by_name(checks.weights(None, Question()))
    assert [found[name].level for name in ("params_model_1_ptm.npz", "finetuning_ptm_1.pt")] == [OK, OK]
    assert "--config_preset model_1_ptm" in found["params_model_1_ptm.npz"].text
    given = "--openfold_checkpoint_path openfold/resources/openfold_params/finetuning_ptm_1.pt"
    assert given in found["finetuning_ptm_1.pt"].text
    assert found["seq_model_esm1b_ptm.pt"].facts["bytes"] > 0
    assert "weights" not in found


def test_damaged_weights_that_no_run_takes_are_notes_and_name_the_file(folder):
    pointer = folder / "params/params_model_1.npz"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    cut = folder / "openfold_params/finetuning_1.pt"
    torch.save({"a": torch.zeros(3000)}, cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    page = folder / "openfold_params/page.pt"
    page.write_text("<html>")
    found = by_name(checks.weights(None, Question()))
    assert "Git LFS pointer" in found[pointer.name].text
    assert "cut short or damaged" in found[cut.name].text
    assert "text file that begins with '<html>'" in found[page.name].text
    for file in (pointer, cut, page):
        assert found[file.name].level == NOTE
        assert file.name in found[file.name].cure


def test_damaged_weights_that_a_run_takes_by_itself_are_a_problem(folder):
    for name in ("model_1", "model_1_ptm", "model_5"):
        (folder / f"params/params_{name}.npz").write_text("version https://git-lfs.github.com/spec/v1\n")
    question = Question(preset="model_5").settled()
    found = by_name(checks.weights(None, question))
    levels = {name: found[f"params_{name}.npz"].level for name in ("model_1", "model_1_ptm", "model_5")}
    assert levels == {"model_1": NOTE, "model_1_ptm": NOTE, "model_5": PROBLEM}


def test_the_preset_is_the_one_that_a_run_would_take(tmp_path, folder):
    with_weights = "model_1" if locate().version.startswith("2.") else "model_1_ptm"
    assert Question(checkpoint="a.pt").settled().preset == with_weights
    assert Question().settled().preset == "model_1_ptm"
    assert Question(home=tmp_path / "none").settled().preset == "model_1_ptm"


def test_an_openfold_2_without_its_script_is_a_problem_where_weights_are_given(tmp_path):
    package = Installation("2.2.0", tmp_path, "installed", None, "installed")
    assert doctor._script(package, Question()).level == NOTE
    found = doctor._script(package, Question(checkpoint="a.pt"))
    assert found.level == PROBLEM
    assert "--openfold_home DIR, with a clone of OpenFold 2.2.0" in found.cure


def test_memory_that_nothing_tells_is_a_note(monkeypatch):
    monkeypatch.delenv(LIMIT, raising=False)
    monkeypatch.setattr(checks.memory_plan, "available_bytes", lambda device: UNKNOWN)
    (found,) = checks.memory(activate(), Question(preset="model_1_ptm"))
    assert (found.level, found.cure) == (NOTE, f"export {LIMIT}=N")
    assert "no limit is applied" in found.text


def test_a_folder_without_weights_is_no_problem(folder):
    found = by_name(checks.weights(None, Question()))
    assert found["weights"].level == NOTE
    assert "--openfold_checkpoint_path FILE" in found["weights"].cure
    assert not [finding for finding in found.values() if finding.level == PROBLEM]


def test_named_weights_are_held_against_the_preset(tmp_path):
    names = ("evoformer.x", "structure_module.x", "aux_heads.tm.x", "template_embedder.x")
    file = tmp_path / "ptm.pt"
    torch.save({name: torch.zeros(1) for name in names}, file)
    right = by_name(checks.weights(activate(), Question(checkpoint=file, preset="model_1_ptm")))
    assert right["ptm.pt"].level == OK
    training = by_name(checks.weights(activate(), Question(checkpoint=file, preset="finetuning_ptm")))
    assert training["ptm.pt"].level == OK
    other = tmp_path / "other.pt"
    other.touch()
    both = by_name(checks.weights(activate(), Question(checkpoint=f"{file},{other}", preset="model_1_ptm")))
    assert (both["ptm.pt"].level, both["other.pt"].level) == (OK, PROBLEM)
    wrong = by_name(checks.weights(activate(), Question(checkpoint=file, preset="model_3")))
    assert wrong["ptm.pt"].level == PROBLEM
    assert "--config_preset model_1_ptm" in wrong["ptm.pt"].cure
    absent = by_name(
        checks.weights(activate(), Question(jax_parameters=tmp_path / "none.npz", preset="model_1"))
    )
    assert absent["none.npz"].level == PROBLEM
    assert "--jax_param_path" in absent["none.npz"].cure


def test_the_language_model_is_looked_for_where_torch_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert by_name(checks.weights(None, Question()))["ESM-1b"].level == NOTE
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    for name in ("esm1b_t33_650M_UR50S.pt", "esm1b_t33_650M_UR50S-contact-regression.pt"):
        (tmp_path / "hub/checkpoints" / name).touch()
    assert by_name(checks.weights(None, Question()))["ESM-1b"].level == OK


def test_other_language_models_are_found_too(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = by_name(checks.weights(None, Question()))
    assert found["AntiBERTy"].level == OK
    assert "esm2_t6_8M_UR50D" not in found
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    (tmp_path / "hub/checkpoints/esm2_t6_8M_UR50D.pt").touch()
    assert "--plm esm2_t6_8M_UR50D" in by_name(checks.weights(None, Question()))["esm2_t6_8M_UR50D"].text
    monkeypatch.setattr(checks.metadata, "files", lambda package: [])
    assert by_name(checks.weights(None, Question()))["AntiBERTy"].level == NOTE


def test_memory_is_held_against_the_longest_chain(monkeypatch):
    monkeypatch.setenv(LIMIT, "16")
    found = by_name(checks.memory(activate(), Question(preset="model_1_ptm")))
    assert "16.0 GiB" in found["free"].text
    assert LIMIT in found["free"].text
    facts = found["model_1_ptm"].facts
    assert 100 < facts["longest_at_full_speed"] < facts["longest"] < 5000
    assert f"{facts['longest']:,} residues" in found["model_1_ptm"].text


def test_a_machine_without_memory_for_the_weights_is_a_problem(monkeypatch):
    monkeypatch.setenv(LIMIT, "0.5")
    assert by_name(checks.memory(activate(), Question(preset="model_1_ptm")))["model_1_ptm"].level == PROBLEM


def test_an_unknown_preset_is_a_problem():
    found = by_name(checks.memory(activate(), Question(preset="model_9")))
    assert found["model_9"].level == PROBLEM
    assert "no such preset" in found["model_9"].text


def test_kernels_say_what_runs_and_why(monkeypatch):
    from openfoldpp.ops import settings

    monkeypatch.setenv("OPENFOLDPP_BACKEND", "torch")
    settings.cache_clear()
    try:
        forced = by_name(checks.kernels())["backend"]
        monkeypatch.setenv("OPENFOLDPP_BACKEND", "cuda")
        settings.cache_clear()
        impossible = by_name(checks.kernels())["backend"]
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert forced.facts["backend"] == "torch"
    assert "OPENFOLDPP_BACKEND=torch" in forced.text
    assert impossible.level == PROBLEM
    assert "unset" in impossible.cure
    assert by_name(checks.kernels())["devices"].facts["devices"][0] == "cpu"


def test_a_broken_plugin_is_a_problem_only_where_it_is_ours(plugin_folder, monkeypatch):
    folder = plugin_folder("broken_guest", "raise RuntimeError('no')")
    monkeypatch.syspath_prepend(folder)
    found = by_name(checks.plugins())
    assert found["openfoldpp.flashabb"].level == OK
    assert found["broken_guest"].level == NOTE
    assert "RuntimeError: no" in found["broken_guest"].text
    assert "leave broken_guest out" in found["broken_guest"].cure
    metadata = next(Path(folder).glob("*.dist-info"))
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: openfoldpp\nVersion: 1.0\n")
    assert by_name(checks.plugins())["broken_guest"].level == PROBLEM


def test_programs_that_are_missing_are_notes_with_their_package(monkeypatch, tmp_path):
    program = tmp_path / "kalign"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = by_name(checks.programs())
    assert found["kalign"].facts["path"] == str(program)
    assert (found["hhblits"].level, found["hhblits"].cure) == (NOTE, "apt install hhsuite")


def test_facts_are_plain(folder):
    with zipfile.ZipFile(folder / "params/params_model_1.npz", "w") as archive:
        archive.writestr("a.npy", b"")
    findings = [*checks.weights(activate(), Question()), *checks.plugins(), *checks.programs()]
    assert all(isinstance(finding, Finding) for finding in findings)
    json.dumps([finding.facts for finding in findings])
    assert all(finding.cure for finding in findings if finding.level == PROBLEM)
