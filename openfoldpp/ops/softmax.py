"""Softmax over the last dimension, in place, and its gradient in place: the core of attention.

Doing both in place keeps one ``[*, H, N_res, N_res]`` tensor in memory instead of three.
"""

from __future__ import annotations

import math

import torch

from openfoldpp import _native
from openfoldpp.errors import InputError
from openfoldpp.ops.arrays import mark_changed, require_floating
from openfoldpp.ops.dispatch import Backend, Choice, Op, refuse_unless_cpu, refuse_unless_cuda, threads


def softmax_(logits: torch.Tensor) -> torch.Tensor:
    """Replace logits by their softmax over the last dimension, in place.

    A row whose entries are all equal, however negative, becomes uniform. A row that holds a NaN or +inf, or
    nothing but -inf, becomes NaN, as with ``torch.softmax``.

    Parameters
    ----------
    logits : torch.Tensor
        ``[*, N]``, any floating dtype; the native kernel takes contiguous float32 and bfloat16 (computed in
        float32) on the CPU, other tensors go to torch.

    Returns
    -------
    torch.Tensor
        ``logits`` itself.

    Raises
    ------
    InputError
        Where ``logits`` is not floating point, has no dimension, or would need autograd.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support it.
    """
    require_floating("logits", logits, ("N",))
    _require_no_autograd("logits", logits)
    if logits.numel():
        _forward(logits)
    return logits


def softmax_backward_(
    probabilities: torch.Tensor, grad_out: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Replace attention probabilities by the gradient with respect to their logits, in place.

    For ``out = p @ values`` with ``p = softmax(logits)``: ``dp = grad_out @ values^T`` and then
    ``p <- p * (dp - sum(p * dp))`` over the last dimension.

    Parameters
    ----------
    probabilities : torch.Tensor
        ``[*, Q, K]``, the softmax ``p``.
    grad_out : torch.Tensor
        ``[*, Q, D]``, gradient of ``out``; same dtype and device.
    values : torch.Tensor
        ``[*, K, D]``, same dtype and device.

    Returns
    -------
    torch.Tensor
        ``probabilities`` itself.

    Raises
    ------
    InputError
        Where dtypes, devices or shapes do not fit, or ``probabilities`` would need autograd.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the tensors.
    """
    require_floating("probabilities", probabilities, ("Q", "K"))
    for name, tensor in (("grad_out", grad_out), ("values", values)):
        if tensor.dtype != probabilities.dtype or tensor.device != probabilities.device:
            raise InputError(
                f"{name} is {tensor.dtype} on {tensor.device}, probabilities {probabilities.dtype} on "
                f"{probabilities.device}; expected the same"
            )
    p, g, v = probabilities.shape, grad_out.shape, values.shape
    if min(len(p), len(g), len(v)) < 2 or g != (*p[:-1], g[-1]) or v != (*p[:-2], p[-1], g[-1]):
        raise InputError(
            f"shapes do not fit: probabilities {list(p)}, grad_out {list(g)}, values {list(v)}; "
            "expected [*, Q, K], [*, Q, D] and [*, K, D]"
        )
    _require_no_autograd("probabilities", probabilities)
    if probabilities.numel():
        _backward(probabilities, grad_out, values)
    return probabilities


def explain(logits: torch.Tensor | None = None) -> Choice:
    """Return which backend :func:`softmax_` takes, with the reason.

    Parameters
    ----------
    logits : torch.Tensor, optional
        The tensor to choose for; without it, a float32 tensor on the CPU.

    Returns
    -------
    Choice
        As text: ``softmax_: native (avx512, 2 threads)``.
    """
    return _forward.choose(torch.zeros(1, 1) if logits is None else logits)


def _require_no_autograd(name: str, tensor: torch.Tensor) -> None:
    if torch.is_grad_enabled() and tensor.requires_grad:
        raise InputError(
            f"{name} requires grad, and an op in place would lose its gradient; "
            "call it inside a torch.autograd.Function or under torch.no_grad(), or use torch.softmax"
        )


def _memory(tensor: torch.Tensor):
    """View the tensor's memory as a numpy array; bfloat16, which numpy lacks, as its bits."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _batched(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(math.prod(tensor.shape[:-2]), *tensor.shape[-2:])


def _forward_native(logits: torch.Tensor) -> None:
    _native.softmax_forward(_memory(logits.view(-1, logits.shape[-1])), threads())
    mark_changed(logits)


def _backward_native(probabilities: torch.Tensor, grad_out: torch.Tensor, values: torch.Tensor) -> None:
    arrays = [_memory(_batched(tensor)) for tensor in (probabilities, grad_out, values)]
    _native.softmax_backward(*arrays, threads())
    mark_changed(probabilities)


def _forward_cuda(logits: torch.Tensor) -> None:
    cols = logits.shape[-1]
    with torch.cuda.device(logits.device):
        stream = torch.cuda.current_stream().cuda_stream
        bfloat16 = logits.dtype == torch.bfloat16
        _native.cuda_softmax_forward(logits.data_ptr(), bfloat16, logits.numel() // cols, cols, stream)
    mark_changed(logits)


def _backward_cuda(probabilities: torch.Tensor, grad_out: torch.Tensor, values: torch.Tensor) -> None:
    batch, queries, keys = _batched(probabilities).shape
    with torch.cuda.device(probabilities.device):
        stream = torch.cuda.current_stream().cuda_stream
        pointers = [tensor.data_ptr() for tensor in (probabilities, grad_out, values)]
        bfloat16 = probabilities.dtype == torch.bfloat16
        _native.cuda_softmax_backward(*pointers, bfloat16, batch, queries, keys, values.shape[-1], stream)
    mark_changed(probabilities)


def _forward_torch(logits: torch.Tensor) -> None:
    with torch.no_grad():
        logits.copy_(torch.softmax(logits, dim=-1))


def _backward_torch(probabilities: torch.Tensor, grad_out: torch.Tensor, values: torch.Tensor) -> None:
    # bfloat16 and float16 are computed in float32, as the kernels do.
    wide = torch.promote_types(probabilities.dtype, torch.float32)
    with torch.no_grad():
        p, g, v = (tensor.to(wide) for tensor in (probabilities, grad_out, values))
        dp = g @ v.transpose(-1, -2)
        probabilities.copy_(p * (dp - (p * dp).sum(dim=-1, keepdim=True)))


def _supported(*tensors: torch.Tensor) -> None:
    return None


_forward = Op(
    "softmax_",
    (
        Backend("native", refuse_unless_cpu, _forward_native),
        Backend("cuda", refuse_unless_cuda, _forward_cuda),
        Backend("torch", _supported, _forward_torch),
    ),
)
_backward = Op(
    "softmax_backward_",
    (
        Backend("native", refuse_unless_cpu, _backward_native),
        Backend("cuda", refuse_unless_cuda, _backward_cuda),
        Backend("torch", _supported, _backward_torch),
    ),
)
