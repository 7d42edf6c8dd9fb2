"""Installing OpenFold 0.0.1: what is refused, what is patched, and once for real."""

import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest

from openfoldpp.errors import MissingDependencyError, UpstreamError
from openfoldpp.upstream import install, locate
from openfoldpp.upstream.install import install_openfold, patch, require_hash, unpack
from openfoldpp.upstream.patches import patches_folder, stereo_chemical_props


@pytest.fixture
def manifest():
    return tomllib.loads((patches_folder() / "manifest.toml").read_text(encoding="utf-8"))


@pytest.fixture
def no_pip_runs(monkeypatch):
    def run(*args):
        raise AssertionError(f"pip was run: {args}")

    monkeypatch.setattr(install, "_pip", run)


@pytest.mark.usefixtures("no_pip_runs")
def test_an_openfold_that_is_there_is_left_alone():
    lines = []
    assert install_openfold(report=lines.append) == locate()
    assert len(lines) == 1
    assert "OpenFold 0.0.1 is already there" in lines[0]


@pytest.mark.usefixtures("no_pip_runs")
def test_a_damaged_sdist_is_refused_before_anything_is_done(tmp_path, manifest):
    sdist = tmp_path / "openfold-0.0.1.tar.gz"
    sdist.write_bytes(b"not what was published")
    with pytest.raises(UpstreamError, match=f"expected {manifest['sha256']}.*nothing was installed"):
        install_openfold(sdist=sdist, force=True, report=lambda line: None)
    assert require_hash(sdist, "28fe8f955382eb143d6bdedd2568d203576c38d992d1ed54f29400a02f8ed3cd") is None


@pytest.mark.usefixtures("no_pip_runs")
@pytest.mark.parametrize("option", ["constraint", "sdist"])
def test_a_file_that_is_absent_is_named_with_its_flag(tmp_path, option):
    with pytest.raises(UpstreamError, match=f"--{option} = .*absent: no such file"):
        install_openfold(force=True, **{option: tmp_path / "absent"})


@pytest.mark.usefixtures("no_pip_runs")
def test_without_pip_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(MissingDependencyError, match="-m ensurepip"):
        install_openfold(force=True)


def test_a_failing_pip_is_reported_with_its_last_lines(tmp_path):
    with pytest.raises(UpstreamError, match="no OpenFold was installed") as error:
        install._pip(["install", "--no-index", "no-such-package-of-anyone"], tmp_path)
    assert "No matching distribution found for no-such-package-of-anyone" in str(error.value)


def archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path):
    with pytest.raises(UpstreamError, match="cannot be unpacked safely"):
        unpack(archive(tmp_path / "a.tar.gz", ["../escaped"]), tmp_path / "a")
    assert not (tmp_path / "escaped").exists()
    with pytest.raises(UpstreamError, match="expected one folder in it, found"):
        unpack(archive(tmp_path / "b.tar.gz", ["one/file", "two/file"]), tmp_path / "b")


def test_patching_adds_and_removes_what_the_manifest_names(tmp_path, manifest):
    names = [
        "openfold-0.0.1/setup.py",
        "openfold-0.0.1/setup.cfg",
        "openfold-0.0.1/openfold/resources/__init__.py",
    ]
    source = unpack(archive(tmp_path / "sdist.tar.gz", names), tmp_path / "source")
    lines = patch(source, patches_folder(), manifest)
    assert [line.split(":")[0] for line in lines] == [
        "remove setup.py",
        "remove setup.cfg",
        "add pyproject.toml",
        "add openfold/resources/stereo_chemical_props.txt",
    ]
    assert not (source / "setup.py").exists()
    assert tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"] == "0.0.1"
    table = (source / "openfold" / "resources" / "stereo_chemical_props.txt").read_text()
    assert table == stereo_chemical_props()
    assert table.splitlines()[1].split() == ["CA-CB", "ALA", "1.52", "0.021"]
    with pytest.raises(UpstreamError, match=r"Cannot remove setup\.py: it is missing in openfold-0\.0\.1"):
        patch(source, patches_folder(), manifest)


def test_every_file_of_the_patches_has_a_reason(manifest):
    assert all(entry["reason"] and entry["drop_when"] for entry in manifest["files"])
    assert manifest["metadata_stubs"]["reason"]
    used = {entry["from"] for entry in manifest["files"] if "from" in entry}
    present = {item.name for item in patches_folder().iterdir()}
    assert present == used | {"manifest.toml", "README.md", manifest["metadata_stubs"]["folder"]}


@pytest.fixture
def environment_without_openfold(tmp_path) -> Path:
    """Return the Python of a new environment that sees all packages of this one but openfold."""
    seen = tmp_path / "seen"
    seen.mkdir()
    for folder in {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}:
        for item in Path(folder).iterdir():
            name = item.name.lower()
            if name != "openfold" and not (name.startswith("openfold-") and name.endswith(".dist-info")):
                (seen / item.name).symlink_to(item)
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "seen.pth").write_text(f"import site; site.addsitedir({str(seen)!r})\n")
    return home / "bin" / "python"


@pytest.mark.slow
def test_installing_for_real(environment_without_openfold):
    python = environment_without_openfold

    def run(code: str) -> str:
        variables = {k: v for k, v in os.environ.items() if k not in ("OPENFOLD_HOME", "PYTHONPATH")}
        done = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=python.parent,
            env=variables,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("from openfoldpp.upstream.locate import installed; print(installed())") == "None\n"
    command = "from openfoldpp.upstream.install import install_openfold; install_openfold()"
    first = run(command)
    assert "sha256 is d709aa2647b9e15fd4da42dfc3dbe9fc7310c42bc01bd0b4f5600eb39edef8f8" in first
    assert "remove setup.py: " in first
    assert "OpenFold 0.0.1 is installed in" in first
    (second,) = run(command).splitlines()
    assert "is already there" in second
    found = run(
        "import json\n"
        "from openfoldpp.upstream import activate, compat\n"
        "active = activate()\n"
        "from openfold.np import residue_constants\n"
        "needed = [item.record.name for item in compat.applied()]\n"
        "bonds = residue_constants.load_stereo_chemical_props()[0]\n"
        "print(json.dumps([str(active.root), active.version, needed, len(bonds)]))\n"
    )
    root, version, needed, residues = json.loads(found)
    assert Path(root).is_relative_to(python.parent.parent)
    assert (version, residues) == ("0.0.1", 21)
    assert "stereo_chemical_props.txt" not in needed
    assert "attn_core_inplace_cuda" in needed
