"""The command ``openfoldpp`` itself: its subcommands, its version, its schema check."""

import pickle
from importlib import metadata

import numpy as np
import pytest
from typer.testing import CliRunner

from openfoldpp.cli.main import app
from openfoldpp.upstream import schema


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


def test_help_names_every_command(run):
    text = run("--help").output
    assert all(name in text for name in ("predict", "plugins", "install-openfold", "schema"))


def test_version(run):
    assert run("--version").output == f"openfoldpp {metadata.version('openfoldpp')}\n"


def test_predict_has_the_drivers_flags(run):
    text = run("predict", "--help").output
    assert "--openfold_checkpoint_path" in text
    assert "--recycling_iters" in text


def test_predicts_exit_code_comes_through(run, tmp_path):
    assert run("predict", tmp_path / "none.fasta", "--output_dir", tmp_path).exit_code == 1


@pytest.fixture
def fitting(tmp_path):
    leaves = schema.load("0.0.1", "model_1").leaves
    sizes = {"N_res": 3, "N_seq": 1}
    output = {p: np.zeros([sizes.get(d, d) for d in leaf.dims], leaf.dtype) for p, leaf in leaves.items()}
    file = tmp_path / "x_output_dict.pkl"
    file.write_bytes(pickle.dumps(schema.unflatten(output)))
    return file


def test_schema_check_of_a_pickle_that_fits(run, fitting):
    result = run("schema", "check", fitting, "--preset", "model_1")
    assert result.exit_code == 0
    assert "18 arrays, exactly as OpenFold 0.0.1 writes model_1" in result.output


def test_schema_check_names_what_differs_and_the_file_that_is_meant(run, fitting):
    result = run("schema", "check", fitting)
    assert result.exit_code == 1
    assert "tm_logits: missing" in result.output
    other = fitting.with_name("x_protein.pkl")
    other.write_text("no pickle")
    assert "NAME_output_dict.pkl" in run("schema", "check", other).output
