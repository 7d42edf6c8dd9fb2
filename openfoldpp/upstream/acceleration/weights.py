"""From a module of upstream's to the weights of an op: which of its layers is which.

The weights share memory with the module's parameters; a kernel copies and packs them at its first use.
Nothing here imports openfold: a module is known by its attributes, which the releases name alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openfoldpp.ops.attention import AttentionWeights, PairBiasWeights
from openfoldpp.ops.invariant_point_attention import InvariantPointAttentionWeights
from openfoldpp.ops.outer_product_mean import OuterProductMeanWeights
from openfoldpp.ops.transition import TransitionWeights
from openfoldpp.ops.triangle_multiplication import TriangleMultiplicationWeights

if TYPE_CHECKING:
    from torch.nn import Module


def attention_weights(norm: Module, attention: Module) -> AttentionWeights | None:
    """Return the weights of a layer norm and the self-attention after it.

    Parameters
    ----------
    norm : torch.nn.Module
        The layer norm.
    attention : torch.nn.Module
        An ``Attention`` of upstream's primitives.

    Returns
    -------
    AttentionWeights or None
        None for an attention without gates, or whose logits are not scaled by the channels of a head: the
        kernels do not serve them.
    """
    channels = attention.no_heads * attention.c_hidden
    if attention.linear_g is None or attention.linear_q.weight.shape[0] != channels:
        return None
    return AttentionWeights(
        **_norm(norm),
        query=attention.linear_q.weight.detach(),
        key=attention.linear_k.weight.detach(),
        value=attention.linear_v.weight.detach(),
        **_linear("gate", attention.linear_g),
        **_linear("output", attention.linear_o),
        heads=attention.no_heads,
    )


def triangle_attention_weights(module: Module) -> tuple[AttentionWeights, PairBiasWeights] | None:
    """Return the weights of `module`, a ``TriangleAttention``: one layer norm serves attention and bias."""
    attention = attention_weights(module.layer_norm, module.mha)
    if attention is None:
        return None
    return attention, PairBiasWeights(**_norm(module.layer_norm), weight=module.linear.weight.detach())


def msa_attention_weights(module: Module) -> tuple[AttentionWeights, PairBiasWeights | None] | None:
    """Return the weights of `module`, an ``MSAAttention``, and those of its pair bias, where it has one."""
    attention = attention_weights(module.layer_norm_m, module.mha)
    if attention is None:
        return None
    bias = None
    if module.pair_bias:
        bias = PairBiasWeights(**_norm(module.layer_norm_z), weight=module.linear_z.weight.detach())
    return attention, bias


def transition_weights(module: Module) -> TransitionWeights:
    """Return the weights of `module`, a ``PairTransition`` or an ``MSATransition``."""
    return TransitionWeights(
        **_norm(module.layer_norm),
        **_linear("expand", module.linear_1),
        **_linear("contract", module.linear_2),
    )


def triangle_multiplication_weights(module: Module) -> TriangleMultiplicationWeights:
    """Return the weights of `module`, a ``TriangleMultiplicativeUpdate``, or a fused one as multimer v3 has.

    The fused layers hold the left projection's outputs first, then the right one's.
    """
    if hasattr(module, "linear_ab_p"):
        half = module.c_hidden
        projections = {}
        for side, part in (("left", slice(None, half)), ("right", slice(half, None))):
            for name, layer in ((side, module.linear_ab_p), (f"{side}_gate", module.linear_ab_g)):
                projections[name] = layer.weight.detach()[part]
                projections[f"{name}_bias"] = layer.bias.detach()[part]
    else:
        projections = {
            **_linear("left", module.linear_a_p),
            **_linear("left_gate", module.linear_a_g),
            **_linear("right", module.linear_b_p),
            **_linear("right_gate", module.linear_b_g),
        }
    return TriangleMultiplicationWeights(
        **_norm(module.layer_norm_in),
        **projections,
        norm_out_weight=module.layer_norm_out.weight.detach(),
        norm_out_bias=module.layer_norm_out.bias.detach(),
        **_linear("gate", module.linear_g),
        **_linear("output", module.linear_z),
        eps_out=module.layer_norm_out.eps,
    )


def outer_product_mean_weights(module: Module) -> OuterProductMeanWeights:
    """Return the weights of `module`, an ``OuterProductMean``."""
    return OuterProductMeanWeights(
        **_norm(module.layer_norm),
        **_linear("left", module.linear_1),
        **_linear("right", module.linear_2),
        **_linear("output", module.linear_out),
        eps_mask=module.eps,
    )


def invariant_point_attention_weights(module: Module) -> InvariantPointAttentionWeights | None:
    """Return the weights of `module`, an ``InvariantPointAttention``.

    The layers of the points are plain in 0.0.1, and in 2.x each inside a ``PointProjection``. None where 2.x
    has made it with ``is_multimer``, whose layers are others.
    """
    if getattr(module, "is_multimer", False):
        return None
    return InvariantPointAttentionWeights(
        **_linear("query", module.linear_q),
        **_linear("key_value", module.linear_kv),
        **_linear("query_point", _plain(module.linear_q_points)),
        **_linear("key_value_point", _plain(module.linear_kv_points)),
        **_shared_by_all_invariant_point_attentions(module),
        eps=module.eps,
    )


def multimer_invariant_point_attention_weights(module: Module) -> InvariantPointAttentionWeights:
    """Return the weights of `module`, an ``InvariantPointAttentionMultimer``, laid out as the monomer's."""
    return InvariantPointAttentionWeights.from_multimer(
        query=module.linear_q.weight.detach(),
        key=module.linear_k.weight.detach(),
        value=module.linear_v.weight.detach(),
        **_linear("query_point", _plain(module.linear_q_points)),
        **_linear("key_point", _plain(module.linear_k_points)),
        **_linear("value_point", _plain(module.linear_v_points)),
        **_shared_by_all_invariant_point_attentions(module),
    )


def _shared_by_all_invariant_point_attentions(module: Module) -> dict[str, Any]:
    return {
        **_linear("pair", module.linear_b),
        **_linear("output", module.linear_out),
        "head_weights": module.head_weights.detach(),
    }


def _plain(projection: Module) -> Module:
    return getattr(projection, "linear", projection)


def _norm(module: Module) -> dict[str, Any]:
    return {
        "norm_weight": module.weight.detach(),
        "norm_bias": module.bias.detach(),
        "eps": module.eps,
    }


def _linear(name: str, layer: Module) -> dict[str, Any]:
    return {name: layer.weight.detach(), f"{name}_bias": layer.bias.detach()}
