"""What the machine can do, measured, beside what the benchmarks make of it; and what it is.

``python benchmarks/machine.py`` prints both.
"""

from __future__ import annotations

import json
import platform
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from openfoldpp.ops.dispatch import simd_level, threads

GEMM_SIZES = (512, 1024, 2048)
COPY_BYTES = 1 << 28


def sgemm_gflops(seconds: float = 0.3) -> float:
    """Rate of ``torch.mm`` on float32, at its best over sizes and repetitions.

    Parameters
    ----------
    seconds : float
        Least time given to each size.

    Returns
    -------
    float
        1e9 operations per second, a multiplication and an addition counted as 2.
    """
    best = 0.0
    for size in GEMM_SIZES:
        a, b = torch.randn(2, size, size, generator=torch.Generator().manual_seed(size))
        out = torch.empty(size, size)
        best = max(best, 2 * size**3 / fastest(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), seconds))
    return best / 1e9


def copy_gbytes_per_s(seconds: float = 0.3) -> float:
    """Bytes read and written by a copy between two tensors that no cache holds, in 1e9 per second.

    Parameters
    ----------
    seconds : float
        Least time given to it.

    Returns
    -------
    float
        1e9 bytes per second, each byte counted twice: read and written.
    """
    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / fastest(lambda: target.copy_(source), seconds) / 1e9


def fastest(call, seconds: float) -> float:
    """Shortest time of a call among those that fit into the time given, at least three."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def cpu_name() -> str:
    """Return the CPU's name as Linux has it, else what Python's ``platform`` tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe() -> dict[str, str | int]:
    """Return what the measurements were made on and with."""
    return {
        "cpu": cpu_name(),
        "simd": simd_level(),
        "threads": threads(),
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_blas": "MKL" if torch.backends.mkl.is_available() else "not MKL",
        "numpy": np.__version__,
        "openfoldpp": metadata.version("openfoldpp"),
    }


def limits() -> dict[str, float]:
    """Return the measured rates."""
    return {"sgemm_gflops": sgemm_gflops(), "copy_gbytes_per_s": copy_gbytes_per_s()}


if __name__ == "__main__":
    print(json.dumps(describe() | limits(), indent=2))
