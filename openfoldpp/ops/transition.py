"""The transition of the pair representation and of the MSA: a two-layer perceptron on each vector.

The hidden layer, four times as wide as the input, is never in memory for more than a few vectors.
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
class TransitionWeights(Weights):
    """Parameters of a transition, laid out as ``torch.nn.Linear`` has them.

    Attributes
    ----------
    norm_weight, norm_bias : torch.Tensor
        ``[C]``, of the layer norm.
    expand : torch.Tensor
        ``[hidden, C]``, upstream's ``linear_1``.
    expand_bias : torch.Tensor
        ``[hidden]``.
    contract : torch.Tensor
        ``[C, hidden]``, upstream's ``linear_2``.
    contract_bias : torch.Tensor
        ``[C]``.
    eps : float
        Of the layer norm.

    Raises
    ------
    InputError
        Where the tensors do not fit each other.
    """

    norm_weight: torch.Tensor
    norm_bias: torch.Tensor
    expand: torch.Tensor
    expand_bias: torch.Tensor
    contract: torch.Tensor
    contract_bias: torch.Tensor
    eps: float = 1e-5

    def __post_init__(self):
        require_floating("expand", self.expand, ("hidden", "C"))
        hidden, channels = self.expand.shape[-2:]
        self._require_shapes(
            expand=(hidden, channels), expand_bias=(hidden,), contract=(channels, hidden),
            contract_bias=(channels,), norm_weight=(channels,), norm_bias=(channels,),
        )  # fmt: skip

    def _pack(self) -> _native.Transition:
        return _native.Transition(**self.arrays(), eps=self.eps)


def transition(
    x: torch.Tensor,
    weights: TransitionWeights,
    *,
    mask: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Update each vector by itself: algorithms 9 (MSA) and 15 (pairs) of the AlphaFold 2 supplement.

    Layer norm, linear, ReLU, linear; then times the mask, as OpenFold does and the supplement does not.

    Parameters
    ----------
    x : torch.Tensor
        ``[*, I, J, C]``; the native kernel takes float32 on the CPU with a contiguous last dimension.
    weights : TransitionWeights
        Same dtype and device, as of all tensors here.
    mask : torch.Tensor, optional
        ``[*, I, J]``, multiplies the update.
    residual : torch.Tensor, optional
        ``[*, I, J, C]``, added to the update; may be ``x``.
    out : torch.Tensor, optional
        ``[*, I, J, C]``, receives the result; may be ``x`` or ``residual``.

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
    require_floating("x", x, ("I", "J", "C"))
    require_channels("x", x, weights.expand)
    if mask is not None:
        require_like("mask", mask, x, x.shape[:-1])
    if residual is not None:
        require_like("residual", residual, x, x.shape)
    require_out(out, x, x.shape, x, mask, residual)
    return _transition(x, weights, mask, residual, out)


def _native_transition(x, weights, mask, residual, out):
    def kernel(x, mask, residual, out):
        weights.packed(x, mask, residual, out, threads())

    return run_native(kernel, (x, 3), (mask, 2), (residual, 3), (new_or(out, x, x.shape), 3))


def _torch_transition(x, weights, mask, residual, out):
    normed = layer_norm(x, x.shape[-1:], weights.norm_weight, weights.norm_bias, weights.eps)
    hidden = linear(normed, weights.expand, weights.expand_bias).relu()
    update = linear(hidden, weights.contract, weights.contract_bias)
    return finish(update if mask is None else update * mask[..., None], residual, out)


def _refuse(x, weights, mask, residual, out):
    return refuse_unless_native(weights, x, residual, out, mask=mask)


_transition = native_or_torch("transition", _refuse, _native_transition, _torch_transition)
