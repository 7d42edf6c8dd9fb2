import json

import pytest
import typer
from typer.testing import CliRunner

from openfoldpp.cli.plugins import plugins


@pytest.fixture
def run(monkeypatch):
    """Run ``openfoldpp plugins`` as in a pipe of a given width."""

    def invoke(*arguments, columns=80):
        app = typer.Typer()
        app.command()(plugins)
        monkeypatch.setenv("COLUMNS", str(columns))
        return CliRunner().invoke(app, arguments)

    return invoke


def test_the_table_fits_80_columns_and_names_hooks_and_origin(run):
    done = run()
    assert done.exit_code == 0
    assert max(map(len, done.output.splitlines())) <= 80
    row = next(line for line in done.output.splitlines() if line.startswith("openfoldpp.recycling"))
    assert "openfoldpp 0." in row
    assert "add_options, configure" in done.output
    assert "\x1b" not in done.output


def test_json_has_every_field(run):
    found = {plugin["name"]: plugin for plugin in json.loads(run("--json").output)}
    recycling = found["openfoldpp.recycling"]
    assert recycling["distribution"] == "openfoldpp"
    assert recycling["module"] == "openfoldpp.adapters.recycling"
    assert recycling["hooks"] == ["add_options", "configure"]
    assert recycling["error"] is None


def test_a_plugin_that_cannot_be_used_is_shown_with_the_reason(run, tmp_path, monkeypatch):
    info = tmp_path / "lost-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lost\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[openfoldpp.plugins]\nlost = lost_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = run(columns=200)
    assert done.exit_code == 0
    row = next(line for line in done.output.splitlines() if line.startswith("lost"))
    assert "lost 2.0" in row
    assert "cannot be used: its import raises ModuleNotFoundError: No module named 'lost_module'" in row
    assert "Use them" not in done.output
