"""Mistakes that are seen before a prediction, and plugins that fail in one: said clearly, harming nothing."""

import json

import pytest

from openfoldpp.errors import InputError
from openfoldpp.inference import driver, outputs
from openfoldpp.inference.fasta import FastaInputs, parse_sequence_argument
from openfoldpp.inference.options import defaults
from openfoldpp.plugins import hookimpl

VH = (
    "QVQLQESGPGLVAPSQSLSITCTVSGFSLTGYGVNWVRQPPGKGLEWLGMIWGDGNTDYNSALKSRLSISKDNSKSQVFLKMNSLHTDDTARYYC"
    "ARERDYRLDYWGQGTTLTVSS"
)
VL = (
    "DIVLTQSPASLSASVGETVTITCRASGNIHNYLAWYQQKQGKSPQLLVYYTTTLADGVPSRFSGSGSGTQYSLKINSLQPEDFGSYYCQHFWSTPRTF"
    "GGGTKLEIK"
)


def predict_program(*arguments):
    return driver.main([*map(str, arguments)], program="openfoldpp predict", targets=True)


@pytest.fixture
def last_line(capsys):
    return lambda: capsys.readouterr().err.splitlines()[-1]


def test_a_setting_that_is_none(tmp_path, monkeypatch, last_line):
    monkeypatch.setenv("OPENFOLDPP_BACKND", "torch")
    assert predict_program(f"{VH}:{VL}", "--output_dir", tmp_path) == 1
    assert "did you mean OPENFOLDPP_BACKEND?" in last_line()


def test_a_long_sequence_is_no_file(tmp_path, capsys):
    assert predict_program(VH * 4, "--out", tmp_path / "x.pdb", "--quiet") == 1
    assert "1 of 1 target failed:" in capsys.readouterr().out


def test_a_mistyped_file_is_no_sequence(tmp_path, last_line):
    assert predict_program("mytarget", "--output_dir", tmp_path) == 1
    assert "no such file or folder: mytarget" in last_line()


def test_a_sequence_and_a_file_of_one_name(tmp_path, last_line):
    (tmp_path / "a.fasta").write_text(f">prediction\n{VH}:{VL}\n")
    assert predict_program(f"{VH}:{VL}", tmp_path / "a.fasta", "--output_dir", tmp_path) == 1
    assert "is named 'prediction'" in last_line()


def test_flags_that_out_leaves_without_effect(tmp_path, last_line):
    code = predict_program(
        f"{VH}:{VL}",
        "--out",
        tmp_path / "x.pdb",
        "--cif_output",
        "--output_postfix",
        "a",
        "--output_dir",
        "b",
    )
    assert code == 1
    assert "leave out --output_dir, --output_postfix, --cif_output" in last_line()


def test_a_gap_must_be_a_gap(capsys):
    with pytest.raises(SystemExit):
        predict_program(VH, "--multimer_ri_gap", "0")
    assert "0 is no gap; expected 1 or more" in capsys.readouterr().err


def run_with(plugin, tmp_path):
    """Run two targets with one more plugin; returns the exit code and the results."""
    options, host = defaults("--output_dir", str(tmp_path), "--quiet")
    host.register(plugin, "test.plugin")
    targets = tuple(parse_sequence_argument(f"{VH}:{VL}", tag=tag) for tag in "ab")
    run = driver.Run(options, host, FastaInputs(targets, ()))
    return run.execute(), run.results


class DeafTo:
    """Raises when told of a phase."""

    def __init__(self, phase, error):
        self.phase, self.error = phase, error

    @hookimpl
    def openfoldpp_progress(self, event):
        if event.phase == self.phase:
            raise self.error(self.phase)


@pytest.mark.parametrize(
    ("phase", "error"), [("predict", KeyError), ("done", KeyError), ("done", InputError)]
)
def test_a_progress_hook_that_fails_is_named_and_spoils_nothing(phase, error, tmp_path, capsys):
    code, results = run_with(DeafTo(phase, error), tmp_path)
    assert code == 0
    assert [result.error for result in results] == [None, None]
    lines = capsys.readouterr().err.splitlines()
    said = (
        "plugin 'test.plugin', hook openfoldpp_progress, target 'a': KeyError" if error is KeyError else phase
    )
    assert sum(said in line for line in lines) == 1


class Hears:
    """Keeps what it is told."""

    def __init__(self):
        self.events = []

    @hookimpl
    def openfoldpp_progress(self, event):
        self.events.append(event)


def test_progress_rises_and_relaxing_is_not_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(driver.Run, "_write_relaxed", lambda self, pipeline, prediction, path: None)
    options, host = defaults("--output_dir", str(tmp_path), "--quiet", "--relax")
    hears = Hears()
    host.register(hears, "test.plugin")
    target = parse_sequence_argument(f"{VH}:{VL}")
    assert driver.Run(options, host, FastaInputs((target,), ())).execute() == 0
    phases = [event.phase for event in hears.events]
    fractions = [event.fraction for event in hears.events]
    assert phases == ["load", "features", "predict", "write", "relax", "done"]
    assert fractions == [0.0, 0.0, 0.0, 0.5, 0.5, 1.0]


class Returns:
    """Predicts something that is no OpenFold output."""

    def __init__(self, change):
        self.change = change

    @hookimpl
    def openfoldpp_predict(self, model, batch, target):
        from openfoldpp import CoordAdapter

        n_res = len(target.sequence)
        import numpy as np

        coords = np.random.default_rng(0).normal(scale=10, size=(n_res, 1, 3)) + np.zeros((1, 37, 1))
        mask = np.zeros((n_res, 37))
        mask[:, 1] = 1
        return self.change(dict(CoordAdapter().output(coords, target.sequence, mask=mask)))


def without_plddt(output):
    del output["plddt"]
    return output


def test_a_plugins_output_must_fit_the_schema(tmp_path):
    code, results = run_with(Returns(without_plddt), tmp_path)
    assert code == 1
    for result in results:
        assert "openfoldpp_predict" in result.error
        assert "plddt: missing, expected float32 [N_res]" in result.error


def test_a_plugins_plain_dictionary_is_taken_and_nothing_is_made_up(tmp_path):
    assert run_with(Returns(lambda output: output), tmp_path)[0] == 0
    said = json.loads((tmp_path / "predictions" / "a_model_1_ptm_provenance.json").read_text())
    assert set(said["values"].values()) == {"not stated by the plugin"}


@pytest.mark.parametrize("content", [b'{"targets": 3}', b"[]", b"\xff\xfe", b""])
def test_a_timings_file_of_another_kind_is_replaced(content, tmp_path):
    file = tmp_path / "timings.json"
    file.write_bytes(content)
    outputs.record_timings(file, "x", {"inference": 1.0})
    assert json.loads(file.read_text()) == {"inference": 1.0, "targets": {"x": {"inference": 1.0}}}


def test_timings_of_earlier_targets_are_kept(tmp_path):
    file = tmp_path / "timings.json"
    outputs.record_timings(file, "a", {"inference": 1.0, "relaxation": 2.0})
    outputs.record_timings(file, "b", {"inference": 3.0})
    assert json.loads(file.read_text()) == {
        "inference": 3.0,
        "targets": {"a": {"inference": 1.0, "relaxation": 2.0}, "b": {"inference": 3.0}},
    }


class Raises:
    """Fails in a way that no plugin names on purpose."""

    def __init__(self, error):
        self.error = error

    @hookimpl
    def openfoldpp_write_outputs(self, output, target, paths):
        raise self.error


def test_an_error_nobody_foresaw_has_its_traceback_and_stops_no_other(tmp_path, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr(driver, "write_prediction", broken)
    options, host = defaults("--output_dir", str(tmp_path), "--quiet")
    targets = tuple(parse_sequence_argument(f"{VH}:{VL}", tag=tag) for tag in "ab")
    run = driver.Run(options, host, FastaInputs(targets, ()))
    assert run.execute() == 1
    assert [result.error for result in run.results] == ["ZeroDivisionError: unforeseen"] * 2
    assert capsys.readouterr().err.count("Traceback") == 2


def test_a_plugin_that_fails_to_write_fails_its_target_with_its_name(tmp_path):
    code, results = run_with(Raises(KeyError("x")), tmp_path)
    assert code == 1
    for result in results:
        assert "plugin 'test.plugin', hook openfoldpp_write_outputs, target" in result.error
