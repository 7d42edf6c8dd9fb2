"""Triangle attention around both nodes against upstream's own module."""

import pytest
import torch

from openfoldpp.errors import InputError
from openfoldpp.ops import AttentionWeights, PairBiasWeights, gated_attention, pair_bias, triangle_attention

NODES = pytest.mark.parametrize("starting", [True, False], ids=["starting", "ending"])


@pytest.fixture
def weights(draw_attention, draw_pair_bias):
    return draw_attention(12, 3, 5), draw_pair_bias(12, 3)


def transposed(z):
    return z.transpose(-2, -3).contiguous()


@NODES
@pytest.mark.parametrize(("size", "channels", "heads", "head_channels"), [(65, 128, 4, 32), (20, 12, 3, 5)])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_as_exact_as_upstream(
    backend, size, channels, heads, head_channels, starting,
    environment, upstream, randomise, draw, draw_mask, assert_as_exact_as,
):  # fmt: skip
    environment(OPENFOLDPP_BACKEND=backend)
    names = upstream("model.triangular_attention")
    make = names.TriangleAttentionStartingNode if starting else names.TriangleAttentionEndingNode
    module = randomise(make(channels, head_channels, heads, inf=1e9))
    z, mask = draw(2, size, size, channels), draw_mask(2, size, size)
    mask[1] = mask[1].T.clone()  # whole columns too
    mha, norm = module.mha, module.layer_norm
    attention = AttentionWeights(
        norm_weight=norm.weight,
        norm_bias=norm.bias,
        query=mha.linear_q.weight,
        key=mha.linear_k.weight,
        value=mha.linear_v.weight,
        gate=mha.linear_g.weight,
        gate_bias=mha.linear_g.bias,
        output=mha.linear_o.weight,
        output_bias=mha.linear_o.bias,
        heads=heads,
    )
    bias = PairBiasWeights(norm_weight=norm.weight, norm_bias=norm.bias, weight=module.linear.weight)
    ours = triangle_attention(z, attention, bias, starting=starting, mask=mask, residual=z)
    reference = z + module(z, mask=mask)
    # 1e9 swallows the logits of a row masked whole in float32, as 1e20 does in float64.
    module.inf = 1e20
    exact = z.double() + module.double()(z.double(), mask=mask.double())
    assert_as_exact_as(ours, reference, exact)


def test_the_ending_node_is_the_starting_node_of_the_transposed(weights, draw, draw_mask):
    z, mask, residual = draw(2, 21, 21, 12), draw_mask(2, 21, 21), draw(2, 21, 21, 12)
    ending = triangle_attention(z, *weights, starting=False, mask=mask, residual=residual)
    starting = triangle_attention(
        transposed(z), *weights, mask=mask.mT.contiguous(), residual=transposed(residual)
    )
    assert torch.equal(ending, transposed(starting))
    assert ending.is_contiguous()


def test_it_is_gated_attention_with_the_bias_of_the_same_edges(weights, draw):
    z = draw(9, 9, 12)
    attention, bias = weights
    expected = gated_attention(z, attention, pair_bias=pair_bias(z, bias), inf=1e9)
    assert torch.equal(triangle_attention(z, attention, bias), expected)


@NODES
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_in_place(backend, starting, environment, weights, draw, draw_mask):
    environment(OPENFOLDPP_BACKEND=backend)
    z, mask = draw(2, 20, 20, 12), draw_mask(2, 20, 20)
    expected = triangle_attention(z, *weights, starting=starting, mask=mask, residual=z)
    assert triangle_attention(z, *weights, starting=starting, mask=mask, residual=z, out=z) is z
    assert torch.equal(z, expected)


@NODES
def test_a_view_into_a_larger_tensor(starting, weights, draw, draw_mask):
    whole, mask = draw(30, 30, 20), draw_mask(30, 30)
    z, kept = whole[::2, 3:18, 4:16], mask[3:18, ::2].T
    given = {"starting": starting, "mask": kept}
    expected = triangle_attention(z.contiguous(), *weights, **given | {"mask": kept.contiguous()})
    before = whole.clone()
    triangle_attention(z, *weights, **given, out=z)
    assert torch.equal(z, expected)
    whole[::2, 3:18, 4:16] = before[::2, 3:18, 4:16]
    assert torch.equal(whole, before)


@NODES
def test_threads_do_not_change_the_bits(starting, assert_threads_do_not_change_bits, weights, draw):
    z = draw(33, 33, 12)
    assert_threads_do_not_change_bits(lambda: triangle_attention(z, *weights, starting=starting))


@NODES
def test_a_gradient_comes_from_the_reference(starting, weights, in_float64, draw):
    attention, bias = map(in_float64, weights)

    def run(z):
        return triangle_attention(z, attention, bias, starting=starting, residual=z)

    assert torch.autograd.gradcheck(run, draw(3, 3, 12).double().requires_grad_())


@NODES
@pytest.mark.parametrize("shape", [(0, 0), (2, 0, 0), (0, 3, 3)])
def test_empty_tensors_give_empty_results(shape, starting, weights, draw):
    assert triangle_attention(draw(*shape, 12), *weights, starting=starting).shape == (*shape, 12)


@NODES
@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("z", (4, 5, 12), r"z has shape \[4, 5, 12\]; expected a square"),
        ("z", (5, 12), r"z has shape \[5, 12\]; expected \[\*, I, I, C_z\]"),
        ("z", (5, 5, 11), "expected 12 channels"),
        ("mask", (5, 4), r"mask has shape \[5, 4\]; expected \[5, 5\]"),
        ("residual", (2, 5, 5, 12), r"residual has shape \[2, 5, 5, 12\]; expected \[5, 5, 12\]"),
        ("out", (5, 4, 12), r"out has shape \[5, 4, 12\]; expected \[5, 5, 12\]"),
    ],
)
def test_wrong_arguments_are_refused(name, shape, message, starting, weights, draw):
    attention, bias = weights
    arguments = {"z": draw(5, 5, 12), name: draw(*shape)}
    with pytest.raises(InputError, match=message):
        triangle_attention(attention=attention, bias=bias, starting=starting, **arguments)


def test_a_bias_of_another_number_of_heads_is_refused(weights, draw, draw_pair_bias):
    with pytest.raises(InputError, match=r"pair_bias has shape \[4, 5, 5\]; expected \[3, 5, 5\]"):
        triangle_attention(draw(5, 5, 12), weights[0], draw_pair_bias(12, 4))
