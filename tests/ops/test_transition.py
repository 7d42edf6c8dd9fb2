"""The transition against float64 and upstream's own modules: sizes, masks, layouts, levels, threads."""

import copy
import dataclasses

import pytest
import torch

from openfoldpp import _native
from openfoldpp.errors import BackendError, InputError
from openfoldpp.ops.transition import TransitionWeights, transition

SIZES = [1, 7, 63, 64, 65, 130, 257]


def weights_of(module):
    return TransitionWeights(
        norm_weight=module.layer_norm.weight,
        norm_bias=module.layer_norm.bias,
        expand=module.linear_1.weight,
        expand_bias=module.linear_1.bias,
        contract=module.linear_2.weight,
        contract_bias=module.linear_2.bias,
    )


@pytest.fixture
def pair_transition(upstream, randomise):
    """Return a function that makes upstream's module with random parameters."""
    make = upstream("model.pair_transition").PairTransition
    return lambda channels, n: randomise(make(channels, n))


@pytest.fixture
def weights(draw):
    def matrix(outputs, inputs):
        return draw(outputs, inputs, scale=inputs**-0.5)

    return TransitionWeights(
        norm_weight=draw(12, mean=1.0, scale=0.3),
        norm_bias=draw(12, scale=0.3),
        expand=matrix(20, 12),
        expand_bias=draw(20),
        contract=matrix(12, 20),
        contract_bias=draw(12),
    )


@pytest.mark.parametrize(
    ("backend", "channels", "n", "shape"),
    [
        *(("native", 12, 3, (3, size)) for size in SIZES),
        ("native", 5, 1, (9, 9)),
        ("native", 33, 2, (17, 5)),
        ("native", 128, 4, (9, 50)),
        ("torch", 12, 3, (3, 65)),
    ],
)
def test_error_is_at_most_twice_upstreams(
    backend, channels, n, shape, pair_transition, draw, draw_mask, assert_as_exact_as, environment
):
    environment(OPENFOLDPP_BACKEND=backend)
    module = pair_transition(channels, n)
    weights, wide = weights_of(module), copy.deepcopy(module).double()
    # Vectors around zero, far from it, and large ones.
    for x in (draw(*shape, channels), draw(*shape, channels, mean=30.0), draw(*shape, channels, scale=1e4)):
        for mask in (torch.ones(shape), draw_mask(*shape)):
            ours = transition(x, weights, mask=mask)
            assert_as_exact_as(ours, module(x, mask), wide(x.double(), mask.double()))
        assert torch.equal(transition(x, weights), transition(x, weights, mask=torch.ones(shape)))


def test_upstreams_msa_transition_is_the_same_function(
    upstream, randomise, draw, draw_mask, assert_as_exact_as
):
    module = randomise(upstream("model.evoformer").MSATransition(20, 4))
    m, mask = draw(2, 5, 13, 20), draw_mask(2, 5, 13)
    ours, theirs = transition(m, weights_of(module), mask=mask), module(m, mask)
    assert_as_exact_as(ours, theirs, module.double()(m.double(), mask.double()))


def test_the_residual_is_added_and_may_be_the_input(weights, draw, draw_mask):
    x, mask = draw(2, 6, 11, 12), draw_mask(2, 6, 11)
    expected = x + transition(x, weights, mask=mask)
    assert torch.equal(transition(x, weights, mask=mask, residual=x), expected)
    out = torch.empty_like(x)
    assert transition(x, weights, mask=mask, residual=x, out=out) is out
    assert torch.equal(out, expected)
    transition(x, weights, mask=mask, residual=x, out=x)
    assert torch.equal(x, expected)


def test_masked_vectors_stay_as_they_are(weights, draw, draw_mask):
    x, mask = draw(6, 11, 12), draw_mask(6, 11)
    changed = transition(x, weights, mask=mask, residual=x) != x
    assert torch.equal(changed.any(-1), mask == 1)
    assert (transition(x, weights, mask=torch.zeros(6, 11)) == 0).all()


def test_views_are_read_and_written_where_they_are(weights, draw, draw_mask):
    x, mask, residual = draw(3, 9, 14, 12), draw_mask(3, 9, 14), draw(3, 9, 14, 12)
    expected = transition(x, weights, mask=mask, residual=residual)

    def transposed(tensor):
        return tensor.transpose(1, 2).clone().transpose(1, 2)

    memory = torch.full((4, 9, 28, 19), -1.0)
    out = memory[1:, :, ::2, 3:15]
    transition(transposed(x), weights, mask=transposed(mask), residual=transposed(residual), out=out)
    assert torch.equal(out, expected)
    out.fill_(-1.0)
    assert (memory == -1.0).all()

    one = x[:1, :1].expand(3, 9, 14, 12)
    assert torch.equal(transition(one, weights), transition(one.contiguous(), weights))


def test_threads_do_not_change_the_bits(weights, draw, draw_mask, assert_threads_do_not_change_bits):
    x, mask = draw(31, 43, 12), draw_mask(31, 43)
    assert_threads_do_not_change_bits(lambda: transition(x, weights, mask=mask, residual=x))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 4, 4), (2, 0, 0)])
def test_nothing_gives_nothing(shape, weights):
    x = torch.zeros(*shape, 12)
    assert transition(x, weights, mask=torch.zeros(shape), residual=x).shape == x.shape


def test_nan_stays_in_its_vector(weights, draw):
    x = draw(4, 20, 12)
    expected = transition(x, weights)
    x[2, 7, 3] = torch.nan
    result = transition(x, weights)
    assert result[2, 7].isnan().all()
    result[2, 7] = expected[2, 7]
    assert torch.equal(result, expected)


def test_gradients_come_from_the_torch_reference(weights, draw, draw_mask):
    def function(*tensors):
        x, mask, residual, *parameters = tensors
        return transition(x, TransitionWeights(*parameters), mask=mask, residual=residual)

    parameters = weights.tensors().values()
    tensors = [draw(2, 3, 12), draw_mask(2, 3), draw(2, 3, 12), *parameters]
    wide = [tensor.detach().double().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(function, wide, fast_mode=True)


def test_the_kernel_says_why_it_is_not_taken(weights, draw, environment):
    environment(OPENFOLDPP_BACKEND="native")
    with pytest.raises(BackendError, match=r"transition: .*not native: a gradient is needed"):
        transition(draw(3, 4, 12).requires_grad_(), weights)
    with pytest.raises(BackendError, match="last dimension of a tensor is not contiguous"):
        transition(draw(12, 3, 4).movedim(0, -1), weights)


def test_wrong_tensors_are_refused(weights, draw):
    x = draw(3, 4, 12)
    for keywords, message in [
        ({"mask": torch.ones(4, 3)}, r"mask has shape \[4, 3\]; expected \[3, 4\]"),
        ({"mask": torch.ones(3, 4, dtype=torch.bool)}, r"mask is torch.bool"),
        ({"residual": draw(3, 4, 11)}, r"residual has shape \[3, 4, 11\]; expected \[3, 4, 12\]"),
        ({"out": draw(2, 3, 4, 12)}, r"out has shape \[2, 3, 4, 12\]; expected \[3, 4, 12\]"),
        ({"out": x.double()}, r"out is torch.float64 on cpu; expected torch.float32"),
        ({"out": x.transpose(0, 1).contiguous().transpose(0, 1)[:1].expand(3, 4, 12)}, "share memory"),
    ]:
        with pytest.raises(InputError, match=message):
            transition(x, weights, **keywords)
    for wrong, message in [
        (x[0], r"x has shape \[4, 12\]; expected \[\*, I, J, C\]"),
        (x[..., :11], r"x has shape \[3, 4, 11\]; expected 12 channels"),
        (x.double(), "x is torch.float64"),
        (x.to("meta"), "on meta"),
    ]:
        with pytest.raises(InputError, match=message):
            transition(wrong, weights)


def test_weights_that_do_not_fit_each_other_are_refused(weights):
    for name, tensor in weights.tensors().items():
        wrong = tensor[0] if name == "expand" else torch.cat([tensor, tensor])
        with pytest.raises(InputError, match=rf"^{name} has shape \[.*\]; expected \["):
            dataclasses.replace(weights, **{name: wrong})
    with pytest.raises(InputError, match=r"contract is torch\.float64"):
        dataclasses.replace(weights, contract=weights.contract.double())


def test_the_binding_refuses_what_would_crash(weights, draw):
    kernel, x = weights.packed, draw(3, 4, 12).numpy()
    out = x.copy()
    for arguments, message in [
        ((x[0], None, None, out, 1), r"x has shape \[4, 12\]"),
        ((x[..., :11], None, None, out, 1), "x channels is 11, expected 12"),
        ((x[:, :, ::-1], None, None, out, 1), "x has a last dimension of stride -4"),
        ((x, x[..., 0].T, None, out, 1), "mask rows is 4, expected 3"),
        ((x, None, x[:2], out, 1), "residual rows is 2, expected 3"),
        ((x, None, None, out[:, :3], 1), "out columns is 3, expected 4"),
        ((x, None, None, out, 0), "threads is 0"),
        ((x, None, None, out, -2), "threads is -2"),
    ]:
        with pytest.raises(ValueError, match=message):
            kernel(*arguments)
    with pytest.raises(TypeError):
        kernel(x.astype("float64"), None, None, out, 1)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        kernel(x, None, None, out, 1)


def test_the_binding_refuses_weights_that_do_not_fit(weights):
    arrays = weights.arrays()
    for name, array in arrays.items():
        wrong = array[0] if name == "expand" else array[1:]
        with pytest.raises(ValueError, match=rf"^{name} has shape \[.*\], expected \["):
            _native.Transition(**arrays | {name: wrong}, eps=1e-5)
    with pytest.raises(ValueError, match="expand is not contiguous"):
        _native.Transition(**arrays | {"expand": arrays["expand"].T.copy().T}, eps=1e-5)
