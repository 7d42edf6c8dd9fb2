"""Outer product mean: the update of the pair representation from the MSA.

The outer products ``[N_res, N_res, hidden, hidden]`` are never in memory as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import layer_norm, linear

from openfoldpp import _native
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
class OuterProductMeanWeights(Weights):
    """Parameters of an outer product mean, laid out as ``torch.nn.Linear`` has them.

    Attributes
    ----------
    norm_weight, norm_bias : torch.Tensor
        ``[C_m]``, of the layer norm of the MSA.
    left, right : torch.Tensor
        ``[hidden, C_m]``; ``left`` projects residue i of a pair, ``right`` residue j.
    left_bias, right_bias : torch.Tensor
        ``[hidden]``.
    output : torch.Tensor
        ``[C_z, hidden * hidden]``, the channels of ``left`` outside, those of ``right`` inside.
    output_bias : torch.Tensor
        ``[C_z]``.
    eps : float
        Of the layer norm.
    eps_mask : float
        Added to the number of sequences that count for a pair, by which its sum is divided.

    Raises
    ------
    InputError
        Where the tensors do not fit each other.
    """

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    left: torch.Tensor
    left_bias: torch.Tensor
    right: torch.Tensor
    right_bias: torch.Tensor
    output: torch.Tensor
    output_bias: torch.Tensor
    eps: float = 1e-5
    eps_mask: float = 1e-3

    def __post_init__(self):
        require_floating("left", self.left, ("hidden", "C_m"))
        require_floating("output", self.output, ("C_z", "hidden * hidden"))
        hidden, channels = self.left.shape[-2:]
        outputs = self.output.shape[-2]
        projection = (hidden, channels)
        self._require_shapes(
            left=projection, left_bias=(hidden,), right=projection, right_bias=(hidden,),
            output=(outputs, hidden * hidden), output_bias=(outputs,),
            norm_weight=(channels,), norm_bias=(channels,),
        )  # fmt: skip

    def _pack(self) -> _native.OuterProductMean:
        return _native.OuterProductMean(**self.arrays(), eps=self.eps, eps_mask=self.eps_mask)


def outer_product_mean(
    m: torch.Tensor,
    weights: OuterProductMeanWeights,
    *,
    mask: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Update pairs of residues by the mean outer product of their columns of the MSA.

    Algorithm 10 of the AlphaFold 2 supplement, with upstream's masks: layer norm; two projections of each
    position, times the mask; their outer products, summed over the sequences, through the output layer;
    divided by ``sum_s mask_si mask_sj + eps_mask``. The bias of the output layer is divided too, so a pair
    that no sequence covers gets ``output_bias / eps_mask``.

    The native kernel sums the same terms in one of two orders, the one with fewer operations: with few
    sequences (up to about 40 for 32 hidden and 128 output channels) the output layer meets the projection of
    residue i before that of residue j; with more, the outer products are summed over the sequences first.

    Parameters
    ----------
    m : torch.Tensor
        ``[*, N_seq, N_res, C_m]``; the native kernel takes float32 on the CPU with a contiguous last
        dimension.
    weights : OuterProductMeanWeights
        Same dtype and device, as of all tensors here.
    mask : torch.Tensor, optional
        ``[*, N_seq, N_res]``, 1 for the positions that count; all, without it.
    residual : torch.Tensor, optional
        ``[*, N_res, N_res, C_z]``, added to the update.
    out : torch.Tensor, optional
        ``[*, N_res, N_res, C_z]``, receives the result; may be ``residual``.

    Returns
    -------
    torch.Tensor
        ``out``, or a new tensor ``[*, N_res, N_res, C_z]``.

    Raises
    ------
    InputError
        Where shapes, dtypes, devices or memory do not fit.
    BackendError
        Where ``OPENFOLDPP_BACKEND`` forces a backend that does not support the arguments.
    """
    require_floating("m", m, ("N_seq", "N_res", "C_m"))
    require_channels("m", m, weights.left)
    shape = _output_shape(m, weights)
    if mask is not None:
        require_like("mask", mask, m, m.shape[:-1])
    if residual is not None:
        require_like("residual", residual, m, shape)
    require_out(out, m, shape, m, mask, residual)
    return _outer_product_mean(m, weights, mask, residual, out)


def _output_shape(m, weights):
    *batch, _, residues, _ = m.shape
    return (*batch, residues, residues, len(weights.output))


def _native_kernel(m, weights, mask, residual, out):
    def kernel(m, mask, residual, out):
        weights.packed(m, mask, residual, out, threads())

    out = new_or(out, m, _output_shape(m, weights))
    return run_native(kernel, (m, 3), (mask, 2), (residual, 3), (out, 3))


def _torch_reference(m, weights, mask, residual, out):
    normed = layer_norm(m, m.shape[-1:], weights.norm_weight, weights.norm_bias, weights.eps)
    mask = m.new_ones(m.shape[:-1]) if mask is None else mask
    left = linear(normed, weights.left, weights.left_bias) * mask[..., None]
    right = linear(normed, weights.right, weights.right_bias) * mask[..., None]
    outer = torch.einsum("...sid,...sje->...ijde", left, right).flatten(-2)
    norm = mask.transpose(-1, -2) @ mask + weights.eps_mask
    update = linear(outer, weights.output, weights.output_bias) / norm[..., None]
    return finish(update, residual, out)


def _refuse(m, weights, mask, residual, out):
    return refuse_unless_native(weights, m, residual, out, mask=mask)


_outer_product_mean = native_or_torch("outer_product_mean", _refuse, _native_kernel, _torch_reference)
