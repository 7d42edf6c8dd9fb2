"""The Triton backend of 2-simplicial attention: what it refuses; its kernels interpreted, and compiled."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad

from openfoldpp.ops import simplicial_triton
from openfoldpp.ops.simplicial_inputs import Inputs

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)


def run(*command, **variables):
    finished = subprocess.run(
        [sys.executable, "-P", *map(str, command)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout[-6000:] + finished.stderr[-2000:]
    return finished.stdout


@needs_triton
@pytest.mark.parametrize("marks", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_in_the_interpreter(marks):
    file = HERE / "simplicial_triton_interpreted.py"
    output = run(
        "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", marks, file, TRITON_INTERPRET="1"
    )
    assert " passed" in output


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_compiled_for_a_gpu_that_is_not_here(capability, tmp_path):
    """Every kernel compiles, multiplies on the tensor cores, and fits into the GPU's shared memory."""
    script = HERE / "simplicial_triton_compiled.py"
    lines = run(script, capability, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path)).splitlines()
    assert {line.split(":")[0] for line in lines} == {
        f"{kernel}_kernel" for kernel in ("forward", "merge", "rows", "keys")
    }
    limit = {80: 166912, 90: 232448}[capability]
    for line in lines:
        kernel, shared, products = re.fullmatch(r"(.*): (\d+) bytes, (\d+) products", line).groups()
        assert int(shared) <= limit, kernel
        assert int(products) > 0 or kernel == "merge_kernel", kernel


def refusal(change=lambda x: x, mask=None, channels=16):
    tensors = [change(torch.zeros(1, 1, 4, channels)) for _ in range(5)]
    return simplicial_triton.refuse(Inputs(*tensors, mask, None, (None, None)))


def test_what_is_refused(monkeypatch):
    assert refusal() == "a tensor is on cpu, expected cuda"
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # lets tensors on the CPU through
    assert refusal(torch.Tensor.double) == "a tensor is torch.float64, expected float32 or bfloat16"
    assert refusal(mask=torch.ones(1, 4).int()).startswith("a tensor is torch.int32")
    assert refusal(channels=129) == "a head has 129 channels, expected at most 128"


# torch compiles its own rules for tangents with torch.jit.script when it makes the first one.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
def test_a_tangent_is_refused(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with forward_ad.dual_level():
        assert "a tangent" in refusal(lambda x: forward_ad.make_dual(x, torch.ones_like(x)))


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, r"triton is not installed; pip install 'openfoldpp\[gpu\]'"),
        ("3.2.0", r"triton 3\.2\.0 is installed, expected 3\.6 or newer"),
        ("3.6.0+git1234", None),
        ("3.10.1", None),
    ],
)
def test_a_triton_that_is_old_or_not_there(version, message, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: version)
    monkeypatch.setattr(importlib, "import_module", lambda name: type("triton", (), {"__version__": version}))
    simplicial_triton._refuse_triton.cache_clear()
    try:
        reason = refusal()
    finally:
        simplicial_triton._refuse_triton.cache_clear()
    assert reason is None if message is None else re.fullmatch(message, reason)


def test_the_ops_do_not_import_triton():
    run("-c", "import sys; sys.modules['triton'] = None; import openfoldpp.ops")
