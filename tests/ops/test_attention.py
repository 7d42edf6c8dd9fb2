"""Gated attention and its pair bias against float64, with upstream's own formula in float32 beside them."""

import dataclasses

import pytest
import torch
from torch.nn.functional import layer_norm, linear

from openfoldpp.errors import InputError
from openfoldpp.ops import attention as module
from openfoldpp.ops import gated_attention, pair_bias

SIZES = [1, 7, 63, 64, 65, 130, 257]


def upstream_attention(x, w, bias=None, mask=None, inf=1e9):
    """Upstream's attention, line by line: openfold/model/primitives.py and the modules around it."""
    normed = layer_norm(x, x.shape[-1:], w.norm_weight, w.norm_bias, 1e-5)
    q, k, v = (
        linear(normed, weight).reshape(*x.shape[:-1], w.heads, -1).transpose(-2, -3)
        for weight in (w.query, w.key, w.value)
    )
    q = q / q.shape[-1] ** 0.5
    a = torch.matmul(q, k.transpose(-1, -2))
    if mask is not None:
        a = a + (inf * (mask - 1))[..., :, None, None, :]
    if bias is not None:
        a = a + bias.unsqueeze(-4)
    o = torch.matmul(torch.softmax(a, -1), v).transpose(-2, -3)
    o = o * torch.sigmoid(linear(normed, w.gate, w.gate_bias)).reshape(o.shape)
    return linear(o.reshape(*x.shape[:-1], -1), w.output, w.output_bias)


def upstream_pair_bias(z, w):
    normed = layer_norm(z, z.shape[-1:], w.norm_weight, w.norm_bias, 1e-5)
    return linear(normed, w.weight).permute(*range(z.ndim - 3), -1, -3, -2)


def double(tensor):
    return None if tensor is None else tensor.double()


@pytest.fixture
def check(assert_as_exact_as, in_float64):
    """Run the op and hold it to the rule of exactness."""

    def run(x, weights, *, pair_bias=None, mask=None, residual=None, out=None):
        reference = upstream_attention(x, weights, pair_bias, mask)
        # In a row masked whole, 1e9 swallows the digits of the logits in float32, as 1e20 does in float64.
        exact = upstream_attention(x.double(), in_float64(weights), double(pair_bias), double(mask), inf=1e20)
        if residual is not None:
            reference, exact = residual + reference, residual.double() + exact
        result = gated_attention(x, weights, pair_bias=pair_bias, mask=mask, residual=residual, out=out)
        assert_as_exact_as(result, reference, exact)
        return result

    return run


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("columns", SIZES)
def test_attention_is_as_exact_as_upstream(
    columns, backend, environment, check, draw, draw_mask, draw_attention
):
    environment(OPENFOLDPP_BACKEND=backend)
    x = draw(2, 5, columns, 12)
    check(
        x,
        draw_attention(12, 3, 5),
        pair_bias=draw(2, 3, columns, columns),
        mask=draw_mask(2, 5, columns),
        residual=draw(2, 5, columns, 12),
    )


@pytest.mark.parametrize(
    ("channels", "heads", "head_channels"), [(128, 4, 32), (256, 8, 32), (3, 1, 1), (33, 2, 17)]
)
@pytest.mark.parametrize("columns", [9, 65])
def test_any_number_of_channels_and_heads(
    columns, channels, heads, head_channels, check, draw, draw_mask, draw_attention
):
    weights = draw_attention(channels, heads, head_channels)
    x = draw(3, columns, channels, mean=2.0)
    check(x, weights, pair_bias=draw(heads, columns, columns), mask=draw_mask(3, columns), residual=x)


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_each_optional_tensor_counts(
    with_bias, with_mask, with_residual, check, draw, draw_mask, draw_attention
):
    given = {}
    if with_bias:
        given["pair_bias"] = draw(2, 19, 19)
    if with_mask:
        given["mask"] = draw_mask(4, 19)
    if with_residual:
        given["residual"] = draw(4, 19, 8)
    check(draw(4, 19, 8), draw_attention(8, 2, 4), **given)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_a_row_masked_whole_attends_as_upstreams(
    backend, environment, assert_as_exact_as, draw, draw_attention, in_float64
):
    environment(OPENFOLDPP_BACKEND=backend)
    # 1e9 swallows the logits, because the mask comes before the bias, and leaves multiples of 64 of the bias.
    x, bias, weights = draw(2, 33, 12), draw(3, 33, 33, scale=100.0), draw_attention(12, 3, 5)
    mask = torch.zeros(2, 33)
    left = (torch.tensor(-1e9) + bias).double()
    assert left.unique().numel() > 5
    no_logits = in_float64(dataclasses.replace(weights, query=torch.zeros(15, 12)))
    exact = upstream_attention(x.double(), no_logits, left)
    reference = upstream_attention(x, weights, bias, mask)
    assert_as_exact_as(gated_attention(x, weights, pair_bias=bias, mask=mask), reference, exact)


def test_inf_is_what_a_masked_key_loses(assert_as_exact_as, draw, draw_mask, draw_attention, in_float64):
    x, mask, weights = draw(4, 20, 12), 0.5 + draw_mask(4, 20) / 2, draw_attention(12, 3, 5)
    exact = upstream_attention(x.double(), in_float64(weights), mask=mask.double(), inf=3.0)
    reference = upstream_attention(x, weights, mask=mask, inf=3.0)
    assert_as_exact_as(gated_attention(x, weights, mask=mask, inf=3.0), reference, exact)


def test_large_logits(check, draw, draw_mask, draw_attention):
    weights = draw_attention(16, 2, 8)
    weights = dataclasses.replace(weights, query=30 * weights.query, key=30 * weights.key)
    mask = draw_mask(3, 70)
    mask[:, 0] = 1
    check(draw(3, 70, 16), weights, pair_bias=draw(2, 70, 70, scale=300.0), mask=mask)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_leading_dimensions(batch, check, draw, draw_mask, draw_attention):
    x = draw(*batch, 2, 10, 12)
    bias, mask = draw(*batch, 3, 10, 10), draw_mask(*batch, 2, 10)
    check(x, draw_attention(12, 3, 5), pair_bias=bias, mask=mask, residual=x)


def test_views_of_any_strides(check, draw, draw_mask, draw_attention):
    whole = draw(2, 20, 9, 30)
    x = whole[:, ::2, 1:, 7:19].transpose(-2, -3)  # [2, 8, 10, 12]
    out_whole = draw(2, 8, 12, 40)
    before = out_whole.clone()
    out = out_whole[:, :, 1:11, 20:32]
    check(
        x,
        draw_attention(12, 3, 5),
        pair_bias=draw(3, 10, 10).expand(2, 3, 10, 10),
        mask=draw_mask(2, 10, 16).transpose(-1, -2)[:, ::2],
        residual=draw(10, 2, 8, 12).permute(1, 2, 0, 3),
        out=out,
    )
    out.copy_(before[:, :, 1:11, 20:32])
    assert torch.equal(out_whole, before)  # nothing beside `out` was written


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_in_place(backend, environment, draw, draw_mask, draw_attention):
    environment(OPENFOLDPP_BACKEND=backend)
    x, weights, mask = draw(2, 3, 20, 12), draw_attention(12, 3, 5), draw_mask(2, 3, 20)
    expected = gated_attention(x, weights, mask=mask, residual=x)
    assert gated_attention(x, weights, mask=mask, residual=x, out=x) is x
    assert torch.equal(x, expected)


def test_nan_spreads_as_upstreams(draw, draw_attention):
    x, weights = draw(3, 20, 12), draw_attention(12, 3, 5)
    x[1, 4, 2] = torch.nan
    spread = gated_attention(x, weights).isnan()
    assert torch.equal(spread, upstream_attention(x, weights).isnan())
    assert spread[1].all()
    assert not spread[[0, 2]].any()


def test_threads_do_not_change_the_bits(
    assert_threads_do_not_change_bits, draw, draw_mask, draw_attention, draw_pair_bias
):
    x, mask, weights = draw(11, 37, 12), draw_mask(11, 37), draw_attention(12, 3, 5)
    bias, z, bias_weights = draw(3, 37, 37), draw(11, 37, 12), draw_pair_bias(12, 3)
    assert_threads_do_not_change_bits(lambda: gated_attention(x, weights, pair_bias=bias, mask=mask))
    assert_threads_do_not_change_bits(lambda: pair_bias(z, bias_weights))


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("columns", SIZES)
def test_pair_bias_is_as_exact_as_upstream(
    columns, backend, environment, assert_as_exact_as, in_float64, draw, draw_pair_bias
):
    environment(OPENFOLDPP_BACKEND=backend)
    z, weights = draw(2, 3, columns, 12, mean=1.0), draw_pair_bias(12, 3)
    result = pair_bias(z, weights)
    exact = upstream_pair_bias(z.double(), in_float64(weights))
    assert_as_exact_as(result, upstream_pair_bias(z, weights), exact)


@pytest.mark.parametrize(("channels", "heads"), [(128, 4), (1, 1), (33, 17), (128, 40)])
def test_pair_bias_of_any_number_of_heads_on_a_view(
    channels, heads, assert_as_exact_as, in_float64, draw, draw_pair_bias
):
    z, weights = draw(70, 6, channels + 3)[..., 2:-1].transpose(0, 1), draw_pair_bias(channels, heads)
    exact = upstream_pair_bias(z.double(), in_float64(weights))
    assert_as_exact_as(pair_bias(z, weights), upstream_pair_bias(z, weights), exact)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 3), (0, 2, 3)])
def test_empty_tensors_give_empty_results(shape, draw, draw_attention, draw_pair_bias):
    *batch, rows, columns = shape
    x = draw(*shape, 12)
    bias, mask = draw(*batch, 3, columns, columns), draw(*shape)
    result = gated_attention(x, draw_attention(12, 3, 5), pair_bias=bias, mask=mask, residual=x)
    assert result.shape == x.shape
    assert pair_bias(x, draw_pair_bias(12, 3)).shape == (*batch, 3, rows, columns)


def test_a_gradient_comes_from_the_reference(draw, draw_mask, draw_attention, in_float64):
    weights = in_float64(draw_attention(6, 2, 3))
    names = list(weights.tensors())
    mask = draw_mask(2, 4).double()

    def run(x, bias, *tensors):
        given = dataclasses.replace(weights, **dict(zip(names, tensors, strict=True)))
        return gated_attention(x, given, pair_bias=bias, mask=mask, residual=x)

    tensors = [draw(2, 4, 6).double(), draw(2, 4, 4).double(), *weights.tensors().values()]
    assert torch.autograd.gradcheck(run, [tensor.detach().requires_grad_() for tensor in tensors])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.double(), "a tensor is torch.float64, expected float32"),
        (
            lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
            "the last dimension of a tensor is not",
        ),
        (lambda x: x.requires_grad_(), "a gradient is needed"),
        (lambda x: x.to("meta"), "a tensor is on meta, expected cpu"),
    ],
)
def test_what_the_kernel_cannot_take_goes_to_torch(change, reason, draw, draw_attention):
    x, weights = change(draw(2, 5, 12)), draw_attention(12, 3, 5)
    tensors = {name: tensor.to(x.device, x.dtype) for name, tensor in weights.tensors().items()}
    weights = dataclasses.replace(weights, **tensors)
    choice = module._gated_attention.choose(x, weights, None, None, 1e9, None, None)
    assert choice.backend.name == "torch"
    assert f"not native: {reason}" in choice.reason
    assert gated_attention(x, weights).shape == x.shape


def test_weights_that_need_a_gradient_go_to_torch_unless_none_is_wanted(draw, draw_attention):
    x, weights = draw(2, 5, 12), draw_attention(12, 3, 5)
    weights.output.requires_grad_()
    assert gated_attention(x, weights).requires_grad
    with torch.no_grad():
        assert module._gated_attention.choose(x, weights, *[None] * 5).backend.name == "native"


def test_weights_are_packed_once(draw_attention, draw_pair_bias):
    attention, bias = draw_attention(12, 3, 5), draw_pair_bias(12, 3)
    assert attention.packed is attention.packed
    assert bias.packed is bias.packed


def test_weights_of_any_strides(draw, draw_attention):
    x, weights = draw(2, 5, 12), draw_attention(12, 3, 5)
    strided = {name: tensor.t().clone().t() for name, tensor in weights.tensors().items() if tensor.ndim > 1}
    assert torch.equal(
        gated_attention(x, dataclasses.replace(weights, **strided)), gated_attention(x, weights)
    )


def test_autograd_notices_a_saved_tensor_that_was_changed(draw, draw_attention):
    x = draw(2, 5, 12).requires_grad_()
    y = x.exp()  # saves its result for backward
    with torch.no_grad():
        gated_attention(y, draw_attention(12, 3, 5), out=y)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", torch.zeros(2, 5, 12, dtype=torch.int64), "x is torch.int64; expected a floating-point tensor"),
        ("x", [1.0], "x is list"),
        ("x", torch.zeros(5, 12), r"x has shape \[5, 12\]; expected \[\*, R, N, C\]"),
        ("x", torch.zeros(2, 5, 13), r"x has shape \[2, 5, 13\]; expected 12 channels"),
        ("x", torch.zeros(2, 5, 12).double(), "x is torch.float64 on cpu; expected torch.float32 on cpu"),
        ("pair_bias", torch.zeros(3, 5, 6), r"pair_bias has shape \[3, 5, 6\]; expected \[3, 5, 5\]"),
        ("pair_bias", torch.zeros(2, 5, 5), r"pair_bias has shape .*; expected \[3, 5, 5\]"),
        ("mask", torch.zeros(5), r"mask has shape \[5\]; expected \[2, 5\]"),
        ("mask", torch.ones(2, 5, dtype=torch.bool), "mask is torch.bool"),
        ("residual", torch.zeros(5, 12), r"residual has shape \[5, 12\]; expected \[2, 5, 12\]"),
        ("residual", torch.zeros(2, 5, 12, device="meta"), "residual is torch.float32 on meta"),
        ("out", torch.zeros(2, 5, 11), r"out has shape \[2, 5, 11\]"),
        ("out", torch.zeros(2, 5, 12).half(), "out is torch.float16"),
        ("out", torch.zeros(2, 5, 1).expand(2, 5, 12), "its elements share memory"),
        ("out", torch.zeros(2, 5, 12, requires_grad=True), "out requires grad"),
    ],
)
def test_wrong_arguments_are_refused(name, value, message, draw, draw_attention):
    arguments = {"x": draw(2, 5, 12), name: value}
    with pytest.raises(InputError, match=message):
        gated_attention(weights=draw_attention(12, 3, 5), **arguments)


def test_an_out_that_is_a_part_of_an_input_is_refused(draw, draw_attention):
    whole, weights = draw(3, 5, 12), draw_attention(12, 3, 5)
    with pytest.raises(InputError, match="out shares memory with an input"):
        gated_attention(whole[:2], weights, out=whole[1:])
    expected = gated_attention(whole[:1], weights)
    gated_attention(whole[:1], weights, out=whole[1:2])  # beside it is right
    assert torch.equal(whole[1:2], expected)


def test_a_wrong_pair_representation_is_refused(draw, draw_pair_bias):
    with pytest.raises(InputError, match=r"z has shape \[4, 4, 5\]; expected 12 channels"):
        pair_bias(draw(4, 4, 5), draw_pair_bias(12, 3))


def test_wrong_weights_are_refused(draw, draw_attention, draw_pair_bias):
    attention, bias = draw_attention(12, 3, 5), draw_pair_bias(12, 3)
    for weights, changes, message in [
        (attention, {"heads": 4}, "heads is 4; expected a divisor of query's 15 outputs"),
        (attention, {"heads": 0}, "heads is 0"),
        (attention, {"key": draw(14, 12)}, r"key has shape \[14, 12\]; expected \[15, 12\]"),
        (attention, {"gate_bias": draw(15).double()}, "gate_bias is torch.float64"),
        (attention, {"query": draw(15)}, r"query has shape \[15\]"),
        (bias, {"norm_bias": draw(11)}, r"norm_bias has shape \[11\]; expected \[12\]"),
    ]:
        with pytest.raises(InputError, match=message):
            dataclasses.replace(weights, **changes)
