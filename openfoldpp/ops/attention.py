"""Gated self-attention on the rows of a grid, and its pair bias: what the Evoformer's attentions are made of.

Neither the logits of more than a few rows nor a transposed or normalised copy of the input is ever in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import layer_norm, linear

from openfoldpp import _native
from openfoldpp.errors import InputError
from openfoldpp.ops.arrays import (
    Weights,
    finish,
    native_or_torch,
    new_or,
    refuse_unless_native,
    require_channels,
    require_floating,
    require_like,
    require_out,
    run_native,
)
from openfoldpp.ops.dispatch import threads


@dataclass(frozen=True, eq=False)
class AttentionWeights(Weights):
    """Parameters of a gated self-attention, laid out as ``torch.nn.Linear`` has them.

    Attributes
    ----------
    norm_weight, norm_bias : torch.Tensor
        ``[C]``, of the layer norm of the input.
    query, key, value, gate : torch.Tensor
        ``[heads * d, C]``, heads first.
    gate_bias : torch.Tensor
        ``[heads * d]``.
    output : torch.Tensor
        ``[C, heads * d]``.
    output_bias : torch.Tensor
        ``[C]``.
    heads : int
        Attention heads.
    eps : float
        Of the layer norm.

    Raises
    ------
    InputError
        Where the tensors do not fit each other.
    """

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    gate: torch.Tensor
    gate_bias: torch.Tensor
    output: torch.Tensor
    output_bias: torch.Tensor
    heads: int
    eps: float = 1e-5

    def __post_init__(self):
        require_floating("query", self.query, ("heads * d", "C"))
        wide, channels = self.query.shape[-2:]
        if self.heads < 1 or wide % self.heads:
            raise InputError(f"heads is {self.heads}; expected a divisor of query's {wide} outputs")
        projection = (wide, channels)
        self._require_shapes(
            query=projection, key=projection, value=projection, gate=projection, gate_bias=(wide,),
            output=(channels, wide), output_bias=(channels,), norm_weight=(channels,), norm_bias=(channels,),
        )  # fmt: skip

    def _pack(self) -> _native.GatedAttention:
        return _native.GatedAttention(**self.arrays(), heads=self.heads, eps=self.eps)


@dataclass(frozen=True, eq=False)
class PairBiasWeights(Weights):
    """Parameters of a pair bias.

    Attributes
    ----------
    norm_weight, norm_bias : torch.Tensor
        ``[C]``, of the layer norm of the pair representation.
    weight : torch.Tensor
        ``[H, C]``.
    eps : float
        Of the layer norm.

    Raises
    ------
    InputError
        Where the tensors do not fit each other.
    """

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    weight: torch.Tensor
    eps: float = 1e-5

    def __post_init__(self):
        require_floating("weight", self.weight, ("H", "C"))
        heads, channels = self.weight.shape[-2:]
        self._require_shapes(weight=(heads, channels), norm_weight=(channels,), norm_bias=(channels,))

    def _pack(self) -> _native.PairBias:
        return _native.PairBias(**self.arrays(), eps=self.eps)


def pair_bias(z: torch.Tensor, weights: PairBiasWeights) -> torch.Tensor:
    """Project a pair representation to one attention bias for each head.

    Lines 2 and 3 of algorithm 7 of the AlphaFold 2 supplement, and their like in algorithms 13 and 14: layer
    norm, then a linear layer without bias.

    Parameters
    ----------
    z : torch.Tensor
        ``[*, I, J, C]``; the native kernel takes float32 on the CPU with a contiguous last dimension.
    weights : PairBiasWeights
        Same dtype and device.

    Returns
    -------
    torch.Tensor
        ``[*, H, I, J]``.

    Raises
    ------
    InputError
        Where shapes, dtypes or devices do not fit.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the arguments.
    """
    require_floating("z", z, ("I", "J", "C"))
    require_channels("z", z, weights.weight)
    return _pair_bias(z, weights)


def gated_attention(
    x: torch.Tensor,
    weights: AttentionWeights,
    *,
    pair_bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    inf: float = 1e9,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend within each row: the core of algorithms 7, 8, 13 and 14 of the AlphaFold 2 supplement.

    Layer norm; queries, keys, values and gates for each head; the softmax over a row's positions of
    ``q k / sqrt(d) + inf * (mask - 1) + pair_bias``, summed in this order; times the values, times the
    sigmoid of the gates; output projection.

    Parameters
    ----------
    x : torch.Tensor
        ``[*, R, N, C]``; the native kernel takes float32 on the CPU with a contiguous last dimension.
    weights : AttentionWeights
        Same dtype and device, as of all tensors here.
    pair_bias : torch.Tensor, optional
        ``[*, H, N, N]``, the same for every row.
    mask : torch.Tensor, optional
        ``[*, R, N]``, 1 for the keys that count. A row masked whole attends as upstream's does: ``inf``
        swallows the smaller digits of its logits.
    inf : float
        What a masked key's logit loses.
    residual : torch.Tensor, optional
        ``[*, R, N, C]``, added to the update; may be ``x``.
    out : torch.Tensor, optional
        ``[*, R, N, C]``, receives the result; may be ``x`` or ``residual``.

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
    require_floating("x", x, ("R", "N", "C"))
    require_channels("x", x, weights.query)
    *batch, _, columns, _ = x.shape
    if pair_bias is not None:
        require_like("pair_bias", pair_bias, x, (*batch, weights.heads, columns, columns))
    if mask is not None:
        require_like("mask", mask, x, x.shape[:-1])
    if residual is not None:
        require_like("residual", residual, x, x.shape)
    require_out(out, x, x.shape, x, pair_bias, mask, residual)
    return _gated_attention(x, weights, pair_bias, mask, inf, residual, out)


def gated_attention_of_columns(
    x: torch.Tensor,
    weights: AttentionWeights,
    *,
    pair_bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    inf: float = 1e9,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend within each column: :func:`gated_attention` on transposed views, nothing is copied.

    Parameters
    ----------
    x : torch.Tensor
        ``[*, N, R, C]``.
    weights : AttentionWeights
        As there.
    pair_bias : torch.Tensor, optional
        ``[*, H, N, N]``, the same for every column.
    mask : torch.Tensor, optional
        ``[*, N, R]``, 1 for the keys that count.
    inf : float
        What a masked key's logit loses.
    residual : torch.Tensor, optional
        ``[*, N, R, C]``, added to the update; may be ``x``.
    out : torch.Tensor, optional
        ``[*, N, R, C]``, receives the result; may be ``x`` or ``residual``.

    Returns
    -------
    torch.Tensor
        ``out``, or a new contiguous tensor.

    Raises
    ------
    InputError, BackendError
        As there.
    """
    if mask is not None:
        require_like("mask", mask, x, x.shape[:-1])
        mask = mask.transpose(-1, -2)
    if residual is not None:
        require_like("residual", residual, x, x.shape)
        residual = residual.transpose(-2, -3)
    if out is not None:
        require_like("out", out, x, x.shape)
    out = new_or(out, x, x.shape)
    gated_attention(
        x.transpose(-2, -3),
        weights,
        pair_bias=pair_bias,
        mask=mask,
        inf=inf,
        residual=residual,
        out=out.transpose(-2, -3),
    )
    return out


def _pair_bias_native(z, weights):
    *batch, rows, columns, _ = z.shape
    out = z.new_empty(*batch, len(weights.weight), rows, columns)
    return run_native(lambda z, out: weights.packed(z, out, threads()), (z, 3), (out, 3))


def _pair_bias_torch(z, weights):
    normed = layer_norm(z, z.shape[-1:], weights.norm_weight, weights.norm_bias, weights.eps)
    return linear(normed, weights.weight).movedim(-1, -3)


def _gated_attention_native(x, weights, pair_bias, mask, inf, residual, out):
    def kernel(x, bias, mask, residual, out):
        bias = None if bias is None else np.ascontiguousarray(bias)
        weights.packed(x, bias, mask, inf, residual, out, threads())

    out = new_or(out, x, x.shape)
    return run_native(kernel, (x, 3), (pair_bias, 3), (mask, 2), (residual, 3), (out, 3))


def _gated_attention_torch(x, weights, pair_bias, mask, inf, residual, out):
    normed = layer_norm(x, x.shape[-1:], weights.norm_weight, weights.norm_bias, weights.eps)

    def by_head(weight, bias=None):  # [*, R, H, N, d]
        return linear(normed, weight, bias).unflatten(-1, (weights.heads, -1)).transpose(-2, -3)

    query, key, value = by_head(weights.query), by_head(weights.key), by_head(weights.value)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        logits = logits + (inf * (mask - 1))[..., None, None, :]
    if pair_bias is not None:
        logits = logits + pair_bias.unsqueeze(-4)
    weighted = logits.softmax(dim=-1) @ value * by_head(weights.gate, weights.gate_bias).sigmoid()
    update = linear(weighted.transpose(-2, -3).flatten(-2), weights.output, weights.output_bias)
    return finish(update, residual, out)


def _refuse_pair_bias(z, weights):
    return refuse_unless_native(weights, z)


def _refuse_gated_attention(x, weights, pair_bias, mask, inf, residual, out):
    return refuse_unless_native(weights, x, pair_bias, residual, out, mask=mask)


_pair_bias = native_or_torch("pair_bias", _refuse_pair_bias, _pair_bias_native, _pair_bias_torch)
_gated_attention = native_or_torch(
    "gated_attention", _refuse_gated_attention, _gated_attention_native, _gated_attention_torch
)
