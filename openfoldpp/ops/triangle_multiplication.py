"""The triangle multiplicative update of the pair representation, with outgoing and incoming edges.

Besides the result, the native kernel needs memory for two edge tensors; the products take the place of one.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from openfoldpp.ops.workspace import kept, workspace


@dataclass(frozen=True, eq=False)
class TriangleMultiplicationWeights(Weights):
    """Parameters of a triangle multiplicative update, laid out as ``torch.nn.Linear`` has them.

    Attributes
    ----------
    norm_weight, norm_bias : torch.Tensor
        ``[C]``, of the layer norm of the input.
    left_gate, left, right_gate, right : torch.Tensor
        ``[hidden, C]``, upstream's ``linear_a_g``, ``linear_a_p``, ``linear_b_g`` and ``linear_b_p``.
    left_gate_bias, left_bias, right_gate_bias, right_bias : torch.Tensor
        ``[hidden]``.
    norm_out_weight, norm_out_bias : torch.Tensor
        ``[hidden]``, of the layer norm of the products.
    gate : torch.Tensor
        ``[C, C]``, upstream's ``linear_g``.
    output : torch.Tensor
        ``[C, hidden]``, upstream's ``linear_z``.
    gate_bias, output_bias : torch.Tensor
        ``[C]``.
    eps, eps_out : float
        Of the two layer norms.

    Raises
    ------
    InputError
        Where the tensors do not fit each other.
    """

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    left_gate: torch.Tensor
    left_gate_bias: torch.Tensor
    left: torch.Tensor
    left_bias: torch.Tensor
    right_gate: torch.Tensor
    right_gate_bias: torch.Tensor
    right: torch.Tensor
    right_bias: torch.Tensor
    norm_out_weight: torch.Tensor
    norm_out_bias: torch.Tensor
    gate: torch.Tensor
    gate_bias: torch.Tensor
    output: torch.Tensor
    output_bias: torch.Tensor
    eps: float = 1e-5
    eps_out: float = 1e-5

    def __post_init__(self):
        require_floating("left", self.left, ("hidden", "C"))
        hidden, channels = self.left.shape[-2:]
        projection = (hidden, channels)
        inner, outer = (hidden,), (channels,)
        self._require_shapes(
            left=projection, left_gate=projection, right=projection, right_gate=projection,
            left_bias=inner, left_gate_bias=inner, right_bias=inner, right_gate_bias=inner,
            norm_weight=outer, norm_bias=outer, norm_out_weight=inner, norm_out_bias=inner,
            gate=(channels, channels), gate_bias=outer, output=(channels, hidden), output_bias=outer,
        )  # fmt: skip

    def _pack(self) -> _native.TriangleMultiplication:
        return _native.TriangleMultiplication(**self.arrays(), eps=self.eps, eps_out=self.eps_out)


def triangle_multiplication(
    z: torch.Tensor,
    weights: TriangleMultiplicationWeights,
    *,
    outgoing: bool = True,
    mask: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Update each edge (i, j) from the edges to a third residue k: algorithms 11 and 12 of AlphaFold 2.

    Layer norm; gated projections ``a`` and ``b`` of every edge, times the mask; for each hidden channel the
    sum over k of ``a[i, k] * b[j, k]`` (outgoing edges) or ``a[k, i] * b[k, j]`` (incoming edges); layer
    norm, output projection, times the sigmoid of a gate.

    Parameters
    ----------
    z : torch.Tensor
        ``[*, N_res, N_res, C]``; the native kernel takes float32 on the CPU with a contiguous last dimension.
        Within :func:`openfoldpp.ops.workspace.kept` its workspace is not made anew at every call.
    weights : TriangleMultiplicationWeights
        Same dtype and device, as of all tensors here.
    outgoing : bool
        Algorithm 11; else algorithm 12, incoming edges.
    mask : torch.Tensor, optional
        ``[*, N_res, N_res]``, 1 for the edges that count.
    residual : torch.Tensor, optional
        ``[*, N_res, N_res, C]``, added to the update; may be ``z``.
    out : torch.Tensor, optional
        ``[*, N_res, N_res, C]``, receives the result; may be ``z`` or ``residual``.

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
    require_floating("z", z, ("N_res", "N_res", "C"))
    require_channels("z", z, weights.left)
    if z.shape[-3] != z.shape[-2]:
        raise InputError(f"z has shape {list(z.shape)}; expected [*, N_res, N_res, C]")
    if mask is not None:
        require_like("mask", mask, z, z.shape[:-1])
    if residual is not None:
        require_like("residual", residual, z, z.shape)
    require_out(out, z, z.shape, z, mask, residual)
    return _triangle_multiplication(z, weights, outgoing, mask, residual, out)


def _native_triangle_multiplication(z, weights, outgoing, mask, residual, out):
    def kernel(z, mask, residual, out):
        memory = workspace(weights.packed.workspace_floats(len(z)))
        weights.packed(z, mask, outgoing, residual, out, memory, threads())

    with kept():  # one workspace for all batch elements
        return run_native(kernel, (z, 3), (mask, 2), (residual, 3), (new_or(out, z, z.shape), 3))


def _torch_triangle_multiplication(z, weights, outgoing, mask, residual, out):
    normed = layer_norm(z, z.shape[-1:], weights.norm_weight, weights.norm_bias, weights.eps)

    def edges(gate, gate_bias, value, value_bias):  # [*, hidden, N_res, N_res]
        result = linear(normed, gate, gate_bias).sigmoid() * linear(normed, value, value_bias)
        return (result if mask is None else result * mask[..., None]).movedim(-1, -3)

    w = weights
    left = edges(w.left_gate, w.left_gate_bias, w.left, w.left_bias)
    right = edges(w.right_gate, w.right_gate_bias, w.right, w.right_bias)
    products = left @ right.transpose(-1, -2) if outgoing else left.transpose(-1, -2) @ right
    products = products.movedim(-3, -1)
    products = layer_norm(products, products.shape[-1:], w.norm_out_weight, w.norm_out_bias, w.eps_out)
    update = linear(products, w.output, w.output_bias) * linear(normed, w.gate, w.gate_bias).sigmoid()
    return finish(update, residual, out)


def _refuse(z, weights, outgoing, mask, residual, out):
    return refuse_unless_native(weights, z, residual, out, mask=mask)


_triangle_multiplication = native_or_torch(
    "triangle_multiplication", _refuse, _native_triangle_multiplication, _torch_triangle_multiplication
)
