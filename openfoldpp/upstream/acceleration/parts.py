"""Single modules of upstream's trunk and structure module, each run by its op.

Upstream's arguments that choose between implementations of the same result, or bound the memory of one
(``chunk_size``, ``_inplace_chunk_size``, ``use_lma``, ``use_flash``, ``use_memory_efficient_kernel``,
``use_deepspeed_evo_attention``), change nothing here: what the kernels hold besides their result is at most
two copies of the pair representation, in the triangle multiplication.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import Module

from openfoldpp.ops.attention import gated_attention
from openfoldpp.ops.invariant_point_attention import invariant_point_attention
from openfoldpp.ops.msa_attention import column_attention, row_attention_with_pair_bias
from openfoldpp.ops.outer_product_mean import outer_product_mean
from openfoldpp.ops.transition import transition
from openfoldpp.ops.triangle_attention import triangle_attention
from openfoldpp.ops.triangle_multiplication import triangle_multiplication
from openfoldpp.upstream.acceleration import weights as weights_from
from openfoldpp.upstream.acceleration.layers import named
from openfoldpp.upstream.acceleration.swap import RECIPES, Recipe, Swap, served

Result = Any  # a tensor, or NotImplemented: upstream's own method runs


def is_square(z: torch.Tensor) -> bool:
    """Say whether `z` is ``[*, N, N, C]``."""
    return z.ndim > 2 and z.shape[-3] == z.shape[-2]


def _update_by_triangle_attention(
    module: Module,
    weights: tuple,
    z: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    transposed=False,
    **where: Any,
) -> torch.Tensor:
    """Update ``z`` by a ``TriangleAttention``; where `transposed`, as upstream does on ``z`` transposed."""
    attention, bias = weights
    starting = module.starting != transposed
    return triangle_attention(z, attention, bias, starting=starting, mask=mask, inf=module.inf, **where)


def _update_by_triangle_multiplication(
    module: Module, weights: Any, z: torch.Tensor, mask: torch.Tensor | None, **where: Any
) -> torch.Tensor:
    """Update ``z`` by a ``TriangleMultiplicativeUpdate``, fused or not."""
    return triangle_multiplication(z, weights, outgoing=module._outgoing, mask=mask, **where)


def _update_by_transition(
    module: Module, weights: Any, x: torch.Tensor, mask: torch.Tensor | None, **where: Any
) -> torch.Tensor:
    """Update ``z`` or ``m`` by a ``PairTransition`` or an ``MSATransition``."""
    return transition(x, weights, mask=mask, **where)


def _run_triangle_attention(
    swap: Swap, x: torch.Tensor, mask: torch.Tensor | None = None, **memory_only: Any
) -> Result:
    if not served(x, mask) or not is_square(x) or (weights := swap.weights()) is None:
        return NotImplemented
    return _update_by_triangle_attention(swap.owner, weights, x, mask)


def _run_triangle_multiplication(
    swap: Swap,
    z: torch.Tensor,
    mask: torch.Tensor | None = None,
    inplace_safe: bool = False,
    _add_with_inplace: bool = False,
    **memory_only: Any,
) -> Result:
    if not served(z, mask) or not is_square(z) or (weights := swap.weights()) is None:
        return NotImplemented
    where = {}
    if inplace_safe and _add_with_inplace:
        where = {"residual": z, "out": z}
    elif inplace_safe and not hasattr(swap.owner, "linear_ab_p"):
        where = {"out": z}  # the fused one leaves z alone here
    return _update_by_triangle_multiplication(swap.owner, weights, z, mask, **where)


def _run_pair_transition(
    swap: Swap, z: torch.Tensor, mask: torch.Tensor | None = None, **memory_only: Any
) -> Result:
    return _transition(swap, z, mask)


def _run_msa_transition(
    swap: Swap, m: torch.Tensor, mask: torch.Tensor | None = None, **memory_only: Any
) -> Result:
    return _transition(swap, m, mask)


def _transition(swap: Swap, x: torch.Tensor, mask: torch.Tensor | None) -> Result:
    if not served(x, mask) or x.ndim < 3 or (weights := swap.weights()) is None:
        return NotImplemented
    return transition(x, weights, mask=mask)


def _run_outer_product_mean(
    swap: Swap, m: torch.Tensor, mask: torch.Tensor | None = None, **memory_only: Any
) -> Result:
    if not served(m, mask) or m.ndim < 3 or (weights := swap.weights()) is None:
        return NotImplemented
    return outer_product_mean(m, weights, mask=mask)


def _run_msa_attention(
    swap: Swap,
    m: torch.Tensor,
    z: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    **memory_only: Any,
) -> Result:
    if not served(m, mask) or m.ndim < 3 or (weights := swap.weights()) is None:
        return NotImplemented
    attention, bias = weights
    inf = swap.owner.inf
    if z is None:
        return gated_attention(m, attention, mask=mask, inf=inf)
    n_res = m.shape[-2]
    if bias is None or not served(z) or z.shape[:-1] != (*m.shape[:-3], n_res, n_res):
        return NotImplemented
    return row_attention_with_pair_bias(m, z, attention, bias, mask=mask, inf=inf)


def _run_msa_column_attention(
    swap: Swap, m: torch.Tensor, mask: torch.Tensor | None = None, **memory_only: Any
) -> Result:
    if not served(m, mask) or m.ndim < 3 or (weights := swap.weights()) is None:
        return NotImplemented
    return column_attention(m, weights, mask=mask, inf=swap.owner._msa_att.inf)


def _invariant_point_attention(
    frames: Callable[[Any], tuple | None], inf_scale: float
) -> Callable[..., Result]:
    """Make the run of one of upstream's two: how its frames are read, and how it scales the mask."""

    def run(
        swap: Swap,
        s: torch.Tensor,
        z: torch.Tensor | None,
        r: Any,
        mask: torch.Tensor,
        inplace_safe: bool = False,
        _offload_inference: bool = False,
        _z_reference_list: Sequence[torch.Tensor] | None = None,
    ) -> Result:
        if _offload_inference and inplace_safe:
            (z,) = _z_reference_list
        if not served(s, mask) or s.ndim < 2 or not served(z):
            return NotImplemented
        if (read := frames(r)) is None:
            return NotImplemented
        rotations, translations = read
        residues = s.shape[:-1]
        fits = (
            z.shape[:-1] == (*residues, residues[-1])
            and served(rotations) and rotations.shape == (*residues, 3, 3)
            and served(translations) and translations.shape == (*residues, 3)
        )  # fmt: skip
        if not fits or (weights := swap.weights()) is None:
            return NotImplemented
        inf = swap.owner.inf * inf_scale
        return invariant_point_attention(s, z, rotations, translations, weights, mask=mask, inf=inf)

    return run


def _frames(rigid: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    if named(type(rigid)) != ("openfold.utils.rigid_utils", "Rigid"):
        return None
    return rigid.get_rots().get_rot_mats().contiguous(), rigid.get_trans().contiguous()


def _multimer_frames(rigid: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    if named(type(rigid)) != ("openfold.utils.geometry.rigid_matrix_vector", "Rigid3Array"):
        return None
    return rigid.rotation.to_tensor().contiguous(), rigid.translation.to_tensor().contiguous()


_triangle_multiplication = Recipe(
    _run_triangle_multiplication,
    weights_from.triangle_multiplication_weights,
    _update_by_triangle_multiplication,
)
_update = "openfold.model.triangular_multiplicative_update"
RECIPES.update(
    {
        ("openfold.model.triangular_attention", "TriangleAttention.forward"): Recipe(
            _run_triangle_attention, weights_from.triangle_attention_weights, _update_by_triangle_attention
        ),
        (_update, "TriangleMultiplicativeUpdate.forward"): _triangle_multiplication,
        (_update, "FusedTriangleMultiplicativeUpdate.forward"): _triangle_multiplication,
        ("openfold.model.pair_transition", "PairTransition.forward"): Recipe(
            _run_pair_transition, weights_from.transition_weights, _update_by_transition
        ),
        ("openfold.model.evoformer", "MSATransition.forward"): Recipe(
            _run_msa_transition, weights_from.transition_weights, _update_by_transition
        ),
        ("openfold.model.outer_product_mean", "OuterProductMean.forward"): Recipe(
            _run_outer_product_mean, weights_from.outer_product_mean_weights
        ),
        ("openfold.model.msa", "MSAAttention.forward"): Recipe(
            _run_msa_attention, weights_from.msa_attention_weights
        ),
        ("openfold.model.msa", "MSAColumnAttention.forward"): Recipe(
            _run_msa_column_attention,
            lambda module: weights_from.attention_weights(module._msa_att.layer_norm_m, module._msa_att.mha),
        ),
        ("openfold.model.structure_module", "InvariantPointAttention.forward"): Recipe(
            _invariant_point_attention(_frames, 1.0), weights_from.invariant_point_attention_weights
        ),
        # It scales the sum of logits and mask, where the monomer's scales each logit and not the mask.
        ("openfold.model.structure_module", "InvariantPointAttentionMultimer.forward"): Recipe(
            _invariant_point_attention(_multimer_frames, math.sqrt(1 / 3)),
            weights_from.multimer_invariant_point_attention_weights,
        ),
    }
)
