"""The kernels' tests again at each slower instruction-set level; a process uses one level."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openfoldpp import _native

FOLDER = Path(__file__).parent
KERNELS = [
    "attention",
    "invariant_point_attention",
    "msa_attention",
    "outer_product_mean",
    "simplicial_attention",
    "softmax",
    "transition",
    "triangle_attention",
    "triangle_multiplication",
]


# The fastest level is what these tests run at anyway.
@pytest.mark.slow
@pytest.mark.skipif("OPENFOLDPP_SIMD" in os.environ, reason="a level is forced already")
@pytest.mark.parametrize("level", _native.available_simd_levels()[:-1])
def test_every_kernel_at_every_level(level):
    environment = os.environ | {"OPENFOLDPP_SIMD": level}
    report = "from openfoldpp import _native; print(_native.simd_level())"
    used = subprocess.run(
        [sys.executable, "-P", "-c", report], env=environment, capture_output=True, text=True
    )
    assert used.stdout.strip() == level, used.stderr
    files = [FOLDER / f"test_{kernel}.py" for kernel in KERNELS]
    files.append(FOLDER.parent / "motifs" / "test_compositor.py")
    tests = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    run = subprocess.run(tests, env=environment, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
