"""Attention along the rows and along the columns of an alignment."""

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


def row_attention_with_pair_bias(
    m: torch.Tensor,
    z: torch.Tensor,
    attention: AttentionWeights,
    bias: PairBiasWeights,
    *,
    mask: torch.Tensor | None = None,
    inf: float = 1e9,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Let the residues of each sequence attend to each other, biased by the pair representation.

    Algorithm 7 of the AlphaFold 2 supplement.

    Parameters
    ----------
    m : torch.Tensor
        ``[*, N_seq, N_res, C_m]``; the native kernels take float32 on the CPU with a contiguous last
        dimension.
    z : torch.Tensor
        ``[*, N_res, N_res, C_z]``, same dtype and device, as of all tensors here.
    attention : AttentionWeights
        For ``C_m`` channels.
    bias : PairBiasWeights
        For ``C_z`` channels, with as many heads.
    mask : torch.Tensor, optional
        ``[*, N_seq, N_res]``, 1 for the residues that count.
    inf : float
        What a masked residue's logit loses.
    residual : torch.Tensor, optional
        ``[*, N_seq, N_res, C_m]``, added to the update; may be ``m``.
    out : torch.Tensor, optional
        ``[*, N_seq, N_res, C_m]``, receives the result; may be ``m`` or ``residual``.

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
    _require_alignment(m, attention)
    require_floating("z", z, ("N_res", "N_res", "C_z"))
    expected = [*m.shape[:-3], m.shape[-2], m.shape[-2]]
    if list(z.shape[:-1]) != expected:
        sizes = ", ".join(map(str, expected))
        raise InputError(f"z has shape {list(z.shape)}; expected [{sizes}, C_z], as m has {list(m.shape)}")
    return gated_attention(
        m, attention, pair_bias=pair_bias(z, bias), mask=mask, inf=inf, residual=residual, out=out
    )


def column_attention(
    m: torch.Tensor,
    attention: AttentionWeights,
    *,
    mask: torch.Tensor | None = None,
    inf: float = 1e9,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Let the sequences attend to each other at each residue.

    Algorithm 8 of the AlphaFold 2 supplement. Columns are read and written where they are.

    Parameters
    ----------
    m : torch.Tensor
        ``[*, N_seq, N_res, C_m]``; the native kernel takes float32 on the CPU with a contiguous last
        dimension.
    attention : AttentionWeights
        Same dtype and device, as of all tensors here.
    mask : torch.Tensor, optional
        ``[*, N_seq, N_res]``, 1 for the residues that count.
    inf : float
        What a masked residue's logit loses.
    residual : torch.Tensor, optional
        ``[*, N_seq, N_res, C_m]``, added to the update; may be ``m``.
    out : torch.Tensor, optional
        ``[*, N_seq, N_res, C_m]``, receives the result; may be ``m`` or ``residual``.

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
    _require_alignment(m, attention)
    return gated_attention_of_columns(m, attention, mask=mask, inf=inf, residual=residual, out=out)


def _require_alignment(m: torch.Tensor, attention: AttentionWeights) -> None:
    require_floating("m", m, ("N_seq", "N_res", "C_m"))
    require_channels("m", m, attention.query)
