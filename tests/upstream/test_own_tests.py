"""OpenFold's own tests pass under openfoldpp where they pass alone, and nowhere else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfoldpp.upstream import locate
from openfoldpp.upstream.patches import stereo_chemical_props

pytestmark = [pytest.mark.upstream, pytest.mark.slow]

# What a test says that needs a GPU, AlphaFold's parameters or a package that only a GPU machine has.
NEEDS_MORE = (
    "Torch not compiled with CUDA enabled",
    "Found no NVIDIA driver",
    "Cannot load pretrained parameters",
    "params_model_",
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """``{mode: {test: [outcome, why]}}`` for both modes."""
    checkout = locate().root
    if not (checkout / "tests" / "test_model.py").is_file():
        pytest.skip(f"{checkout} has no tests")
    folder = tmp_path_factory.mktemp("own_tests")
    table = folder / "table.txt"
    table.write_text(stereo_chemical_props())
    found = {}
    for mode in ("alone", "openfoldpp"):
        results = folder / f"{mode}.json"
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("own_tests.py"), mode, checkout, table, results],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found[mode] = json.loads(results.read_text())
    return found


def test_the_same_tests_pass(outcomes):
    alone, ours = outcomes["alone"], outcomes["openfoldpp"]
    different = [
        f"{test}: alone {alone.get(test)}, under openfoldpp {ours.get(test)}"
        for test in sorted(alone.keys() | ours.keys())
        if alone.get(test, [None])[0] != ours.get(test, [None])[0]
    ]
    assert not different, "\n".join(different)


def test_enough_of_them_pass(outcomes):
    """The comparison is not one of two empty lists, and what fails alone needs more than a CPU has."""
    alone = outcomes["alone"]
    passed = [test for test, (outcome, _) in alone.items() if outcome == "passed"]
    assert len(passed) >= 55
    failed = {test: why for test, (outcome, why) in alone.items() if outcome == "failed"}
    unexplained = {t: why for t, why in failed.items() if not any(need in why for need in NEEDS_MORE)}
    assert not unexplained
