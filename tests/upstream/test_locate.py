"""Locating OpenFold: versions from files, the order of places, and what is refused."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfoldpp.errors import OpenFoldNotFoundError, UpstreamError
from openfoldpp.upstream import Installation, locate
from openfoldpp.upstream.locate import HOME_VARIABLE, SCRIPT_NAME, SUPPORTED, installed

PACKAGE_FILES = ("__init__.py", "config.py", "model/model.py", "np/residue_constants.py")


def checkout(root: Path, declared: str, *, seed=False, scop=False, script=True) -> Path:
    """Lay out the files by which a checkout is told: `declared` is setup.py's version."""
    for name in (*PACKAGE_FILES, *(["utils/seed.py"] if seed else [])):
        file = root / "openfold" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    parser = root / "openfold" / "data" / "mmcif_parsing.py"
    parser.parent.mkdir()
    parser.write_text(f"from Bio.Data import {'SCOPData' if scop else 'PDBData'}\n")
    (root / "setup.py").write_text(f"setup(\n    name='openfold',\n    version='{declared}',\n)\n")
    if script:
        (root / SCRIPT_NAME).touch()
        (root / "scripts").mkdir()
        (root / "scripts" / "utils.py").touch()
    return root


@pytest.fixture(autouse=True)
def no_home(monkeypatch):
    monkeypatch.delenv(HOME_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("declared", "files", "version"),
    [
        ("2.0.0", {"seed": True, "scop": True}, "2.0.0"),
        ("2.0.0", {}, "2.1.0"),  # the tag v.2.1.0 still declares 2.0.0
        ("2.2.0", {}, "2.2.0"),
        ("0.0.1", {"seed": True, "scop": True, "script": False}, "0.0.1"),
    ],
)
def test_version_of_a_checkout(tmp_path, declared, files, version):
    root = checkout(tmp_path, declared, **files)
    found = locate(root)
    script = None if version == "0.0.1" else root / SCRIPT_NAME
    assert found == Installation(version, root, "checkout", script, found.reason)
    assert version in found.reason
    assert str(root) in found.reason
    assert "--openfold_home" in found.reason


@pytest.mark.parametrize(
    ("declared", "files", "named"),
    [
        ("1.0.0", {"seed": True, "scop": True}, "OpenFold 1.0 "),
        ("3.0.0", {}, "OpenFold 3.0.0 "),
        ("2.0.0", {"seed": True}, "a commit between the tags"),
        ("2.0.0", {"scop": True}, "a commit between the tags"),
    ],
)
def test_other_versions_are_refused(tmp_path, declared, files, named):
    with pytest.raises(UpstreamError, match=named) as error:
        locate(checkout(tmp_path, declared, **files))
    assert ", ".join(SUPPORTED) in str(error.value)


def test_folders_that_are_no_checkout(tmp_path):
    with pytest.raises(UpstreamError, match="no such folder"):
        locate(tmp_path / "absent")
    with pytest.raises(UpstreamError, match="it has no folder `openfold`"):
        locate(tmp_path)


def test_half_a_checkout(tmp_path):
    root = checkout(tmp_path, "2.2.0")
    (root / "openfold" / "config.py").unlink()
    with pytest.raises(UpstreamError, match=r"it lacks openfold/config\.py"):
        locate(root)


def test_a_checkout_without_its_script(tmp_path):
    with pytest.raises(
        UpstreamError, match=r"run_pretrained_openfold\.py. or .scripts/utils\.py. is missing"
    ):
        locate(checkout(tmp_path, "2.2.0", script=False))


def test_a_package_without_a_version(tmp_path):
    root = checkout(tmp_path, "2.2.0")
    (root / "setup.py").write_text("setup(name='somethingelse', version='2.2.0')\n")
    with pytest.raises(UpstreamError, match="its version cannot be told"):
        locate(root)


def test_argument_then_variable_then_installed(tmp_path, monkeypatch):
    argument = checkout(tmp_path / "argument", "2.2.0")
    variable = checkout(tmp_path / "variable", "2.0.0")
    monkeypatch.setenv(HOME_VARIABLE, str(variable))
    assert locate(argument).root == argument
    assert locate().root == variable
    assert HOME_VARIABLE in locate().reason
    monkeypatch.delenv(HOME_VARIABLE)
    found = locate()
    assert (found.version, found.kind) == ("0.0.1", "installed")
    assert found.package.is_dir()


def test_a_named_place_is_never_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(UpstreamError, match=r"OPENFOLD_HOME = .*absent: no such folder"):
        locate()


def test_nothing_found_names_the_places_and_the_cures(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert installed() is None
    with pytest.raises(OpenFoldNotFoundError) as error:
        locate()
    for part in ("--openfold_home (not given)", "OPENFOLD_HOME (not set)", "openfoldpp install-openfold"):
        assert part in str(error.value)


def test_an_openfold_in_the_working_directory_is_not_the_installed_one(tmp_path):
    (tmp_path / "openfold").mkdir()
    (tmp_path / "openfold" / "__init__.py").touch()
    code = "from openfoldpp.upstream import locate; print(locate().root)"
    environment = {name: value for name, value in os.environ.items() if name != HOME_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == installed().root


@pytest.mark.upstream
def test_the_checkout_at_openfold_home(monkeypatch):
    assert locate(Path(os.environ["OPENFOLD_HOME"])).version in SUPPORTED[1:]
