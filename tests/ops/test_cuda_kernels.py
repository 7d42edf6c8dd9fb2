"""The CUDA sources compile without register spills, and their products run on the tensor cores."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ON_TENSOR_CORES = ("simplicial_attention", "simplicial_attention_backward", "compositor")
#: Kernels without a matrix product: they add up what others wrote, or fill a vector.
WITHOUT_PRODUCTS = ("add_parts",)


def cuobjdump():
    """Return the disassembler: CUDA's own, or the one that triton brings."""
    if found := shutil.which("cuobjdump"):
        return found
    triton = pytest.importorskip("triton", reason="cuobjdump comes with CUDA or with triton")
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not os.access(path, os.X_OK):
        pytest.skip(f"not executable: {path}")
    return path


@pytest.fixture(params=["80", "90a"])
def compile_kernels(request, tmp_path):
    """Return a function that compiles a source; it gives the object file and each kernel's spilled bytes."""
    if not shutil.which("nvcc"):
        pytest.skip("nvcc is not installed")

    def compile_one(name):
        output = tmp_path / f"{name}.o"
        target = f"-gencode=arch=compute_{request.param},code=sm_{request.param}"
        folders = [f"-I{ROOT / 'csrc/include'}", f"-I{ROOT / 'csrc/cuda'}"]
        source = ROOT / "csrc/cuda" / f"{name}.cu"
        done = subprocess.run(
            ["nvcc", "-std=c++17", "-O3", target, "-Xptxas=-v", *folders, "-c", source, "-o", output],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        report = done.stdout + done.stderr
        spills = re.findall(r"Compiling entry function '(\S+)'.*?(\d+) bytes spill stores", report, re.DOTALL)
        return output, {kernel: int(count) for kernel, count in spills}

    return compile_one


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "csrc/cuda").glob("*.cu")))
def test_no_kernel_spills(compile_kernels, name):
    _, spills = compile_kernels(name)
    assert {kernel: count for kernel, count in spills.items() if count} == {}
    assert spills or name == "memory"  # which has no kernel


@pytest.mark.parametrize("name", ON_TENSOR_CORES)
def test_products_are_on_the_tensor_cores(compile_kernels, name):
    output, _ = compile_kernels(name)
    done = subprocess.run([cuobjdump(), "-sass", output], capture_output=True, text=True, check=True)
    functions = dict(re.findall(r"Function : (\S+)\n(.*?)(?=Function : |\Z)", done.stdout, re.DOTALL))
    assert functions
    for kernel, code in functions.items():
        if not any(other in kernel for other in WITHOUT_PRODUCTS):
            assert "HMMA.16816.F32.BF16" in code, kernel
