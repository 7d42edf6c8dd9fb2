"""Whole blocks of upstream's trunk, so that the pair representation is updated where it is.

Upstream adds the result of each part to its input, and copies the pair representation twice in each block to
turn it around for the ending node. Here each op adds its own update: in place from the first where upstream's
``inplace_safe`` allows that, else from the second on, in the new tensor that the first one makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from openfoldpp.ops import workspace
from openfoldpp.ops.outer_product_mean import outer_product_mean
from openfoldpp.upstream.acceleration.layers import idle
from openfoldpp.upstream.acceleration.parts import Result, is_square
from openfoldpp.upstream.acceleration.swap import RECIPES, Recipe, Swap, recipe_of, served, weights_of

_PAIR = ("tri_mul_out", "tri_mul_in", "tri_att_start", "tri_att_end", "pair_transition")
_TEMPLATE = ("tri_att_start", "tri_att_end", "tri_mul_out", "tri_mul_in", "pair_transition")


def _weights(block: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the weights of each part; None where the call of one of them must not be passed over."""
    found = {name: weights_of(getattr(block, name)) for name in names}
    return None if any(weights is None for weights in found.values()) else found


def _apply(
    block: Any,
    weights: dict[str, Any],
    names: Sequence[str],
    z: torch.Tensor,
    mask: torch.Tensor,
    *,
    in_place: bool,
    mask_transition: bool,
    transposed_ending: bool,
) -> torch.Tensor:
    """Add the update of each part to ``z``, in the order of their names."""
    out = z if in_place else None
    for name in names:
        part = getattr(block, name)
        options = {"transposed": True} if transposed_ending and name == "tri_att_end" else {}
        part_mask = None if name == "pair_transition" and not mask_transition else mask
        update = recipe_of(part, "forward").update
        out = update(part, weights[name], z, part_mask, residual=z, out=out, **options)
        z = out
    return z


def _run_pair_stack(
    swap: Swap,
    z: torch.Tensor,
    pair_mask: torch.Tensor,
    inplace_safe: bool = False,
    _mask_trans: bool = True,
    **memory_only: Any,
) -> Result:
    block = swap.owner
    if not served(z, pair_mask) or not is_square(z) or not idle(block.ps_dropout_row_layer):
        return NotImplemented
    if (weights := _weights(block, _PAIR)) is None:
        return NotImplemented
    return _apply(
        block, weights, _PAIR, z, pair_mask,
        in_place=inplace_safe, mask_transition=_mask_trans, transposed_ending=True,
    )  # fmt: skip


def _run_core(
    swap: Swap,
    input_tensors: Sequence[torch.Tensor],
    msa_mask: torch.Tensor,
    pair_mask: torch.Tensor,
    inplace_safe: bool = False,
    _mask_trans: bool = True,
    **memory_only: Any,
) -> Result:
    # Offloading moves m and z between a GPU and the CPU; here both are on the CPU and stay where they are.
    block = swap.owner
    m, z = input_tensors
    if not _aligned(m, z, msa_mask) or not served(z, pair_mask) or not idle(block.ps_dropout_row_layer):
        return NotImplemented
    if (weights := _weights(block, ("msa_transition", "outer_product_mean", *_PAIR))) is None:
        return NotImplemented
    update = recipe_of(block.msa_transition, "forward").update
    m = update(
        block.msa_transition, weights["msa_transition"], m, msa_mask if _mask_trans else None,
        residual=m, out=m if inplace_safe else None,
    )  # fmt: skip
    z = outer_product_mean(
        m, weights["outer_product_mean"], mask=msa_mask, residual=z, out=z if inplace_safe else None
    )
    z = _apply(
        block, weights, _PAIR, z, pair_mask,
        in_place=True, mask_transition=_mask_trans, transposed_ending=True,
    )  # fmt: skip
    return m, z


def _run_compute_opm(
    swap: Swap,
    input_tensors: Sequence[torch.Tensor],
    msa_mask: torch.Tensor,
    inplace_safe: bool = False,
    **memory_only: Any,
) -> Result:
    m, z = input_tensors
    if not _aligned(m, z, msa_mask) or (weights := weights_of(swap.owner.outer_product_mean)) is None:
        return NotImplemented
    return m, outer_product_mean(m, weights, mask=msa_mask, residual=z, out=z if inplace_safe else None)


def _aligned(m: torch.Tensor, z: torch.Tensor, msa_mask: torch.Tensor) -> bool:
    """Say whether the kernels take ``m`` ``[*, N_seq, N_res, C_m]`` with ``z`` ``[*, N_res, N_res, C_z]``."""
    return served(m, msa_mask) and served(z) and m.ndim > 2 and (
        z.shape[:-1] == (*m.shape[:-3], m.shape[-2], m.shape[-2])
    )  # fmt: skip


def _run_template_block(
    swap: Swap,
    z: torch.Tensor,
    mask: torch.Tensor,
    inplace_safe: bool = False,
    _mask_trans: bool = True,
    **memory_only: Any,
) -> Result:
    block = swap.owner
    if not served(z, mask) or not is_square(z) or not z.numel():
        return NotImplemented
    if not (idle(block.dropout_row) and idle(block.dropout_col)):
        return NotImplemented
    if (weights := _weights(block, _TEMPLATE)) is None:
        return NotImplemented
    return _apply(
        block, weights, _PAIR if getattr(block, "tri_mul_first", False) else _TEMPLATE, z, mask,
        in_place=inplace_safe, mask_transition=_mask_trans, transposed_ending=False,
    )  # fmt: skip


def _run_stack(swap: Swap, **given: Any) -> Result:
    with workspace.kept():
        return swap.upstream(**given)


def _run_tuner(swap: Swap, representative_fn: Any, args: Sequence[Any], min_chunk_size: int) -> Result:
    """Take the smallest chunk at once: upstream's tuner runs a block several times to find the largest.

    Only the global attention of the extra MSA stack, which is upstream's, reads the size then.
    """
    if torch.is_grad_enabled() or not all(served(tensor) for tensor in args):
        return NotImplemented
    # As after a search; without the shapes, so that the next one that upstream needs is not skipped.
    swap.owner.cached_chunk_size, swap.owner.cached_arg_data = min_chunk_size, None
    return min_chunk_size


_evoformer, _template = "openfold.model.evoformer", "openfold.model.template"
_stack = Recipe(_run_stack)
RECIPES.update(
    {
        (_evoformer, "EvoformerBlockCore.forward"): Recipe(_run_core),
        (_evoformer, "PairStack.forward"): Recipe(_run_pair_stack),
        (_evoformer, "MSABlock._compute_opm"): Recipe(_run_compute_opm),
        (_template, "TemplatePairStackBlock.forward"): Recipe(_run_template_block),
        (_evoformer, "EvoformerStack.forward"): _stack,
        (_evoformer, "EvoformerStack._forward_offload"): _stack,
        (_evoformer, "ExtraMSAStack.forward"): _stack,
        (_evoformer, "ExtraMSAStack._forward_offload"): _stack,
        (_template, "TemplatePairStack.forward"): _stack,
        ("openfold.utils.chunk_utils", "ChunkSizeTuner.tune_chunk_size"): Recipe(_run_tuner),
    }
)
