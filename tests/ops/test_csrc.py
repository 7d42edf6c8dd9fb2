"""The native library's own tests, without Python: plain, sanitized, and for aarch64 under emulation."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
AARCH64 = [
    "-DCMAKE_SYSTEM_NAME=Linux",
    "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
    "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
    "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64-static;-L;/usr/aarch64-linux-gnu",
]


def run_ctest(folder, *options):
    """Build and run the C++ tests; return the levels that passed."""
    build = ["-DOPENFOLDPP_PYTHON=OFF", "-DOPENFOLDPP_BUILD_TESTS=ON", "-DCMAKE_BUILD_TYPE=Release", *options]
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, *build],
        ["cmake", "--build", folder, "--parallel", "2"],
        ["ctest", "--test-dir", folder, "--parallel", "2", "--output-on-failure"],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return {line.split()[3] for line in done.stdout.splitlines() if " Passed " in line}


def need(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.mark.parametrize("sanitizers", ["", "address;undefined"], ids=["plain", "sanitized"])
def test_native_library(sanitizers, tmp_path):
    need("cmake", "ctest")
    assert "scalar" in run_ctest(tmp_path, f"-DOPENFOLDPP_SANITIZE={sanitizers}")


def test_native_library_on_aarch64(tmp_path):
    need("cmake", "ctest", "aarch64-linux-gnu-g++", "qemu-aarch64-static")
    assert run_ctest(tmp_path, *AARCH64) == {"scalar", "neon"}
