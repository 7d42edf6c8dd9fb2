"""2-simplicial attention by the native CPU kernels, forward and backward, for float32."""

from __future__ import annotations

import torch

from openfoldpp import _native
from openfoldpp.ops.dispatch import refuse_kind, threads
from openfoldpp.ops.simplicial_inputs import Inputs

#: Whether :func:`backward` reads the output.
NEEDS_OUTPUT = False


def refuse(inputs: Inputs) -> str | None:
    """Why the native kernels cannot take ``inputs``, as of :func:`forward`.

    The first reason: device, dtype or a tangent; None where they can.
    """
    for tensor in inputs.tensors():
        if reason := refuse_kind(tensor, "cpu"):
            return reason
    return None


def forward(inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend to pairs of keys (arXiv 2507.02754); no more than a tile of logits is ever in memory.

    Parameters
    ----------
    inputs : Inputs
        On the CPU, float32.

    Returns
    -------
    out : torch.Tensor
        ``[B, H, N, d]``, contiguous.
    statistics : torch.Tensor
        ``[B, H, N, 2]``, for :func:`backward`: the largest logit of each query, and the sum of
        ``exp(logit - largest)``.
    """
    shape = inputs.q.shape
    out, statistics = _empty(shape), _empty((*shape[:-1], 2))
    _native.simplicial_attention_forward(*_arguments(inputs), out.numpy(), statistics.numpy(), threads())
    return out, statistics


def backward(
    grad_out: torch.Tensor,
    out: None,
    statistics: torch.Tensor,
    inputs: Inputs,
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
    inputs : Inputs
        What it was given.

    Returns
    -------
    tuple of (torch.Tensor or None)
        Gradients of ``q``, ``k``, ``k2``, ``v``, ``v2`` and ``bias``, contiguous; None without a bias.
    """
    gradients = [_empty(tensor.shape) for tensor in inputs[:5]]
    grad_bias = None if inputs.bias is None else _empty(inputs.bias.shape)
    _native.simplicial_attention_backward(
        *_arguments(inputs),
        *(_array(tensor) for tensor in (statistics, grad_out, *gradients, grad_bias)),
        threads(),
    )
    return (*gradients, grad_bias)


def _empty(shape) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")  # whatever torch's defaults are


def _arguments(inputs: Inputs):
    """Return the inputs as the bindings take them."""
    *qkv, mask, bias, window = inputs
    mask = None if mask is None else mask.contiguous()
    return [*(_array(tensor) for tensor in (*qkv, mask, bias)), window]


def _array(tensor: torch.Tensor | None):
    """View the tensor's memory as a numpy array; a copy where the last dimension is not contiguous."""
    if tensor is None:
        return None
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
        tensor = tensor.contiguous()
    return tensor.numpy()
