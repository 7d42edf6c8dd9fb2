"""Triangle attention around the starting or the ending node."""

from __future__ import annotations

import torch

from openfoldpp.errors import InputError
from openfoldpp.ops.arrays import require_channels, require_floating
from openfoldpp.ops.attention import (
    AttentionWeights,
    PairBiasWeights,
    gated_attention,
    gated_attention_of_columns,
    pair_bias,
)


def triangle_attention(
    z: torch.Tensor,
    attention: AttentionWeights,
    bias: PairBiasWeights,
    *,
    starting: bool = True,
    mask: torch.Tensor | None = None,
    inf: float = 1e9,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Let each edge attend to the edges of its starting or its ending node.

    Algorithms 13 and 14 of the AlphaFold 2 supplement: :func:`~openfoldpp.ops.gated_attention` along the rows
    of ``z``, or along its columns, which are read and written where they are.

    Parameters
    ----------
    z : torch.Tensor
        ``[*, I, I, C_z]``; the native kernel takes float32 on the CPU with a contiguous last dimension.
    attention : AttentionWeights
        Same dtype and device, as of all tensors here.
    bias : PairBiasWeights
        Of the triangle's third edge.
    starting : bool
        Around the starting node (algorithm 13), else the ending node (algorithm 14).
    mask : torch.Tensor, optional
        ``[*, I, I]``, 1 for the edges that count.
    inf : float
        What a masked edge's logit loses.
    residual : torch.Tensor, optional
        ``[*, I, I, C_z]``, added to the update; may be ``z``.
    out : torch.Tensor, optional
        ``[*, I, I, C_z]``, receives the result; may be ``z`` or ``residual``.

    Returns
    -------
    torch.Tensor
        ``out``, or a new tensor.

    Raises
    ------
    InputError
        Where shapes, dtypes, devices or memory do not fit.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the arguments.
    """
    require_floating("z", z, ("I", "I", "C_z"))
    if z.shape[-3] != z.shape[-2]:
        raise InputError(f"z has shape {list(z.shape)}; expected a square [*, I, I, C_z]")
    require_channels("z", z, attention.query)
    if starting:
        update = pair_bias(z, bias)
        return gated_attention(z, attention, pair_bias=update, mask=mask, inf=inf, residual=residual, out=out)
    update = pair_bias(z.transpose(-2, -3), bias)
    return gated_attention_of_columns(
        z, attention, pair_bias=update, mask=mask, inf=inf, residual=residual, out=out
    )
