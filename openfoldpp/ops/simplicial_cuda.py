"""2-simplicial attention by the CUDA kernels, forward and backward, for float32 and bfloat16 on a GPU."""

from __future__ import annotations

import torch

from openfoldpp import _native
from openfoldpp.ops.dispatch import FLOAT32_OR_BFLOAT16, refuse_kind
from openfoldpp.ops.simplicial_inputs import Inputs

#: Channels of a head that there are kernels for.
CHANNELS = (16, 32, 64, 128)

#: Whether :func:`backward` reads the output.
NEEDS_OUTPUT = True

# 99 KiB a block, where 128 channels take up to 114 (docs/kernels.md).
_LITTLE_SHARED_MEMORY = ((8, 6), (8, 9), (12, 0))
_VECTOR_BYTES = 16  # vectors begin at multiples of this: the kernels copy so many bytes at a time


def refuse(inputs: Inputs) -> str | None:
    """Why the CUDA kernels cannot take ``inputs``, as of :func:`forward`.

    The first reason: build, device, dtype, channels or a tangent; None where they can.
    """
    if not hasattr(_native, "cuda_simplicial_attention_forward"):
        return "this build has no CUDA kernels; build with -C cmake.define.OPENFOLDPP_CUDA=ON"
    for tensor in inputs.tensors():
        if reason := refuse_kind(tensor, "cuda", FLOAT32_OR_BFLOAT16):
            return reason
    q = inputs.q
    if q.shape[-1] not in CHANNELS:
        return f"a head has {q.shape[-1]} channels, expected {', '.join(map(str, CHANNELS))}"
    if q.shape[-1] == CHANNELS[-1] and torch.cuda.get_device_capability(q.device) in _LITTLE_SHARED_MEMORY:
        return f"a head of {q.shape[-1]} channels needs more shared memory than {q.device} has"
    return None


def forward(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to pairs of keys (arXiv 2507.02754); logits never leave the chip.

    Parameters
    ----------
    inputs : Inputs
        On a GPU, float32 or bfloat16.

    Returns
    -------
    out : torch.Tensor
        ``[B, H, N, d]``, contiguous.
    statistics : torch.Tensor
        float32 ``[B, H, N, 2]``, for :func:`backward` alone.
    """
    q = inputs.q
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    statistics = torch.empty(*q.shape[:-1], 2, dtype=torch.float32, device=q.device)
    prepared = _Prepared(inputs)
    with torch.cuda.device(q.device):
        stream = torch.cuda.current_stream().cuda_stream
        _native.cuda_simplicial_attention_forward(
            *prepared.arguments, _view(out), statistics.data_ptr(), stream
        )
    return out, statistics


def backward(
    grad_out: torch.Tensor,
    out: torch.Tensor,
    statistics: torch.Tensor,
    inputs: Inputs,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of :func:`forward`, by computing the logits again.

    Parameters
    ----------
    grad_out : torch.Tensor
        ``[B, H, N, d]``, gradient of ``out``; any strides.
    out, statistics : torch.Tensor
        What :func:`forward` returned.
    inputs : Inputs
        What it was given.

    Returns
    -------
    tuple of (torch.Tensor or None)
        Gradients of ``q``, ``k``, ``k2``, ``v``, ``v2`` and ``bias``, contiguous; None without a bias.
    """
    q, bias = inputs.q, inputs.bias
    prepared = _Prepared(inputs)
    gradients = [torch.empty(tensor.shape, dtype=q.dtype, device=q.device) for tensor in inputs[:5]]
    grad_bias = None if bias is None else torch.empty(bias.shape, dtype=q.dtype, device=q.device)
    grad_out = _aligned(grad_out)
    with torch.cuda.device(q.device):
        needed = _native.cuda_simplicial_workspace(*prepared.arguments[:3])
        workspace = torch.empty(needed, dtype=torch.uint8, device=q.device)
        stream = torch.cuda.current_stream().cuda_stream
        _native.cuda_simplicial_attention_backward(
            *prepared.arguments,
            _view(out),
            statistics.data_ptr(),
            _view(grad_out),
            *(_view(tensor) for tensor in (*gradients, grad_bias)),
            workspace.data_ptr(),
            stream,
        )
    return (*gradients, grad_bias)


class _Prepared:
    """The inputs as the bindings take them; keeps copies alive until the kernel is queued."""

    def __init__(self, inputs: Inputs):
        q, k, *_, mask, bias, window = inputs
        qkv = [_aligned(tensor) for tensor in inputs[:5]]
        mask = None if mask is None else mask.float().contiguous()
        if bias is not None and bias.stride(-1) != 1:
            bias = bias.contiguous()
        self._kept = (*qkv, mask, bias)
        batch, heads, length, channels = q.shape
        self.arguments = (
            q.dtype == torch.bfloat16,
            (batch, heads, k.shape[1], length, channels),
            tuple(-1 if reach is None else reach for reach in window),
            *(_view(tensor) for tensor in qkv),
            0 if mask is None else mask.data_ptr(),
            _view(bias),
        )


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, or a copy where a vector is not contiguous or not at a multiple of 16 bytes."""
    starts = (tensor.data_ptr(), *(stride * tensor.element_size() for stride in tensor.stride()[:-1]))
    if tensor.stride(-1) == 1 and not any(start % _VECTOR_BYTES for start in starts):
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _view(tensor: torch.Tensor | None) -> tuple[int, int, int, int]:
    """Address, and strides of batch, head and row; zeros for None."""
    return (0, 0, 0, 0) if tensor is None else (tensor.data_ptr(), *tensor.stride()[:-1])
