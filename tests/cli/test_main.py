"""The command ``openfoldpp`` itself: its subcommands and its version."""

from importlib import metadata

import pytest
from typer.testing import CliRunner

from openfoldpp.cli.main import app


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


def test_help_names_every_command(run):
    text = run("--help").output
    commands = (
        "predict",
        "plugins",
        "install-openfold",
        "schema",
        "export",
        "doctor",
        "embed",
        "quantize",
        "train",
    )
    assert all(name in text for name in commands)


def test_version(run):
    assert run("--version").output == f"openfoldpp {metadata.version('openfoldpp')}\n"


def test_predict_has_the_drivers_flags(run):
    text = run("predict", "--help").output
    assert "--openfold_checkpoint_path" in text
    assert "--recycling_iters" in text


def test_predicts_exit_code_comes_through(run, tmp_path):
    assert run("predict", tmp_path / "none.fasta", "--output_dir", tmp_path).exit_code == 1
