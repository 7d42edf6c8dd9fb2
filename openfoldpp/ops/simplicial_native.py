"""2-simplicial attention by the native CPU kernels, forward and backward, for float32."""

from __future__ import annotations

import torch

from openfoldpp import _native
from openfoldpp.ops.dispatch import refuse_kind, threads

Window = tuple[int | None, int | None]

#: Whether :func:`backward` reads the output.
NEEDS_OUTPUT = False


def refuse(
    q: torch.Tensor,
    k: torch.Tensor,
    k2: torch.Tensor,
    v: torch.Tensor,
    v2: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    window: Window,
) -> str | None:
    """Why the native kernels cannot take q, k, k2, v, v2, mask, bias and window, as of :func:`forward`.

    The first reason: device, dtype or a tangent; None where they can.
    """
    for tensor in (q, k, k2, v, v2, mask, bias):
        if tensor is not None and (reason := refuse_kind(tensor, "cpu")):
            return reason
    return None


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    k2: torch.Tensor,
    v: torch.Tensor,
    v2: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    window: Window,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to pairs of keys (arXiv 2507.02754); no more than a tile of logits is ever in memory.

    Parameters
    ----------
    q : torch.Tensor
        ``[B, H, N, d]``; any strides, as of all tensors here.
    k, k2, v, v2 : torch.Tensor
        ``[B, H_kv, N, d]``.
    mask : torch.Tensor or None
        ``[B, N]``, 0 for the keys that are out.
    bias : torch.Tensor or None
        ``[B, H, N, N]``, added on (i, j).
    window : tuple of (int or None, int or None)
        Largest ``|i - j|`` and ``|i - k|``.

    Returns
    -------
    out : torch.Tensor
        ``[B, H, N, d]``, contiguous.
    statistics : torch.Tensor
        ``[B, H, N, 2]``, for :func:`backward`: the largest logit of each query, and the sum of
        ``exp(logit - largest)``.
    """
    out, statistics = _empty(q.shape), _empty((*q.shape[:-1], 2))
    inputs = _inputs(q, k, k2, v, v2, mask, bias)
    _native.simplicial_attention_forward(*inputs, window, out.numpy(), statistics.numpy(), threads())
    return out, statistics


def backward(
    grad_out: torch.Tensor,
    out: None,
    statistics: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    k2: torch.Tensor,
    v: torch.Tensor,
    v2: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    window: Window,
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of :func:`forward`, by computing the logits again.

    Parameters
    ----------
    grad_out : torch.Tensor
        ``[B, H, N, d]``, gradient of the output; any strides.
    out : None
        Not needed.
    statistics : torch.Tensor
        What :func:`forward` returned beside the output.
    q, k, k2, v, v2 : torch.Tensor
        What it was given.
    mask, bias : torch.Tensor or None
        What it was given.
    window : tuple of (int or None, int or None)
        What it was given.

    Returns
    -------
    tuple of (torch.Tensor or None)
        Gradients of ``q``, ``k``, ``k2``, ``v``, ``v2`` and ``bias``, contiguous; None without a bias.
    """
    gradients = [_empty(tensor.shape) for tensor in (q, k, k2, v, v2)]
    grad_bias = None if bias is None else _empty(bias.shape)
    _native.simplicial_attention_backward(
        *_inputs(q, k, k2, v, v2, mask, bias),
        window,
        *(_array(tensor) for tensor in (statistics, grad_out, *gradients, grad_bias)),
        threads(),
    )
    return (*gradients, grad_bias)


def _empty(shape) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")  # whatever torch's defaults are


def _inputs(q, k, k2, v, v2, mask, bias):
    mask = None if mask is None else mask.contiguous()
    return [_array(tensor) for tensor in (q, k, k2, v, v2, mask, bias)]


def _array(tensor: torch.Tensor | None):
    """View the tensor's memory as a numpy array; a copy where the last dimension is not contiguous."""
    if tensor is None:
        return None
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        tensor = tensor.contiguous()
    return tensor.numpy()
