"""The example package, installed by pip into a folder of its own and used from there."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin_hello"

USE = """
import argparse, pathlib, sys
from openfoldpp.plugins.manager import PluginHost
from openfoldpp.types import Chain, Output, OutputPaths, Target

host = PluginHost.load("hello")
(info,) = host.active
print(info.distribution, info.version, *info.hooks)
parser = argparse.ArgumentParser()
host.call("add_options", parser=parser)
options = parser.parse_args(["--hello_name", "Ada"])
host.call("configure", config=None, options=options)
host.call(
    "write_outputs",
    output=Output({}, source="none", chain_ids=("A",), provenance={}),
    target=Target("1ABC", (Chain("1ABC", "ACDE"),)),
    paths=OutputPaths(pathlib.Path(sys.argv[1]), "1ABC_model_1_ptm"),
)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder into which pip has installed the example, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "plugin_hello"
    source.mkdir()
    for name in ("pyproject.toml", "plugin_hello.py", "README.md"):
        (source / name).write_bytes((EXAMPLE / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-deps", "--target", folder, source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_installed_example_adds_its_flag_and_writes_its_file(site, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = subprocess.run(
        [sys.executable, "-P", "-c", USE, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "openfoldpp-plugin-hello",
        "1.0.0",
        "add_options",
        "configure",
        "write_outputs",
    ]
    assert (tmp_path / "1ABC_model_1_ptm_hello.txt").read_text() == "Hello Ada, 1ABC has 4 residues.\n"


def test_the_plugins_readme_shows_the_example_itself():
    readme = (Path(__file__).parents[2] / "openfoldpp" / "plugins" / "README.md").read_text()
    assert f"```python\n{(EXAMPLE / 'plugin_hello.py').read_text()}```" in readme
