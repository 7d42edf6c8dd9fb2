"""2-simplicial attention by Triton kernels, forward and backward, for float32 and bfloat16 on a GPU.

triton is imported when the first tensor on a GPU asks for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import math
import os
from types import ModuleType

import torch

from openfoldpp.ops.dispatch import FLOAT32_OR_BFLOAT16, refuse_kind
from openfoldpp.ops.simplicial_inputs import Inputs, Window

#: Whether :func:`backward` reads the output.
NEEDS_OUTPUT = True

_MAX_CHANNELS = 128  # with more, a tile does not fit into the registers of a multiprocessor
_TRITON = (3, 6)  # the first with products of float32 in six of bfloat16
_CAPABILITY = (8, 0)  # the first GPUs with matrix products of bfloat16

# Up to so many pairs a query, bfloat16 takes delta from the pairs, as float32 does: see backward. A query
# with one pair then has gradients of 0, as it must; and so few cost nothing.
_FEW_PAIRS = 1024

_WARPS = 8  # that a multiprocessor is to have at least, of all programs on it; 16 and 32 were no faster


@dataclasses.dataclass(frozen=True)
class _Tiles:
    """Rows and keys that a program takes at a time, warps that share the work, and stages of its pipeline."""

    rows: int
    keys: int
    warps: int
    stages: int = 2


def _tiles(kernel: str, q: torch.Tensor, window: Window) -> _Tiles:
    """Return a kernel's tiles: the fastest timed on an H100; for float32, those with the fewest spills."""
    narrow = q.shape[-1] <= 64
    if q.dtype == torch.float32:
        if kernel == "forward":
            return _Tiles(64, 64, 4) if narrow else _Tiles(32, 32, 4)
        return _Tiles(32, 32, 4) if narrow else _Tiles(16, 32, 8)
    if window[1] is not None and window[1] <= 16:  # most of a large tile would lie outside the window
        return _Tiles(32, 32, 4) if kernel == "keys" else _Tiles(16, 32, 2)
    if kernel == "forward":
        return _Tiles(64, 128, 4)
    if kernel == "delta":
        return _Tiles(64, 64, 4)
    if kernel == "rows":
        return _Tiles(64, 32, 4, stages=3) if narrow else _Tiles(64, 64, 8)
    # Matrix products of other GPUs than Hopper have their operands in registers, and 64 rows do not fit.
    return _Tiles(64 if narrow and _capability(q.device)[0] == 9 else 32, 64, 4)


def refuse(inputs: Inputs) -> str | None:
    """Why the Triton kernels cannot take these tensors; None where they can.

    Parameters
    ----------
    inputs : Inputs
        As of :func:`forward`.

    Returns
    -------
    str or None
        The first reason: device, dtype, a tangent, channels, or a triton that is old or not there.
    """
    q = inputs.q
    device = q.device.type if _interprets() else "cuda"
    for tensor in inputs.tensors():
        if reason := refuse_kind(tensor, device, FLOAT32_OR_BFLOAT16):
            return reason
    if q.shape[-1] > _MAX_CHANNELS:
        return f"a head has {q.shape[-1]} channels, expected at most {_MAX_CHANNELS}"
    return _refuse_device(q.device) or _refuse_triton()


def forward(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to pairs of keys: arXiv 2507.02754 in both directions, with mask, pair bias and window.

    Logits never leave the chip, and sums are float32. Products of float32 are six products of bfloat16 parts
    on the tensor cores ("bf16x6"): as exact as float32's own, and three times as fast.

    Parameters
    ----------
    inputs : Inputs
        On a GPU, float32 or bfloat16.

    Returns
    -------
    out : torch.Tensor
        ``[B, H, N, d]``, dtype of ``q``.
    statistics : torch.Tensor
        ``[B, H, N, 2]`` float32, for :func:`backward`: each query's largest logit, and its sum of
        ``exp(logit - largest)``; -inf and 1 where no pair is allowed.
    """
    q, window = inputs.q, inputs.window
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    statistics = _new(1, *q.shape[:3], 2, like=q)[0]
    if not out.numel():
        return out, statistics
    call = _Call(*inputs)
    tiles = call.fit(_tiles("forward", q, window))
    blocks = math.ceil(call.rows / tiles.rows)
    parts = call.parts(blocks, tiles.warps)
    part_out, part_statistics = out, statistics
    if parts > 1:
        part_out, part_statistics = _new(parts, *q.shape, like=q), _new(parts, *statistics.shape, like=q)
    kernels = _kernels("forward")
    with _on(q.device):
        kernels.forward_kernel[blocks, parts, call.programs](
            *call.tensors,
            part_out,
            part_statistics,
            *call.strides,
            *call.sizes,
            parts,
            **call.constants(tiles),
        )
        if parts > 1:
            rows = out.numel() // out.shape[-1]
            kernels.merge_kernel[(math.ceil(rows / 16),)](
                part_out,
                part_statistics,
                out,
                statistics,
                rows,
                out.shape[-1],
                parts,
                ROWS=16,
                CHANNELS=call.width,
                enable_fp_fusion=True,
            )
    return out, statistics


def backward(
    grad_out: torch.Tensor,
    out: torch.Tensor,
    statistics: torch.Tensor,
    inputs: Inputs,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Gradients of :func:`forward`; the same bits at every run on one kind of GPU.

    Parameters
    ----------
    grad_out : torch.Tensor
        ``[B, H, N, d]``, of ``out``; any strides.
    out, statistics : torch.Tensor
        What :func:`forward` returned.
    inputs : Inputs
        What it was given.

    Returns
    -------
    tuple of torch.Tensor
        Gradients of q, k, k2, v, v2 and the bias (None without one), with their shapes and dtypes.
    """
    q, k, k2, v, v2, _, bias, window = inputs
    d_bias = None
    if bias is not None:
        # Programs write what lies in their windows only.
        new = torch.empty if window[0] is None else torch.zeros
        d_bias = new(bias.shape, dtype=bias.dtype, device=bias.device)
    if not q.numel():
        return *(torch.zeros_like(tensor) for tensor in (q, k, k2, v, v2)), d_bias
    call = _Call(*inputs)
    strides = (*call.strides, grad_out.stride())
    kernels = _kernels("backward")

    with _on(q.device):
        if q.dtype == torch.float32 or call.pairs <= _FEW_PAIRS:
            # The mean over pairs, not out * grad_out: where one pair has all the weight, the gradient of its
            # logit is the difference of two equal numbers, and is to be as near to 0 as torch's.
            tiles = call.fit(_tiles("delta", q, window))
            blocks = math.ceil(call.rows / tiles.rows)
            parts = call.parts(blocks, tiles.warps)
            part_delta = _new(parts, *statistics.shape, like=q)
            kernels.rows_kernel[blocks, parts, call.programs](
                *call.tensors, statistics, grad_out, None, part_delta, None, None, None, *strides,
                *call.sizes, parts, 1, ONLY_DELTA=True, **call.constants(tiles),
            )  # fmt: skip
            delta, total = _sum(part_delta, 0, torch.float32).unbind(-1)
            delta = delta / total.where(total > 0, 1)
        else:
            delta = (grad_out.float() * out.float()).sum(-1) / statistics[..., 1]

        tiles = call.fit(_tiles("rows", q, window))
        blocks = math.ceil(call.rows / tiles.rows)
        parts = call.parts(blocks, tiles.warps)
        # As many blocks have a j in their windows.
        slots = min(blocks, math.ceil(call.partners * call.group / tiles.rows) + 1)
        part_q = _new(parts, *q.shape, like=q)
        part_kv = _new(2, slots, *k.shape, like=k)
        if window[0] is not None:
            part_kv.zero_()
        kernels.rows_kernel[blocks, parts, call.programs](
            *call.tensors, statistics, grad_out, delta, part_q, *part_kv, d_bias, *strides, *call.sizes,
            parts, slots, ONLY_DELTA=False, **call.constants(tiles),
        )  # fmt: skip

        tiles = call.fit(_tiles("keys", q, window))
        blocks = math.ceil(q.shape[2] / tiles.keys)
        parts = call.parts(blocks, tiles.warps)
        part_kv2 = _new(2, parts, *k.shape, like=k)
        kernels.keys_kernel[blocks, parts, call.programs](
            *call.tensors, statistics, grad_out, delta, *part_kv2, *strides, *call.sizes,
            parts, **call.constants(tiles),
        )  # fmt: skip
        d_q = _sum(part_q, 0, q.dtype)
        (d_k, d_v), (d_k2, d_v2) = _sum(part_kv, 1, q.dtype), _sum(part_kv2, 1, q.dtype)
    return d_q, d_k, d_k2, d_v, d_v2, d_bias


def _new(*shape: int, like: torch.Tensor) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _sum(parts: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    return (parts.select(dim, 0) if parts.shape[dim] == 1 else parts.sum(dim)).to(dtype)


class _Call:
    """What every kernel of a call is given."""

    def __init__(self, q, k, k2, v, v2, mask, bias, window):
        batch, heads, length, channels = q.shape
        kv_heads = k.shape[1]
        self.group = heads // kv_heads
        self.rows = length * self.group  # as a program counts them: see _simplicial_triton.parts
        self.programs = batch * kv_heads
        self.width = max(16, _next_power_of_2(channels))
        self.tensors = (q, k, k2, v, v2, mask, bias)
        self.strides = tuple(tensor.stride() for tensor in (q, k, k2, v, v2))
        self.strides += (
            (0, 0) if mask is None else mask.stride(),
            (0,) * 4 if bias is None else bias.stride(),
        )
        self.window = window
        # A window as long as the sequence is none, and keeps the sums of positions small.
        reach_j, reach_k = (length if reach is None else min(reach, length) for reach in window)
        self.sizes = (length, channels, kv_heads, reach_j, reach_k, channels**-0.5)
        self.partners = min(length, 2 * reach_j + 1)
        self.pairs = self.partners * min(length, 2 * reach_k + 1)
        self.multiprocessors = _multiprocessors(q.device)

    def fit(self, tiles: _Tiles) -> _Tiles:
        """Shrink tiles to a sequence that does not fill them."""
        keys = min(tiles.keys, max(16, _next_power_of_2(self.sizes[0])))
        return dataclasses.replace(
            tiles, keys=keys, rows=min(tiles.rows, max(16, _next_power_of_2(self.rows)))
        )

    def parts(self, blocks: int, warps: int) -> int:
        """Into how many parts to split j, so that every multiprocessor has _WARPS warps, or each part 8 j."""
        wanted = _WARPS * self.multiprocessors // (blocks * self.programs * warps)
        return max(1, min(wanted, self.partners // 8))

    def constants(self, tiles: _Tiles) -> dict[str, object]:
        language = importlib.import_module("triton.language")
        q, mask, bias = self.tensors[0], *self.tensors[-2:]
        length = q.shape[2]
        window_k = self.window[1] is not None
        # The interpreter multiplies the bits of bfloat16.
        operand = language.bfloat16 if q.dtype == torch.bfloat16 and not _interprets() else language.float32
        return {
            "GROUP": self.group,
            "ROWS": tiles.rows,
            "KEYS": tiles.keys,
            "CHANNELS": self.width,
            "HAS_MASK": mask is not None,
            "HAS_BIAS": bias is not None,
            "WINDOW_J": self.window[0] is not None,
            "WINDOW_K": window_k,
            "CHECK_KEYS": window_k or mask is not None or length % tiles.keys != 0,
            "FOLD": q.dtype == torch.float32,
            "OPERAND": operand,
            "PRECISION": "ieee" if _interprets() else "bf16x6",
            "num_warps": tiles.warps,
            "num_stages": tiles.stages,
            "enable_fp_fusion": True,  # the default that triton 3.9 says it will change
        }


def _next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _interprets() -> bool:
    """Whether triton runs kernels on the CPU, step by step; it decides so when the kernels are imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def _refuse_triton() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; pip install 'openfoldpp[gpu]'"
    version = importlib.import_module("triton").__version__
    if tuple(int(part) for part in version.split(".")[:2]) < _TRITON:
        return f"triton {version} is installed, expected {'.'.join(map(str, _TRITON))} or newer"
    return None


def _refuse_device(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    if torch.version.hip:
        return "torch is built for ROCm, expected CUDA"
    if _capability(device) < _CAPABILITY:
        found, expected = (".".join(map(str, pair)) for pair in (_capability(device), _CAPABILITY))
        return f"{device} has compute capability {found}, expected {expected} or more"
    return None


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else _CAPABILITY


@functools.cache
def _kernels(direction: str) -> ModuleType:
    return importlib.import_module(f"openfoldpp.ops._simplicial_triton.{direction}")


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    # In the interpreter a number with which short sequences are split as well.
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 16


def _on(device: torch.device) -> contextlib.AbstractContextManager:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
