"""Row and column attention of an alignment against upstream's own modules."""

import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.ops import (
    AttentionWeights,
    PairBiasWeights,
    column_attention,
    gated_attention,
    pair_bias,
    row_attention_with_pair_bias,
)


@pytest.fixture
def weights(draw_attention, draw_pair_bias):
    return draw_attention(12, 3, 5), draw_pair_bias(7, 3)


def weights_of(attention):
    """Our weights of upstream's MSAAttention."""
    mha, norm = attention.mha, attention.layer_norm_m
    return AttentionWeights(
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        query=mha.linear_q.weight,
        key=mha.linear_k.weight,
        value=mha.linear_v.weight,
        gate=mha.linear_g.weight,
        gate_bias=mha.linear_g.bias,
        output=mha.linear_o.weight,
        output_bias=mha.linear_o.bias,
        heads=mha.no_heads,
    )


SHAPES = pytest.mark.parametrize(
    ("sequences", "residues", "channels", "heads", "head_channels"),
    [(1, 65, 256, 8, 32), (17, 30, 256, 8, 32), (5, 20, 12, 3, 5), (70, 3, 12, 3, 5)],
)
BACKENDS = pytest.mark.parametrize("backend", ["native", "torch"])


@SHAPES
@BACKENDS
def test_row_attention_is_as_exact_as_upstream(
    backend, sequences, residues, channels, heads, head_channels,
    environment, upstream, randomise, draw, draw_mask, assert_as_exact_as,
):  # fmt: skip
    environment(OPENFOLDPP_BACKEND=backend)
    make = upstream("model.msa").MSARowAttentionWithPairBias
    module = randomise(make(channels, 9, head_channels, heads, inf=1e9))
    m, z = draw(2, sequences, residues, channels), draw(2, residues, residues, 9)
    mask = draw_mask(2, sequences, residues)
    bias = PairBiasWeights(
        norm_weight=module.layer_norm_z.weight,
        norm_bias=module.layer_norm_z.bias,
        weight=module.linear_z.weight,
    )
    ours = row_attention_with_pair_bias(m, z, weights_of(module), bias, mask=mask, residual=m)
    reference = m + module(m, z=z, mask=mask)
    # 1e9 swallows the logits of a row masked whole in float32, as 1e20 does in float64.
    module.inf = 1e20
    exact = m.double() + module.double()(m.double(), z=z.double(), mask=mask.double())
    assert_as_exact_as(ours, reference, exact)


@SHAPES
@BACKENDS
def test_column_attention_is_as_exact_as_upstream(
    backend, sequences, residues, channels, heads, head_channels,
    environment, upstream, randomise, draw, draw_mask, assert_as_exact_as,
):  # fmt: skip
    environment(OPENFOLDPP_BACKEND=backend)
    make = upstream("model.msa").MSAColumnAttention
    module = randomise(make(channels, head_channels, heads, inf=1e9))
    m, mask = draw(2, sequences, residues, channels), draw_mask(2, residues, sequences).mT
    ours = column_attention(m, weights_of(module._msa_att), mask=mask, residual=m)
    reference = m + module(m, mask=mask)
    module._msa_att.inf = 1e20  # as above
    exact = m.double() + module.double()(m.double(), mask=mask.double())
    assert_as_exact_as(ours, reference, exact)


def test_row_attention_is_gated_attention_with_the_bias_of_z(weights, draw, draw_mask):
    attention, bias = weights
    m, z, mask = draw(2, 4, 9, 12), draw(2, 9, 9, 7), draw_mask(2, 4, 9)
    expected = gated_attention(m, attention, pair_bias=pair_bias(z, bias), mask=mask, inf=2.0, residual=m)
    assert torch.equal(row_attention_with_pair_bias(m, z, *weights, mask=mask, inf=2.0, residual=m), expected)


def test_column_attention_is_gated_attention_of_the_transposed(weights, draw, draw_mask):
    m, mask, residual = draw(2, 4, 9, 12), draw_mask(2, 4, 9), draw(2, 4, 9, 12)
    columns, kept, added = (t.transpose(1, 2).contiguous() for t in (m, mask, residual))
    expected = gated_attention(columns, weights[0], mask=kept, inf=2.0, residual=added).transpose(1, 2)
    result = column_attention(m, weights[0], mask=mask, inf=2.0, residual=residual)
    assert torch.equal(result, expected)
    assert result.is_contiguous()


@BACKENDS
def test_in_place(backend, environment, weights, draw, draw_mask):
    environment(OPENFOLDPP_BACKEND=backend)
    attention, bias = weights
    m, z, mask = draw(2, 6, 20, 12), draw(2, 20, 20, 7), draw_mask(2, 6, 20)
    for run in (
        lambda m, **out: row_attention_with_pair_bias(m, z, attention, bias, mask=mask, residual=m, **out),
        lambda m, **out: column_attention(m, attention, mask=mask, residual=m, **out),
    ):
        expected, changed = run(m), m.clone()
        assert run(changed, out=changed) is changed
        assert torch.equal(changed, expected)


def test_threads_do_not_change_the_bits(assert_threads_do_not_change_bits, weights, draw):
    attention, bias = weights
    m, z = draw(9, 21, 12), draw(21, 21, 7)
    assert_threads_do_not_change_bits(lambda: row_attention_with_pair_bias(m, z, attention, bias))
    assert_threads_do_not_change_bits(lambda: column_attention(m, attention))


def test_empty_alignments_give_empty_results(weights, draw):
    attention, bias = weights
    for sequences, residues in ((0, 3), (3, 0)):
        m, z = draw(sequences, residues, 12), draw(residues, residues, 7)
        assert row_attention_with_pair_bias(m, z, attention, bias).shape == m.shape
        assert column_attention(m, attention).shape == m.shape


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("m", (5, 12), r"m has shape \[5, 12\]; expected \[\*, N_seq, N_res, C_m\]"),
        ("m", (4, 5, 11), r"m has shape \[4, 5, 11\]; expected 12 channels"),
        ("mask", (5, 4), r"mask has shape \[5, 4\]; expected \[4, 5\]"),
        ("residual", (5, 4, 12), r"residual has shape \[5, 4, 12\]; expected \[4, 5, 12\]"),
        ("out", (5, 4, 12), r"out has shape \[5, 4, 12\]; expected \[4, 5, 12\]"),
        ("z", (4, 4, 7), r"z has shape \[4, 4, 7\]; expected \[5, 5, C_z\], as m has \[4, 5, 12\]"),
        ("z", (2, 5, 5, 7), r"z has shape \[2, 5, 5, 7\]; expected \[5, 5, C_z\]"),
        ("z", (5, 5, 8), r"z has shape \[5, 5, 8\]; expected 7 channels"),
    ],
)
def test_wrong_arguments_are_refused(name, shape, message, weights, draw):
    attention, bias = weights
    arguments = {"m": draw(4, 5, 12), "z": draw(5, 5, 7), name: draw(*shape)}
    with pytest.raises(InputError, match=message):
        row_attention_with_pair_bias(attention=attention, bias=bias, **arguments)
    if name != "z":
        del arguments["z"]
        with pytest.raises(InputError, match=message):
            column_attention(attention=attention, **arguments)
