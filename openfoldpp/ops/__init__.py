"""Exact kernels behind one function each; the backend is chosen by what the arguments need."""

from openfoldpp.ops.attention import AttentionWeights, PairBiasWeights, gated_attention, pair_bias
from openfoldpp.ops.dispatch import settings
from openfoldpp.ops.invariant_point_attention import (
    InvariantPointAttentionWeights,
    invariant_point_attention,
)
from openfoldpp.ops.msa_attention import column_attention, row_attention_with_pair_bias
from openfoldpp.ops.outer_product_mean import OuterProductMeanWeights, outer_product_mean
from openfoldpp.ops.simplicial_attention import simplicial_attention
from openfoldpp.ops.softmax import explain, softmax_, softmax_backward_
from openfoldpp.ops.transition import TransitionWeights, transition
from openfoldpp.ops.triangle_attention import triangle_attention
from openfoldpp.ops.triangle_multiplication import TriangleMultiplicationWeights, triangle_multiplication

__all__ = [
    "AttentionWeights",
    "InvariantPointAttentionWeights",
    "OuterProductMeanWeights",
    "PairBiasWeights",
    "TransitionWeights",
    "TriangleMultiplicationWeights",
    "column_attention",
    "explain",
    "gated_attention",
    "invariant_point_attention",
    "outer_product_mean",
    "pair_bias",
    "row_attention_with_pair_bias",
    "settings",
    "simplicial_attention",
    "softmax_",
    "softmax_backward_",
    "transition",
    "triangle_attention",
    "triangle_multiplication",
]
