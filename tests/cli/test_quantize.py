import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from openfoldpp.cli.quantize import quantize
from openfoldpp.plm import esm
from openfoldpp.plm.quantization import load_quantised
from openfoldpp.plm.quantization.sequences import sequence_set
from openfoldpp.plm.transformer import Encoder

NAME = "esm2_t6_8M_UR50D"
app = typer.Typer()
app.command()(quantize)


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def weights(tmp_path):
    """Write random weights of the smallest ESM-2 in the layout of fair-esm's file."""
    from esm.model.esm2 import ESM2

    torch.manual_seed(0)
    layers, channels, heads = esm.SIZES[NAME]
    state = {
        f"encoder.sentence_encoder.{key}": value
        for key, value in ESM2(layers, channels, heads).state_dict().items()
        if not key.startswith(("contact_head", "lm_head"))
    }
    torch.save({"model": state}, tmp_path / "esm2.pt")
    return tmp_path / "esm2.pt"


@pytest.fixture
def calibration(tmp_path):
    sequences = sequence_set(esm.ESM).calibration[:3]
    (tmp_path / "mine.fasta").write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(sequences)))
    return tmp_path / "mine.fasta"


def test_it_writes_a_file_that_loads_alone_and_a_report(tmp_path, weights, calibration):
    out = tmp_path / "small.safetensors"
    options = (
        "--plm",
        NAME,
        "--bits",
        4,
        "--out",
        out,
        "--plm_weights",
        weights,
        "--calibration",
        calibration,
    )
    result = run(*options)
    assert result.exit_code == 0, result.output
    weights.unlink()
    report = json.loads((tmp_path / "small.json").read_text())
    assert report["model"] == NAME
    assert report["bits"] == 4
    assert report["calibration"] == "mine.fasta"
    assert report["file_bytes"] == out.stat().st_size < 0.2 * report["full_bytes"]
    assert len(report["cosines"]["sequences"]) == 16
    assert report["cosines"]["mean"] > report["nearest"]["mean"] > 0.9
    assert report["speed"] > 0
    assert f"{report['cosines']['mean']:.5f}" in result.output
    assert f"--plm_weights {out}" in result.output
    model = load_quantised(out, NAME)
    assert isinstance(model.encoder, Encoder)
    assert model.embed(["ACDEFGHIKLMNPQRSTVWY"])[0].shape == (20, 320)
    # Nothing else is left behind.
    assert {path.name for path in tmp_path.iterdir()} == {"small.safetensors", "small.json", "mine.fasta"}
    # Its own file and report may be made again: what is amiss is that the weights are gone.
    assert "esm2.pt: there is no such file" in run(*options).output


@pytest.mark.parametrize(
    ("out", "kept"), [("esm2.pt", "esm2.pt"), ("mine.fasta", "mine.fasta"), ("a.safetensors", "a.json")]
)
@pytest.mark.parametrize("flag", ["--plm_weights", "--plm-weights"])
def test_no_other_file_is_overwritten(out, kept, flag, weights, calibration, tmp_path):
    (tmp_path / "a.json").write_text('{"model": "mine"}')
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    options = ("--plm", NAME, flag, weights, "--calibration", calibration)
    result = run(*options, "--out", tmp_path / out)
    assert result.exit_code == 1
    assert f"{tmp_path / kept} is there and is not of openfoldpp quantize; give another name" in result.output
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_help_says_what_it_is_for():
    text = run("--help").output
    assert "Make a smaller copy of a language model" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--plm", NAME, "--plm_weights", "absent.pt", "--out", "a.safetensors"),
            "absent.pt: there is no such file",
        ),
        (("--plm", "esm3", "--out", "a.safetensors"), "language model 'esm3' is unknown"),
        (("--plm", NAME, "--out", "a.json"), "the report takes this name"),
        (("--plm", NAME, "--out", "no/such/a.safetensors"), "there is no folder no/such"),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 1
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_quantised_model_is_not_quantised_again(tmp_path):
    result = run("--plm", "plm_lite", "--out", tmp_path / "a.safetensors")
    assert result.exit_code == 1
    assert "plm_lite cannot be quantised" in result.output
