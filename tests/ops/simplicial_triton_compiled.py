"""Compile the Triton kernels of 2-simplicial attention for a GPU that is not here.

``test_simplicial_triton.py`` runs it. Takes a compute capability, say 90, and prints a line for each kernel:
its shared memory, and how many products of matrices its machine code has. triton brings ptxas and cuobjdump.
Kernels are compiled in place of being launched.
"""

import re
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from openfoldpp.ops import simplicial_triton
from openfoldpp.ops.simplicial_inputs import Inputs

CAPABILITY = int(sys.argv[1])


class Driver:
    """As much of a driver as compiling needs."""

    def get_current_target(self):
        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0


class Compiled:
    """Stands for a kernel."""

    def __init__(self, name, kernel):
        self.name, self.kernel = name, kernel

    def __getitem__(self, grid):
        def compile_and_report(*arguments, **constants):
            compiled = self.kernel.warmup(*arguments, grid=grid, **constants)
            products = len(re.findall(r"\bHG?MMA\.", compiled.asm["sass"]))  # on the tensor cores
            print(f"{self.name}: {compiled.metadata.shared} bytes, {products} products")

        return compile_and_report


driver.set_active(Driver())
simplicial_triton._capability = lambda device: divmod(CAPABILITY, 10)
simplicial_triton._FEW_PAIRS = 10**9  # the kernel of delta too
for direction, names in (
    ("forward", ["forward_kernel", "merge_kernel"]),
    ("backward", ["rows_kernel", "keys_kernel"]),
):
    kernels = simplicial_triton._kernels(direction)
    for name in names:
        setattr(kernels, name, Compiled(name, getattr(kernels, name)))

for dtype, channels, masked, window in (
    (torch.bfloat16, 64, False, (None, None)),
    (torch.bfloat16, 128, True, (None, None)),
    (torch.bfloat16, 64, True, (64, 8)),  # narrow windows have tiles of their own
    (torch.float32, 64, False, (64, 8)),
    (torch.float32, 128, True, (None, None)),
):
    q, k, k2, v, v2 = (torch.zeros(1, heads, 128, channels, dtype=dtype) for heads in (2, 1, 1, 1, 1))
    mask, bias = (
        (torch.zeros(1, 128, dtype=dtype), torch.zeros(1, 2, 128, 128, dtype=dtype))
        if masked
        else (None, None)
    )
    inputs = Inputs(q, k, k2, v, v2, mask, bias, window)
    out, statistics = simplicial_triton.forward(inputs)
    simplicial_triton.backward(q, out, statistics, inputs)
