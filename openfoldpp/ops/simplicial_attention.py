"""2-simplicial attention: each query attends to pairs of keys.

The kernels never hold the ``N^3`` logits of all queries, and skip what a window leaves out. Each is a module
with three functions, ``refuse``, ``forward`` and ``backward``, and says in ``NEEDS_OUTPUT`` whether the last
reads the output: native for the CPU, CUDA and Triton for a GPU.
"""

from __future__ import annotations

import functools
import math
import operator
from types import ModuleType

import torch

from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops import simplicial_cuda, simplicial_native, simplicial_triton
from openfoldpp.ops.arrays import require_floating, require_like
from openfoldpp.ops.dispatch import Backend, Op, refuse_transform
from openfoldpp.ops.simplicial_inputs import Inputs, Window


def simplicial_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    k2: torch.Tensor,
    v: torch.Tensor,
    v2: torch.Tensor,
    mask: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    window: Window | None = None,
) -> torch.Tensor:
    """Attend to pairs of keys: 2-simplicial attention, arXiv 2507.02754.

    With ``A_ijk = d^-1/2 sum_l q_il k_jl k2_kl + bias_ij`` and the softmax ``S_i`` of ``A_i`` over all pairs
    (j, k) that are allowed, ``out_i = sum_jk S_ijk (v_j * v2_k)``. A pair is allowed where the mask keeps
    both keys and both lie in the window. A query without an allowed pair, or whose logits are all -inf, gets
    zeros, and gives no gradient.

    Parameters
    ----------
    q : torch.Tensor
        ``[*, H, N, d]``, floating point. The native kernel takes float32 on the CPU, those for a GPU float32
        and bfloat16; other tensors go to torch, which holds ``N^3`` logits, and computes float16 and bfloat16
        in float32, under autocast too. Any strides.
    k, k2, v, v2 : torch.Tensor
        ``[*, H_kv, N, d]``, same dtype and device. ``H`` is a multiple of ``H_kv``: head ``h`` uses their
        head ``h // (H / H_kv)``.
    mask : torch.Tensor, optional
        ``[*, N]``, 0 or False for the keys that are out, anything else for those that are in; the dtype of
        ``q``, or bool.
    bias : torch.Tensor, optional
        ``[*, H, N, N]``, added on (i, j).
    window : tuple of (int or None, int or None), optional
        Largest ``|i - j|`` and largest ``|i - k|``; None is no limit. In torch a key that is not finite makes
        those queries NaN as well whose window leaves it out.

    Returns
    -------
    torch.Tensor
        ``[*, H, N, d]``; differentiable in ``q``, ``k``, ``k2``, ``v``, ``v2`` and ``bias``: once by the
        kernels, any number of times by torch.

    Raises
    ------
    InputError
        Where shapes, dtypes or devices do not fit, or the window is not one.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the arguments; and in the backward
        pass, where a second derivative of a kernel is asked for.

    Examples
    --------
    >>> q, k, k2, v, v2 = torch.randn(5, 1, 4, 20, 16)
    >>> simplicial_attention(q, k, k2, v, v2, window=(8, 2)).shape
    torch.Size([1, 4, 20, 16])
    """
    require_floating("q", q, ("H", "N", "d"))
    require_floating("k", k, ("H_kv", "N", "d"))
    *batch, heads, length, channels = q.shape
    shared, elements = k.shape[-3], math.prod(batch)
    for name, tensor in (("k", k), ("k2", k2), ("v", v), ("v2", v2)):
        require_like(name, tensor, q, (*batch, shared, length, channels))
    if not heads or not channels or not shared or heads % shared:
        raise InputError(
            f"q has shape {list(q.shape)} and k {list(k.shape)}; expected 1 channel or more, and as many "
            "heads of q as of k, or a multiple of that"
        )
    if mask is not None:
        mask = mask.to(q.dtype) if isinstance(mask, torch.Tensor) and mask.dtype == torch.bool else mask
        require_like("mask", mask, q, (*batch, length))
        mask = mask.detach().reshape(elements, length)
    if bias is not None:
        require_like("bias", bias, q, (*batch, heads, length, length))
        bias = bias.reshape(elements, heads, length, length)
    flat = (q, k, k2, v, v2)
    if len(batch) != 1:
        flat = tuple(tensor.reshape(elements, *tensor.shape[-3:]) for tensor in flat)
    return _simplicial_attention(*flat, mask, bias, _checked(window, length)).reshape(q.shape)


def _checked(window: Window | None, length: int) -> Window:
    if window is None:
        return None, None
    try:
        reach_j, reach_k = (None if reach is None else operator.index(reach) for reach in window)
    except (TypeError, ValueError):
        raise InputError(
            f"window is {window!r}; expected None or two whole numbers, each of which may be None"
        ) from None
    for reach in (reach_j, reach_k):
        if reach is not None and reach < 0:
            raise InputError(f"window is {window!r}; expected 0 or more")
    # Beyond the sequence a window may be of any size, also of one that no kernel can count to.
    return tuple(None if reach is None else min(reach, length) for reach in (reach_j, reach_k))


class _Attention(torch.autograd.Function):
    """A kernel; its gradient is one too."""

    @staticmethod
    def forward(ctx, kernel, window, mask, *tensors):
        *qkv, bias = tensors
        out, statistics = kernel.forward(Inputs(*qkv, mask, bias, window))
        ctx.save_for_backward(out if kernel.NEEDS_OUTPUT else None, statistics, *qkv, mask, bias)
        ctx.kernel, ctx.window = kernel, window
        return out

    @staticmethod
    def backward(ctx, grad_out):
        gradients = _Gradient.apply(ctx.kernel, ctx.window, grad_out, *ctx.saved_tensors)
        return (None, None, None, *gradients)


class _Gradient(torch.autograd.Function):
    """The gradient of a kernel; it says that it has none itself, or a second derivative would be lost."""

    @staticmethod
    def forward(ctx, kernel, window, grad_out, out, statistics, *tensors):
        return kernel.backward(grad_out, out, statistics, Inputs(*tensors, window))

    @staticmethod
    def backward(ctx, *gradients):
        raise BackendError(
            "simplicial_attention: the kernels have a first derivative alone; in float64, or with "
            "OPENFOLDPP_BACKEND=torch, there are more"
        )


def _run(kernel: ModuleType, q, k, k2, v, v2, mask, bias, window):
    if not torch.is_grad_enabled():  # what autograd takes is felt on short sequences
        return kernel.forward(Inputs(q, k, k2, v, v2, mask, bias, window))[0]
    return _Attention.apply(kernel, window, mask, q, k, k2, v, v2, bias)


def _refuse(kernel: ModuleType, *arguments) -> str | None:
    return refuse_transform() or kernel.refuse(Inputs(*arguments))


def _torch(q, *arguments):
    kind = q.device.type
    if not torch.amp.is_autocast_available(kind):
        return _attend(q, *arguments)
    with torch.autocast(kind, enabled=False):
        return _attend(q, *arguments)


def _attend(q, k, k2, v, v2, mask, bias, window):
    dtype, (batch, heads, length, channels), shared = q.dtype, q.shape, k.shape[1]
    wide = torch.promote_types(dtype, torch.float32)
    q, k, k2, v, v2 = (tensor.to(wide) for tensor in (q, k, k2, v, v2))
    if mask is not None:  # a key that is out may hold anything
        kept = (mask != 0)[:, None, :, None]
        k, k2, v, v2 = (tensor.where(kept, 0) for tensor in (k, k2, v, v2))

    def pairs(first, second):  # [B, H_kv, N * N, d]
        return (first.unsqueeze(-2) * second.unsqueeze(-3)).flatten(-3, -2)

    grouped = (q * channels**-0.5).reshape(batch, shared, heads // shared * length, channels)
    logits = (grouped @ pairs(k, k2).mT).reshape(batch, heads, length, length, length)
    if bias is not None:
        logits = logits + bias.to(wide).unsqueeze(-1)
    if mask is not None or window != (None, None):
        near_j, near_k = (_near(reach, mask, length, q.device) for reach in window)
        logits = logits.masked_fill(~(near_j.unsqueeze(-1) & near_k.unsqueeze(-2)), -torch.inf)
    logits = logits.flatten(-2)
    nothing = (logits == -torch.inf).all(dim=-1, keepdim=True)
    weights = logits.masked_fill(nothing, 0).softmax(dim=-1).masked_fill(nothing, 0)
    out = weights.reshape(batch, shared, heads // shared * length, length * length) @ pairs(v, v2)
    return out.reshape(q.shape).to(dtype)


def _near(reach: int | None, mask: torch.Tensor | None, length: int, device: torch.device) -> torch.Tensor:
    """Which keys a query may use: ``[B or 1, 1, N, N]``."""
    place = torch.arange(length, device=device)
    far = length if reach is None else reach
    near = ((place[:, None] - place).abs() <= far)[None, None]
    return near if mask is None else near & (mask != 0)[:, None, None, :]


def _backend(name: str, kernel: ModuleType) -> Backend:
    return Backend(name, functools.partial(_refuse, kernel), functools.partial(_run, kernel))


_simplicial_attention = Op(
    "simplicial_attention",
    (
        _backend("native", simplicial_native),
        _backend("cuda", simplicial_cuda),
        _backend("triton", simplicial_triton),
        Backend("torch", lambda *_: None, _torch),
    ),
)
