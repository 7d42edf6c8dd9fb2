"""What the ops share: derivatives that the kernels would lose, and running a kernel on a batch."""

import dataclasses

import pytest
import torch
from torch.autograd import forward_ad

from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops import gated_attention
from openfoldpp.ops.arrays import run_native
from openfoldpp.ops.attention import gated_attention_of_columns


@pytest.fixture
def attention(draw, draw_attention, draw_mask):
    """Return a function of ``x``, the mask, the residual and the query weights; and such tensors."""
    weights = draw_attention(12, 3, 5)

    def run(x, mask, residual, query):
        changed = dataclasses.replace(weights, query=query)
        return gated_attention(x, changed, mask=mask, residual=residual)

    return run, (draw(2, 6, 12), draw_mask(2, 6), draw(2, 6, 12), weights.query)


# torch compiles its own rules for tangents with torch.jit.script when it makes the first one.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("index", range(4), ids=["x", "mask", "residual", "query"])
def test_tangents_are_those_of_the_torch_reference(index, attention, draw, environment):
    run, tensors = attention
    tangent = draw(*tensors[index].shape)

    def derivative():
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(tensors[index], tangent)
            given = [dual if i == index else tensor for i, tensor in enumerate(tensors)]
            return forward_ad.unpack_dual(run(*given)).tangent

    def of_one(tensor):
        return run(*tensors[:index], tensor, *tensors[index + 1 :])

    ours = derivative()
    functional = torch.func.jvp(of_one, (tensors[index],), (tangent,))[1]
    environment(OPENFOLDPP_BACKEND="torch")
    expected = derivative()
    assert expected.abs().max() > 1e-3
    assert torch.equal(ours, expected)
    torch.testing.assert_close(functional, expected)
    environment(OPENFOLDPP_BACKEND="native")
    with pytest.raises(BackendError, match="not native: a tensor has a tangent of forward-mode"):
        derivative()
    with forward_ad.dual_level():
        run(*tensors)  # none of them has a tangent


@pytest.mark.parametrize("function", [gated_attention, gated_attention_of_columns])
def test_a_leaf_that_requires_grad_is_not_written_nor_a_view_of_it(function, draw, draw_attention):
    x, weights = draw(2, 5, 12), draw_attention(12, 3, 4)
    leaf = torch.zeros(2, 5, 12, requires_grad=True)
    for out in (leaf, leaf[:], leaf.view(10, 12).view(2, 5, 12)):
        with pytest.raises(InputError, match="out requires grad"):
            function(x, weights, out=out)
    with torch.no_grad():
        assert torch.equal(function(x, weights, out=leaf), function(x, weights))
    assert function(x, weights, out=leaf.clone()).requires_grad


def test_a_kernel_is_run_on_each_batch_element():
    numbers, sums = torch.arange(24.0).view(2, 3, 4), torch.zeros(2, 3, 1)

    def kernel(row, none, out):
        assert none is None
        out[...] = row.sum()

    before = sums._version
    assert run_native(kernel, (numbers, 1), (None, 2), (sums, 1)) is sums
    assert torch.equal(sums, numbers.sum(dim=-1, keepdim=True))
    assert sums._version > before


def test_a_kernel_is_not_run_where_nothing_is_to_be_written():
    def kernel(*_):
        raise AssertionError

    assert run_native(kernel, (torch.ones(2, 3), 1), (torch.ones(2, 0), 1)).shape == (2, 0)


def test_a_weight_that_is_changed_in_place_is_packed_anew(draw, draw_attention):
    weights = draw_attention(12, 3, 5)
    x = draw(2, 6, 12)
    before = gated_attention(x, weights)
    weights.output.zero_()
    after = gated_attention(x, weights)
    assert not torch.equal(before, after)
    assert torch.equal(after, weights.output_bias.expand(2, 6, 12))
