"""The two functions of OpenFold's extension ``attn_core_inplace_cuda``, for any device.

OpenFold's attention core (``openfold/utils/kernel/attention_core.py``) calls them by position. The upstream
kernel finds the values of a row by the number of keys, which is right only where there are as many queries
as keys; here the number of queries is taken from the tensors.
"""

from __future__ import annotations

import torch

from openfoldpp.errors import InputError
from openfoldpp.ops.softmax import softmax_, softmax_backward_


def forward_(logits: torch.Tensor, rows: int, cols: int) -> None:
    """Softmax over the last dimension, in place.

    Parameters
    ----------
    logits : torch.Tensor
        ``[*, Q, K]``.
    rows, cols : int
        ``prod(*) * Q`` and ``K``.

    Raises
    ------
    InputError
        Where the sizes are not those of the tensor, or the tensor cannot be used.
    """
    _require_sizes("logits", logits, rows, cols)
    softmax_(logits)


def backward_(
    output: torch.Tensor,
    d_ov: torch.Tensor,
    values: torch.Tensor,
    rows: int,
    cols_output: int,
    cols_values: int,
) -> None:
    """Turn the softmax probabilities ``output`` into the gradient of the logits, in place.

    Parameters
    ----------
    output : torch.Tensor
        ``[*, Q, K]``, the softmax probabilities.
    d_ov : torch.Tensor
        ``[*, Q, D]``, gradient of ``output @ values``.
    values : torch.Tensor
        ``[*, K, D]``.
    rows, cols_output, cols_values : int
        ``prod(*) * Q``, ``K`` and ``D``.

    Raises
    ------
    InputError
        Where the sizes are not those of the tensors, or the tensors do not fit each other.
    """
    _require_sizes("output", output, rows, cols_output)
    _require_sizes("d_ov", d_ov, rows, cols_values)
    softmax_backward_(output, d_ov, values)


def _require_sizes(name: str, tensor: torch.Tensor, rows: int, cols: int) -> None:
    if tensor.ndim == 0 or tensor.shape[-1] != cols or rows < 0 or tensor.numel() != rows * cols:
        raise InputError(f"{name} has shape {list(tensor.shape)}, expected {rows} rows of {cols}")
