"""The built wheel, installed by pip in a clean environment without compilers and without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOOLS = ["cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "ninja", "make", "nvcc", "git"]

# Runs in the clean environment; prints what the tests look at.
PROBE = f"""
import importlib.metadata, json, shutil
import openfoldpp, simplicial_attn, torch
from openfoldpp import _native
from openfoldpp.ops import explain, softmax_
logits = torch.randn(5, 33, generator=torch.Generator().manual_seed(0))
expected = logits.softmax(dim=-1)
points = importlib.metadata.distribution("openfoldpp").entry_points
print(json.dumps({{
    "tools": [tool for tool in {TOOLS} if shutil.which(tool)],
    "files": [openfoldpp.__file__, _native.__file__, simplicial_attn.__file__],
    "backend": explain(logits).backend.name,
    "error": (softmax_(logits) - expected).abs().max().item(),
    "commit": simplicial_attn.version(),
    "entry_points": sorted([point.group, point.name, point.value] for point in points),
    "loaded": [point.value for point in points if point.load() is not None],
}}))
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(source, folder):
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = Path(folder).glob("openfoldpp-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def commit():
    """The commit of the sources: the checkout's, or the one that an sdist carries."""
    if (ROOT / ".git").exists():
        return run("git", "rev-parse", "HEAD", cwd=ROOT).strip()
    return (ROOT / "COMMIT").read_text().strip()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """What the probe says in a new virtual environment where only the wheel was installed."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder / "venv", with_pip=True)
    bin_folder = folder / "venv" / "bin"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENFOLD"))}
    environment = kept | {"PATH": str(bin_folder)}
    # --no-compile leaves out the .pyc files of torch, half of the time.
    options = ["--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt"]
    run(bin_folder / "python", "-m", "pip", "install", *options, wheel, env=environment, cwd=folder)
    return json.loads(run(bin_folder / "python", "-c", PROBE, env=environment, cwd=folder)), folder


def test_it_was_installed_and_runs_without_compilers_or_checkout(installed):
    probe, folder = installed
    assert probe["tools"] == []
    assert all(Path(file).is_relative_to(folder) for file in probe["files"]), probe["files"]


def test_the_native_softmax_runs(installed):
    probe, _ = installed
    assert probe["backend"] == "native"
    assert probe["error"] < 1e-6


def test_version_is_the_commit(installed, commit):
    probe, _ = installed
    assert probe["commit"] == commit


def test_every_entry_point_is_there_and_loads(installed):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    expected = sorted(
        [group, name, value] for group, points in groups.items() for name, value in points.items()
    )
    probe, folder = installed
    assert probe["entry_points"] == expected
    assert sorted(probe["loaded"]) == sorted(value for _, _, value in expected)
    for script in project["scripts"]:
        assert shutil.which(script, path=str(folder / "venv" / "bin")), script


def test_the_wheel_has_every_file_of_the_package(wheel):
    listed = subprocess.run(
        ["git", "ls-files", "openfoldpp", "patches"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    expected = {
        name.replace("patches/", "openfoldpp/_patches/", 1) if name.startswith("patches/") else name
        for name in listed
    }
    missing = expected - set(zipfile.ZipFile(wheel).namelist())
    assert not missing


def test_the_sdist_builds_the_same_wheel(wheel, commit, tmp_path):
    run(sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path, ROOT)
    (sdist,) = tmp_path.glob("openfoldpp-*.tar.gz")
    from_sdist = zipfile.ZipFile(build_wheel(sdist, tmp_path))
    assert sorted(from_sdist.namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
    (module,) = (name for name in from_sdist.namelist() if name.startswith("simplicial_attn"))
    assert commit.encode() in from_sdist.read(module)


def test_sources_of_an_unknown_commit_are_refused(tmp_path):
    for name in ("CMakeLists.txt", "cmake", "csrc", "bindings", "patches"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DPython_EXECUTABLE={sys.executable}"]
    pybind11 = run(sys.executable, "-m", "pybind11", "--cmakedir").strip()
    done = subprocess.run([*command, f"-Dpybind11_DIR={pybind11}"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "The commit hash of these sources is not known" in done.stderr
    assert "OPENFOLDPP_COMMIT=HASH" in done.stderr
