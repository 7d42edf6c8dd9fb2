import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfoldpp.upstream import locate

# Hides the installed openfold from this interpreter alone.
WITHOUT_OPENFOLD = """
import importlib.metadata as metadata
found = metadata.distribution
def distribution(name):
    if name == "openfold":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.distribution = distribution
from openfoldpp.cli.main import app
app()
"""


@pytest.fixture
def doctor(tmp_path):
    """Run the command in an empty folder, with these variables and no others of ours."""

    def run(*arguments, code=None, **variables):
        command = (
            [Path(sys.executable).parent / "openfoldpp"] if code is None else [sys.executable, "-c", code]
        )
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("OPENFOLDPP_", "OPENFOLD_HOME"))}
        done = subprocess.run(
            [*command, "doctor", *map(str, arguments)],
            cwd=tmp_path,
            env=environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    return run


def findings(done):
    return {
        (section["title"], finding["name"]): finding
        for section in json.loads(done.stdout)["sections"]
        for finding in section["findings"]
    }


def test_a_whole_environment_has_no_problem(doctor):
    done = doctor("--json")
    assert done.returncode == 0, done.stdout
    document, found = json.loads(done.stdout), findings(done)
    assert (document["ok"], document["problems"]) == (True, 0)
    here = found["OpenFold", "used"]["facts"]
    assert (here["version"], here["kind"]) == ("0.0.1", "installed")
    assert found["OpenFold", "import"]["level"] == "ok"
    assert "not installed" in found["Compatibility", "attn_core_inplace_cuda"]["facts"]["reason"]
    assert found["Kernels", "backend"]["facts"]["backend"] == "native"
    assert found["Plugins", "openfoldpp.flashabb"]["level"] == "ok"
    assert found["Memory", "model_1_ptm"]["facts"]["longest"] > 0


def test_without_openfold_it_says_what_still_works_and_how_to_get_one(doctor):
    done = doctor(code=WITHOUT_OPENFOLD)
    assert done.returncode == 1
    assert "PROBLEM  OpenFold: none was found" in done.stdout
    assert "openfoldpp predict VH:VL --out FILE" in done.stdout
    assert "-> openfoldpp install-openfold" in done.stdout
    assert "Kernels\nok " in done.stdout  # the other sections are there
    assert "A run would fail: 1 problem\n" in done.stdout


def test_several_problems_are_told_at_once_each_with_its_cure(doctor, tmp_path):
    params = tmp_path / "openfold/resources/params"
    params.mkdir(parents=True)
    weights = params / "params_model_1_ptm.npz"
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    variables = {"OPENFOLD_HOME": "/no/such/folder", "OPENFOLDPP_SIMD": "foo", "OPENFOLDPP_NUM_THREAD": "2"}
    done = doctor("--jax_param_path", weights, **variables)
    assert done.returncode == 1
    lines = done.stdout[done.stdout.index("A run would fail: 4 problems\n") :].splitlines()[1:]
    problems = [line.removeprefix("PROBLEM").split()[0] for line in lines[::2]]
    assert problems == ["OpenFold:", "OPENFOLDPP_NUM_THREAD:", "OPENFOLDPP_SIMD:", "params_model_1_ptm.npz:"]
    assert all(line.startswith("         -> ") for line in lines[1::2])
    assert "unset OPENFOLD_HOME" in lines[1]
    assert "did you mean OPENFOLDPP_NUM_THREADS?" in lines[2]
    assert "expected one of scalar" in lines[4]
    assert "Git LFS pointer" in lines[6]


def test_half_a_checkout_is_a_problem_and_the_installed_one_is_named(doctor, tmp_path):
    (tmp_path / "half/openfold").mkdir(parents=True)
    done = doctor("--openfold_home", tmp_path / "half", "--json")
    assert done.returncode == 1
    found = findings(done)
    assert "incomplete" in found["OpenFold", "OpenFold"]["text"]
    assert "--openfold_home" in found["OpenFold", "OpenFold"]["cure"]
    assert "0.0.1" in found["OpenFold", "not used"]["text"]
    assert ("Compatibility", "attn_core_inplace_cuda") not in found


@pytest.mark.upstream
def test_a_checkout_of_openfold_2_has_no_problem(doctor):
    installation = locate()
    done = doctor("--openfold_home", installation.root, "--json")
    assert done.returncode == 0, done.stdout
    found = findings(done)
    here = found["OpenFold", "used"]["facts"]
    assert (here["version"], here["kind"]) == (installation.version, "checkout")
    assert here["script"].endswith("run_pretrained_openfold.py")
    assert found["OpenFold", "import"]["level"] == "ok"
    assert found["Memory", "seq_model_esm1b_ptm"]["facts"]["longest"] > 0
